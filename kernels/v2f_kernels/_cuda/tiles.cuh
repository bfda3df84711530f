// Vectors as int8 in tiles of 128 rows, ready to be copied into shared memory as they are.
//
// byte[tile][chunk of 128 dimensions][row of 128][128 bytes], where the 16-byte unit u of row r lies at u ^ (r % 8):
// the 128-byte swizzle, in which ldmatrix finds no bank conflict and which wgmma reads directly. One chunk of a tile
// is 16,384 contiguous bytes. Dimensions past DIM are zero.
//
// Beside the bytes each row has scale (float), error (float) and norm (double) with the meaning of
// csrc/include/v2f/panels.h: | scale q - x / |x| | <= error, norm = the exact length of v2f_kernels/_cosine.py.
//
// Compile with -DDIM=<dimension>.
#pragma once
#include "device.cuh"

typedef signed char int8;
typedef long long int64;

constexpr int kTile = 128;
constexpr int kChunk = 128;
constexpr int kChunkBytes = kTile * kChunk;
constexpr int kChunks = (DIM + kChunk - 1) / kChunk;

__device__ constexpr int power_of_two(int n) { return n <= 64 ? 64 : 2 * power_of_two((n + 1) / 2); }
constexpr int kWidth = power_of_two(DIM);  // what the exact sum pads to; zeros beyond DIM add nothing

__device__ __forceinline__ int64 chunk_offset(int64 tile, int chunk) {
  return (tile * kChunks + chunk) * kChunkBytes;
}

// Where the 16 bytes of unit `unit` (dimension / 16) of a row are.
__device__ __forceinline__ int64 unit_offset(int64 row, int unit) {
  const int in_tile = static_cast<int>(row % kTile);
  return chunk_offset(row / kTile, unit / 8) + in_tile * kChunk + (((unit % 8) ^ (in_tile % 8)) << 4);
}

// s[m] + s[m + HALF], then the same with half of HALF, down to one number; registers only.
template <int HALF, int N>
__device__ __forceinline__ void halve(double (&s)[N]) {
  if constexpr (HALF >= 1) {
#pragma unroll
    for (int m = 0; m < HALF; ++m) s[m] = __dadd_rn(s[m], s[m + HALF]);
    halve<HALF / 2>(s);
  }
}

// The exact dot product, by one warp, in the order of v2f_kernels/_cosine.py: lane l holds the products l, l + 32,
// ..., so halving down to 32 stays inside a lane. All lanes receive the result. Never contracted to fused operations.
__device__ __forceinline__ double exact_dot(const float* x, const float* y) {
  const int lane = threadIdx.x % 32;
  double s[kWidth / 32];
#pragma unroll
  for (int m = 0; m < kWidth / 32; ++m) {
    const int k = lane + 32 * m;
    s[m] = k < DIM ? __dmul_rn(static_cast<double>(x[k]), static_cast<double>(y[k])) : 0.0;
  }
  halve<kWidth / 64>(s);
  double sum = s[0];
#pragma unroll
  for (int half = 16; half >= 1; half /= 2) sum = __dadd_rn(sum, __shfl_down_sync(WARP_FULL, sum, half));
  return __shfl_sync(WARP_FULL, sum, 0);
}

// What the rows of one tile share, for thresholds that hold for all of them.
struct TileBounds {
  float inverse_largest_scale, inverse_smallest_scale, one_plus_error, smallest_scale, largest_scale;
};

// Quantises rows [0, n) of x (float32 [n, DIM]) into tiles from row 0 on; rows up to the end of the last tile are
// zeroed. bad[0] counts rows that are not finite or not between `shortest` and `longest`; bad[1] is the first one's
// number plus `first`. One warp per row.
extern "C" __global__ void quantise(const float* x, int n, int64 first, double shortest, double longest, int8* q,
                                    float* scale, float* error, double* norm, int64* bad) {
  const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= (n + kTile - 1) / kTile * kTile) return;
  if (row >= n) {
    for (int k = lane; k < kChunks * kChunk; k += 32) q[unit_offset(row, k / 16) + k % 16] = 0;
    return;
  }
  const float* source = x + static_cast<int64>(row) * DIM;
  const double length = __dsqrt_rn(exact_dot(source, source));
  float value[kWidth / 32], largest = 0.0f;
#pragma unroll
  for (int m = 0; m < kWidth / 32; ++m) {
    const int k = lane + 32 * m;
    value[m] = k < DIM ? source[k] : 0.0f;
    largest = fmaxf(largest, fabsf(value[m]));
  }
#pragma unroll
  for (int half = 16; half >= 1; half /= 2) largest = fmaxf(largest, __shfl_xor_sync(WARP_FULL, largest, half));

  // Any q is right as long as its error is measured; float32 rounding can hide less than 4e-7 of its length and a
  // relative 1e-5 + 1e-8 DIM of the sum (csrc/panels.cpp).
  const float to_integer = 127.0f / largest, inverse = static_cast<float>(1.0 / length);
  const float step = static_cast<float>(static_cast<double>(largest) / (127.0 * length));
  float squares = 0.0f;
#pragma unroll
  for (int m = 0; m < kWidth / 32; ++m) {
    const int k = lane + 32 * m;
    if (k < kChunks * kChunk) {
      const int integer = max(-127, min(127, __float2int_rn(value[m] * to_integer)));
      const float residual = static_cast<float>(integer) * step - value[m] * inverse;
      squares += residual * residual;
      q[unit_offset(row, k / 16) + k % 16] = static_cast<int8>(integer);
    }
  }
  for (int k = kWidth + lane; k < kChunks * kChunk; k += 32) q[unit_offset(row, k / 16) + k % 16] = 0;
#pragma unroll
  for (int half = 16; half >= 1; half /= 2) squares += __shfl_xor_sync(WARP_FULL, squares, half);
  if (lane == 0) {
    const double bound = __dsqrt_rn(static_cast<double>(squares)) * (1.0 + 1e-5 + 1e-8 * DIM) + 1e-6;
    scale[row] = step;
    error[row] = __double2float_ru(bound);
    norm[row] = length;
    if (!(length >= shortest && length <= longest)) {
      atomicAdd(reinterpret_cast<unsigned long long*>(bad), 1ull);
      atomicMin(bad + 1, first + row);
    }
  }
}

// Bounds of tiles first, first + 1, ... of a set of *count rows (`first` = *start / 128 when start is given). One warp
// per tile; tiles without rows are left alone.
extern "C" __global__ void bound_tiles(const float* scale, const float* error, const int* count, const int* start,
                                       TileBounds* bounds) {
  const int tile = (start ? *start / kTile : 0) + blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32, rows = min(kTile, *count - tile * kTile);
  if (rows <= 0) return;
  float smallest = 3e38f, largest = 0.0f, wrong = 0.0f;
  for (int r = lane; r < rows; r += 32) {
    const int row = tile * kTile + r;
    smallest = fminf(smallest, scale[row]);
    largest = fmaxf(largest, scale[row]);
    wrong = fmaxf(wrong, error[row]);
  }
#pragma unroll
  for (int half = 16; half >= 1; half /= 2) {
    smallest = fminf(smallest, __shfl_xor_sync(WARP_FULL, smallest, half));
    largest = fmaxf(largest, __shfl_xor_sync(WARP_FULL, largest, half));
    wrong = fmaxf(wrong, __shfl_xor_sync(WARP_FULL, wrong, half));
  }
  if (lane == 0) bounds[tile] = {1.0f / largest, 1.0f / smallest, 1.0f + wrong, smallest, largest};
}

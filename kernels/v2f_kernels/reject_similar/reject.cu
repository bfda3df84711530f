// Greedy rejection on a GPU. A block of n candidates takes, in one stream and without the host:
//
//     quantise, screen (against all kept), bound_tiles, triangle (among themselves), resolve, append, bound_tiles
//
// screen marks candidates that reach max_cosine with a kept vector; triangle sets bit j of row i of a mask for j < i;
// resolve walks the rows that have bits, in order; append moves the accepted to the end of the kept set. The number
// of kept vectors lives on the device. Bounds and exact decisions: screen.cuh. Layout: tiles.cuh.
#include "../_cuda/screen.cuh"

struct ScreenEpilogue {
  Side a, b;
  ThreadRows rows;
  const TileBounds* bounds;
  int count;
  double t;
  float bound_scale;
  volatile unsigned char* rejected;
  int row, n;
  bool loaded;

  __device__ __forceinline__ void operator()(int tile, const int (&sums)[kI][kJ][4], int r0, int c0) {
    if (!loaded) {
      rows.load(a, row + r0, n, const_cast<const unsigned char*>(rejected), bound_scale);
      loaded = true;
    }
    const TileBounds tile_bounds = bounds[tile];
    int threshold[2 * kI];
#pragma unroll
    for (int i = 0; i < 2 * kI; ++i) threshold[i] = rows.threshold(i, static_cast<float>(t), tile_bounds, bound_scale);
    if (!any_reaches(threshold, sums)) return;
    look_closer(
        rows, threshold, sums, tile * kTile + c0, [&](int, int column) { return column < count; },
        [&](int i, int j, int product) {
          const bool done = __any_sync(WARP_FULL, rejected[i] != 0);  // another warp may write it now
          if (!done && reaches(a, i, b, j, product, t, bound_scale)) rejected[i] = 1;
          __syncwarp();
        });
#pragma unroll
    for (int i = 0; i < 2 * kI; ++i) rows.live[i] = rows.live[i] && !rejected[rows.number(i)];
  }
};

// Grid: (ceil(n / BLOCK), parts): part p takes the tiles p, p + parts, ... of the kept set.
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    screen(V2F_SIDE(a), int n, V2F_SIDE(b), const int* count, const TileBounds* bounds, double t, float bound_scale,
           unsigned char* rejected) {
  const int row = blockIdx.x * BLOCK, tiles = (*count + kTile - 1) / kTile;
  ScreenEpilogue epilogue;
  epilogue.a = V2F_MAKE_SIDE(a);
  epilogue.b = V2F_MAKE_SIDE(b);
  epilogue.bounds = bounds;
  epilogue.count = *count;
  epilogue.t = t;
  epilogue.bound_scale = bound_scale;
  epilogue.rejected = rejected;
  epilogue.row = row;
  epilogue.n = n;
  epilogue.loaded = false;
  product(a_q, row, b_q, blockIdx.y, gridDim.y, tiles, epilogue);
}

struct TriangleEpilogue {
  Side a;
  ThreadRows rows;
  const TileBounds* bounds;
  double t;
  float bound_scale;
  const unsigned char* rejected;
  unsigned *mask, *flagged;
  int words, row, n;
  bool loaded;

  __device__ __forceinline__ void operator()(int tile, const int (&sums)[kI][kJ][4], int r0, int c0) {
    if (!loaded) {
      rows.load(a, row + r0, n, rejected, bound_scale);
      loaded = true;
    }
    const TileBounds tile_bounds = bounds[tile];
    int threshold[2 * kI];
#pragma unroll
    for (int i = 0; i < 2 * kI; ++i) threshold[i] = rows.threshold(i, static_cast<float>(t), tile_bounds, bound_scale);
    if (!any_reaches(threshold, sums)) return;
    look_closer(
        rows, threshold, sums, tile * kTile + c0, [](int i, int column) { return column < i; },
        [&](int i, int j, int product) {
          if (!rejected[j] && reaches(a, i, a, j, product, t, bound_scale) && threadIdx.x % 32 == 0) {
            atomicOr(mask + static_cast<int64>(i) * words + j / 32, 1u << (j % 32));
            atomicOr(flagged + i / 32, 1u << (i % 32));
          }
          __syncwarp();
        });
  }
};

// Grid: (ceil(n / BLOCK), parts). mask: [n, words] and flagged: [words], zero before; words = ceil(n / 32).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    triangle(V2F_SIDE(a), int n, const TileBounds* bounds, double t, float bound_scale, const unsigned char* rejected,
             unsigned* mask, unsigned* flagged, int words) {
  const int row = blockIdx.x * BLOCK, tiles = (min(row + BLOCK, n) + kTile - 1) / kTile;
  TriangleEpilogue epilogue;
  epilogue.a = V2F_MAKE_SIDE(a);
  epilogue.bounds = bounds;
  epilogue.t = t;
  epilogue.bound_scale = bound_scale;
  epilogue.rejected = rejected;
  epilogue.mask = mask;
  epilogue.flagged = flagged;
  epilogue.words = words;
  epilogue.row = row;
  epilogue.n = n;
  epilogue.loaded = false;
  product(a_q, row, a_q, blockIdx.y, gridDim.y, tiles, epilogue);
}

constexpr int kResolveThreads = 512;
constexpr int kMostWords = 512;  // 16,384 candidates a block

// One block of kResolveThreads threads. position[i] becomes the row's place among the kept vectors, or -1; rejected[i]
// is completed; *start becomes the old *count, and *count grows by the number accepted.
extern "C" __global__ void __launch_bounds__(kResolveThreads, 1)
    resolve(int n, unsigned char* rejected, const unsigned* mask, const unsigned* flagged, int words, int* position,
            int* start, int* count) {
  __shared__ unsigned kept[kMostWords], doubtful[kMostWords];
  __shared__ int before[kMostWords];
  const int me = threadIdx.x;
  if (me < words) {
    unsigned possible = 0;
    for (int i = me * 32; i < min(n, me * 32 + 32); ++i) possible |= rejected[i] ? 0u : 1u << (i % 32);
    doubtful[me] = possible & flagged[me];
    kept[me] = possible & ~flagged[me];
  }
  __syncthreads();
  for (int w = 0; w < words; ++w) {
    for (unsigned left = doubtful[w]; left; left &= left - 1) {
      const int i = w * 32 + __ffs(left) - 1;
      const bool hit = me <= w && (mask[static_cast<int64>(i) * words + me] & kept[me]) != 0;
      const int bad = __syncthreads_or(hit);
      if (!bad && me == 0) kept[w] |= 1u << (i % 32);
      __syncthreads();
    }
  }
  if (me < words) before[me] = __popc(kept[me]);
  __syncthreads();
  for (int distance = 1; distance < words; distance *= 2) {  // inclusive sums
    const int more = me < words && me >= distance ? before[me - distance] : 0;
    __syncthreads();
    if (me < words) before[me] += more;
    __syncthreads();
  }
  const int base = *count;
  for (int i = me; i < n; i += kResolveThreads) {
    const unsigned word = kept[i / 32], bit = 1u << (i % 32);
    rejected[i] = !(word & bit);
    const int rank = before[i / 32] - __popc(word) + __popc(word & (bit - 1));
    position[i] = word & bit ? base + rank : -1;
  }
  __syncthreads();
  if (me == 0) {
    *start = base;
    *count = base + before[words - 1];
  }
}

// Copies the rows with position[i] >= 0 to their place: bytes, numbers, index[place] = first + i, and the original when
// `to_master` is given. One warp per row.
extern "C" __global__ void append(V2F_SIDE(a), int n, int64 first, const int* position, int8* q, float* scale, float* error,
                                  double* norm, float* to_master, int64* index) {
  const int i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= n || position[i] < 0) return;
  const int to = position[i];
  const Side a = V2F_MAKE_SIDE(a);
  for (int unit = lane; unit < kChunks * 8; unit += 32)
    *reinterpret_cast<uint4*>(q + unit_offset(to, unit)) =
        *reinterpret_cast<const uint4*>(a.q + unit_offset(i, unit));
  if (to_master)
    for (int k = lane; k < DIM; k += 32) to_master[static_cast<int64>(to) * DIM + k] = a.original(i)[k];
  if (lane == 0) {
    scale[to] = a.scale[i];
    error[to] = a.error[i];
    norm[to] = a.norm[i];
    index[to] = first + i;
  }
}

// Exact nearest neighbour by cosine on a GPU: quantise queries and gallery, bound_tiles, nearest.
//
// Each row of the epilogue carries `floor`, a proven lower bound of the query's largest cosine. It rises with every
// tile, so that almost no pair needs its exact cosine; those that do are decided at once, under a lock per query.
#include "../_cuda/screen.cuh"

// Floats as unsigned integers of the same order, for atomicMax.
__device__ __forceinline__ unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float unordered(unsigned x) {
  return __uint_as_float(x & 0x80000000u ? x & 0x7fffffffu : ~x);
}

struct NearestEpilogue {
  Side a, b;
  ThreadRows rows;
  const TileBounds* bounds;
  int count;
  float bound_scale;
  unsigned* floors;
  double* best;
  int64* where;
  int64 base;
  int* lock;
  int row, n;
  bool loaded;

  __device__ __forceinline__ void operator()(int tile, const int (&sums)[kI][kJ][4], int r0, int c0) {
    if (!loaded) {
      rows.load(a, row + r0, n, nullptr, bound_scale);
      loaded = true;
    }
    const TileBounds tile_bounds = bounds[tile];
    const bool whole = (tile + 1) * kTile <= count;
    const float widest = 1.0f + bound_scale * (tile_bounds.one_plus_error - 1.0f);
    int threshold[2 * kI];
#pragma unroll
    for (int i = 0; i < 2 * kI; ++i) {
      // The largest product of the row in this strip bounds its best cosine from below, whichever row it came from.
      int largest = -0x7fffffff;
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (whole || tile * kTile + c0 + 8 * j + e < count) largest = max(largest, sums[i / 2][j][i % 2 * 2 + e]);
      largest = max(largest, __shfl_xor_sync(WARP_FULL, largest, 1));
      largest = max(largest, __shfl_xor_sync(WARP_FULL, largest, 2));
      if (rows.live[i]) {
        const float scale = largest > 0 ? tile_bounds.smallest_scale : tile_bounds.largest_scale;
        const float estimate = static_cast<float>(largest) * scale / rows.inverse_scale[i];
        const float lower = estimate - fabsf(estimate) * 2e-6f - (rows.one_plus_error[i] * widest - 1.0f) - kFloatMargin;
        unsigned* shared_floor = floors + rows.number(i);
        float floor = unordered(*static_cast<volatile unsigned*>(shared_floor));
        if (lower > floor && largest != -0x7fffffff) {
          floor = lower;
          if (threadIdx.x % 4 == 0) atomicMax(shared_floor, ordered(lower));
        }
        threshold[i] = rows.threshold(i, floor, tile_bounds, bound_scale);
      } else {
        threshold[i] = 0x7fffffff;
      }
    }
    if (!any_reaches(threshold, sums)) return;
    look_closer(
        rows, threshold, sums, tile * kTile + c0, [&](int, int column) { return column < count; },
        [&](int i, int j, int product) {
          const float floor = __shfl_sync(WARP_FULL, unordered(*static_cast<volatile unsigned*>(floors + i)), 0);
          if (interval(a, i, b, j, product, bound_scale).upper >= floor) {
            const double cosine = exact_cosine(a.original(i), b.original(j), a.norm[i], b.norm[j]);
            if (threadIdx.x % 32 == 0) {
              const int64 index = base + j;
              while (atomicCAS(lock + i, 0, 1) != 0) {
              }
              __threadfence();
              volatile double* best_here = best + i;
              volatile int64* where_here = where + i;
              if (*where_here < 0 || cosine > *best_here || (cosine == *best_here && index < *where_here)) {
                *best_here = cosine;
                *where_here = index;
              }
              __threadfence();
              atomicExch(lock + i, 0);
              atomicMax(floors + i, ordered(__double2float_rd(cosine)));
            }
          }
          __syncwarp();
        });
  }
};

// Grid: (ceil(n / BLOCK), parts). floors: ordered(-2) or what earlier calls left; best, where (-1): likewise; lock: 0.
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    nearest(V2F_SIDE(a), int n, V2F_SIDE(b), const int* count, const TileBounds* bounds, float bound_scale, int64 base,
            unsigned* floors, double* best, int64* where, int* lock) {
  const int row = blockIdx.x * BLOCK, tiles = (*count + kTile - 1) / kTile;
  NearestEpilogue epilogue;
  epilogue.a = V2F_MAKE_SIDE(a);
  epilogue.b = V2F_MAKE_SIDE(b);
  epilogue.bounds = bounds;
  epilogue.count = *count;
  epilogue.bound_scale = bound_scale;
  epilogue.floors = floors;
  epilogue.best = best;
  epilogue.where = where;
  epilogue.base = base;
  epilogue.lock = lock;
  epilogue.row = row;
  epilogue.n = n;
  epilogue.loaded = false;
  product(a_q, row, b_q, blockIdx.y, gridDim.y, tiles, epilogue);
}

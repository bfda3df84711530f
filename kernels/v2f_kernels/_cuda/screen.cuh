// What all epilogues share: which pairs of a strip need a closer look, and the closer look.
#pragma once
#include "product.cuh"

// Covers the rounding of everything computed in double around the screen, and of the exact cosine itself.
constexpr double kMargin = 1e-12;
// Covers the rounding of everything computed in float for thresholds: values near 1, so a few times 2^-24.
constexpr float kFloatMargin = 1e-6f;

// One side of the comparison. `master` holds the float32 originals, row j of the set at master + rows[j] * DIM
// (rows == nullptr: at master + j * DIM).
struct Side {
  const int8* q;
  const float* scale;
  const float* error;
  const double* norm;
  const float* master;
  const int64* rows;

  __device__ const float* original(int j) const {
    return master + (rows ? rows[j] : static_cast<int64>(j)) * DIM;
  }
};

// A Side as kernel arguments, and put together again.
#define V2F_SIDE(p)                                                                                               \
  const int8 *p##_q, const float *p##_scale, const float *p##_error, const double *p##_norm, const float *p##_master, \
      const int64 *p##_rows
#define V2F_MAKE_SIDE(p) \
  { p##_q, p##_scale, p##_error, p##_norm, p##_master, p##_rows }

// The rows of this thread: number(i) for i < 2 kI, in the order of `sums`.
struct ThreadRows {
  int first;
  float inverse_scale[2 * kI], one_plus_error[2 * kI];
  bool live[2 * kI];

  __device__ int number(int i) const { return first + kStepI * (i / 2) + 8 * (i % 2); }

  // Rows from `n` on, and those that `dead` (may be nullptr) marks, are not live.
  __device__ void load(const Side& a, int row, int n, const unsigned char* dead, float bound_scale) {
    first = row;
#pragma unroll
    for (int i = 0; i < 2 * kI; ++i) {
      const int r = number(i);
      live[i] = r < n && !(dead && dead[r]);
      inverse_scale[i] = live[i] ? 1.0f / a.scale[r] : 1.0f;
      one_plus_error[i] = live[i] ? 1.0f + bound_scale * a.error[r] : 1.0f;
    }
  }

  // The smallest integer product with which any row of the tile can reach a cosine of `floor`, rounded down.
  __device__ int threshold(int i, float floor, const TileBounds& tile, float bound_scale) const {
    if (!live[i]) return 0x7fffffff;
    const float widest = 1.0f + bound_scale * (tile.one_plus_error - 1.0f);
    const float needed = floor - kFloatMargin + 1.0f - one_plus_error[i] * widest;
    const float inverse = needed > 0.0f ? tile.inverse_largest_scale : tile.inverse_smallest_scale;
    const float product = needed * inverse_scale[i] * inverse;
    return static_cast<int>(fminf(fmaxf(product - fabsf(product) * 2e-6f - 2.0f, -1.2e9f), 1.2e9f));
  }
};

// Calls look(row number, column, integer product) for each pair of the strip whose product reaches its row's threshold
// and that passes wanted(row number, column): by the whole warp with the same arguments, pair after pair. Pairs are
// marked first and looked at afterwards in one loop, so that `look` is compiled once and needs no call.
template <class Wanted, class Look>
__device__ __forceinline__ void look_closer(const ThreadRows& rows, const int (&threshold)[2 * kI],
                                            const int (&sums)[kI][kJ][4], int first_column, Wanted wanted, Look look) {
  constexpr int kWords = kI * kJ * 4 / 32;
  const int lane = threadIdx.x % 32;
  unsigned open[kWords];
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    unsigned word = 0;
#pragma unroll
    for (int bit = 0; bit < 32; ++bit) {
      const int p = 32 * w + bit, i = p / (4 * kJ), j = p / 4 % kJ, e = p % 4, mine = 2 * i + e / 2;
      if (sums[i][j][e] >= threshold[mine] && wanted(rows.number(mine), first_column + 8 * j + e % 2))
        word |= 1u << bit;
    }
    open[w] = word;
  }
  for (;;) {
    int p = -1;
#pragma unroll
    for (int w = kWords - 1; w >= 0; --w) p = open[w] ? 32 * w + __ffs(open[w]) - 1 : p;
    const unsigned busy = __ballot_sync(WARP_FULL, p >= 0);
    if (!busy) return;
    const int source = __ffs(busy) - 1;
    p = __shfl_sync(WARP_FULL, p, source);
    int sum = 0;
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) sum = (i * kJ + j) * 4 + e == p ? sums[i][j][e] : sum;
#pragma unroll
    for (int w = 0; w < kWords; ++w)
      if (lane == source && p / 32 == w) open[w] &= open[w] - 1;
    const int row = __shfl_sync(WARP_FULL, rows.first, source) + kStepI * (p / (4 * kJ)) + 8 * (p % 4 / 2);
    const int column = __shfl_sync(WARP_FULL, first_column, source) + 8 * (p / 4 % kJ) + p % 2;
    look(row, column, __shfl_sync(WARP_FULL, sum, source));
  }
}

__device__ __forceinline__ bool any_reaches(const int (&threshold)[2 * kI], const int (&sums)[kI][kJ][4]) {
  bool any = false;
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    int low = sums[i][0][0], high = sums[i][0][2];
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      low = max(low, max(sums[i][j][0], sums[i][j][1]));
      high = max(high, max(sums[i][j][2], sums[i][j][3]));
    }
    any |= low >= threshold[2 * i] || high >= threshold[2 * i + 1];
  }
  return __any_sync(WARP_FULL, any);
}

struct Interval {
  double lower, upper;
};

// The cosine of the pair lies between these, by the error bounds of both rows.
__device__ __forceinline__ Interval interval(const Side& a, int i, const Side& b, int j, int product, float bound_scale) {
  const double estimate = product * (static_cast<double>(a.scale[i]) * static_cast<double>(b.scale[j]));
  const double bound = (1.0 + static_cast<double>(bound_scale) * a.error[i]) *
                           (1.0 + static_cast<double>(bound_scale) * b.error[j]) - 1.0 + kMargin;
  return {estimate - bound, estimate + bound};
}

// The cosine of v2f_kernels/_cosine.py, by the whole warp.
__device__ __forceinline__ double exact_cosine(const float* x, const float* y, double norm_x, double norm_y) {
  return __ddiv_rn(exact_dot(x, y), __dmul_rn(norm_x, norm_y));
}

// Is the pair's cosine at least t? Decided by the bounds where they can, else exactly. By the whole warp.
__device__ __forceinline__ bool reaches(const Side& a, int i, const Side& b, int j, int product, double t,
                                        float bound_scale) {
  const Interval cosine = interval(a, i, b, j, product, bound_scale);
  if (cosine.upper < t) return false;
  if (cosine.lower >= t) return true;
  return exact_cosine(a.original(i), b.original(j), a.norm[i], b.norm[j]) >= t;
}

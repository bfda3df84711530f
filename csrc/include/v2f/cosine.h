// The cosine that decides, bit for bit as in v2f_kernels/_cosine.py: float64 products of float32 entries, summed by
// halving (pad with zeros to a power of two n, then s = s[:n/2] + s[n/2:] until one number is left).
// Compile with -ffp-contract=off: a fused multiply-add would round once where the definition rounds twice.
#pragma once
#include <cstdint>

namespace v2f {

// Largest dimension of everything here: int32 accumulators hold 32768 * 255 * 127 < 2^31.
constexpr int64_t kMaxDim = 32768;

double dot(const float* x, const float* y, int64_t dim);

// Row-wise over n pairs of rows: out[i] = dot(x_i, y_i) / (norm(x_i) * norm(y_i)).
void cosine_rows(const float* x, const float* y, int64_t n, int64_t dim, double* out);

// out[i] = sqrt(dot(x_i, x_i)).
void norms(const float* x, int64_t n, int64_t dim, double* out, int threads);

// `norm_x` and `norm_y` are sqrt(dot(x, x)) and sqrt(dot(y, y)).
inline double cosine(const float* x, const float* y, double norm_x, double norm_y, int64_t dim) {
  return dot(x, y, dim) / (norm_x * norm_y);
}

}  // namespace v2f

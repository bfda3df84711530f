#include "v2f/cosine.h"

#include <cmath>
#include <vector>

#include "v2f/dispatch.h"

namespace v2f {
namespace {

// First halving straight from the rows, the rest in place. `half` is a power of two with half < dim <= 2 * half.
V2F_CLONES double dot_halving(const float* x, const float* y, int64_t dim, int64_t half, double* sum) {
  const int64_t upper = dim - half;
  for (int64_t k = 0; k < upper; ++k) {
    const double low = static_cast<double>(x[k]) * static_cast<double>(y[k]);
    const double high = static_cast<double>(x[k + half]) * static_cast<double>(y[k + half]);
    sum[k] = low + high;
  }
  for (int64_t k = upper; k < half; ++k) sum[k] = static_cast<double>(x[k]) * static_cast<double>(y[k]);
  for (int64_t width = half / 2; width >= 1; width /= 2)
    for (int64_t k = 0; k < width; ++k) sum[k] += sum[k + width];
  return sum[0];
}

}  // namespace

double dot(const float* x, const float* y, int64_t dim) {
  if (dim == 1) return static_cast<double>(x[0]) * static_cast<double>(y[0]);
  int64_t half = 1;
  while (2 * half < dim) half *= 2;
  if (half <= 1024) {
    alignas(64) double sum[1024];
    return dot_halving(x, y, dim, half, sum);
  }
  std::vector<double> sum(static_cast<size_t>(half));
  return dot_halving(x, y, dim, half, sum.data());
}

void norms(const float* x, int64_t n, int64_t dim, double* out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && n > 256)
  for (int64_t i = 0; i < n; ++i) out[i] = std::sqrt(dot(x + i * dim, x + i * dim, dim));
}

void cosine_rows(const float* x, const float* y, int64_t n, int64_t dim, double* out) {
  for (int64_t i = 0; i < n; ++i, x += dim, y += dim)
    out[i] = cosine(x, y, std::sqrt(dot(x, x, dim)), std::sqrt(dot(y, y, dim)), dim);
}

}  // namespace v2f

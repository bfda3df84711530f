#include "v2f/perturb.h"

#include <cmath>

#include "v2f/cosine.h"
#include "v2f/dispatch.h"

namespace v2f {
namespace {

V2F_CLONES void move(const float* x, float sigma, float* noise, int64_t dim) {
  for (int64_t k = 0; k < dim; ++k) noise[k] = x[k] + sigma * noise[k];
}

V2F_CLONES void scale(const float* moved, float ratio, int64_t dim, float* y) {
  for (int64_t k = 0; k < dim; ++k) y[k] = moved[k] * ratio;
}

}  // namespace

double perturb(const float* x, float sigma, float* noise, int64_t dim, float* y) {
  move(x, sigma, noise, dim);
  const double square = dot(x, x, dim);
  scale(noise, static_cast<float>(std::sqrt(square / dot(noise, noise, dim))), dim, y);
  return cosine(x, y, std::sqrt(square), std::sqrt(dot(y, y, dim)), dim);
}

}  // namespace v2f

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

void perturb(const float* x, float sigma, float* noise, int64_t dim, float* y) {
  move(x, sigma, noise, dim);
  const double ratio = std::sqrt(dot(x, x, dim) / dot(noise, noise, dim));
  scale(noise, static_cast<float>(ratio), dim, y);
}

}  // namespace v2f

// Noise around identity vectors, bit for bit as in v2f_kernels/perturb/reference.py. Compile with -ffp-contract=off.
#pragma once
#include <cstdint>

namespace v2f {

// y = moved * float(|x| / |moved|), moved = x + sigma * noise; all of `dim` entries. `noise` is overwritten; y may not
// overlap it. Returns the cosine of y to x: one pass, since rows fetched again cost as much as the arithmetic.
double perturb(const float* x, float sigma, float* noise, int64_t dim, float* y);

}  // namespace v2f

// Philox4x32-10 and its float forms, bit for bit as in v2f_kernels/philox/reference.py: float32 + - * rounded one by
// one. Compile with -ffp-contract=off.
#pragma once
#include <cstdint>

namespace v2f {

// What a word becomes: itself, a float32 in [0, 1), or a standard normal.
enum class Form { kBits, kUniform, kNormal };

// Where a row of numbers is drawn: key = (k0, k1), counter = (purpose, identity, image, block).
struct Stream {
  uint32_t k0, k1, purpose, identity, image;
};

// out[k], k < n: word k mod 4 of counter (.., k / 4); 4 bytes each, uint32 or float32 as the form says.
void draw(Form form, const Stream& stream, int64_t n, uint32_t* out);

}  // namespace v2f

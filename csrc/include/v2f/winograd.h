// 3x3 convolutions in bf16 with fewer products than taps: `v2f_kernels._winograd` says which, and who may call.
#pragma once

#include <cstdint>
#include <string>

namespace v2f {

// GroupNorm and SiLU before a convolution; `weight` null where there is none.
struct Norm {
  const float* weight;      // [C]
  const float* bias;        // [C]
  const float* statistics;  // [B, groups, 2]: mean and biased variance; null: computed
  int64_t groups;
  float eps;
};

// One call; activations are channels-last.
struct Convolution {
  const uint16_t* x;         // [B, H, W, C] bf16
  const uint16_t* weights;   // [O / 64, products, C / 2, 64, 2] bf16
  const float* bias;         // [O] or null
  const uint16_t* residual;  // as y, or null
  uint16_t* y;               // [B, H, W, O] bf16; of an upsampling [B, 2H, 2W, O]
  int64_t B, H, W, C, O;     // C a multiple of 32, O of 64
  Norm norm;
};

// Why this processor cannot run them; empty where it can.
std::string winograd_refusal();

// Bits depend neither on the number of threads nor on the other images of the batch.
void winograd_conv3x3(const Convolution& given, int threads);
void winograd_upsample_conv3x3(const Convolution& given, int threads);

}  // namespace v2f

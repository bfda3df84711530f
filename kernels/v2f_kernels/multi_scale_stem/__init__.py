"""The discriminator's stem: convolutions of 3x3, 7x7 and 15x15 of the same picture, side by side.

    multi_scale_stem(x, weight3, bias3, weight7, bias7, weight15, bias15) -> y
    y = cat(conv3(x), conv7(x), conv15(x)), stride 1, zero padding of half a kernel

Args:
    x: [B, C, H, W] float32, float16 or bfloat16; C is 3. The kernels want channels-last memory.
    weight3, weight7, weight15: [O, C, k, k] with k = 3, 7 and 15, any floating dtype; O may differ.
    bias3, bias7, bias15: [O] of the weight before.

Returns:
    y: [B, O3 + O7 + O15, H, W] in x's dtype, or in autocast's where that is on; accumulated in fp32.

Gradients: x, weights and biases. They are those of the three convolutions: a smaller kernel embedded in a larger one
of zeros is the same function, and what the zeros would get is dropped.

Backends: `torch` runs three convolutions, the best form on a CPU, whose weight gradient of a 15x15 convolution is slow
enough without the smaller ones being one; `torch_one` one 15x15 convolution; `triton` writes a row of 15 pixels beside
every pixel, 45 of 48 channels, of which one is the bias's, so that one 15x1 convolution does it on tensor cores that
three channels leave idle.

Raises ValueError on shapes that do not fit, each with what was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "multi_scale_stem",
    {
        "reference": "v2f_kernels.multi_scale_stem.reference:multi_scale_stem",
        "torch": "v2f_kernels.multi_scale_stem.torch_native:multi_scale_stem",
        "torch_one": "v2f_kernels.multi_scale_stem.torch_one:multi_scale_stem",
        "triton": "v2f_kernels.multi_scale_stem.triton_op:multi_scale_stem",
    },
)

__all__ = ["OP"]

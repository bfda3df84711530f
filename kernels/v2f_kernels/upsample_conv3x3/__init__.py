"""Nearest-neighbour upsampling by two followed by a 3x3 convolution, as one op.

    upsample_conv3x3(x, weight, bias=None, out_groups=None) -> y          training, differentiable
    upsample_conv3x3_folded(x, folded, bias=None, out_groups=None) -> y   frozen models, not differentiable
    fold.fold_weights(weight, dtype=None) -> folded

The fold is exact in real arithmetic: an output pixel of parity (p, q) sees only a 2x2 window of x, because
neighbouring taps of the 3x3 kernel fall on the same source pixel. Along an axis, even outputs sum the taps
{0} and {1, 2}, odd outputs {0, 1} and {2}. Four 2x2 convolutions replace one 3x3 at twice the size: 4/9 of
the FLOPs, and the upsampled image is never stored. The four together are the transposed convolution of
kernel 4, stride 2, padding 1. First public use: Karras et al., Progressive Growing of GANs, 2018. Rounding
the summed taps to half precision errs no more than rounding the taps.

Args:
    x: [B, C, H, W] float32, float16 or bfloat16.
    weight: [O, C, 3, 3], dtype of x.
    folded: [C, O, 4, 4], dtype of x: the weight of that transposed convolution, from `fold_weights`.
    bias: [O] or None.
    out_groups: None, or a number of groups of y: the result is `(y, float32 [B, out_groups, 2])`, mean and
        biased variance of the rounded y, not differentiable.

Returns:
    y: [B, O, 2H, 2W], dtype of x, accumulated in fp32; or (y, statistics).

Gradients (unfolded): x, weight, bias.
Raises ValueError on shapes or dtypes that do not fit.
"""

from v2f_kernels._op import Op

OP = Op(
    "upsample_conv3x3",
    {
        "reference": "v2f_kernels.upsample_conv3x3.reference:upsample_conv3x3",
        "torch": "v2f_kernels.upsample_conv3x3.torch_native:upsample_conv3x3",
        "torch_folded": "v2f_kernels.upsample_conv3x3.torch_native:upsample_conv3x3_by_fold",
        "triton": "v2f_kernels.upsample_conv3x3.triton_op:upsample_conv3x3",
    },
)
FOLDED = Op(
    "upsample_conv3x3_folded",
    {
        "reference": "v2f_kernels.upsample_conv3x3.reference:upsample_conv3x3_folded",
        "torch": "v2f_kernels.upsample_conv3x3.torch_native:upsample_conv3x3_folded",
        "winograd": "v2f_kernels.upsample_conv3x3.winograd:upsample_conv3x3_folded",
        "torch_joined": "v2f_kernels.upsample_conv3x3.torch_joined:upsample_conv3x3_folded",
        "triton": "v2f_kernels.upsample_conv3x3.triton_op:upsample_conv3x3_folded",
    },
)

__all__ = ["FOLDED", "OP"]

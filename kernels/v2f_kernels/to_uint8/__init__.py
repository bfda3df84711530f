"""The image decoder's tail: from the last features to the bytes of an image.

    to_uint8(x, norm_weight, norm_bias, groups, eps, conv_weight, conv_bias, statistics=None) -> images

    f = conv3x3(SiLU(GroupNorm(x)))  [3 channels, padding 1]
    images = round_half_even((clip(f, -1, 1) + 1) * 127.5)

Args:
    x: [B, C, H, W] float32, float16 or bfloat16.
    norm_weight, norm_bias: [C].
    groups, eps: of the GroupNorm.
    conv_weight: [3, C, 3, 3], any floating dtype; rounded to that of x by every backend but `reference`.
    conv_bias: [3].
    statistics: float32 [B, groups, 2] of x (see `group_norm_silu`) or None: computed from x.

Returns:
    images: uint8 [B, H, W, 3], RGB, contiguous. A value that is not finite becomes 0: NaN must not reach a
    cast whose result C leaves undefined; finding it is the caller's check on the features.

Not differentiable. Sums are fp32; `torch` and `triton` round the normalised value to x's dtype before the
product, as a separate op would. Backends agree to one grey level, and exactly where the fp32 value lies
further from a rounding boundary than the backend's error.
Raises ValueError on shapes or dtypes that do not fit.
"""

from v2f_kernels._op import Op

OP = Op(
    "to_uint8",
    {
        "reference": "v2f_kernels.to_uint8.reference:to_uint8",
        "torch": "v2f_kernels.to_uint8.torch_native:to_uint8",
        "triton": "v2f_kernels.to_uint8.triton_op:to_uint8",
    },
)

__all__ = ["OP"]

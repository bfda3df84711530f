"""3x3 convolution, stride 1, zero padding 1, channels-last, with what surrounds it in a residual block.

    conv3x3(x, weight, bias=None, residual=None, norm=None, statistics=None, out_groups=None) -> y
    y = conv(SiLU(GroupNorm(x)) if norm else x) + bias + residual

Args:
    x: [B, C, H, W] float32, float16 or bfloat16.
    weight: [O, C, 3, 3], dtype of x (torch's own layout; the kernels read it as [O, 3, 3, C], which is what
        `.contiguous(memory_format=torch.channels_last)` stores).
    bias: [O] or None.
    residual: [B, O, H, W], dtype of x, or None; added in fp32 before the one rounding to x's dtype.
    norm: None or (norm_weight [C], norm_bias [C], groups, eps): GroupNorm+SiLU applied to x while loading.
        Padding is zero after SiLU. The normalised value is rounded to x's dtype before the product, as a
        separate op would.
    statistics: float32 [B, groups, 2] of x for `norm` (see `group_norm_silu`); None: computed from x.
        Not differentiable, only with `norm`.
    out_groups: None, or a number of groups of y: the result is then `(y, statistics of y)`, float32
        [B, out_groups, 2], mean and biased variance of the rounded y: the next norm needs no pass of its own.
        The statistics are not differentiable.

Returns:
    y: [B, O, H, W], dtype of x, accumulated in fp32; or (y, statistics).

Gradients: x, weight, bias, residual, norm_weight, norm_bias.

`cudnn` wants float16 or bfloat16 on a CUDA device and nvidia-cudnn-frontend (extra `cudnn`): bias and residual are
added by the convolution's own kernel.

Raises ValueError on shapes or dtypes that do not fit.
"""

from v2f_kernels._op import Op

OP = Op(
    "conv3x3",
    {
        "reference": "v2f_kernels.conv3x3.reference:conv3x3",
        "torch": "v2f_kernels.conv3x3.torch_native:conv3x3",
        "cudnn": "v2f_kernels.conv3x3.cudnn_graph:conv3x3",
        "winograd": "v2f_kernels.conv3x3.winograd:conv3x3",
        "torch_joined": "v2f_kernels.conv3x3.torch_joined:conv3x3",
    },
)

__all__ = ["OP"]

"""What is left to do behind a convolution that adds nothing itself, in one pass: bias, residual, statistics.

    add_statistics(x, bias=None, residual=None, out_groups=None) -> y
    y = x + bias + residual

Args:
    x: [B, C, H, W] float32, float16 or bfloat16: a convolution's result without its bias. The kernel wants
        channels-last memory, of residual too.
    bias: [C] of any floating dtype, or None.
    residual: [B, C, H, W], dtype of x, or None.
    out_groups: None, or a number of groups of y: the result is then `(y, statistics of y)`, float32
        [B, out_groups, 2], mean and biased variance of the rounded y (see `group_norm_silu`), not differentiable.

Returns:
    y: shape, dtype and memory format of x, added in fp32 and rounded once; x itself where nothing is added. Or
        (y, statistics).

Gradients: x, bias, residual.
Raises ValueError on shapes or dtypes that do not fit.
"""

from v2f_kernels._op import Op

OP = Op(
    "add_statistics",
    {
        "reference": "v2f_kernels.add_statistics.reference:add_statistics",
        "torch": "v2f_kernels.add_statistics.torch_native:add_statistics",
        "triton": "v2f_kernels.add_statistics.triton_op:add_statistics",
    },
)

__all__ = ["OP"]

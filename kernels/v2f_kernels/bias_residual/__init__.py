"""The end of a residual block of a frozen recogniser: `s = x + bias + shortcut`, channels-last.

    bias_residual(x, bias, shortcut) -> s

Args:
    x: [B, C, H, W] float32, float16, bfloat16 or float64: a convolution's result without its bias.
    bias: [C], a constant of any floating dtype: float32 where x is half.
    shortcut: shape and dtype of x.

Returns:
    s: shape, dtype and memory format of x. Summed in fp32 (fp64 for fp64) and rounded once.

Gradients: x and shortcut; both are that of s, so nothing is computed and nothing kept.

`triton` wants x and shortcut in channels-last memory on a CUDA device, in float32, float16 or bfloat16.

Raises ValueError on shapes and dtypes outside of this and on a bias that asks for a gradient, each with what was
expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "bias_residual",
    {
        "reference": "v2f_kernels.bias_residual.reference:bias_residual",
        "torch": "v2f_kernels.bias_residual.torch_native:bias_residual",
        "triton": "v2f_kernels.bias_residual.triton_op:bias_residual",
    },
)

__all__ = ["OP"]

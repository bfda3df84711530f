"""Layer normalisation, alone or fused with the residual addition before it.

    layer_norm(x, weight, bias, eps) -> y
    layer_norm(x, weight, bias, eps, residual) -> (y, s),  s = x + residual, y = LayerNorm(s)

Args:
    x: [..., D] float32, float16, bfloat16 or float64.
    weight, bias: [D], any floating dtype.
    eps: added to the biased variance.
    residual: shape of x, or None. Where its dtype is wider than x's, so is s's (torch's promotion). The sum
        is rounded to s's dtype and then normalised.

Returns:
    y: shape and dtype of x; s: shape of x. Statistics in fp32 (fp64 for fp64).

Gradients: x, weight, bias, residual. A second derivative exists in `reference` and `torch` only.

`triton` wants x and residual in float32, float16 or bfloat16 on a CUDA device, and D <= 2048.

Source: Ba et al., Layer Normalization, 2016.

Raises ValueError on shapes and dtypes outside of this, each with what was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "layer_norm",
    {
        "reference": "v2f_kernels.layer_norm.reference:layer_norm",
        "torch": "v2f_kernels.layer_norm.torch_native:layer_norm",
        "triton": "v2f_kernels.layer_norm.triton_op:layer_norm",
    },
)

__all__ = ["OP"]

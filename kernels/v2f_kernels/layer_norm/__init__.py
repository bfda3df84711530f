"""Layer normalisation, alone or fused with the residual addition before it.

    layer_norm(x, weight, bias, eps) -> y
    layer_norm(x, weight, bias, eps, residual) -> (y, s),  s = x + residual, y = LayerNorm(s)

Args:
    x: [..., D] float32, float16, bfloat16 or float64.
    weight, bias: [D].
    eps: added to the biased variance.
    residual: shape of x, or None. The sum is rounded to x's dtype and then normalised.

Returns:
    y and s: shape and dtype of x; statistics in fp32 (fp64 for fp64).

Gradients: x, weight, bias, residual.
Source: Ba et al., Layer Normalization, 2016.
"""

from v2f_kernels._op import Op

OP = Op(
    "layer_norm",
    {
        "reference": "v2f_kernels.layer_norm.reference:layer_norm",
        "torch": "v2f_kernels.layer_norm.torch_native:layer_norm",
    },
)

__all__ = ["OP"]

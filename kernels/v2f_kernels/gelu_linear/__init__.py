"""A linear layer and the exact GELU after it.

    gelu_linear(x, weight, bias) -> y = GELU(x weight^T + bias),  GELU(z) = z (1 + erf(z / sqrt 2)) / 2

Args:
    x: [..., K] float32, float16, bfloat16 or float64.
    weight: [M, K]; bias: [M].

Returns:
    y: [..., M], dtype of x; products accumulated and GELU evaluated in fp32 (fp64 for fp64).

Gradients: x, weight, bias.
The erf form, not the tanh approximation that cuBLASLt's epilogue computes: the published model uses erf.
Source: Hendrycks and Gimpel 2016.
"""

from v2f_kernels._op import Op

OP = Op(
    "gelu_linear",
    {
        "reference": "v2f_kernels.gelu_linear.reference:gelu_linear",
        "torch": "v2f_kernels.gelu_linear.torch_native:gelu_linear",
    },
)

__all__ = ["OP"]

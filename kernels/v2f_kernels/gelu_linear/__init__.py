"""A linear layer and the exact GELU after it.

    gelu_linear(x, weight, bias) -> y = GELU(x weight^T + bias),  GELU(z) = z (1 + erf(z / sqrt 2)) / 2

Args:
    x: [..., K] float32, float16, bfloat16 or float64.
    weight: [M, K]; bias: [M]; any floating dtype. The products are taken in x's dtype, as under autocast.

Returns:
    y: [..., M], dtype of x; products accumulated and GELU evaluated in fp32 (fp64 for fp64).

Gradients: x, weight, bias. A second derivative exists in `reference` and `torch` only.

`triton` wants x in float32, float16 or bfloat16 on a CUDA device and K a multiple of 8. When a gradient will be
asked for, it keeps z in x's dtype, as torch does. To compute z again would take 2 K operations for each element
where keeping it moves 4 bytes: 384 operations a byte at K = 768, twice what an H200 does in the time of a byte.

The erf form, not the tanh approximation that cuBLASLt's epilogue computes: the published model uses erf.
Source: Hendrycks and Gimpel 2016.

Raises ValueError on shapes and dtypes outside of this, each with what was expected and found.
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

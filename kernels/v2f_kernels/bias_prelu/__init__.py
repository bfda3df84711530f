"""What follows a convolution of a frozen recogniser: `y = z > 0 ? z : slope * z`, `z = x + bias`, channels-last.

    bias_prelu(x, bias, slope) -> y

Args:
    x: [B, C, H, W] float32, float16, bfloat16 or float64: the convolution's result without its bias.
    bias: [C], or [4, 4, C]: the bias of a pixel in row r and column q is `bias[e(r, H), e(q, W)]`, where e is 0
        inside of the image, 1 in its first line, 2 in its last, and 3 where it has only one.
    slope: [C], of any sign.

`bias` and `slope` are constants of any floating dtype: float32 where x is half.

Why a bias knows the edges: a norm in front of a zero-padded 3x3 convolution goes into the convolution, its shift too,
but for the taps that lie in the padding, which see 0 and not the shift. Which taps those are depends on the edge alone.

Returns:
    y: shape, dtype and memory format of x. Arithmetic is fp32 inside (fp64 for fp64), rounded once.

Gradients: x. At z = 0 it is `slope` times that of y, as torch's PReLU has it. The kernels keep one bit an element for
it, and neither x nor y.

`triton` wants x in channels-last memory on a CUDA device, in float32, float16 or bfloat16.

Source: He et al., Delving Deep into Rectifiers, 2015.

Raises ValueError on shapes and dtypes outside of this and on constants that ask for a gradient, each with what was
expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "bias_prelu",
    {
        "reference": "v2f_kernels.bias_prelu.reference:bias_prelu",
        "torch": "v2f_kernels.bias_prelu.torch_native:bias_prelu",
        "triton": "v2f_kernels.bias_prelu.triton_op:bias_prelu",
    },
)

__all__ = ["OP"]

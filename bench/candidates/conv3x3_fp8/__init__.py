"""An experiment, never chosen by itself: GroupNorm+SiLU and a 3x3 convolution whose products are of 8-bit floats.

    conv3x3_fp8(x, weight, scale, norm, residual=None) -> y
    y = conv(e4m3(SiLU(GroupNorm(x)) * 16) / 16, weight * scale) + residual

Args:
    x: [B, C, H, W] float16, bfloat16 or float32, channels-last; C a multiple of 32
        (an 8-bit matrix instruction reads 32 at a time).
    weight: [O, C, 3, 3] float8_e4m3fn, channels-last, and
    scale: float32 [O]: both from `quantise_weight`.
    norm: (norm_weight [C], norm_bias [C], groups, eps).
    residual: [B, O, H, W], dtype of x, or None.

Returns:
    y: [B, O, H, W], dtype of x, channels-last. Products accumulate in fp32, or nearly: Hopper's tensor cores keep
    14 bits within an instruction group, and their sums are added to fp32 after every `BLOCK_K` channels of a tap.

`e4m3` rounds to nearest even and saturates at 448: activations up to 28 are kept, and those below 2^-10 vanish. Three
bits of mantissa are a relative error of up to 6 %; whether faces stay the same person is asked of a recogniser
(`bench/generation/fp8.py`), and no answer is assumed. Not differentiable. Needs compute capability 8.9.
Raises ValueError on shapes or dtypes that do not fit, BackendUnavailable on an older GPU.
"""

from v2f_kernels._op import Op

from bench.candidates.conv3x3_fp8.quantise import quantise_weight

OP = Op(
    "conv3x3_fp8",
    {
        "reference": "bench.candidates.conv3x3_fp8.reference:conv3x3_fp8",
        "triton": "bench.candidates.conv3x3_fp8.triton_op:conv3x3_fp8",
    },
)

__all__ = ["OP", "quantise_weight"]

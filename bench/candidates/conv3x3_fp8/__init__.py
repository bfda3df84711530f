"""An experiment, never chosen by itself: GroupNorm+SiLU and a 3x3 convolution whose products are of 8-bit floats.

    conv3x3_fp8(x, weight, scale, norm, bias=None, residual=None, statistics=None, out_groups=None) -> y
    y = conv(e4m3(SiLU(GroupNorm(x)) * 16) / 16, weight * scale) + bias + residual

Args:
    x: [B, C, H, W] float16, bfloat16 or float32, channels-last.
    weight: [O, C, 3, 3] float8_e4m3fn, channels-last, and
    scale: float32 [O]: both from `quantise_weight`.
    norm: (norm_weight [C], norm_bias [C], groups, eps).
    bias: [O] or None.
    residual: [B, O, H, W], dtype of x, or None.
    statistics: float32 [B, groups, 2] of x for `norm` (see `group_norm_silu`); None: computed from x.
    out_groups: None, or a number of groups of y: the result is then `(y, statistics of y)`, as of `conv3x3`.

Returns:
    y: [B, O, H, W], dtype of x, channels-last; or (y, statistics).

`e4m3` rounds to nearest even and saturates at 448: activations up to 28 are kept, and those below 2^-10 vanish. Three
bits of mantissa are a relative error of up to 6 %; whether faces stay the same person is asked of a recogniser
(`bench/generation/fp8.py`), and no answer is assumed. Not differentiable.

`triton` is the kernel of `conv3x3_flat` with e4m3 operands, for compute capability 9.0 alone: an implicit product for
8.9 and 12.0 stood here, which no command chose, no table could name and no card of those kinds has measured. Sums stay
in the tensor cores over all 9 C products: there they err by 0.06 % of the result (128 channels) to 0.10 % (256) by
`accumulation.py`, a sixtieth to a thirtieth of what rounding to e4m3 costs (3.7 %). Taken out to fp32 every 128
products they would err by 0.014 %, for a second accumulator: 151 registers instead of 124, one program to a
multiprocessor instead of two.

Raises ValueError on shapes or dtypes that do not fit, BackendUnavailable on another GPU.
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

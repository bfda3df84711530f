"""Group normalisation between leaky ReLUs, channels-last: what stands between two convolutions of the discriminator.

    group_norm_leaky(x, weight, bias, groups, eps, before=1.0, after=1.0, shift=None) -> y
    u = leaky(x + shift, before)
    y = leaky((u - mean) * rstd * weight + bias, after),  leaky(v, slope) = v where v > 0, slope * v elsewhere

Args:
    x: [B, C, H, W] float32, float16 or bfloat16; C divisible by `groups`. The kernels want
        channels-last memory; the torch form takes any.
    weight, bias: [C], any floating dtype (float32 under autocast).
    groups: number of channel groups; group g holds channels g*C/groups .. (g+1)*C/groups - 1.
    eps: added to the biased variance.
    before, after: slopes of the leaky ReLUs below zero, at least 0; 1 for none.
    shift: None, or [C], any floating dtype: the bias of the convolution that made x, which cuDNN would
        add in a kernel of its own.

Returns:
    y: shape, dtype and memory format of x. Statistics are those of u; they and the arithmetic are fp32
        inside (fp64 for fp64).

Gradients: x, weight, bias, shift. At a kink the slope is that of the negative side, as torch's.

Source: Wu and He, Group Normalization, ECCV 2018; leaky ReLU: Maas et al. 2013.

Raises ValueError on shapes, groups or slopes that do not fit, each with what was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "group_norm_leaky",
    {
        "reference": "v2f_kernels.group_norm_leaky.reference:group_norm_leaky",
        "torch": "v2f_kernels.group_norm_leaky.torch_native:group_norm_leaky",
        "triton": "v2f_kernels.group_norm_leaky.triton_op:group_norm_leaky",
    },
)

__all__ = ["OP"]

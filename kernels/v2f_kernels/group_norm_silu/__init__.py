"""Group normalisation followed by SiLU, channels-last: `y = z * sigmoid(z)`, `z = (x - mean) * rstd *
weight + bias`.

    group_norm_silu(x, weight, bias, groups, eps, statistics=None, shift=None, keep=False) -> y

Args:
    x: [B, C, H, W] float32, float16 or bfloat16; C divisible by `groups`. The kernels want
        channels-last memory; the torch forms take any.
    weight, bias: [C], any floating dtype (float32 under autocast, x's dtype in a frozen model).
    groups: number of channel groups; group g holds channels g*C/groups .. (g+1)*C/groups - 1.
    eps: added to the biased variance.
    statistics: optional float32 [B, groups, 2]: mean and biased variance of x per image and group, as
        `group_statistics(x, groups)` or the epilogue of a convolution gives them. With it, x is read
        once instead of twice. They are taken as known, not as constants: the gradient of x is the same as without
        them, and they have none themselves.
    shift: optional [C]: y is that of `x + shift`, added in fp32: a bias that the convolution before left out.
        Statistics, where given too, are of `x + shift`. Not differentiable either.
    keep: the result is `(y, x)`: what else reads x, such as a residual, reads this one, and its gradient comes back
        with y's. Not with a shift.

Returns:
    y, or (y, x): shape, dtype and memory format of x. Statistics and arithmetic are fp32 inside (fp64 for fp64).

Gradients: x, weight, bias.

    group_statistics(x, groups) -> float32 [B, groups, 2]

Source: Wu and He, Group Normalization, ECCV 2018; SiLU: Elfwing et al. 2018.

Raises ValueError on shapes that do not fit, each with what was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "group_norm_silu",
    {
        "reference": "v2f_kernels.group_norm_silu.reference:group_norm_silu",
        "torch": "v2f_kernels.group_norm_silu.torch_native:group_norm_silu",
        "torch_rows": "v2f_kernels.group_norm_silu.torch_rows:group_norm_silu",
        "triton": "v2f_kernels.group_norm_silu.triton_op:group_norm_silu",
        "triton_resident": "v2f_kernels.group_norm_silu.triton_resident_op:group_norm_silu",
    },
)
STATISTICS = Op(
    "group_statistics",
    {
        "reference": "v2f_kernels.group_norm_silu.reference:group_statistics",
        "torch": "v2f_kernels.group_norm_silu.reference:group_statistics",
        "triton": "v2f_kernels.group_norm_silu.triton_op:group_statistics",
    },
)

__all__ = ["OP", "STATISTICS"]

"""Batch normalisation in training, with what stands behind it in a residual network: PReLU, and a residual to add.

    batch_norm_prelu(x, weight, bias, running_mean, running_var, batches, momentum, eps, slope=None, residual=None,
        through=False) -> y
    z = (x - mean) * rstd * weight + bias
    y = (z > 0 ? z : slope * z) + residual

Args:
    x: [B, C, H, W] float32, float16 or bfloat16, at least two pixels in all. The kernels want channels-last memory, of
        residual too; the torch form takes any.
    weight, bias: [C], any floating dtype (float32 under autocast).
    running_mean, running_var: [C] floating; changed in place as `torch.nn.BatchNorm2d` does:
        running += momentum * (found - running), the variance found being the unbiased one.
    batches: int64 [], changed in place: one more.
    momentum: between 0 and 1.
    eps: added to the biased variance.
    slope: None for no PReLU, or [C], any floating dtype, of any sign.
    residual: None, or as x in shape and dtype.
    through: whether the result is `(y, x)`: who reads x besides, as a shortcut does, reads it there; that gradient is
        added in the pass that writes x's.

Returns:
    y: shape, dtype and memory format of x. Statistics are those of a channel over batch and pixels; they and the
        arithmetic are fp32 inside (fp64 for fp64), rounded once.

Gradients: x, weight, bias, slope, residual. At z = 0 the slope is that of the negative side, as torch's.

Source: Ioffe and Szegedy, Batch Normalization, 2015; He et al., Delving Deep into Rectifiers, 2015.

Raises ValueError on shapes, dtypes or numbers that do not fit, each with what was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "batch_norm_prelu",
    {
        "reference": "v2f_kernels.batch_norm_prelu.reference:batch_norm_prelu",
        "torch": "v2f_kernels.batch_norm_prelu.torch_native:batch_norm_prelu",
        "triton": "v2f_kernels.batch_norm_prelu.triton_op:batch_norm_prelu",
    },
)

__all__ = ["OP"]

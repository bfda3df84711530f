"""Structural similarity of two batches of images, one number: the term of a generator's loss.

    ssim(left, right) -> mean

At every position of every channel where an 11 x 11 Gaussian window (sigma 1.5, weights sum to 1) lies inside the image,
with means m, variances v and covariance c under that window,

    S = (2 m_l m_r + C1) / (m_l^2 + m_r^2 + C1) * (2 c + C2) / (v_l + v_r + C2),    C1 = 0.01^2, C2 = 0.03^2

and the result is the mean of S over images, channels and positions.

Args:
    left, right: [B, C, H, W] of one shape, values in [0, 1], H and W at least 11; float32 (half precision is widened;
        float64 for `reference` and `torch`). Any dense memory; the kernels read channels-last and NCHW as they lie.

Returns:
    mean: float32 scalar (float64 for float64); 1 where both are equal.

Gradients: left, right, in the memory order of each.

Source: Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment, IEEE TIP 2004.

Raises ValueError on shapes or dtypes that do not fit.
"""

from v2f_kernels._op import Op

OP = Op(
    "ssim",
    {
        "reference": "v2f_kernels.ssim.reference:ssim",
        "torch": "v2f_kernels.ssim.torch_native:ssim",
        "triton": "v2f_kernels.ssim.triton_op:ssim",
    },
)

__all__ = ["OP"]

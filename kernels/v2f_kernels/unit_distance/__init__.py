"""How far two feature maps are apart: LPIPS's distance of one map.

    unit_distance(left, right, weight=None, floor=1e-4) -> d

    d[b] = mean over pixels of the sum over c of weight[c] (u[c] - v[c])^2,
    u = l / max(|l|, floor) of left's channel vector l at a pixel, v the same of right's

Args:
    left, right: [B, C, H, W] of one dtype: float32, float16, bfloat16 or float64.
    weight: [C], a constant of any floating dtype, LPIPS's linear layer; 1 where None.
    floor: channel vectors shorter than this are divided by it, above 0.

Returns:
    d: [B] float32 (float64 for float64), which is the arithmetic inside, too.

Gradients: left, right, in their dtype. Where a vector is shorter than `floor` its length is a constant, as torch's
`clamp_min` has it; at a length of 0 the gradient is finite.

`triton` wants left and right in channels-last memory on a CUDA device, in float32, float16 or bfloat16, and C <= 2048.
Each way reads both maps once; a second derivative exists in `reference` and `torch` only.

Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018; the floor: Vec2Face
issue 9, where the published 1e-10 turned NaN in half precision.

Raises ValueError on shapes, dtypes and numbers outside of this and on a weight that asks for a gradient, each with what
was expected and found.
"""

from v2f_kernels._op import Op

OP = Op(
    "unit_distance",
    {
        "reference": "v2f_kernels.unit_distance.reference:unit_distance",
        "torch": "v2f_kernels.unit_distance.reference:unit_distance",
        "triton": "v2f_kernels.unit_distance.triton_op:unit_distance",
    },
)

__all__ = ["OP"]

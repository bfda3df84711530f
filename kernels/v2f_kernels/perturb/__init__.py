"""Noise around an identity vector, brought back to the vector's own length.

    perturb(vectors, sigma, noise) -> y

    moved = x + sigma * noise              float32, the product rounded before the sum
    y     = moved * (|x| / |moved|)        lengths by float64 halving sums, the ratio rounded to float32

Args:
    vectors: float32 [B, D], rows x; a NumPy array or a torch tensor.
    sigma: float32 [B], the same kind of array.
    noise: float32 [B, D], standard normals; the same kind of array.

Returns:
    y: float32 [B, D] with |y| = |x| up to rounding; y is x exactly where sigma is 0.

Gradients: all three, for torch tensors. A row depends on its own inputs alone: batch size never matters,
and the NumPy reference gives the same bits on every machine. Rows of zeros give NaN or zero.

    perturb_drawn(vectors, sigma, seed, purpose, identity, image) -> y

`DRAWN`: the same with noise = `philox.draw("normal", seed, purpose, identity, image, D)`, for backends that
draw inside the kernel. identity, image: integers [B]. Not differentiable.

    perturb_measured(vectors, sigma, seed, purpose, identity, image) -> y, cosine

`MEASURED`: the same for NumPy arrays, with the cosine of each y to its x, float64 [B], as `v2f_kernels._cosine`
defines it. Every backend returns the same bits of both.

Expected cosine between y and x: 1 / sqrt(1 + D sigma**2 / |x|**2).
Source: Vec2Face (ICLR 2025), image generation: 50 noisy copies per identity, each with its centre's norm.

Raises ValueError for shapes or dtypes that do not fit.
"""

from v2f_kernels._op import Op

OP = Op(
    "perturb",
    {
        "reference": "v2f_kernels.perturb.reference:perturb",
    },
)
DRAWN = Op(
    "perturb_drawn",
    {
        "reference": "v2f_kernels.perturb.reference:perturb_drawn",
    },
)
MEASURED = Op(
    "perturb_measured",
    {
        "reference": "v2f_kernels.perturb.reference:perturb_measured",
        "native": "v2f_kernels.perturb.native:perturb_measured",
    },
)

__all__ = ["DRAWN", "MEASURED", "OP"]

"""Nearest neighbour by cosine: for each query the most similar row of a gallery of any size.

    nearest_cosine(queries, gallery, *, block=None) -> (cosine, index)

Args:
    queries: float32 [Q, D], D <= 1024; a NumPy array, a memory map or a torch CPU tensor.
    gallery: float32 [G, D], G >= 1; likewise. A memory map is read block by block, once.
    block: gallery rows per step, a matter of speed and memory.

Returns:
    cosine: float64 [Q], the largest `v2f_kernels._cosine.cosine` between the query and a gallery row.
    index: int64 [Q], the first gallery row with that cosine.

Rows need not be unit length; each must be finite with a length between 1e-6 and 1e6. The answer is exact in
the float64 cosine (ties go to the lower index), so it does not depend on `block`, backend, threads or on how
a gallery is cut into parts: merging parts by (larger cosine, then lower index) gives the answer of the whole.

Not differentiable. Q * G * D multiply-adds; memory beyond the inputs is about Q * block * 4 bytes.

Raises ValueError for a wrong shape or dtype, an empty gallery, and rows without direction.
"""

from v2f_kernels._op import Op

OP = Op(
    "nearest_cosine",
    {
        "reference": "v2f_kernels.nearest_cosine.reference:nearest_cosine",
        "native": "v2f_kernels.nearest_cosine.native:nearest_cosine",
        "cupy": "v2f_kernels.nearest_cosine.on_device:nearest_cosine",
    },
)

__all__ = ["OP"]

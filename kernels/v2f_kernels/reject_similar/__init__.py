"""Greedy cosine rejection: keep a candidate if it is not similar to any candidate kept before it.

    reject_similar(vectors, max_cosine, *, kept=None, block=None) -> indices

Args:
    vectors: float32 [N, D], D <= 1024, in candidate order; a NumPy array, a memory map or a torch CPU tensor.
        Rows need not be unit length; each must be finite with a length between 1e-6 and 1e6.
    max_cosine: t, a Python float in [-1, 1].
    kept: a `Kept` with the vectors accepted by earlier calls. Candidates are compared with those too, and
        the rows accepted now are appended to it, so a stream of calls equals one call on the concatenation.
    block: candidates per step, a matter of speed and memory.

Returns:
    indices: int64 [A], ascending: the rows of `vectors` that were kept.

Row i is kept if and only if `cosine(i, j) < t` for every kept j < i (`kept` counts as earlier rows): the
lexicographically first maximal independent set of the graph of similar pairs. `cosine` is the float64 number
defined in `v2f_kernels._cosine`; **the answer is exact in that number**, so it does not depend on `block`, on
the backend, on the number of threads or on how a stream is cut. A backend may decide a pair by a faster, less
exact product only where a proven bound on its error leaves no doubt, and decides the rest by `_cosine`.

    similar_to_earlier(vectors, max_cosine, *, block=None) -> similar

`EARLIER`: bool [N], true where `cosine(i, j) >= max_cosine` for some j < i, kept or not: the published
measure of separability counts a row as unique when this is false. Exact, with arguments and errors, as above.

Not differentiable. Cost: about D * A**2 multiply-adds for A kept when little is rejected.

Raises ValueError for a wrong shape, dtype or threshold and for rows that are not finite or have no direction.
Source: Vec2Face (ICLR 2025) keeps identity vectors whose cosine with every other is below 0.3.
"""

from v2f_kernels._op import Op
from v2f_kernels.reject_similar.kept import Kept

OP = Op(
    "reject_similar",
    {
        "reference": "v2f_kernels.reject_similar.reference:reject_similar",
        "native": "v2f_kernels.reject_similar.native:reject_similar",
        "cupy": "v2f_kernels.reject_similar.on_device:reject_similar",
    },
)

EARLIER = Op(
    "similar_to_earlier",
    {
        "reference": "v2f_kernels.reject_similar.reference:similar_to_earlier",
        "native": "v2f_kernels.reject_similar.native_earlier:similar_to_earlier",
    },
)

__all__ = ["EARLIER", "OP", "Kept"]

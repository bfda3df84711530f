"""Forms of steering: the loss, the thresholds and the end of a loop, by the name of who published it.

`gen_image` of three official versions, each for a batch of one, where its batch means are a sample's own:

    published-2024   HaiyuWu/Vec2Face e0b439c       100 d where d > 0.5, + quality + yaw; 5 iterations that count
    published-2025   HaiyuWu/Vec2Face 9d9fa8c       100 d + quality + yaw; 1 iteration that counts
    plus             HaiyuWu/Vec2Face_plus 7aea100  d where d > 0.3, + quality / 30 + yaw / 90; 1 that counts

d is the cosine distance to the identity's vector. An iteration counts once its picture is within the thresholds (pose
5 degrees, d 0.3, quality 1; in `plus` the scaled misses are compared with the same 5 and 1, so d alone decides). Masks
are drawn anew at each, and what comes back is the vector after one more step, unchecked. The two older ones go on for
ever where no iteration counts; `plus` lets 30 pass and counts every further one, and so do all here, after `free`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from v2f_engine.attributes.targets import Attribute, published_plus

FREE = 200
"""Iterations without count that stand for the published loop without an end. Its 8 starts at quality 27 took 27 in the
mean (`published-2025`)."""


@dataclass(frozen=True)
class Form:
    """A published form.

    Args:
        scaled: weights of Vec2Face+ (`targets.published_plus`) instead of those of the first paper.
        dead_zone: no loss for identity up to this distance; none where None.
        min_cosine: where identity counts as kept.
        counted: iterations that have to count.
        free: iterations that may pass without count.
        counts: `met`: everything within its tolerance; `kept`: identity alone.
    """

    scaled: bool
    dead_zone: float | None
    min_cosine: float
    counted: int
    free: int
    counts: str

    def weighted(self, attribute: Attribute) -> Attribute:
        """An attribute with this form's weight."""
        if self.scaled:
            attribute = published_plus(attribute)
        elif attribute.name == "quality":
            attribute = replace(attribute, weight=1.0)
        return attribute


FORMS: Mapping[str, Form | None] = {
    "ours": None,
    "published-2024": Form(False, 0.5, 0.5, 5, FREE, "met"),
    "published-2025": Form(False, None, 0.7, 1, FREE, "met"),
    "plus": Form(True, 0.3, 0.7, 1, 30, "kept"),
}
"""Name -> form; `ours` stops at the first picture that meets its goals, with its own masks throughout."""

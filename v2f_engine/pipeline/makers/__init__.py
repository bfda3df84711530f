"""Makers: draws in, images out. Three ways to make an image, one contract; all else is the loop's (`finish.py`).

plain     the runner decodes each draw
posed     a pose network conditions it on a landmark picture
steered   its vector is optimised until the image meets its goals
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.pipeline.draws import Draw, Draws
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.perturbation_contract import Around


@dataclass(frozen=True)
class Made:
    """What became of a draw.

    Args:
        images: uint8 `[B, 112, 112, 3]`.
        attributes: name -> float32 `[B]`, of the images made.
        vectors: float32 `[B, 512]` that made them, where a maker changes the draw's.
        doubtful: bool `[B]`, images that met something not finite on their way though they do not look like it.
    """

    images: NDArray[np.uint8]
    attributes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    vectors: NDArray[np.float32] | None = None
    doubtful: NDArray[np.bool_] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Made]) -> Made:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        return cls(
            np.concatenate([part.images for part in parts]),
            {name: np.concatenate([part.attributes[name] for part in parts]) for name in first.attributes},
            None if first.vectors is None else np.concatenate([_given(part.vectors) for part in parts]),
            None if first.doubtful is None else np.concatenate([_given(part.doubtful) for part in parts]),
        )

    def with_rows(self, rows: NDArray[np.int64], other: Made) -> Made:
        """The same with `rows` replaced by those of `other`."""

        def put(into: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
            changed = into.copy()
            changed[rows] = values
            return changed

        return Made(
            put(self.images, other.images),
            {name: put(values, other.attributes[name]) for name, values in self.attributes.items()},
            None if self.vectors is None else put(self.vectors, _given(other.vectors)),
            None if self.doubtful is None else put(self.doubtful, _given(other.doubtful)),
        )


def _given(part: NDArray[Any] | None) -> NDArray[Any]:
    assert part is not None, "parts of one maker have the same fields"
    return part


def refuse_moved(noise: Around, maker: Maker | None) -> None:
    """Refuses a perturbation that knows the table's vectors beside a maker that changes them.

    Raises:
        ConfigError: both are asked for.
    """
    if noise.needs_table and maker is not None and maker.moves_centres:
        raise ConfigError(
            f"the perturbation {noise.words} keeps images nearer to their identity than to any other vector of the "
            "table, and steering is asked to refine those vectors first, so the guard would hold of vectors that are "
            "not used. Steer the images (--steer images), or leave the guard out (--perturbation cone:0.6,unguarded)."
        )


class Maker(ABC):
    """Makes images of draws. An image depends on its own draw and on `rows` alone.

    Args:
        rows: rows on the device at a time; they decide an image's last bits.
        batch: draws it takes at a time.
        fewer: how a user asks for other `rows`, which stand in its braces.
        noise: around an identity's vector, where nobody asks for another.
        usual_masks: of its images, in place of the engine's.
    """

    rows: int
    batch: int
    fewer = "--compute-batch {}"
    noise: Perturbation = Perturbation()
    usual_masks: MaskSchedule | None = None

    @property
    def moves_centres(self) -> bool:
        """Whether identities' vectors are changed before their images are drawn around them (`prepared`)."""
        return False

    @abstractmethod
    def __call__(self, draw: Draw) -> Made:
        """The images of one batch of any length."""

    @abstractmethod
    def smaller(self, rows: int) -> Maker:
        """The same maker with fewer rows on the device, in `self`'s place: what `self` holds there may go.

        Raises:
            OutOfMemory: its rows cannot be changed.
        """

    def stream(self, draws: Iterable[Draw]) -> Generator[Made]:
        """The images of each batch, in order; draws may be taken ahead of the images yielded."""
        for draw in draws:
            yield self(draw)

    def prepared(self, draws: Draws) -> Draws:
        """What has to be known of the identities first; in the caller's thread, on the device if need be."""
        return draws

    def furnished(self, draw: Draw) -> Draw:
        """A batch with what this maker needs beside it; in the drawing thread, on the host."""
        return draw

    def describe(self) -> dict[str, Any]:
        """What decides an image's bytes beside the engine, for manifests."""
        return {}

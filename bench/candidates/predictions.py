"""What each candidate should bring, by arithmetic, written down before it is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A way to compute something that a contest on a card decides about.

    Args:
        name: as the table calls it.
        kind: `generation`, `training` or `cpu`.
        op: that it implements, or the part of the engine it changes.
        shapes: where it takes part.
        replaces: what runs today, with the measured time where there is one.
        arithmetic: bytes, FLOP and rates behind the prediction.
        predicted: the prediction in us an image or ms a step.
        backend: its name among the op's backends, by which the interpreter judges it; None for what is no backend.
        kernels: (op's folder, kernel) under the compile gate; empty for a library's.
        proven: what else proves it without a GPU.
    """

    name: str
    kind: str
    op: str
    shapes: str
    replaces: str
    arithmetic: str
    predicted: str
    backend: str | None = None
    kernels: tuple[tuple[str, str], ...] = ()
    proven: str = ""

    @property
    def contender(self) -> str:
        """Its name in a contest's rows."""
        return self.backend or self.name

    @property
    def case(self) -> str:
        """How a contest's rows for its op begin."""
        return f"{self.op} "


CANDIDATES: tuple[Candidate, ...] = ()

"""`--extend TABLE` of `v2f ids sample` and `v2f ids plan`: a finished table that goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from v2f_engine.cli.ids import StreamFlags
    from v2f_engine.vectors.growth_plan import ExtensionPlan
    from v2f_engine.vectors.identities import Identities
    from v2f_engine.vectors.sources import VectorSource

Extend = Annotated[
    Path | None,
    typer.Option(help="a table of `v2f ids sample` to go on with: as if count had been asked for at once"),
]


@dataclass(frozen=True)
class Extended:
    """A table that goes on, and what it was sampled from.

    Args:
        table: as it was read.
        source: found by what the table says, or as typed.
        reading_s: seconds that reading and checking it took.
    """

    table: Identities
    source: VectorSource
    reading_s: float

    @classmethod
    def of(cls, path: Path, stream: StreamFlags) -> Extended:
        """Reads it.

        Raises:
            VectorError, ConfigError: as `vectors.growth.extend_identities`.
        """
        from v2f_engine.pipeline.given import given_vectors
        from v2f_engine.vectors.growth import refuse_without_stream, source_of

        started = time.perf_counter()
        table = given_vectors(path)
        refuse_without_stream(table)
        named = stream.people is not None or stream.source != "auto"
        source = source_of(table, stream.found if named else "auto")
        return cls(table, source, time.perf_counter() - started)

    @property
    def model(self) -> str | None:
        """The generator that the table says it is for."""
        named = self.table.provenance.get("model")
        return None if named is None else str(named)

    def plan(self, count: int, backend: str, max_candidates: int | None = None) -> ExtensionPlan:
        """What the new part costs."""
        from v2f_engine.vectors.growth_plan import plan_extension

        return plan_extension(self.table, count, self.source, backend=backend, max_candidates=max_candidates)

    def files_s(self, count: int) -> float:
        """Seconds to read this table and to write and hash one of `count`, as reading took here."""
        return self.reading_s * (1 + count / len(self.table))

    def line(self, count: int) -> str:
        """The same for people."""
        return f"files       {self.files_s(count):,.1f} s to read this table and write the larger, as reading took here"

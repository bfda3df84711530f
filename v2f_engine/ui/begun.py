"""What the page was started with; read before the engine is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from v2f_engine.errors import OutputFolderError
from v2f_engine.options import EngineOptions


@dataclass(frozen=True)
class Begun:
    """What `v2f ui` was started with.

    Args:
        engine: the generator.
        recogniser: what looks at faces, a name or a path.
        vectors: a table of people to look through, if any.
        out: the folder into which sets are written.

    Raises:
        OutputFolderError: `out` is there and is no folder.
    """

    engine: EngineOptions
    recogniser: str | Path = "mini"
    vectors: Path | None = None
    out: Path = Path("ui-sets")

    def __post_init__(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise OutputFolderError(f"{self.out} is there and is no folder; give another --out.")

"""One deliberate fault: what is changed, and which tests must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """A fault that once survived the suite.

    Args:
        name: unique; what goes wrong, in words.
        file: relative to the repository.
        old: text found there exactly once; a mutant whose text is gone or repeated is stale.
        new: what stands there instead.
        tests: arguments of pytest, files first: at least one of these tests must fail. With `-m interpreter`
            Triton interprets its kernels.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.old == self.new or not self.tests:
            raise ValueError(f"{self.name}: expected a change and tests that notice it.")

    def stale(self, root: Path = ROOT) -> str:
        """Why this mutant cannot be applied; empty where it can."""
        path = root / self.file
        if not path.is_file():
            return f"{self.file}: there is no such file"
        found = path.read_text().count(self.old)
        return "" if found == 1 else f"{self.file}: expected the old text once, found it {found} times"

    def apply(self, root: Path) -> str:
        """Changes the file under `root`; returns what it held before."""
        path = root / self.file
        before = path.read_text()
        path.write_text(before.replace(self.old, self.new))
        return before

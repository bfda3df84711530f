"""What the pages tell a reader to type: every fenced block, taken apart into commands and snippets of Python."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "bash", "sh", "console")
"""Languages of blocks that may hold commands; `text` and others are shown only."""


@dataclass(frozen=True)
class Typed:
    """One thing to type.

    Args:
        page: the file's path from the root of the clone.
        block: its number in the page.
        text: the command, continued lines joined, or the whole snippet of Python.
        python: which of both.
        printed: the lines that the page shows below it.
    """

    page: str
    block: int
    text: str
    python: bool = False
    printed: tuple[str, ...] = field(default=())

    @property
    def words(self) -> list[str] | None:
        """What follows `v2f`; None of a command of something else."""
        if self.python:
            return None
        words = shlex.split(self.text)
        if words[0] == "v2f":
            return words[1:]
        if words[0] == "torchrun":
            return words[words.index("v2f_engine") + 1 :]
        return None


def commands_of(body: str) -> list[tuple[str, list[str]]]:
    """(command, lines printed) of a block; where a line begins with `$ `, the others are output."""
    lines = re.sub(r"\\\n\s*", " ", body).splitlines()
    dollars = any(line.startswith("$ ") for line in lines)
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        typed = line.removeprefix("$ ").split("  #")[0].rstrip()
        if not typed or typed.startswith("#"):
            continue
        if not dollars or line.startswith("$ "):
            found.append((typed, []))
        else:
            found[-1][1].append(line)
    return found


def everything() -> list[Typed]:
    """All that the pages tell a reader to type, in order."""
    found = []
    for path in PAGES:
        page = str(path.relative_to(ROOT))
        for number, (language, body) in enumerate(BLOCK.findall(path.read_text())):
            if language == "python":
                found.append(Typed(page, number, body, python=True))
            elif language in SHELL:
                found += [Typed(page, number, text, printed=tuple(said)) for text, said in commands_of(body)]
    return found

"""The documentation site as built, and what its pages hold."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
"""Tags whose address a browser fetches unasked; of `link` all but canonical, next and prev."""


@dataclass
class Page(HTMLParser):
    """A page's addresses and anchors.

    Args:
        text: its HTML.
    """

    text: str
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        self.anchors.update(of[name] for name in ("id", "name") if name in of)
        if "href" in of:
            self.links.append(of["href"])
            if tag == "link" and of.get("rel") not in ("canonical", "next", "prev"):
                self.loads.append(of["href"])
        if "src" in of:
            self.links.append(of["src"])
        if tag in LOADS and LOADS[tag] in of:
            self.loads.append(of[LOADS[tag]])
        self.loads += [one.split()[0] for one in of.get("srcset", "").split(",") if one.strip()]


def is_external(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def local(link: str, page: Path, root: Path) -> tuple[Path, str]:
    """(file, anchor) of a link inside of the site."""
    parts = urlsplit(link)
    path = unquote(parts.path)
    if not path:
        return page, unquote(parts.fragment)
    target = (root / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve()
    return target / "index.html" if target.is_dir() else target, unquote(parts.fragment)


def build(folder: Path) -> tuple[str, float]:
    """(what the builder said, seconds) of a strict build into a folder, from another folder than the clone.

    Raises:
        AssertionError: it did not end well.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-f", ROOT / "mkdocs.yml", "-d", folder],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr, time.perf_counter() - began


def inventory(folder: Path) -> set[str]:
    """Every name that the Python reference has, by `objects.inv` (version 2: four lines of head, then deflated)."""
    packed = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}

"""Files of the repository that pages link to become part of the site: a link works on a code host and in the site.

A page writes `../bench/results/cpu/claim.png` or `../FACTS.md`, relative to itself as a code host reads it. Everything
outside of `docs/` that is reached so, pages' own links included, is copied to `repository/...` of the site.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ALWAYS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "FACTS.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
)
"""In the site though no page may link to them."""
LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))")
FENCE = re.compile(r"^ *```.*?^ *```[^\n]*$", re.MULTILINE | re.DOTALL)
"""A fenced block: what looks like a link there is code."""
OUTSIDE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|#|/)")


def in_site(path: str) -> str:
    """Where a file of the repository lies in the site's sources; both by `/`, from the root."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def in_repository(uri: str) -> str:
    """The inverse of `in_site`."""
    return uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"


def each_link(text: str, change: Callable[[str], str]) -> str:
    """The text with `change(target)` for every link's target outside of fenced blocks."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(lambda found: change(found[0]), text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(lambda found: change(found[0]), text[end:])])


def links_of(text: str) -> list[str]:
    """Every link's target outside of fenced blocks."""
    found: list[str] = []

    def note(link: str) -> str:
        found.append(link)
        return link

    each_link(text, note)
    return found


def target_of(link: str, page: str) -> tuple[str, str] | None:
    """(path in the repository, `#anchor` or nothing) of a page's link; None if it leaves the repository or the page."""
    if OUTSIDE.match(link):
        return None
    path, mark, anchor = link.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)), mark + anchor


def on_files(files: Files, config: Any) -> Files:
    """Adds what pages reach, in as many rounds as their own links need."""
    root = Path(config.config_file_path).parent
    known = {in_repository(file.src_uri) for file in files}
    pages = sorted(path for path in known if path.endswith(".md"))
    links = [(name, "mkdocs.yml") for name in ALWAYS if (root / name).is_file()]
    while pages or links:
        links += [(link, page) for page in pages for link in links_of((root / page).read_text())]
        pages = []
        for link, page in links:
            found = target_of(link, page)
            if found is None or found[0] in known:
                continue
            path = found[0]
            if path.startswith("docs/") or not (root / path).is_file():
                raise PluginError(f"{page} links to {link}: {path} is no file of the repository")
            known.add(path)
            files.append(File.generated(config, in_site(path), abs_src_path=str(root / path)))
            if path.endswith(".md"):
                pages.append(path)
        links = []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as the site has them."""
    here = page.file.src_uri

    def moved(link: str) -> str:
        found = target_of(link, in_repository(here))
        if found is None:
            return link
        return os.path.relpath(in_site(found[0]), PurePosixPath(here).parent) + found[1]

    return each_link(markdown, moved)

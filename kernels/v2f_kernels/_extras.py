"""The command that brings an optional extra, in words that work where they are read: the package is on no index.

In a clone the extra is installed by its name. A wheel may have been deleted since, so elsewhere the packages of the
extra are named, as the installed metadata lists them.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

PACKAGE = "v2f-engine"
_NAMES_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def install(extra: str) -> str:
    """`pip install ...` for an extra of pyproject.toml.

    It never raises, since it is asked while another error is told: a copy that was not installed, and so has no
    metadata, is told the name of the extra.
    """
    clone = _clone()
    if clone is not None:
        return f"pip install -e '{clone}[{extra}]'"
    try:
        return "pip install " + " ".join(f"'{name}'" for name in packages(extra))
    except KeyError:
        return f"pip install what the extra [{extra}] of {PACKAGE} lists"


def packages(extra: str) -> list[str]:
    """The requirements of an extra, `pyarrow>=18`, as installed metadata has them.

    Raises:
        KeyError: no such extra, or nothing is installed.
    """
    try:
        listed = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        listed = []
    found = []
    for line in listed:
        requirement, _, marker = line.partition(";")
        named = _NAMES_EXTRA.search(marker)
        if named and named[1] == extra:
            found.append(requirement.strip())
    if not found:
        raise KeyError(f"{PACKAGE} has no extra {extra!r}")
    return found


def _clone() -> Path | None:
    """The clone that this very file lies in, `CLONE/kernels/v2f_kernels/_extras.py`; None for an installed copy."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "v2f_engine").is_dir() else None

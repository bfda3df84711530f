"""Hash and name of a weight file, apart from what reads it: finding a model by name costs no import of torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

WEIGHTS = (".pth", ".pt", ".ckpt", ".pth.tar", ".pt.tar", ".safetensors", "pytorch_model.bin")
"""Endings of the names that trainers and hubs give to weights."""


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split_entry(path: str | Path) -> tuple[Path, str]:
    """(file, entry) of `FILE#ENTRY`, which names one of several networks in a file; a file with a # is itself."""
    path = Path(path)
    name, mark, entry = path.name.partition("#")
    return (path, "") if not mark or path.exists() else (path.with_name(name or "#"), entry)


def is_weights(path: str | Path) -> bool:
    """Whether a name is that of weights, `FILE#ENTRY` included; nothing is opened."""
    return split_entry(path)[0].name.lower().endswith(WEIGHTS)

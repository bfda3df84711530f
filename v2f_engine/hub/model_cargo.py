"""Weights to go up: the file, what its card beside it says of it, and a model card that says what is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2f_engine.data.layout import CARD
from v2f_engine.data.records.licences import TRAINED_ON
from v2f_engine.data.records.markdown import code, text, yaml_string
from v2f_engine.errors import CheckpointError, ModelNotFound
from v2f_engine.hub.cargo import Cargo, Item
from v2f_engine.models.file_hash import file_sha256
from v2f_engine.models.hub_head import hub_head
from v2f_engine.models.registry import CARD as ABOUT
from v2f_engine.models.registry import MINI

CONFIG = "config.json"
"""What `Vec2Face.from_pretrained` reads; beside weights that `save_pretrained` wrote."""
STATISTICS = "statistics.safetensors"
"""Where identity vectors for a generator come from; bound to it by the hashes on the card beside both."""


@dataclass(frozen=True)
class Known:
    """What is known of weights.

    Args:
        name: of the model.
        licence: an SPDX name, or `unknown`.
        trained_on: in words.
        about: the card beside them, where it has their hash.
        files: names of that card that lie beside them, with their hashes.
    """

    name: str
    licence: str = "unknown"
    trained_on: str = "not known here: ask whoever trained it"
    about: Mapping[str, Any] | None = None
    files: Mapping[str, str] | None = None


def known_of(weights: Path, sha256: str) -> Known:
    """By the card beside the weights that has their hash, or by the hash of the embedded ones."""
    for folder in (weights.parent, MINI):
        try:
            about = json.loads((folder / ABOUT).read_text())
            files = {name: str(one["sha256"]) for name, one in about["files"].items()}
            if sha256 not in files.values():
                continue
            name = "mini" if folder == MINI else str(about.get("name", weights.stem))
            trained = (
                TRAINED_ON.get(name) or "see card.json" if folder == weights.parent else TRAINED_ON["mini"]
            )
            beside = files if folder == weights.parent else {}
            return Known(name, str(about["licence"]), trained, about, beside)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return Known(weights.stem)


def model_card(known: Known, file: str, sha256: str, kind: str = "") -> str:
    """The model card in Markdown, with the YAML head that the Hub reads.

    Args:
        known: of the weights.
        file: name of the file in the repository.
        sha256: of the file.
        kind: in words, such as what `v2f inspect` says.
    """
    lines = [
        *hub_head(known.licence, f"model_name: {yaml_string(known.name)}"),
        "",
        f"# {text(known.name)}",
        "",
        f"Weights {code(file)}, sha256 {code(sha256)}.{f' {text(kind)}.' if kind else ''}",
        "",
        f"- licence: {text(known.licence)}",
        f"- trained on: {text(known.trained_on)}",
        "",
        "A licence of weights says nothing about the photographs they were trained on.",
        "",
        "```",
        "v2f pull OWNER/NAME --out model            # this repository; every byte is compared with the Hub's sha256",
        f"v2f generate --model model/{file} --ids 1000 --images 50 --out faces",
        "```",
        "",
    ]
    return "\n".join(lines)


def cargo_of_weights(weights: Path) -> Cargo:
    """A file of weights with its card, and what its card binds to it.

    Raises:
        ModelNotFound: no such file.
        CheckpointError: it cannot be read.
    """
    from v2f_engine.data.inspect_file import inspect_file

    if not weights.is_file():
        raise ModelNotFound(f"{weights}: no such file.")
    seen = inspect_file(weights)
    if not seen.sound:
        raise CheckpointError(f"{weights}: not pushed, it is not sound: {seen.summary}")
    sha256 = file_sha256(weights)
    known = known_of(weights, sha256)
    card = model_card(known, weights.name, sha256, seen.summary).encode()
    items = [Item(weights.name, weights, weights.stat().st_size, sha256)]
    files = known.files or {}
    vectors = weights.with_name(STATISTICS)
    if STATISTICS in files and vectors.is_file() and file_sha256(vectors) == files[STATISTICS]:
        items.append(Item(STATISTICS, vectors, vectors.stat().st_size, files[STATISTICS]))
    if known.files:
        about = weights.with_name(ABOUT)
        items.append(Item(ABOUT, about, about.stat().st_size))
        config = weights.with_name(CONFIG)
        items += [Item(CONFIG, config, config.stat().st_size)] if config.is_file() else []
    beside = weights.with_name(CARD)
    written = (
        bool(known.files) and beside.is_file() and b"\nlibrary_name: v2f-engine\n" in beside.read_bytes()
    )
    items.append(Item(CARD, beside, beside.stat().st_size) if written else Item(CARD, card, len(card)))
    said = known.licence if known.licence != "unknown" else "unknown: state it on the card once it is there"
    return Cargo("model", seen.summary, said, tuple(items), 1)

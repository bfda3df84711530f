"""What goes up: the files of a set or of weights, what they are, and under which licence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from v2f_engine.data.layout import CARD, CROISSANT, MANIFEST
from v2f_engine.data.records.card import card_text
from v2f_engine.data.records.croissant import croissant_bytes
from v2f_engine.data.records.licences import PUBLIC_DOMAIN, licence_chain, strictest
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.hub.client import Held
from v2f_engine.models.file_hash import file_sha256

DERIVED = frozenset({CARD, CROISSANT})
"""What follows from the rest and people may write in: another text of it is no other set."""
MOST_FILES, MOST_IN_A_FOLDER = 100_000, 10_000
"""What the Hub advises a repository to hold at most, and a folder. https://huggingface.co/docs/hub/storage-limits"""


@dataclass(frozen=True)
class Item:
    """A file to go up.

    Args:
        name: path inside the repository.
        source: its path here, or its content.
        size: bytes.
        known: its sha256 where a manifest has it.
    """

    name: str
    source: Path | bytes
    size: int
    known: str | None = None

    @cached_property
    def sha256(self) -> str:
        if self.known is not None:
            return self.known
        return (
            hashlib.sha256(self.source).hexdigest()
            if isinstance(self.source, bytes)
            else file_sha256(self.source)
        )

    def is_held(self, held: Held | None) -> bool:
        """Whether the repository has this very content under this name."""
        if held is None or held.size != self.size:
            return False
        if held.sha256 is not None:
            return held.sha256 == self.sha256
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return (
            held.blob == hashlib.sha1(b"blob %d\0" % self.size + content, usedforsecurity=False).hexdigest()
        )


@dataclass(frozen=True)
class Cargo:
    """Everything that goes up together.

    Args:
        kind: `dataset` or `model`.
        what: in words, for the question before.
        licence: the same.
        items: data first; those that make it complete last.
        last: how many of the items go up in one commit at the end, so that a half-pushed set has no manifest.
        manifest: of a set.
    """

    kind: str
    what: str
    licence: str
    items: tuple[Item, ...]
    last: int
    manifest: Manifest | None = None
    remarks: tuple[str, ...] = field(default=())

    @property
    def bytes(self) -> int:
        return sum(item.size for item in self.items)


def cargo_of_set(root: Path) -> Cargo:
    """The files of a finished set that its manifest names, its manifest and its cards; nothing else of the folder.

    Raises:
        DatasetError: unfinished, no set of this engine, or files that are missing or of another size.
    """
    found = verify_dataset(root, "fast")
    if found.faults:
        raise DatasetError(f"{root}: not pushed, it is broken: {'; '.join(found.faults[:5])}.")
    manifest = Manifest.load(root / MANIFEST)
    if manifest.format == "null":
        raise DatasetError(f"{root}: of format null, which holds no image; there is nothing to push.")
    items = [*_data(root, manifest), *_cards(root, manifest), _item(root, MANIFEST)]
    chain = licence_chain(manifest.settings)
    name = strictest(link["licence"] for link in chain)
    parts = (
        "; ".join(f"{link['part']} {link['name']}: {link['licence']}" for link in chain) or "nothing is known"
    )
    return Cargo(
        "dataset",
        f"{manifest.plan.identities:,} identities, {manifest.images:,} images, {manifest.format}",
        name if name == PUBLIC_DOMAIN else f"other, {name} ({parts})",
        tuple(items),
        sum(item.name in (*DERIVED, MANIFEST) for item in items),
        manifest,
        tuple(_crowded(items)),
    )


def refuse_damaged(root: Path) -> None:
    """Raises DatasetError where any byte of the set is not as its manifest says."""
    found = verify_dataset(root, "full")
    if found.faults:
        raise DatasetError(f"{root}: not pushed, it is damaged: {'; '.join(found.faults[:5])}.")


def _data(root: Path, manifest: Manifest) -> Iterator[Item]:
    seen: set[str] = set()
    pieces = [piece for shard in manifest.shards for piece in shard.pieces]
    for piece in (*pieces, *manifest.files):
        if piece.kind == "folders":
            for folder in piece.folders:
                for name in sorted(os.listdir(root / piece.name / folder)):
                    yield _item(root, f"{piece.name}/{folder}/{name}")
        elif piece.name not in seen:
            seen.add(piece.name)
            yield _item(root, piece.name, piece.sha256 if piece.kind == "file" else None)


def _item(root: Path, name: str, sha256: str | None = None) -> Item:
    path = root / name
    return Item(name, path, path.stat().st_size, sha256)


def _cards(root: Path, manifest: Manifest) -> Iterator[Item]:
    """The cards in the folder; as they would be written, where an older version wrote none."""
    made: Mapping[str, bytes | None] = {
        CROISSANT: croissant_bytes(manifest),
        CARD: card_text(manifest).encode(),
    }
    for name, content in made.items():
        if (root / name).is_file():
            yield _item(root, name)
        elif content is not None:
            yield Item(name, content, len(content))


def _crowded(items: list[Item]) -> Iterator[str]:
    folders: dict[str, set[str]] = {}
    for item in items:
        parts = item.name.split("/")
        for depth in range(len(parts)):
            folders.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    most = max(map(len, folders.values()))
    if len(items) > MOST_FILES or most > MOST_IN_A_FOLDER:
        yield (
            f"The Hub advises at most {MOST_FILES:,} files a repository and {MOST_IN_A_FOLDER:,} entries a folder; "
            f"here are {len(items):,} and {most:,}. `v2f convert SET OTHER --format webdataset` makes few large files."
        )


def cargo_of(source: Path) -> Cargo:
    """Of a set's folder, or of a file of weights.

    Raises:
        ConfigError: neither.
        DatasetError, CheckpointError: one that is broken.
    """
    if source.is_dir():
        return cargo_of_set(source)
    if source.suffix in (".safetensors", ".onnx"):
        from v2f_engine.hub.model_cargo import cargo_of_weights

        return cargo_of_weights(source)
    if source.suffix in (".pth", ".pt", ".ckpt"):
        raise ConfigError(
            f"{source}: a pickle, which runs code where it is loaded, is not pushed. `v2f convert {source} "
            f"{source.with_suffix('.safetensors')}`, then push that."
        )
    raise ConfigError(f"{source}: expected the folder of a set, or weights (.safetensors, .onnx).")

"""The manifest: what a dataset is, why its bytes are as they are, and the hash of every one of them.

`settings`, `plan`, `format`, `writer` and `encoder` decide the bytes; two runs that agree in them may
share a folder, two that do not never do. `versions` is information only.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from v2f_engine.atomic import write_file
from v2f_engine.backends import told_on_host
from v2f_engine.data.gate.strict_json import MAX_JSON_BYTES, canonical, fields, parse, plain
from v2f_engine.data.records.grown import Grown, pairs_of
from v2f_engine.data.records.pieces import Piece, is_sha256
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.shard_record import ShardRecord, check_against_plan
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.outside import admit
from v2f_engine.version import VERSION

SCHEMA = "v2f-dataset/1"
DECISIVE = ("format", "writer", "plan", "encoder", "settings")
"""The entries that must agree before a run may continue in a folder."""


@dataclass(frozen=True)
class Manifest:
    """Everything that decides a dataset's bytes, and, once it is complete, what those bytes are.

    Args:
        format: name in `formats.FORMATS`.
        writer: revision and library versions that shape the files' bytes.
        plan: identities, images, shards.
        encoder: codec, quality, library and its version (`Encoder.describe()`).
        settings: every setting of the run: seed, model and its hash, identity table and its hash, ...
        versions: of the software that started the run; not compared.
        shards: one record per shard, in order; empty while the run lasts.
        files: pieces that belong to no shard (indices, contact sheet).
        grown: what the set was each time before it was made larger; not compared.
    """

    format: str
    writer: Mapping[str, str]
    plan: Plan
    encoder: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    shards: tuple[ShardRecord, ...] = ()
    files: tuple[Piece, ...] = ()
    grown: tuple[Grown, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", plain(self.settings, "settings"))
        object.__setattr__(self, "encoder", plain(self.encoder, "encoder"))

    @property
    def images(self) -> int:
        """Images in the recorded shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def complete(self) -> bool:
        return len(self.shards) == self.plan.shards

    def decisive(self) -> dict[str, Any]:
        """What must agree for two runs to make the same bytes."""
        plan = {
            "identities": self.plan.identities,
            "images_per_id": self.plan.images_per_id,
            "identities_per_shard": self.plan.identities_per_shard,
            "uniform": self.plan.uniform,
            **({"before": [list(pair) for pair in self.plan.before]} if self.plan.before else {}),
        }
        values = (self.format, dict(self.writer), plan, self.encoder, self.settings)
        return dict(zip(DECISIVE, values, strict=True))

    def to_bytes(self) -> bytes:
        """The one spelling of this manifest: an entry per line, a shard per line, its own sha256 last."""
        head = {"schema": SCHEMA, "complete": self.complete, "images": self.images, **self.decisive()}
        lines = [f"{canonical(key)}: {canonical(value)}" for key, value in head.items()]
        lines.append(f'"versions": {canonical(dict(self.versions))}')
        if self.grown:
            lines.append(f'"grown": {canonical([one.to_json() for one in self.grown])}')
        for name, records in (("files", self.files), ("shards", self.shards)):
            rows = ",\n".join(canonical(record.to_json()) for record in records)
            lines.append(f'"{name}": [\n{rows}\n]' if rows else f'"{name}": []')
        body = "{\n" + ",\n".join(lines)
        digest = hashlib.sha256(body.encode()).hexdigest()
        return f'{body},\n"sha256": "{digest}"\n}}\n'.encode()

    @classmethod
    def from_bytes(cls, text: bytes, where: str) -> Manifest:
        """Reads a manifest and trusts none of it.

        Raises:
            DatasetError: not JSON, another schema, wrong keys or types, shards out of order, or a text that
                is not byte for byte what this manifest would be written as (changed after writing).
        """
        value = parse(text, where)
        schema = value.get("schema") if isinstance(value, dict) else None
        if schema != SCHEMA:
            raise DatasetError(f"{where}: expected schema {SCHEMA!r}, found {schema!r:.80}.")
        expected: dict[str, type] = {
            "schema": str,
            "complete": bool,
            "images": int,
            "format": str,
            "plan": dict,
        }
        expected |= {"writer": dict, "encoder": dict, "settings": dict, "versions": dict}
        expected |= {"files": list, "shards": list, "sha256": str}
        expected |= {"grown": list} if "grown" in value else {}
        record = fields(value, expected, where)
        counts = ("identities", "images_per_id", "identities_per_shard")
        kinds: dict[str, type] = {**dict.fromkeys(counts, int), "uniform": bool}
        kinds |= {"before": list} if "before" in record["plan"] else {}
        shape = fields(record["plan"], kinds, f"{where}: plan")
        if "before" in shape:
            shape["before"] = pairs_of(shape["before"], f"{where}: plan.before")
        for name in ("writer", "versions"):
            fields(record[name], dict.fromkeys(record[name], str), f"{where}: {name}")
        try:
            plan = Plan(**shape)
            manifest = cls(
                record["format"],
                record["writer"],
                plan,
                record["encoder"],
                record["settings"],
                record["versions"],
                tuple(
                    ShardRecord.from_json(v, f"{where}: shards[{i}]") for i, v in enumerate(record["shards"])
                ),
                tuple(Piece.from_json(v, f"{where}: files[{i}]") for i, v in enumerate(record["files"])),
                tuple(
                    Grown.from_json(v, f"{where}: grown[{i}]") for i, v in enumerate(record.get("grown", []))
                ),
            )
        except ConfigError as error:
            raise DatasetError(f"{where}: {error}") from error
        for number, shard in enumerate(manifest.shards):
            check_against_plan(shard, number, plan, f"{where}: shards[{number}]")
        if not is_sha256(record["sha256"]) or manifest.to_bytes() != text:
            raise DatasetError(
                f"{where}: its sha256 does not fit its text, so it was changed after it was written. Restore "
                "the file from a copy; if there is none, make the dataset again in another folder."
            )
        return manifest

    def save(self, path: Path, writer: str = "main") -> None:
        """Writes the manifest whole or not at all."""
        write_file(path, self.to_bytes(), writer)

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Reads and checks the manifest at `path`.

        Raises:
            DatasetError: unreadable, or not a manifest as this program writes it.
        """
        admit(path, DatasetError, most=MAX_JSON_BYTES)
        try:
            size = path.stat().st_size
            if size > MAX_JSON_BYTES:
                raise DatasetError(f"{path}: {size} bytes; a manifest has at most {MAX_JSON_BYTES}.")
            text = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror}.") from error
        return cls.from_bytes(text, str(path))

    def finished(self, shards: Mapping[int, ShardRecord], files: tuple[Piece, ...]) -> Manifest:
        """This manifest with its records, complete."""
        return replace(self, shards=tuple(shards[n] for n in range(self.plan.shards)), files=files)


def differences(found: Manifest, asked: Manifest) -> list[str]:
    """The decisive settings in which two manifests differ, each with both values; those that people type come first."""
    left, right = flat(found.decisive()), flat(asked.decisive())
    names = sorted((n for n in left.keys() | right.keys() if left.get(n) != right.get(n)), key=_rank)
    typed = [
        name for name in names if not _rank(name)[0]
    ]  # hashes that differ say nothing beside their cause
    return [
        f"{name} is {left.get(name, 'absent')} there, {right.get(name, 'absent')} now{_option(name)}"
        for name in typed or names
    ]


TYPED = ("settings.seed", "plan.identities", "plan.images_per_id", "format", "encoder.quality", "settings.model.name",
         "settings.first", "settings.world", "settings.attributes", "settings.perturbation", "settings.masks",
         "settings.precision", "settings.identities.max_cosine", "settings.identities.source",
         "settings.identities.exclude", "settings.identities.mix",
         "settings.converted_from", "settings.selection")  # fmt: skip
"""Settings that options and arguments set, by their names here; others follow from them, or from the machine."""
OPTIONS = {
    "settings.seed": "--seed",
    "plan.identities": "--ids",
    "plan.identities_per_shard": "--images-per-shard",
    "plan.before": "--extend",
    "plan.images_per_id": "--images",
    "format": "--format",
    "encoder.quality": "--jpeg-quality, of `render` --quality",
    "settings.model.name": "--model",
    "settings.first": "--first",
    "settings.perturbation.levels": "--sigma",
    "settings.perturbation.weights": "--sigma-weights",
    "settings.perturbation.kind": "--perturbation",
    "settings.perturbation.lowest": "--perturbation",
    "settings.perturbation.guarded": "--perturbation",
    "settings.rounding": "--rounding",
    "settings.mask_batch": "--mask-batch",
    "settings.sigma_shares": "--sigma-shares",
    "settings.runner.precision": "--precision",
    "settings.runner.batch_size": "--compute-batch",
    "settings.selection.make": "--make",
    "settings.selection.keep": "--keep",
    "settings.selection.by": "--by, of `generate` --select",
    "settings.selection.min_cosine": "--min-cosine, of `generate` --select-min-cosine",
    "settings.selection.duplicate_cosine": "--duplicate-cosine",
    "settings.identities.max_cosine": "--max-cosine",
    "settings.identities.source": "--source",
    "settings.identities.mix.parts": "--mix",
}
"""Setting -> the option that sets it."""


def _option(name: str) -> str:
    return f" ({OPTIONS[name]})" if name in OPTIONS else ""


DERIVED = ("sha256", "hash", "drawn", "count", "library", "version")
"""Parts of names that nobody types."""


def _rank(name: str) -> tuple[bool, int, str]:
    derived = any(part in name.rpartition(".")[2] for part in DERIVED)
    place = next((place for place, typed in enumerate(TYPED) if name.startswith(typed)), len(TYPED))
    return derived, place, name


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b.c` -> canonical JSON."""
    if isinstance(value, Mapping) and value:
        result: dict[str, str] = {}
        for key, item in value.items():
            result |= flat(item, f"{prefix}.{key}" if prefix else key)
        return result
    return {prefix: canonical(value)}


def software_versions() -> dict[str, str]:
    """Versions worth knowing when a dataset cannot be reproduced, and what ran the ops that decide no byte."""
    versions = {"python": platform.python_version(), "ops on the host": told_on_host(), "v2f-engine": VERSION}
    for package in ("numpy", "pillow", "simplejpeg", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions

"""An exported file and its sidecar: what it is, what it was built with and for, and the hash that makes it ours.

`model.onnx` stands beside `model.onnx.json`, `engine.plan` beside `engine.plan.json`. A file without its sidecar,
or whose bytes are not those of the sidecar, is refused before any library sees it: a TensorRT plan is code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from v2f_engine.atomic import write_atomically
from v2f_engine.errors import ArtefactError, ModelNotFound
from v2f_engine.models.registry import CARD, MINI

FORMAT = 1
PARTS = ("generator", "decoder")
SUFFIXES = {".onnx": ("onnx",), ".plan": ("tensorrt", "tensorrt-rtx")}
"""Of files that `Engine.load` takes, and what may be in them."""


def is_artefact(model: str | Path) -> bool:
    """Whether a model's name is that of an exported file."""
    return Path(model).suffix in SUFFIXES


def sidecar_path(path: Path) -> Path:
    """`engine.plan` -> `engine.plan.json`."""
    return path.with_name(path.name + ".json")


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Sidecar:
    """What stands beside an exported file, as JSON.

    Args:
        kind: `onnx`, `tensorrt` or `tensorrt-rtx`.
        part: `generator` or `decoder`.
        precision: `fp32`, `fp16`, `bf16`, `int8` or `fp8`.
        files: name -> sha256 of the file itself and of its external data.
        model: `name`, `sha256`, `licence`, `max_cosine`, `config` of the weights, and `statistics`: what their people
            are drawn from, `name` and `file`, one of `files`; without a file the name says all (`gaussian`).
        n_dropped: rows that never enter the encoder; it decides every shape.
        profiles: (min, opt, max) batches of an engine; empty for ONNX, which takes any.
        built_with: package -> version.
        built_for: of engines: `compute_capabilities` and, where built on one, `gpu`.
        source: sha256 of the ONNX file an engine was built from; empty for ONNX.
        accuracy: image error and identity cosine against the fp32 eager runner, and what measured them.
        format: of this record.
    """

    kind: str
    part: str
    precision: str
    files: Mapping[str, str]
    model: Mapping[str, Any]
    n_dropped: int
    profiles: tuple[tuple[int, int, int], ...] = ()
    built_with: Mapping[str, str] = field(default_factory=dict)
    built_for: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, path: Path) -> Path:
        """Writes the sidecar of `path`, atomically."""
        place = sidecar_path(path)
        write_atomically(place, (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode())
        return place


def open_artefact(path: str | Path) -> Sidecar:
    """The sidecar of an exported file, after every file it names has the hash it says.

    Raises:
        ModelNotFound: no such file.
        ArtefactError: no sidecar, a damaged or foreign one, or a file that is not the one it describes.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFound(f"{path}: there is no such file.")
    sidecar = read_sidecar(path)
    if sidecar.kind not in SUFFIXES.get(path.suffix, ()):
        raise ArtefactError(
            f"{path}: its sidecar describes {sidecar.kind}, which is not kept in {path.suffix} files."
        )
    if path.name not in sidecar.files:
        raise ArtefactError(
            f"{path}: its sidecar describes {sorted(sidecar.files)}. Rename the file back, or export again."
        )
    for name, sha256 in sidecar.files.items():
        _check_file(path, name, sha256)
    return sidecar


def read_sidecar(path: Path) -> Sidecar:
    """Parses the sidecar of `path`. Raises ArtefactError as `open_artefact` does."""
    place = sidecar_path(path)
    if not place.is_file():
        raise ArtefactError(
            f"{path}: has no sidecar {place.name}, so nothing says what it is or that it is unchanged. Copy"
            " both files, or make them again with `v2f export`."
        )
    try:
        record = json.loads(place.read_text())
        version = record["format"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtefactError(f"{place}: is damaged ({error!r}). Export again.") from error
    if version != FORMAT:
        raise ArtefactError(
            f"{place}: is of format {version!r}, this version reads format {FORMAT}. Export again, or use the"
            " v2f_engine that wrote it."
        )
    known = {f.name for f in fields(Sidecar)}
    if set(record) != known:
        odd = sorted(set(record) ^ known)
        raise ArtefactError(f"{place}: record missing or unknown: {odd}. Export again.")
    return (
        Sidecar(**{**record, "profiles": _profiles(place, record["profiles"])})
        if _sound(place, record)
        else _never()
    )


def _sound(place: Path, record: Mapping[str, Any]) -> bool:
    shapes = {"kind": str, "part": str, "precision": str, "files": dict, "model": dict, "n_dropped": int,
              "built_with": dict, "built_for": dict, "source": str, "accuracy": dict}  # fmt: skip
    for name, kind in shapes.items():
        if not isinstance(record[name], kind):
            raise ArtefactError(
                f"{place}: {name} is {record[name]!r}, expected a {kind.__name__}. Export again."
            )
    if record["part"] not in PARTS or not 0 <= record["n_dropped"] <= 49:
        raise ArtefactError(
            f"{place}: part {record['part']!r}, n_dropped {record['n_dropped']}: damaged. Export again."
        )
    if any(name not in record["model"] for name in ("name", "sha256", "licence", "config", "max_cosine")):
        raise ArtefactError(f"{place}: does not say which model it holds. Export again.")
    bound = record["model"].get("statistics")
    if bound is None:
        return True
    sound = isinstance(bound, dict) and isinstance(bound.get("name"), str)
    if not sound or (bound["name"] != "gaussian" and bound.get("file") not in record["files"]):
        raise ArtefactError(f"{place}: statistics {bound!r} name no file of this export. Export again.")
    return True


def _never() -> Sidecar:
    raise AssertionError("_sound raises or returns True")


def _profiles(place: Path, triples: Any) -> tuple[tuple[int, int, int], ...]:
    try:
        made = tuple((int(low), int(best), int(high)) for low, best, high in triples)
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"{place}: profiles are {triples!r}, expected triples. Export again.") from error
    if any(not 1 <= low <= best <= high for low, best, high in made):
        raise ArtefactError(f"{place}: profiles {made} are not in order. Export again.")
    return made


def _check_file(path: Path, name: str, expected: Any) -> None:
    file = path.parent / name
    if Path(name).name != name or (file.is_symlink() and file.resolve().parent != path.parent.resolve()):
        raise ArtefactError(f"{path}: its sidecar names {name!r}, which lies outside its folder. Refused.")
    if not file.is_file():
        raise ArtefactError(f"{path}: {name}, which belongs to it, is missing. Copy all files of the export.")
    found = sha256_of(file)
    if found != expected:
        raise ArtefactError(
            f"{file}: has sha256 {found}, its sidecar says {expected}: changed, truncated or of another export."
            " Refused. Export again."
        )


@dataclass(frozen=True)
class ServedModel:
    """What generation needs to know of the weights inside an exported file; record as in `LoadedModel`.

    Args:
        statistics: bound to the file by its sidecar; None where that does not say (exports of before).
        statistics_name: what the statistics were called where the file was exported, so that its people are those.
    """

    name: str
    path: Path
    sha256: str
    licence: str
    statistics: Path | str | None
    max_cosine: float
    statistics_name: str = ""


def served_model(path: Path, sidecar: Sidecar) -> ServedModel:
    """The model inside. Its people come from the statistics that its sidecar names with their hash, and where that was
    written before it named any, from the embedded ones if the weights are the embedded ones, by hash. A file of that
    name in the folder decides nothing."""
    model = sidecar.model
    statistics: Path | str | None = None
    bound, name = model.get("statistics"), ""
    if bound is not None:
        name = str(bound["name"])
        statistics = path.with_name(bound["file"]) if bound.get("file") else name
    elif model["name"] == "mini" and model["sha256"] == _embedded_sha256():
        statistics = MINI / "statistics.safetensors"
    return ServedModel(
        str(model["name"]),
        path,
        str(model["sha256"]),
        str(model["licence"]),
        statistics,
        float(model["max_cosine"]),
        name,
    )


def statistics_file(path: Path) -> str:
    """Name of the copy of a model's statistics beside an export: `mini.onnx` -> `mini.onnx.statistics.safetensors`."""
    return path.name + ".statistics.safetensors"


def bind_statistics(
    staged: Path, statistics: Path | str, name: str = ""
) -> tuple[dict[str, str], dict[str, str]]:
    """(what the sidecar of `staged` says of its model's statistics, name -> sha256 of the file written beside it).

    Args:
        statistics: a file, which is copied, or `gaussian`.
        name: what they are called; the file's name by default.
    """
    if isinstance(statistics, str):
        return {"name": statistics}, {}
    copy = staged.with_name(statistics_file(staged))
    write_atomically(copy, statistics.read_bytes())
    return {"name": name or statistics.name, "file": copy.name}, {copy.name: sha256_of(copy)}


def _embedded_sha256() -> str | None:
    try:
        return str(json.loads((MINI / CARD).read_text())["files"]["generator.safetensors"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""Models by name: the embedded one, the published ones, and where each is looked for.

Published weights are never fetched unless asked for, and then by the user's own huggingface_hub.
"""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2f_kernels._extras import install

from v2f_engine.errors import CheckpointError, MissingDependency, ModelNotFound, V2FWarning
from v2f_engine.models.file_hash import file_sha256, split_entry

MINI = Path(__file__).parents[1] / "assets" / "mini"
CARD = "card.json"
EMBEDDED = {
    "generator": {"mini": "generator.safetensors", "mini-pose": "pose.safetensors"},
    "recogniser": {"mini": "recogniser.safetensors"},
}
"""Kind -> name -> file in `MINI`. `mini-pose` is `mini` with LoRA and a pose network."""
MAX_COSINE = 0.3
"""Where a model says nothing else: the threshold in use with ArcFace-R100 features (HaiyuWu/Vec2Face#18)."""


@dataclass(frozen=True)
class Published:
    """Weights in a public repository on Hugging Face.

    Args:
        kind: `generator` or `recogniser`.
        repository, file: where they are.
        licence: as the repository states it.
        what: one line for messages.
    """

    kind: str
    repository: str
    file: str
    licence: str
    what: str


PUBLISHED = {
    "vec2face": Published(
        "generator", "BooBooWu/Vec2Face", "weights/vec2face_generator.pth", "MIT", "Vec2Face, base, 697 MB"
    ),
    "vec2face-plus": Published(
        "generator", "BooBooWu/Vec2Face_plus", "vec2face_plus/main_model.pth", "MIT", "Vec2Face+, 697 MB"
    ),
    "vec2face-plus-pose": Published(
        "generator",
        "BooBooWu/Vec2Face_plus",
        "vec2face_plus/pose_model.pth",
        "MIT",
        "Vec2Face+ with LoRA and landmark condition",
    ),
    "arcface-r100-glint360k": Published(
        "recogniser",
        "BooBooWu/Vec2Face",
        "weights/arcface-r100-glint360k.pth",
        "MIT",
        "the feature extractor Vec2Face was trained with, 261 MB",
    ),
    "magface-r100-glint360k": Published(
        "recogniser",
        "BooBooWu/Vec2Face",
        "weights/magface-r100-glint360k.pth",
        "MIT",
        "the quality estimator of AttrOP, 261 MB",
    ),
}
"""Source: the download instructions of both official README files."""


@dataclass(frozen=True)
class Located:
    """A model file on this machine.

    Args:
        name: as typed, or the file's stem.
        path: of the weights.
        licence: as its source states it; `unknown` for a path.
        statistics: where identity vectors for it come from: a statistics file, or `gaussian`.
        sha256: that the file must have, where known.
        max_cosine: similarity at which two identity vectors are one person to its extractor.
        entry: of a file that holds several networks, the one that was named (`FILE#ENTRY`).
    """

    name: str
    path: Path
    licence: str
    statistics: Path | str
    sha256: str | None = None
    max_cosine: float = MAX_COSINE
    entry: str = ""


def write_card(folder: Path, licence: str, about: Mapping[str, Any]) -> Path:
    """Writes `card.json` beside a model's safetensors files: sha256, bytes, and what else is known.

    Args:
        folder: holds `generator.safetensors`, `recogniser.safetensors`, `statistics.safetensors`.
        licence: of the weights, as an SPDX name.
        about: JSON values, e.g. training data, steps, measurements, limits.
    """
    files = {
        path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.glob("*.safetensors"))
    }
    card = {**about, "name": folder.name, "licence": licence, "files": files}
    path = folder / CARD
    path.write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")
    return path


def names(kind: str) -> tuple[str, ...]:
    """Known names of a kind, `generator` or `recogniser`: the embedded ones, then the published."""
    return (*EMBEDDED[kind], *(name for name, entry in PUBLISHED.items() if entry.kind == kind))


def models_folder() -> Path:
    """Where published weights are looked for: `~/.cache/v2f_engine`."""
    return Path.home() / ".cache" / "v2f_engine"


def locate(model: str | Path, kind: str, *, fetch: bool = False) -> Located:
    """Finds a model by name or path.

    Args:
        model: `mini`, `mini-pose`, a published name, or a path.
        kind: `generator` or `recogniser`.
        fetch: download published weights that are not here.

    Raises:
        ModelNotFound: an unknown name, a missing file, or published weights that are not here.
        MissingDependency: `fetch` without huggingface_hub.
        CheckpointError: an embedded file that is not the one on its card.
    """
    embedded = EMBEDDED[kind]
    if str(model) in embedded:
        return _embedded(str(model), kind, embedded[str(model)])
    published = {name: entry for name, entry in PUBLISHED.items() if entry.kind == kind}
    if str(model) in published:
        return _published(str(model), published[str(model)], fetch)
    path, entry = split_entry(Path(model).expanduser())
    folder = path if (path / "model.safetensors").is_file() else None  # of Vec2Face.save_pretrained
    path = path / "model.safetensors" if folder else path
    if path.is_file():
        bound = _bound_statistics(path) if kind == "generator" else None
        name = folder.name if folder else f"{path.stem}#{entry}" if entry else path.stem
        return Located(name, path, "unknown", bound or "gaussian", entry=entry)
    known = [*embedded, *published]
    near = difflib.get_close_matches(str(model), known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ModelNotFound(
        f"{kind} {str(model)!r}: neither a known name nor a file{hint} Known: {', '.join(known)}, or a path"
        " to .safetensors or .pth (FILE#ENTRY where a file holds several networks)."
    )


def _bound_statistics(path: Path) -> Path | None:
    """The statistics that belong to weights at a path, whatever else lies there; None where nothing says.

    They are those on the card beside the weights, where it has the hashes of both files, as `write_card` writes it; and
    a copy of the embedded generator has the embedded ones. A `statistics.safetensors` that merely lies in the folder
    decides nothing: `v2f ids fit` writes one into whatever folder it is run in.
    """
    for folder in (path.parent, MINI):
        beside = folder / "statistics.safetensors"
        try:
            files = json.loads((folder / CARD).read_text())["files"]
            size = path.stat().st_size
            names = [name for name, about in files.items() if about["bytes"] == size and name != beside.name]
            hashes = {str(files[name]["sha256"]) for name in names}
            wanted = str(files[beside.name]["sha256"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if hashes and beside.is_file() and file_sha256(path) in hashes and file_sha256(beside) == wanted:
            return beside
    if (beside := path.with_name("statistics.safetensors")).is_file():
        warnings.warn(
            f"{beside} lies beside {path.name}, but no {CARD} there says that it belongs to these weights, so it is "
            f"not used. Where it does, say so: --source {beside}, or models.registry.write_card for the folder.",
            V2FWarning,
            stacklevel=4,
        )
    return None


def _embedded(name: str, kind: str, file: str) -> Located:
    card_path, path = MINI / CARD, MINI / file
    if not card_path.is_file() or not path.is_file():
        raise ModelNotFound(
            f"The embedded {kind} is not in this installation ({path} or its card is missing). Reinstall"
            " v2f-engine, train one (v2f train generator), or give a path."
        )
    try:
        card = json.loads(card_path.read_text())
        recorded = str(card["files"][path.name]["sha256"])
        licence = str(card["licence"])
        limit = float(card.get("features", {}).get("max_cosine", MAX_COSINE))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{card_path}: is damaged ({error!r}). Reinstall v2f-engine.") from error
    found = file_sha256(path)
    if found != recorded:
        raise CheckpointError(
            f"{path}: has sha256 {found}, its card says {recorded}: damaged or replaced. Reinstall v2f-engine."
        )
    return Located(name, path, licence, MINI / "statistics.safetensors", recorded, limit)


def _published(name: str, entry: Published, fetch: bool) -> Located:
    folder, file = models_folder(), Path(entry.file)
    places = [folder / file.with_suffix(".safetensors").name, folder / file.name, folder / file]
    path = next((place for place in places if place.is_file()), None)
    if path is None and fetch:
        path = _fetch(entry, folder)
    if path is None:
        raise ModelNotFound(
            f"{name} ({entry.what}) is not on this machine. Download {entry.file} from"
            f" https://huggingface.co/{entry.repository} and place it at {folder / file.name}, give its path,"
            " or allow the download with fetch=True (--fetch)."
        )
    return Located(name, path, entry.licence, "gaussian")


def _fetch(entry: Published, folder: Path) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingDependency(f"Fetching needs huggingface_hub: {install('hub')}.") from error
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(hf_hub_download(repo_id=entry.repository, filename=entry.file, local_dir=folder))
    except Exception as error:  # huggingface_hub, requests and httpx raise families of their own
        raise ModelNotFound(
            f"{entry.file} could not be fetched from https://huggingface.co/{entry.repository}"
            f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'})."
            f" Download it elsewhere and place it at {folder / Path(entry.file).name}."
        ) from error


def licence_of(name: str) -> str:
    """The licence of a model by name, without loading it; `unknown` for a stranger's file."""
    if name in PUBLISHED:
        return PUBLISHED[name].licence
    if not any(name in names for names in EMBEDDED.values()):
        return "unknown"
    try:
        return str(json.loads((MINI / CARD).read_text())["licence"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"

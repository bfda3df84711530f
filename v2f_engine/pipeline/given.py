"""People that a user brings: vectors in a file, reference pictures, and real people whom no identity may resemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.lists.image_list import FORMAT as LIST
from v2f_engine.data.formats.lists.image_list import root_of
from v2f_engine.data.formats.lists.lines import read_rows
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.gate.pictures import is_hidden, is_picture
from v2f_engine.data.gate.resize import Resized
from v2f_engine.data.layout import MANIFEST
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models.registry import locate
from v2f_engine.pipeline.references import FACES_A_BATCH, face_centres
from v2f_engine.runtime.artefact import is_artefact, open_artefact, served_model
from v2f_engine.vectors.files import kind_of
from v2f_engine.vectors.identities import FORMAT, Identities
from v2f_engine.vectors.people import People
from v2f_engine.vectors.streams import open_vectors

Say = Callable[[str], None]
VECTORS = frozenset({".npy", ".npz", ".pt", ".pth", ".safetensors"})
"""Endings of files of vectors; everything else is looked at as pictures."""


def identities_from(
    vectors: str | Path | None = None,
    references: str | Path | None = None,
    recogniser: str | Path = "mini",
    say: Say = lambda words: None,
) -> Identities | None:
    """Identities of the user's own: vectors from a file, or features of reference faces.

    Args:
        vectors: a file of vectors `[N, 512]` (`containers.READ`), or a table written by `Identities.save`.
        references: reference faces, 112x112 or square and then resized. One picture, a folder of pictures, and a list
            of paths without labels (which is what Vec2Face's own tool takes) are an identity a picture; folders of
            persons, a list with labels and any other dataset are an identity a person: the mean of its features.
        recogniser: what extracts those features: a name or a path.
        say: told what was understood, e.g. `"3 identities, one a picture"`.

    Returns:
        The table, or None when neither is given.

    Raises:
        ConfigError: both are given.
        VectorError, DatasetError, ModelNotFound, CheckpointError: as named.
    """
    if vectors is not None and references is not None:
        raise ConfigError("Give either vectors or reference images, not both.")
    if vectors is not None:
        return given_vectors(vectors)
    if references is None:
        return None
    place = Path(references)
    single = pictures_at(place)
    if single is None:
        found = face_centres(references, recogniser)
        say(
            f"{len(found.centres)} identities, one a person: the mean of the pictures of each in {references}"
        )
        return Identities.from_vectors(found.centres, f"references {references} through {found.recogniser}")
    features, through, resized = _features(single, recogniser)
    say(f"{len(features)} identit{'y' if len(features) == 1 else 'ies'}, one a picture of {references}")
    if resized:
        say(resized)
    return Identities.from_vectors(features, f"references {references} through {through}, one a picture")


def people_of(model: str | Path) -> People:
    """Where a model's people come from: of a name, weights, or an exported file, without loading the network.

    Raises:
        ModelNotFound, ArtefactError, CheckpointError, VectorError: as named.
    """
    if is_artefact(model):
        return People.of(served_model(Path(model), open_artefact(model)))
    return People.of(locate(model, "generator"))


def given_vectors(path: str | Path) -> Identities:
    """The identities in a file: a table of ours with all that it says of itself, or vectors alone."""
    if kind_of(path) == FORMAT:
        return Identities.load(path)
    return Identities.from_vectors(open_vectors(path), str(path))


def pictures_at(place: Path) -> list[Path] | None:
    """The pictures of one identity each at `place`: itself, those of a flat folder by name, or those that a list names
    without labels, in its order; None for a dataset.

    Raises:
        DatasetError: pictures beside folders of pictures: nobody can say whose they are.
    """
    if place.is_file():
        return [place] if is_picture(place.name) else _listed(place)
    if not place.is_dir() or (place / MANIFEST).exists():
        return None
    files = sorted(entry for entry in place.iterdir() if entry.is_file() and is_picture(entry.name))
    if not files:
        return None
    folders = sorted(
        entry.name
        for entry in place.iterdir()
        if entry.is_dir()
        and not is_hidden(entry.name)
        and any(is_picture(each.name) for each in entry.iterdir())
    )
    if folders:
        raise DatasetError(
            f"{place}: {len(files)} pictures (such as {files[0].name}) lie beside {len(folders)} folders of pictures "
            f"(such as {folders[0]}). Expected either pictures alone, an identity each, or a folder a person. Move the "
            "pictures into folders of their own, or out."
        )
    return files


def _listed(place: Path) -> list[Path] | None:
    """The pictures of a list of paths and nothing else, as Vec2Face's own tool takes; None for any other file."""
    if not LIST.recognises(place):
        return None
    rows = read_rows(place)
    if any(len(cells) != 1 for cells in rows.cells):
        return None
    names = [cells[0].replace("\\", "/") for cells in rows.cells]
    root = root_of(place, names[0])
    return [root / name for name in names]


def _features(files: Sequence[Path], recogniser: str | Path) -> tuple[NDArray[np.float32], str, str]:
    """(features `[N, D]` in the order of `files`, what looked, what was resized)."""
    from v2f_engine.models.features import extract_features
    from v2f_engine.models.weights import load_recogniser

    loaded, resized = load_recogniser(recogniser), Resized(len(files))

    def faces() -> Iterator[NDArray[np.uint8]]:
        for index, path in enumerate(files):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DatasetError(f"{path}: cannot be read: {error.strerror}.") from error
            yield resized.face(decode(data, str(path)), index, str(path))

    made, parts, held = faces(), [], list[NDArray[np.uint8]]()
    for face in made:
        held.append(face)
        if len(held) == FACES_A_BATCH:
            parts.append(extract_features(loaded.model, np.stack(held)))
            held = []
    if held:
        parts.append(extract_features(loaded.model, np.stack(held)))
    return np.concatenate(parts), f"{loaded.name} {loaded.sha256[:12]}", resized.line()


def excluded_from(
    places: Sequence[Path] | None, recogniser: str | Path = "mini", say: Say = lambda words: None
) -> list[Path | NDArray[np.float32]] | None:
    """Real people for `exclude`: files of vectors and folders of `.npy` as they are, faces as features of each person.

    Args:
        places: files of vectors, tables of `v2f ids`, or datasets of faces and single pictures in any layout.
        recogniser: what looks at faces.
        say: told what was understood of faces.

    Raises:
        DatasetError, VectorError, ModelNotFound, CheckpointError: as named.
    """
    if not places:
        return None
    found: list[Path | NDArray[np.float32]] = []
    for place in places:
        folder = place.is_dir() and not (place / MANIFEST).exists()
        of_vectors = place.suffix.lower() in VECTORS if not place.is_dir() else False
        if not place.exists() or of_vectors or (folder and any(place.glob("*.npy"))):
            found.append(place)
            continue
        single = pictures_at(place)
        rows = face_centres(place, recogniser).centres if single is None else _features(single, recogniser)[0]
        say(
            f"excluding {len(rows)} {'people' if single is None else 'pictures'} of {place}, by their features"
        )
        found.append(rows)
    return found

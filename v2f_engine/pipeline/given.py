"""People that a user brings: vectors in a file, reference pictures, and real people whom no identity may resemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import a_path, one_of
from v2f_engine.data.layout import MANIFEST
from v2f_engine.errors import ConfigError
from v2f_engine.models.registry import locate
from v2f_engine.pipeline.reference_people import KINDS, features_of, looked_at, pictures_at
from v2f_engine.pipeline.references import face_centres
from v2f_engine.runtime.artefact import is_artefact, open_artefact, served_model
from v2f_engine.vectors.files import kind_of
from v2f_engine.vectors.identities import FORMAT, Identities
from v2f_engine.vectors.people import People
from v2f_engine.vectors.streams import open_vectors

Say = Callable[[str], None]
REFERENCES = "references "
"""Begins the `source` of a table whose identities are features of pictures."""
VECTORS = frozenset({".npy", ".npz", ".pt", ".pth", ".safetensors"})
"""Endings of files of vectors; everything else is looked at as pictures."""


def identities_from(
    vectors: str | Path | None = None,
    references: str | Path | None = None,
    recogniser: str | Path = "mini",
    say: Say = lambda words: None,
    reference_identity: str = "auto",
) -> Identities | None:
    """Identities of the user's own: vectors from a file, or features of reference faces.

    Args:
        vectors: a file of vectors `[N, 512]` (`containers.READ`), or a table written by `Identities.save`.
        references: reference faces, 112x112 or square and then resized; see `reference_people.looked_at`.
        recogniser: what extracts those features: a name or a path.
        say: told what was understood, e.g. `"3 identities, one a picture: 3 pictures -> 3 people"`.
        reference_identity: whose the pictures are, of `reference_people.KINDS`.

    Returns:
        The table, or None when neither is given.

    Raises:
        ConfigError: both are given, or pictures that are not kept as `reference_identity` says.
        VectorError, DatasetError, ModelNotFound, CheckpointError: as named.
    """
    one_of("reference_identity", reference_identity, KINDS)
    if vectors is not None and references is not None:
        raise ConfigError("Give either vectors or reference images, not both.")
    if vectors is not None:
        return given_vectors(vectors)
    if references is None:
        return None
    found = looked_at(Path(references), recogniser, reference_identity)
    for line in found.told(references, reference_identity):
        say(line)
    each = ", one a picture" if found.kind == "image" else ""
    return Identities.from_vectors(
        found.vectors, f"{REFERENCES}{references} through {found.through}{each}{found.regrouped}"
    )


def people_of(model: str | Path) -> People:
    """Where a model's people come from: of a name, weights, or an exported file, without loading the network.

    Raises:
        ModelNotFound, ArtefactError, CheckpointError, VectorError: as named.
    """
    if is_artefact(model):
        return People.of(served_model(Path(model), open_artefact(model)))
    return People.of(locate(model, "generator"))


def load_identities(path: str | Path) -> Identities:
    """The identities in a file: a table that `Identities.save` or `v2f ids` wrote, or vectors `[N, 512]` of elsewhere.

    Args:
        path: a `.safetensors`, `.npy`, `.npz` or `.pt`.

    Raises:
        VectorError: no such file, or rows that are no vectors; the message names them.
        ConfigError: no path.
    """
    return given_vectors(a_path("path", path))


def given_vectors(path: str | Path) -> Identities:
    """The identities in a file: a table of ours with all that it says of itself, or vectors alone."""
    if kind_of(path) == FORMAT:
        return Identities.load(path)
    return Identities.from_vectors(open_vectors(path), str(path))


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
        rows = (
            face_centres(place, recogniser).centres if single is None else features_of(single, recogniser)[0]
        )
        say(
            f"excluding {len(rows)} {'people' if single is None else 'pictures'} of {place}, by their features"
        )
        found.append(rows)
    return found

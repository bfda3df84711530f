"""Reference faces are an identity a picture or an identity a person, as they are kept; never fewer in silence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference_files import (
    LAYOUTS,
    Maker,
    flat_folder,
    list_of_paths,
    list_with_labels,
    one_picture,
    person_folders,
)

from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models.features import extract_features
from v2f_engine.models.weights import load_recogniser
from v2f_engine.pipeline.given import excluded_from, identities_from


def picture(seed: int, side: int = 112) -> bytes:
    """A smooth picture: features of noise are all alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    held = io.BytesIO()
    small.save(held, "JPEG", quality=95)
    return held.getvalue()


PEOPLE = [[picture(0), picture(1)], [picture(2)], [picture(3), picture(4), picture(5)]]


def feature(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return extract_features(load_recogniser("mini").model, pixels[None])[0]


@pytest.mark.parametrize(("name", "make"), LAYOUTS, ids=[name for name, _ in LAYOUTS])
def test_each_layout_gives_its_identities_in_order(name: str, make: Maker, tmp_path: Path) -> None:
    place, groups = make(tmp_path, PEOPLE)
    said: list[str] = []
    table = identities_from(None, place, "mini", said.append)
    assert table is not None
    assert len(table) == len(groups)
    expected = np.stack([np.mean([feature(one) for one in group], axis=0) for group in groups])
    np.testing.assert_allclose(table.vectors, expected, atol=0.5)  # two decoders of one JPEG
    kind = "a picture" if all(len(group) == 1 for group in groups) else "a person"
    noun = "identity" if len(groups) == 1 else "identities"
    assert said[0].startswith(f"{len(groups)} {noun}, one {kind}")


def test_other_sizes_are_resized_and_said(tmp_path: Path) -> None:
    place, _ = flat_folder(tmp_path, [[picture(0, 200)], [picture(1)], [picture(2, 160)]])
    said: list[str] = []
    table = identities_from(None, place, "mini", said.append)
    assert table is not None
    assert len(table) == 3
    assert "resized to 112x112: 1 picture of 160x160, 1 picture of 200x200" in said
    held = io.BytesIO()
    Image.new("RGB", (112, 150), "red").save(held, "PNG")
    (place / "tall.png").write_bytes(held.getvalue())
    with pytest.raises(DatasetError, match=r"tall\.png: 150x112 pixels"):
        identities_from(None, place)


def test_pictures_beside_folders_of_persons_are_asked_about(tmp_path: Path) -> None:
    place, _ = person_folders(tmp_path, PEOPLE)
    (place / "loose.jpg").write_bytes(picture(9))
    with pytest.raises(DatasetError, match=r"1 pictures \(such as loose.jpg\) lie beside 3 folders"):
        identities_from(None, place)


def test_a_missing_picture_of_a_list_is_named(tmp_path: Path) -> None:
    place, _ = flat_folder(tmp_path, PEOPLE)
    (tmp_path / "l.txt").write_text(f"{place.name}/person_0_0.jpg\n{place.name}/gone.jpg\n")
    with pytest.raises(DatasetError, match=r"gone\.jpg: cannot be read"):
        identities_from(None, tmp_path / "l.txt")


def test_faces_and_files_of_vectors_are_excluded_alike(tmp_path: Path) -> None:
    folders, groups = person_folders(tmp_path, PEOPLE)
    np.save(tmp_path / "v.npy", np.stack([feature(group[0]) for group in groups]))
    said: list[str] = []
    found = excluded_from([folders, tmp_path / "v.npy"], "mini", said.append)
    assert found is not None
    assert isinstance(found[0], np.ndarray)
    assert found[0].shape == (3, 512)
    assert found[1] == tmp_path / "v.npy"
    assert said == [f"excluding 3 people of {folders}, by their features"]
    assert excluded_from(None) is None


@pytest.mark.parametrize(
    ("make", "asked", "people"),
    [
        (flat_folder, "image", [1] * 6),
        (flat_folder, "folder", [6]),
        (one_picture, "folder", [1]),
        (list_of_paths, "image", [1] * 6),
        (list_of_paths, "folder", [6]),
        (list_with_labels, "image", [1] * 6),
        (list_with_labels, "folder", [6]),
        (list_with_labels, "column", [2, 1, 3]),
        (person_folders, "image", [1] * 6),
        (person_folders, "folder", [2, 1, 3]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_whose_pictures_are_is_as_asked_and_said(
    make: Maker, asked: str, people: list[int], tmp_path: Path
) -> None:
    place, groups = make(tmp_path, PEOPLE)
    said: list[str] = []
    table = identities_from(None, place, "mini", said.append, asked)
    assert table is not None
    pictures = [one for group in groups for one in group]
    ends = np.cumsum(people)
    expected = [
        np.mean([feature(one) for one in pictures[end - count : end]], axis=0)
        for end, count in zip(ends, people, strict=True)
    ]
    np.testing.assert_allclose(table.vectors, np.stack(expected), atol=0.5)
    counts = f"{len(pictures)} picture{'s' * (len(pictures) > 1)} of {place} -> {len(people)} "
    assert counts + ("person" if len(people) == 1 else "people") in said[0]
    assert said[0].endswith(f"(--reference-identity {asked})")


@pytest.mark.parametrize(
    ("make", "asked", "known"),
    [
        (flat_folder, "column", "image or folder; a list of `path label` names people"),
        (list_of_paths, "column", "image or folder"),
        (person_folders, "column", "image or folder"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_pictures_do_not_say_is_refused(make: Maker, asked: str, known: str, tmp_path: Path) -> None:
    place, _ = make(tmp_path, PEOPLE)
    with pytest.raises(ConfigError, match=f"which say no {asked}. Expected {known}"):
        identities_from(None, place, "mini", reference_identity=asked)
    with pytest.raises(ConfigError, match="reference_identity"):
        identities_from(None, place, "mini", reference_identity="faces")


def test_people_of_records_have_labels_and_no_folders(tmp_path: Path) -> None:
    rows = [(one, np.ones(4, np.float32), p) for p, group in enumerate(PEOPLE) for one in group]
    write_training_lmdb(tmp_path / "t.lmdb", rows, len(PEOPLE))
    for asked, count in (("auto", 3), ("column", 3), ("image", 6)):
        table = identities_from(None, tmp_path / "t.lmdb", "mini", reference_identity=asked)
        assert table is not None
        assert len(table) == count
    with pytest.raises(ConfigError, match="which say no folder. Expected image or column"):
        identities_from(None, tmp_path / "t.lmdb", "mini", reference_identity="folder")

"""A centre a person: the plain mean of its features, wherever they lie, however labels are kept; memory of a block."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.data.training.features_file import digest_of_labels
from v2f_engine.errors import ConfigError, DatasetError, V2FWarning, VectorError
from v2f_engine.pipeline.labelled import centres_of
from v2f_engine.pipeline.labels import read_labels
from v2f_engine.vectors.centres import person_centres
from v2f_engine.vectors.sources import StatisticsSource
from v2f_engine.vectors.statistics import fit_centres, fit_files

PEOPLE, D = 40, 24


def world(people: int = PEOPLE, d: int = D, images: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(features `[N, d]` of length about 21.9 and a cosine of .7 within a person, labels), rows in any order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, images + 1, people)
    labels = rng.permutation(np.repeat(np.arange(people), counts))
    spectrum = 1 / (1 + np.arange(d) / 10)
    centres = rng.standard_normal((people, d)) * np.sqrt(336 * spectrum / spectrum.sum())
    rows = centres[labels] + rng.standard_normal((len(labels), d)) * np.sqrt(144 / d)
    return rows.astype(np.float32), labels


def means(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The plain definition, one person after another."""
    return np.stack([rows[labels == k].astype(np.float64).mean(axis=0) for k in sorted(set(labels.tolist()))])


def packed(feature: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, feature)
    return held.getvalue()


def published_lmdb(path: Path, rows: np.ndarray, labels: np.ndarray, classes: int) -> Path:
    """What Vec2Face's prepare_training_set.py writes: keys 0, 1, ... -> msgpack (jpeg, .npy bytes, label)."""
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 26)
    with environment.begin(write=True) as writing:
        for row, (feature, label) in enumerate(zip(rows, labels.tolist(), strict=True)):
            writing.put(
                b"%d" % row, msgpack.dumps((b"\xff\xd8 no picture is looked at", packed(feature), label))
            )
        writing.put(b"__keys__", msgpack.dumps([b"%d" % row for row in range(len(rows))]))
        writing.put(b"__len__", msgpack.dumps(len(rows)))
        writing.put(b"__classnum__", msgpack.dumps(classes))
    environment.close()
    return path


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 60), st.integers(1, 17), st.integers(0, 2**32 - 1))
def test_any_order_in_any_blocks_gives_the_mean(people: int, rows: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(people), rng.integers(0, people, rows)])
    rng.shuffle(codes)
    features = rng.standard_normal((len(codes), 5)).astype(np.float32)
    blocks = ((k, features[k : k + block]) for k in range(0, len(codes), block))
    found = person_centres(blocks, codes, list(map(str, range(people))))
    assert np.allclose(found.vectors, means(features, codes), rtol=1e-6, atol=1e-6)
    assert found.images.tolist() == np.bincount(codes, minlength=people).tolist()
    assert found.length == pytest.approx(np.linalg.norm(features.astype(float), axis=1).mean(), rel=1e-6)


def test_memory_does_not_grow_with_the_images() -> None:
    def peak(blocks: int) -> int:
        codes = np.tile(np.arange(1024), blocks)

        def stream() -> Iterator[tuple[int, np.ndarray]]:
            for k in range(blocks):
                yield k * 1024, np.random.default_rng(k).standard_normal((1024, 64)).astype(np.float32)

        tracemalloc.start()
        person_centres(stream(), codes, list(map(str, range(1024))))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found - codes.nbytes

    assert peak(64) < 1.2 * peak(4)


KINDS = {
    "int64": lambda labels: labels,
    "uint8": lambda labels: labels.astype(np.uint8),
    "big-endian int16": lambda labels: labels.astype(">i2"),
    "float64 of savetxt": lambda labels: labels.astype(np.float64),
    "column": lambda labels: labels[:, None],
    "far apart": lambda labels: labels.astype(np.int64) * 10**15,
    "texts": lambda labels: np.array([f"n{label:06d}" for label in labels]),
    "byte texts": lambda labels: np.array([f"n{label:06d}".encode() for label in labels]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_kind_in_an_array(kind: str, tmp_path: Path) -> None:
    rows, labels = world()
    np.save(tmp_path / "f.npy", rows)
    np.save(tmp_path / "l.npy", KINDS[kind](labels))
    found = centres_of([tmp_path / "f.npy"], tmp_path / "l.npy", dimension=None)
    assert np.allclose(found.vectors, means(rows, labels), rtol=1e-6, atol=1e-5)


TEXTS = {
    "l.txt": lambda names: "".join(f"{name}\n" for name in names),
    "dos.txt": lambda names: "\ufeff" + "\r\n".join(names),
    "l.csv": lambda names: "path,label\n" + "".join(f"{k}.x,{name}\n" for k, name in enumerate(names)),
    "l.tsv": lambda names: "identity\n" + "\n".join(names),
    "paths.txt": lambda names: "".join(f"root/p{name}/{k}.jpg\n" for k, name in enumerate(names)),
    "paths label.txt": lambda names: "".join(f"a/{k}.npy {name}\n" for k, name in enumerate(names)),
}


@pytest.mark.parametrize("named", [False, True], ids=["numbers", "names"])
@pytest.mark.parametrize("name", TEXTS)
def test_labels_in_texts_and_lists(name: str, named: bool, tmp_path: Path) -> None:
    rows, labels = world()
    np.save(tmp_path / "f.npy", rows)
    texts = [f"{label:03d}, {label}" if named and name == "l.txt" else f"id{label:03d}" if named else str(label)
             for label in labels]  # fmt: skip
    if named and name == "l.txt":
        texts = [text.replace(",", " of") for text in texts]
    (tmp_path / name).write_text(TEXTS[name](texts), newline="")
    found = centres_of([tmp_path / "f.npy"], tmp_path / name, dimension=None)
    people = [str(person) for person in found.people]
    expected = dict(zip(sorted(set(texts)), _by(rows, texts), strict=True))
    assert len(people) == len(expected)
    for person, centre in zip(people, found.vectors, strict=True):
        key = person.rpartition("/")[2].removeprefix("p") if name == "paths.txt" else person
        assert np.allclose(centre, expected[key], rtol=1e-6, atol=1e-5)


def _by(rows: np.ndarray, texts: list[str]) -> list[np.ndarray]:
    return [
        rows[[text == other for other in texts]].astype(float).mean(axis=0) for text in sorted(set(texts))
    ]


def test_features_of_a_file_each_in_folders_or_listed(tmp_path: Path) -> None:
    """The input of the published center_features.py: paths whose folder is the person, sorted."""
    rows, labels = world(people=9)
    paths = []
    for k, (row, label) in enumerate(zip(rows, labels, strict=True)):
        folder = tmp_path / "features" / f"n{label:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{k}.npy", row[None] if k % 2 else row)
        paths.append(f"features/n{label:03d}/{k}.npy\n")
    (tmp_path / "list.txt").write_text("".join(paths))
    for place in (tmp_path / "features", tmp_path / "list.txt"):
        found = centres_of([place], dimension=None)
        assert [str(name).rpartition("/")[2] for name in found.people] == [f"n{k:03d}" for k in range(9)]
        assert np.allclose(found.vectors, means(rows, labels), rtol=1e-6, atol=1e-5)
    with pytest.raises(ConfigError, match=r"says itself whose its features are .* --labels"):
        centres_of([tmp_path / "list.txt"], tmp_path / "list.txt", dimension=None)


def test_features_inside_a_published_lmdb(tmp_path: Path) -> None:
    rows, labels = world()
    file = published_lmdb(tmp_path / "t.lmdb", rows, labels, PEOPLE)
    found = centres_of([file], dimension=None)
    assert np.allclose(found.vectors, means(rows, labels), rtol=1e-6, atol=1e-5)
    few = np.flatnonzero(labels < 5)[::-1].copy()
    np.save(tmp_path / "mask.npy", few)
    some = centres_of([file], mask=tmp_path / "mask.npy", dimension=None)
    assert np.allclose(some.vectors, means(rows[few], labels[few]), rtol=1e-6, atol=1e-5)
    more = published_lmdb(tmp_path / "more.lmdb", rows, labels, PEOPLE + 2)
    with pytest.raises(
        VectorError, match=r"holds 42 people, its labels name 40\. No image of 40, 41\. Give --people"
    ):
        centres_of([more], dimension=None)
    assert len(centres_of([more], people=PEOPLE, dimension=None)) == PEOPLE
    with pytest.raises(VectorError, match=r"feature of 24 numbers, expected 512"):
        centres_of([file])


def test_what_is_refused(tmp_path: Path) -> None:
    rows, labels = world()
    np.save(tmp_path / "f.npy", rows)
    np.save(tmp_path / "short.npy", labels[:-1])
    with pytest.raises(
        VectorError, match=rf"{len(rows)} rows of features, .*short\.npy: {len(rows) - 1} labels"
    ):
        centres_of([tmp_path / "f.npy"], tmp_path / "short.npy", dimension=None)
    with pytest.raises(VectorError, match=r"nothing says whose each row is\. Give --labels"):
        centres_of([tmp_path / "f.npy"], dimension=None)
    np.save(tmp_path / "unknown.npy", np.where(labels == 3, -1, labels))
    with pytest.raises(VectorError, match=r"labels are below 0, such as -1 .* one person"):
        centres_of([tmp_path / "f.npy"], tmp_path / "unknown.npy", dimension=None)
    np.save(tmp_path / "objects.npy", labels.astype(object), allow_pickle=True)
    with pytest.raises(VectorError, match="Object arrays are never read"):
        read_labels(tmp_path / "objects.npy")
    (tmp_path / "gap.txt").write_text("1\n\n2\n")
    with pytest.raises(VectorError, match=r"line 2 is empty and line 3 is not"):
        read_labels(tmp_path / "gap.txt")
    (tmp_path / "two.csv").write_text("a,1\nb,2\n")
    with pytest.raises(VectorError, match=r"2 columns .* no header that names the label"):
        read_labels(tmp_path / "two.csv")
    with pytest.raises(DatasetError, match="does not exist"):
        read_labels(tmp_path / "gone")


def test_bad_rows_are_counted_and_named_or_left_out(tmp_path: Path) -> None:
    rows, labels = world()
    labels[[5, 9, 11]] = 0, 1, 2  # people of several images
    labels[:5] = 0, 1, 2, 7, 7  # one person is seen no more
    of_seven = np.flatnonzero(labels == 7)
    bad = rows.copy()
    bad[[5, 9], 2] = np.nan, np.inf
    bad[11] = 0
    np.save(tmp_path / "f.npy", bad)
    np.save(tmp_path / "l.npy", labels)
    with pytest.raises(
        VectorError,
        match=r"3 of \d+ rows are no features\. 2 not finite .*: rows 5, 9; 1 of zero length .*: row 11\.",
    ):
        centres_of([tmp_path / "f.npy"], tmp_path / "l.npy", dimension=None)
    found = centres_of([tmp_path / "f.npy"], tmp_path / "l.npy", on_bad="skip", dimension=None)
    kept = np.delete(np.arange(len(rows)), [5, 9, 11])
    assert found.left_out == 3
    assert np.allclose(found.vectors, means(rows[kept], labels[kept]), rtol=1e-6, atol=1e-5)
    bad[of_seven] = np.nan
    np.save(tmp_path / "f.npy", bad)
    with pytest.raises(
        VectorError, match=r"1 of 39 people have no image: 7 \(all of their rows were left out\)"
    ):
        centres_of([tmp_path / "f.npy"], tmp_path / "l.npy", on_bad="skip", dimension=None)


def test_the_files_that_are_written(tmp_path: Path) -> None:
    rows, labels = world()
    np.save(tmp_path / "f.npy", rows)
    np.save(tmp_path / "l.npy", np.array([f"a, {label:02d}" for label in labels]))
    found = centres_of([tmp_path / "f.npy"], tmp_path / "l.npy", dimension=None)
    found.save(tmp_path / "c.npy")
    stored = np.load(tmp_path / "c.npy")
    assert stored.dtype == np.float32
    assert np.array_equal(stored, found.vectors)
    with (tmp_path / "c.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["label"] for line in table] == [f"a, {k:02d}" for k in range(PEOPLE)]
    assert [int(line["images"]) for line in table] == np.bincount(labels).tolist()
    assert np.allclose([float(line["length"]) for line in table], np.linalg.norm(stored, axis=1), atol=1e-3)


def test_means_of_unit_features_on_request(tmp_path: Path) -> None:
    rows, labels = world()
    np.save(tmp_path / "f.npy", rows * np.linspace(1, 3, len(rows), dtype=np.float32)[:, None])
    np.save(tmp_path / "l.npy", labels)
    found = centres_of([tmp_path / "f.npy"], tmp_path / "l.npy", unit=True, dimension=None)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.allclose(found.vectors, means(units, labels), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    folder = tmp_path_factory.mktemp("images")
    rows, labels = world(people=400, d=64, images=10, seed=3)
    np.save(folder / "f.npy", rows)
    np.save(folder / "l.npy", labels)
    return folder / "f.npy", folder / "l.npy", rows, labels


def test_the_fit_is_the_published_pca_and_normal(images: tuple[Path, Path, np.ndarray, np.ndarray]) -> None:
    """PCA with all components, mean and covariance there, a normal, and back: by singular values, in own words."""
    features, whose, rows, labels = images
    fitted = fit_centres(centres_of([features], whose, dimension=None))
    centres = means(rows, labels).astype(np.float32).astype(np.float64)
    middle = centres.mean(axis=0)
    _, _, axes = np.linalg.svd(centres - middle, full_matrices=False)
    coordinates = (centres - middle) @ axes.T
    mean, covariance = coordinates.mean(axis=0), np.cov(coordinates, rowvar=False)
    scale = np.abs(covariance).max()
    assert np.allclose(mean @ axes + middle, fitted.mean, rtol=0, atol=1e-6)
    assert np.allclose(axes.T @ covariance @ axes, fitted.covariance, rtol=0, atol=1e-6 * scale)
    assert fitted.length == pytest.approx(
        np.sqrt((centres**2).sum(axis=1).mean()), rel=2e-3
    )  # n - 1 against n
    drawn = StatisticsSource(fitted, "ours").candidates(0, 0, 20_000)
    theirs = np.random.default_rng(0).multivariate_normal(mean, covariance, 20_000) @ axes + middle
    assert np.linalg.norm(drawn, axis=1).mean() == pytest.approx(
        np.linalg.norm(theirs, axis=1).mean(), rel=0.005
    )


def test_one_step_is_two_steps_and_changes_no_length(
    images: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    features, whose, rows, labels = images
    found = centres_of([features], whose, dimension=None)
    found.save(tmp_path / "c.npy")
    assert fit_centres(found).sha256 == fit_files(tmp_path / "c.npy", dimension=64).sha256
    assert fit_centres(found).mean == pytest.approx(means(rows, labels).mean(axis=0), abs=1e-5)
    longer = fit_centres(found, length="images")
    factor = np.linalg.norm(rows, axis=1).mean() / np.linalg.norm(means(rows, labels), axis=1).mean()
    assert np.allclose(longer.covariance, fit_centres(found).covariance * factor**2, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="length"):
        fit_centres(found, length="unit")


@pytest.mark.parametrize("order", ["any", "by person"])
def test_images_given_for_people_are_noticed(order: str, tmp_path: Path) -> None:
    rows, labels = world(people=2000, d=256, images=8, seed=5)
    if order == "by person":
        rows = rows[np.argsort(labels, kind="stable")]
    np.save(tmp_path / "f.npy", rows)
    with pytest.warns(
        V2FWarning, match=r"rows show people again and again: .* 21\.\d long; centres .* about 18\.\d"
    ):
        fit_files(tmp_path / "f.npy", dimension=None)


@pytest.mark.parametrize("effective", [2, 30, 500])
def test_people_given_as_people_are_not_suspected(effective: int, tmp_path: Path) -> None:
    """Whatever their spectrum: in few directions strangers are alike too, and the fit says how many."""
    rng = np.random.default_rng(effective)
    rows = rng.standard_normal((6000, 128)) * np.exp(-np.arange(128) / effective) + 0.3
    np.save(tmp_path / "c.npy", rows.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error", V2FWarning)
        fit_files(tmp_path / "c.npy", dimension=None)


def test_features_that_know_their_dataset(tmp_path: Path) -> None:
    """`v2f features` notes from what it extracted; another dataset by now is noticed."""
    rows, labels = world(people=5)
    published_lmdb(tmp_path / "set.lmdb", rows, labels, 5)
    np.save(tmp_path / "f.npy", rows)
    record = {"dataset": {"path": str(tmp_path / "set.lmdb")}, "labels_sha256": digest_of_labels(labels)}
    (tmp_path / "f.json").write_text(json.dumps(record))
    found = centres_of([tmp_path / "f.npy"], dimension=None)
    assert np.allclose(found.vectors, means(rows, labels), rtol=1e-6, atol=1e-5)
    same = centres_of([tmp_path / "f.npy"], tmp_path / "set.lmdb", dimension=None)
    assert np.array_equal(same.vectors, found.vectors)
    (tmp_path / "f.json").write_text(json.dumps({**record, "labels_sha256": "0" * 64}))
    with pytest.raises(VectorError, match="was extracted from another dataset"):
        centres_of([tmp_path / "f.npy"], dimension=None)
    (tmp_path / "set.lmdb").unlink()
    with pytest.raises(VectorError, match=r"set\.lmdb, from which they were extracted, is not there"):
        centres_of([tmp_path / "f.npy"], dimension=None)

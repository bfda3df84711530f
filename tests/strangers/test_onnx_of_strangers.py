"""ONNX recognisers as they are found: the same features from every form, or a refusal by name; and bad features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx_files import DIM, GRAPHS, T, network
from typer.testing import CliRunner

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.errors import CheckpointError, ConfigError, VectorError
from v2f_engine.models.embedder import open_embedder, open_reader
from v2f_engine.models.features import extract_features
from v2f_engine.train.extract import store_features

COUNT, EACH = 20, 2


def pictures() -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 256, (COUNT, 7, 7, 3), np.uint8)
    return np.kron(coarse, np.ones((1, 16, 16, 1), np.uint8))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, faces = tmp_path_factory.mktemp("onnx") / "people", pictures()

    def batches(chosen: range):  # type: ignore[no-untyped-def]
        for i in chosen:
            yield ImageBatch(faces[i * EACH : (i + 1) * EACH], np.full(EACH, i), np.arange(EACH))

    write_dataset(
        root, {}, Plan.of(COUNT // EACH, EACH), batches, format="imagefolder", encoder=Encoder("png")
    )
    return root


@pytest.mark.parametrize("name", GRAPHS)
def test_every_form_gives_the_same_features(name: str, tmp_path: Path) -> None:
    plain = open_embedder(network(tmp_path / "plain.onnx"))
    found = open_embedder(network(tmp_path / "other.onnx", **GRAPHS[name]))
    assert found.dim == DIM
    wanted = plain(pictures())
    tolerance = 5e-3 if name == "half precision" else 1e-4
    np.testing.assert_allclose(found(pictures()), wanted, rtol=0, atol=tolerance)
    summed = extract_features(found, pictures(), batch=8, flip_sum=True)
    both = wanted + plain(np.ascontiguousarray(pictures()[:, :, ::-1]))
    np.testing.assert_allclose(summed, both, rtol=0, atol=2 * tolerance)
    bgr = open_embedder(tmp_path / "other.onnx", channels="bgr")
    np.testing.assert_allclose(bgr(pictures()[..., ::-1].copy()), wanted, rtol=0, atol=tolerance)


def test_several_outputs_of_features_are_asked_about(tmp_path: Path) -> None:
    path = network(tmp_path / "two.onnx", beside="again")
    with pytest.raises(
        CheckpointError, match=r"2 outputs that may be the features.*two\.onnx#feature or .*#mirrored"
    ):
        open_embedder(path)
    mirrored = open_embedder(f"{path}#mirrored")
    assert mirrored.describe()["name"] == "two#mirrored"
    np.testing.assert_array_equal(mirrored(pictures()), -open_embedder(f"{path}#feature")(pictures()))
    with pytest.raises(CheckpointError, match="has no output 'norm'; found"):
        open_embedder(f"{path}#norm")
    notes = open_embedder(network(tmp_path / "length.onnx", beside="length")).notes
    assert "output 'feature' of {'norm': [2, 1], 'feature': [2, 24]}" in notes[0]


@pytest.mark.parametrize("side", [64, 128, 160, 224])
@pytest.mark.parametrize("last", [False, True])
def test_pictures_of_other_sizes_are_refused(side: int, last: bool, tmp_path: Path) -> None:
    shape = ["B", side, side, 3] if last else ["B", 3, side, side]
    with pytest.raises(
        CheckpointError, match=rf"found \[.*{side}.*\]: a recogniser of pictures of another size"
    ):
        open_embedder(network(tmp_path / "x.onnx", shape, side=side // 7))


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected one of tensor"):
        open_embedder(network(tmp_path / "x.onnx", kind=T.INT32))
    with pytest.raises(ConfigError, match="takes whole numbers, the grey levels as they are"):
        open_embedder(network(tmp_path / "x.onnx", kind=T.UINT8), mean=127.5, std=127.5)
    with pytest.raises(CheckpointError, match="onnxruntime cannot run it on float32"):
        open_embedder(network(tmp_path / "x.onnx", ["B", 3, "H", "W"], side=28))


def test_overflow_is_counted_named_and_refused(people: Path, tmp_path: Path) -> None:
    """In half precision half of the rows become infinite: once reported as 0 bad."""
    largest = np.abs(open_embedder(network(tmp_path / "plain.onnx"))(pictures())).max(1)
    scale = float(np.finfo(np.float16).max / np.median(largest))
    embedder = open_embedder(network(tmp_path / "hot.onnx", kind=T.FLOAT16, scale=scale))
    rows = embedder(pictures())
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    assert 0 < len(bad) < COUNT
    with pytest.raises(
        VectorError, match=rf"of 8 rows are not finite \(rows? {bad[0]}.*overflows, as in half"
    ):
        store_features(people, tmp_path / "f.npy", embedder, batch=8)
    assert not (tmp_path / "f.npy").exists()
    record = store_features(people, tmp_path / "f.npy", embedder, batch=8, on_bad="skip")
    assert record["bad"]["count"] == len(bad)
    assert record["bad"]["by_kind"] == {"not finite": len(bad)}
    assert [entry["row"] for entry in record["bad"]["rows"]] == bad.tolist()
    found = np.load(tmp_path / "f.npy")
    assert np.flatnonzero(np.isnan(found).all(1)).tolist() == bad.tolist()
    assert np.isfinite(np.delete(found, bad, 0)).all()


def test_dead_and_collapsed_recognisers_are_refused(people: Path, tmp_path: Path) -> None:
    dead = open_embedder(network(tmp_path / "dead.onnx", scale=0.0))
    with pytest.raises(VectorError, match="8 of 8 rows are zero"):
        store_features(people, tmp_path / "f.npy", dead, batch=8)
    with pytest.raises(
        VectorError, match=r"not one of 20 rows has a feature to keep: \{'no direction': 20\}"
    ):
        store_features(people, tmp_path / "f.npy", dead, batch=8, on_bad="skip")

    class Constant:
        dim, notes = 4, ()

        def describe(self) -> dict[str, object]:
            return {"name": "constant"}

        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.tile(np.float32([1, 2, 3, 4]), (len(images), 1))

    for on_bad in ("refuse", "skip"):
        with pytest.raises(VectorError, match="all 20 usable rows are one direction.*collapsed"):
            store_features(people, tmp_path / "g.npy", Constant(), batch=8, on_bad=on_bad)
    for (
        name
    ) in "fg":  # "nothing was written" is meant: the next try under this name is not stopped by this one
        assert not [path.name for path in tmp_path.glob(f"*{name}.npy*") if "lock" not in path.name]
        store_features(people, tmp_path / f"{name}.npy", open_embedder("mini"), batch=8)


def test_one_picture_again_and_again_is_no_collapse(tmp_path: Path) -> None:
    face = pictures()[:1]

    def batches(chosen: range):  # type: ignore[no-untyped-def]
        for i in chosen:
            yield ImageBatch(face.repeat(EACH, 0), np.full(EACH, i), np.arange(EACH))

    write_dataset(
        tmp_path / "same", {}, Plan.of(3, EACH), batches, format="imagefolder", encoder=Encoder("png")
    )
    embedder = open_embedder(network(tmp_path / "plain.onnx"))
    assert store_features(tmp_path / "same", tmp_path / "f.npy", embedder, batch=8)["bad"]["count"] == 0


def test_measures_read_what_features_reads(people: Path, tmp_path: Path) -> None:
    """`evaluate` through the graph and through its features gives the same numbers."""
    from v2f_engine.cli.main import app

    path = network(tmp_path / "judge.onnx", beside="length")
    store_features(people, tmp_path / "f.npy", open_embedder(path), batch=8)
    np.save(tmp_path / "labels.npy", np.repeat(np.arange(COUNT // EACH), EACH))
    lines = {
        "graph": [str(people), "--recogniser", str(path)],
        "file": [str(tmp_path / "f.npy"), "--labels", str(tmp_path / "labels.npy")],
    }
    told = {}
    for name, line in lines.items():
        out = tmp_path / f"{name}.json"
        done = CliRunner().invoke(app, ["evaluate", "consistency", *line, "--out", str(out)])
        assert done.exit_code == 0, done.output
        told[name] = json.loads(out.read_text())
    assert told["graph"]["recogniser"]["name"] == "judge"
    assert told["graph"]["recogniser"]["mean"] == 127.5
    for key, value in told["file"].items():
        if isinstance(value, float):
            assert told["graph"][key] == pytest.approx(value, abs=1e-5)
    assert open_reader(path, channels="bgr").to_json()["channels"] == "bgr"

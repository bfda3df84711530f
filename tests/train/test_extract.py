"""Features of a dataset: any recogniser, stated pixels, bad images, a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from v2f_engine.batch import ImageBatch
from v2f_engine.data import Encoder, Plan, open_dataset, open_training_set, write_dataset
from v2f_engine.errors import CheckpointError, ConfigError, DatasetError, OutputFolderError, VectorError
from v2f_engine.models.embedder import Pixels, open_embedder
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.weights import save_weights
from v2f_engine.train.extract import store_features

EYE = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 16), stem_stride=4)
PEOPLE, EACH = 7, 3
COUNT = PEOPLE * EACH


def images() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (COUNT, 14, 14, 3), np.uint8)
    return np.kron(coarse, np.ones((1, 8, 8, 1), np.uint8))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("extract") / "set"
    faces = images()

    def batches(chosen: range):  # type: ignore[no-untyped-def]
        for i in chosen:
            yield ImageBatch(faces[i * EACH : (i + 1) * EACH], np.full(EACH, i), np.arange(EACH))

    write_dataset(root, {}, Plan.of(PEOPLE, EACH), batches, format="imagefolder", encoder=Encoder("png"))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("recogniser") / "recogniser.safetensors"
    save_weights(path, {"model": IResNet(EYE).eval()}, {"kind": "iresnet", "config": EYE.to_json()})
    return path


def test_rows_equal_the_recogniser(dataset: Path, weights: Path, tmp_path: Path) -> None:
    embedder = open_embedder(weights)
    record = store_features(dataset, tmp_path / "f.npy", embedder, batch=8)
    found = np.load(tmp_path / "f.npy")
    wanted = extract_features(embedder.model, images(), batch=8)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert record == json.loads((tmp_path / "f.json").read_text())
    assert record["recogniser"]["channels"] == "rgb"
    assert record["recogniser"]["mean"] == 127.5
    assert len(record["recogniser"]["sha256"]) == 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.json", "f.npy"]
    data = open_training_set(dataset, tmp_path / "f.npy", with_features=True)
    assert np.array_equal(data.read([5, 20]).features, found[[5, 20]])


def test_channels_and_normalisation(dataset: Path, weights: Path) -> None:
    faces = images()[:4]
    rgb = open_embedder(weights)(faces)
    bgr = open_embedder(weights, channels="bgr")
    assert not np.allclose(bgr(faces), rgb)
    assert np.array_equal(bgr(np.ascontiguousarray(faces[..., ::-1])), rgb)
    halved = open_embedder(weights, mean=63.75, std=63.75)
    np.testing.assert_allclose(halved(faces // 2 * 1), rgb, atol=0.5)
    with pytest.raises(ConfigError, match="rgb"):
        Pixels("rbg")
    with pytest.raises(ConfigError, match="together"):
        open_embedder(weights, mean=0.0)


def graph(path: Path, weights: Path, *, inside: bool, batch: int | str = "B", nhwc: bool = False) -> Path:
    """The recogniser as ONNX; `inside` puts the normalisation into the graph."""

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recogniser = open_embedder(weights).model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if nhwc:
                x = x.permute(0, 3, 1, 2)
            if inside:
                x = (x - 127.5) * (1 / 127.5)
            return self.recogniser(x)

    size = batch if isinstance(batch, int) else 2
    example = torch.zeros(size, 112, 112, 3) if nhwc else torch.zeros(size, 3, 112, 112)
    dynamic = None if isinstance(batch, int) else {"x": {0: "B"}}
    torch.onnx.export(
        Whole().eval(),
        (example,),
        path,
        input_names=["x"],
        dynamic_axes=dynamic,
        dynamo=False,
        opset_version=17,
    )
    return path


@pytest.mark.parametrize("case", ["outside", "inside", "fixed batch", "nhwc"])
def test_onnx_equals_torch(dataset: Path, weights: Path, tmp_path: Path, case: str) -> None:
    path = graph(
        tmp_path / "recogniser.onnx",
        weights,
        inside=case == "inside",
        batch=4
        if case == "fixed batch"
        else "B",  # 21 images: the last call has one and three rows of padding
        nhwc=case == "nhwc",
    )
    embedder = open_embedder(path)
    described = embedder.describe()
    assert (described["mean"], described["std"]) == ((0.0, 1.0) if case == "inside" else (127.5, 127.5))
    assert embedder.dim == 512
    wanted = open_embedder(weights)(images())
    assert embedder(images()).shape == wanted.shape
    np.testing.assert_allclose(embedder(images()), wanted, rtol=1e-3, atol=1e-3)
    bgr = open_embedder(path, channels="bgr")  # changes the order of channels and nothing else
    assert bgr.describe() == {**described, "channels": "bgr"}
    np.testing.assert_allclose(bgr(images()[..., ::-1].copy()), wanted, rtol=1e-3, atol=1e-3)
    if case == "outside":
        store_features(dataset, tmp_path / "f.npy", embedder, batch=4)
        np.testing.assert_allclose(np.load(tmp_path / "f.npy"), wanted, rtol=1e-3, atol=1e-3)


def test_models_that_cannot_serve(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no onnx")
    with pytest.raises(CheckpointError, match="onnxruntime cannot open it"):
        open_embedder(tmp_path / "x.onnx")
    torch.onnx.export(torch.nn.Flatten(), (torch.zeros(1, 3, 64, 64),), tmp_path / "y.onnx", dynamo=False)
    with pytest.raises(CheckpointError, match=r"expected an input \[B, 3, 112, 112\].*64"):
        open_embedder(tmp_path / "y.onnx")
    with pytest.raises(ConfigError, match="bf16"):
        open_embedder(tmp_path / "y.onnx", bf16=True)


def test_bad_images_are_refused_or_noted(dataset: Path, weights: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    path = sorted((broken / "images").rglob("*.png"))[10]
    path.write_bytes(path.read_bytes()[:200])
    embedder = open_embedder(weights)
    with pytest.raises(DatasetError, match=path.name):
        store_features(broken, tmp_path / "f.npy", embedder, batch=8)
    record = store_features(broken, tmp_path / "f.npy", embedder, batch=8, on_bad="skip")
    assert (record["bad"]["count"], record["bad"]["rows"][0]["row"]) == (1, 10)
    found = np.load(tmp_path / "f.npy")
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [10]
    with pytest.raises(VectorError, match=r"rows \[10\]"):
        open_training_set(broken, tmp_path / "f.npy")
    data = open_training_set(broken, tmp_path / "f.npy", on_bad="skip")
    assert np.isfinite(data.read(range(COUNT)).features).all()
    assert len(data.bad) == 1
    count = store_features(broken, tmp_path / "f.lmdb", embedder, batch=8, on_bad="skip")["bad"]["count"]
    packed = open_training_set(tmp_path / "f.lmdb", with_features=True)
    assert (len(packed), count) == (COUNT - 1, 1)
    rows = packed.read(range(COUNT - 1))
    assert np.array_equal(rows.features, np.delete(found, 10, 0))
    assert np.array_equal(rows.images, np.delete(images(), 10, 0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "f.json", "f.lmdb", "f.npy"]


def test_features_of_another_dataset_are_refused(dataset: Path, weights: Path, tmp_path: Path) -> None:
    store_features(dataset, tmp_path / "f.npy", open_embedder(weights), batch=8)
    record = json.loads((tmp_path / "f.json").read_text())
    (tmp_path / "f.json").write_text(json.dumps(record | {"labels_sha256": "0" * 64}))
    with pytest.raises(VectorError, match="another dataset"):
        open_training_set(dataset, tmp_path / "f.npy")
    (tmp_path / "f.json").write_text("{")
    with pytest.raises(VectorError, match="damaged"):
        open_training_set(dataset, tmp_path / "f.npy")


def test_rows_of_a_mask(dataset: Path, weights: Path, tmp_path: Path) -> None:
    embedder, mask = open_embedder(weights), np.array([9, 2, 20])
    store_features(dataset, tmp_path / "all.npy", embedder, batch=8)
    store_features(dataset, tmp_path / "some.npy", embedder, batch=8, subset=mask)
    wanted = np.load(tmp_path / "all.npy")[mask]
    np.testing.assert_allclose(np.load(tmp_path / "some.npy"), wanted, rtol=1e-5, atol=1e-5)
    for name in ("some.npy", "all.npy"):
        data = open_training_set(dataset, tmp_path / name, mask)
        rows = data.read([2, 0])
        np.testing.assert_allclose(rows.features, wanted[[2, 0]], rtol=1e-5, atol=1e-5)
        assert np.array_equal(rows.images, images()[[20, 9]])
        np.testing.assert_allclose(data.take([1, 2]).read([1]).features, wanted[[2]], rtol=1e-5, atol=1e-5)
    with pytest.raises(VectorError, match="another dataset"):
        open_training_set(dataset, tmp_path / "some.npy", np.array([2, 9, 20]))
    store_features(dataset, tmp_path / "some.lmdb", embedder, batch=8, subset=mask)
    packed = open_training_set(tmp_path / "some.lmdb")
    assert np.array_equal(packed.read(range(3)).images, images()[mask])


KILLED = """
import sys, time
from v2f_engine.models.embedder import open_embedder
from v2f_engine.train import extract
extract.COMMIT_ROWS = 4
def slow(done, total):
    print(done, flush=True)
    time.sleep(0.2)
extract.store_features(sys.argv[1], sys.argv[2], open_embedder(sys.argv[3]), batch=2, progress=slow)
"""


def test_a_killed_run_goes_on(dataset: Path, weights: Path, tmp_path: Path) -> None:
    """SIGKILL after 10 of 21 rows; the rest is computed, and the file equals that of an undisturbed run."""
    embedder = open_embedder(weights)
    store_features(dataset, tmp_path / "whole.npy", embedder, batch=2)
    command = [sys.executable, "-c", KILLED, str(dataset), str(tmp_path / "f.npy"), str(weights)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if int(line) >= 10:
                break
        run.send_signal(signal.SIGKILL)
    assert not (tmp_path / "f.npy").exists()
    with pytest.raises(OutputFolderError, match="another batch"):
        store_features(dataset, tmp_path / "f.npy", embedder, batch=4)
    seen = []
    store_features(
        dataset, tmp_path / "f.npy", embedder, batch=2, progress=lambda done, total: seen.append(done)
    )
    assert 8 < seen[0] <= 12  # not from the beginning
    assert (tmp_path / "f.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert len(open_dataset(dataset)) == COUNT

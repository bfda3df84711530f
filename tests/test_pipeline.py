"""Generation end to end with a small random generator: same bytes whatever the batch, named errors."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from small_networks import SMALL

from v2f_engine.data.formats import open_dataset
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import ConfigError, ModelNotFound, OutputFolderError, VectorError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import save_weights
from v2f_engine.pipeline import Engine, generate, identities_from
from v2f_engine.runtime import Inputs
from v2f_engine.vectors.perturbation import Perturbation, Perturbed
from v2f_engine.vectors.sampling import sample_identities

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = Vec2Face(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_weights(path, {"model": network}, {"kind": "vec2face", "config": SMALL.to_json()}, precision="fp32")
    return path


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_images_do_not_depend_on_the_batch_size(model: Path, precision: str) -> None:
    engine = Engine.load(model, device="cpu", precision=precision, compute_batch=4)
    table = sample_identities(3, seed=5, source="gaussian")
    runs = []
    for size in (1, 7, 64):
        batches = list(engine.images(table, 5, seed=9, batch_size=size))
        assert all(len(batch) == size for batch in batches[:-1])
        runs.append(
            {name: np.concatenate([b.attributes[name] for b in batches]) for name in ("sigma", "n_masked")}
        )
        runs[-1]["images"] = np.concatenate([batch.images for batch in batches])
        runs[-1]["identity"] = np.concatenate([batch.identity for batch in batches])
    for run in runs[1:]:
        for name, values in runs[0].items():
            np.testing.assert_array_equal(run[name], values, err_msg=name)
    assert runs[0]["images"].shape == (15, 112, 112, 3)
    assert runs[0]["images"].std() > 1.0


def test_another_compute_batch_moves_no_pixel_by_more_than_one_grey_level(model: Path) -> None:
    table = sample_identities(2, seed=5, source="gaussian")
    made = [
        next(
            iter(Engine.load(model, precision="fp32", compute_batch=b).images(table, 8, batch_size=16))
        ).images
        for b in (3, 16)
    ]
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1


def test_one_identity_can_be_made_alone(model: Path) -> None:
    engine = Engine.load(model, precision="fp32", compute_batch=4)
    table = sample_identities(4, seed=1, source="gaussian")
    everything = next(iter(engine.images(table, 4, seed=2, batch_size=16)))
    alone = next(iter(engine.images(table, 4, seed=2, select=range(2, 3))))
    np.testing.assert_array_equal(alone.images, everything.images[8:12])
    np.testing.assert_array_equal(alone.identity, [2, 2, 2, 2])


def test_generate_writes_what_images_yields_and_says_so(model: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = generate(
        6, 3, tmp_path / "a", model=model, format="webdataset", source="gaussian", jpeg_quality=90,
        precision="fp32", compute_batch=4, images_per_shard=6, progress=lambda d, t: calls.append((d, t)),
    )  # fmt: skip
    assert (report.identities, report.images, report.written) == (6, 18, 18)
    assert calls[-1] == (18, 18)
    assert report.contact_sheet is not None
    assert report.contact_sheet.is_file()
    faces = open_dataset(tmp_path / "a")
    assert len(faces) == 18
    assert sorted(set(faces.labels.tolist())) == list(range(6))
    again = generate(
        6, 3, tmp_path / "a", model=model, format="webdataset", source="gaussian", jpeg_quality=90,
        precision="fp32", compute_batch=4, images_per_shard=6,
    )  # fmt: skip
    assert again.written == 0


def test_an_interrupted_run_ends_in_the_same_bytes(model: Path, tmp_path: Path) -> None:
    options = {
        "model": model, "format": "imagefolder", "source": "gaussian", "precision": "fp32",
        "compute_batch": 4, "images_per_shard": 4,
    }  # fmt: skip
    generate(5, 2, tmp_path / "whole", **options)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 5:
            raise Stop

    with pytest.raises(Stop):
        generate(5, 2, tmp_path / "cut", progress=stop, **options)
    generate(5, 2, tmp_path / "cut", **options)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_a_folder_of_another_run_is_refused(model: Path, tmp_path: Path) -> None:
    generate(2, 1, tmp_path, model=model, source="gaussian", precision="fp32")
    with pytest.raises(OutputFolderError, match="seed"):
        generate(2, 1, tmp_path, model=model, source="gaussian", precision="fp32", seed=1)


def test_vectors_of_ones_own(model: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32) * np.float32(1.2)
    np.save(tmp_path / "v.npy", vectors)
    table = identities_from(tmp_path / "v.npy")
    assert table is not None
    np.testing.assert_array_equal(table.vectors, vectors)
    engine = Engine.load(model, precision="fp32")
    noise_free = Perturbation((0.0,), (1.0,))
    batch = next(iter(engine.images(table, 1, perturbation=noise_free)))
    np.testing.assert_allclose(batch.attributes["cosine_to_centre"], 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"n_ids": 0}, ConfigError, "n_ids"),
        ({"n_ids": -3}, ConfigError, "n_ids"),
        ({"images_per_id": 0}, ConfigError, "images_per_id"),
        ({"format": "web-dataset"}, ConfigError, "webdataset"),
        ({"device": "gpu"}, ConfigError, "cuda"),
        ({"precision": "fp64"}, ConfigError, "precision"),
        ({"masks": "generat"}, ConfigError, "generate"),
        ({"model": "minii"}, ModelNotFound, "mini"),
        ({"jpeg_quality": 0}, ConfigError, "quality"),
        ({"identities": np.zeros((2, 512), np.float32)}, VectorError, "row"),
        ({"identities": np.ones((2, 100), np.float32)}, VectorError, "512"),
        ({"identities": np.full((2, 512), np.nan, np.float32)}, VectorError, "row"),
    ],
)
def test_bad_input_is_a_named_error(
    model: Path, tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    options: dict[str, object] = {"n_ids": 2, "images_per_id": 1, "model": model, "source": "gaussian"}
    options |= change
    if "identities" in change:
        options |= {"n_ids": None, "source": "auto"}
    with pytest.raises(error, match=words):
        generate(out=tmp_path / "out", **options)  # type: ignore[arg-type]


def test_every_stage_is_a_named_range(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a profiler sees of a run with a writer; without nvtx `stage` does nothing, so it is put in its place."""
    from v2f_engine import ranges

    seen: set[str] = set()

    class Annotate:
        def __init__(self, name: str, domain: str) -> None:
            seen.add(name)

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(ranges, "_annotate", lambda: Annotate)
    generate(2, 1, tmp_path, model=model, format="webdataset", source="gaussian", precision="fp32")
    assert seen >= {"perturb", "mask", "copy to device", "decode", "copy to host", "encode", "write"}


@dataclass
class Instant:
    """A runner that answers at once with images that tell their own rows."""

    batch_size: int = 4
    n_dropped: int = 5
    made: int = 0

    def __call__(self, vectors: Vectors, noise: Vectors, n_masked: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.zeros((len(vectors), 112, 112, 3), np.uint8)
        images[:, 0, 0, 0] = n_masked
        images[:, 0, 1, 0] = 255
        self.made += 1
        return images

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        for inputs in batches:
            yield self(*inputs)

    def describe(self) -> dict[str, Any]:
        return {"runner": "instant"}


def instant_engine() -> Engine:
    loaded = SimpleNamespace(name="instant", statistics="gaussian", max_cosine=0.3)
    return Engine(loaded, Instant(), MASK_SCHEDULES["generate"])  # type: ignore[arg-type]  # describes no model


class Failing(Perturbation):
    """Fails in the third batch."""

    def draw(self, centres: Vectors, identity: ArrayLike, image: ArrayLike, **further: Any) -> Perturbed:
        if np.asarray(image)[0] >= 8:
            raise VectorError("the third batch")
        return super().draw(centres, identity, image, **further)


def test_an_error_in_the_drawing_thread_comes_out_after_the_images_before_it(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((1, 512), np.float32)
    engine = instant_engine()
    batches = engine.images(vectors, 50, perturbation=Failing(), batch_size=4)
    assert [next(batches).image.tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(VectorError, match="the third batch"):
        next(batches)
    with pytest.raises(VectorError, match="the third batch"):
        write_dataset(
            tmp_path / "set", {"seed": 0}, Plan.of(1, 50),
            lambda ids: engine.images(vectors, 50, perturbation=Failing(), batch_size=4, select=ids),
        )  # fmt: skip
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("v2f-")]


def test_stopping_early_leaves_no_thread_and_the_engine_as_it_was() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 512), np.float32)
    engine = instant_engine()
    whole = np.concatenate([b.images for b in engine.images(vectors, 50)])
    images = engine.images(vectors, 50, batch_size=4)
    next(images)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("v2f-")] == ["v2f-draw"]
    del images
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("v2f-")]
    np.testing.assert_array_equal(np.concatenate([b.images for b in engine.images(vectors, 50)]), whole)

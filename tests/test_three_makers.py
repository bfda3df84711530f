"""What holds for every image holds for plain, steered and posed ones alike: a NaN, too little memory, any batch size.

Faults are injected where all of them meet: at the calls of the network (`Vec2Face.decode` and `forward`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import SMALL_POSED as SMALL
from small_networks import TINY, posed_generator

from v2f_engine.attributes.control import AttributeControl
from v2f_engine.attributes.steering import SteeringSettings
from v2f_engine.attributes.targets import Attribute
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import OutOfMemory
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import save_weights
from v2f_engine.pipeline import Engine, generate
from v2f_engine.pipeline.makers.posed import PoseCondition
from v2f_engine.pipeline.memory import WithinMemory

BRIGHT = Attribute.from_callable("brightness", lambda x: x.mean((1, 2, 3)) * 100, tolerance=0.5, goal=0.0)
ROWS = 4
METHODS = ((Vec2Face, "decode"), (Vec2Face, "forward"), (IResNet, "forward"), (PoseModel, "forward"))
VECTORS = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    network, pose = posed_generator()
    head = {"kind": "vec2face", "config": SMALL.to_json()}
    save_weights(place / "small.safetensors", {"model": network, "pose": pose}, head)
    reader = {"kind": "iresnet", "config": TINY.to_json()}
    save_weights(place / "reader.safetensors", {"model": IResNet(TINY)}, reader)
    return place


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine.load(folder / "small.safetensors", device="cpu", precision="fp32", compute_batch=ROWS)


def steering(folder: Path, **more: Any) -> AttributeControl:
    told = {
        "recogniser": folder / "reader.safetensors",
        "attributes": (BRIGHT,),
        "min_cosine": -1.0,
        "reference": "vector",
    }
    settings = SteeringSettings(iterations=3, slots=ROWS)
    return AttributeControl({"brightness": "-6:2"}, settings=settings, **{**told, **more})


ASKED: dict[str, Callable[[Path], AttributeControl | PoseCondition | None]] = {
    "plain": lambda folder: None,
    "posed": lambda folder: PoseCondition({"yaw": "-45:45"}),
    "steered": lambda folder: steering(folder),
    "refined": lambda folder: steering(folder, use="identities"),
    "steered to images": lambda folder: steering(folder, use="both", reference="images"),
}
"""Every way to an image; `refined` and the last have calls of the network before their images."""


def control_of(engine: Engine, folder: Path, way: str) -> WithinMemory:
    asked = ASKED[way](folder)
    return WithinMemory(engine.plain.maker) if asked is None else engine.control(asked)


def made(engine: Engine, control: WithinMemory | None, size: int = 64) -> ImageBatch:
    """Two images each of three people, as one batch."""
    parts = list(engine.images(VECTORS, 2, seed=5, control=control, batch_size=size))
    assert all(len(part) == size for part in parts[:-1])
    return ImageBatch(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.identity for part in parts]),
        np.concatenate([part.image for part in parts]),
        {name: np.concatenate([part.attributes[name] for part in parts]) for name in parts[0].attributes},
    )


def assert_equal(found: ImageBatch, expected: ImageBatch) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.attributes.keys() == expected.attributes.keys()
    for name, values in expected.attributes.items():
        np.testing.assert_array_equal(found.attributes[name], values, err_msg=name)


@dataclass
class Fault:
    """Counts calls of the network, and spoils some of them.

    Args:
        calls: which of them are spoilt.
        spoil: given the call's vectors `[B, 512]`: what the network gets instead; may raise.
        row_by_row: compute every row alone, as a machine does whose kernels are batch-invariant.
    """

    calls: Callable[[int], bool]
    spoil: Callable[[torch.Tensor], torch.Tensor]
    row_by_row: bool = False
    seen: int = 0
    spoilt: list[int] = field(default_factory=list)

    def install(self, patch: pytest.MonkeyPatch) -> Fault:
        for network, name in METHODS:
            patch.setattr(network, name, self._spoilt(getattr(network, name)))
        return self

    def _spoilt(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def spoilt(network: torch.nn.Module, vectors: torch.Tensor, *rest: Any) -> Any:
            if isinstance(network, Vec2Face):
                call, self.seen = self.seen, self.seen + 1
                if self.calls(call):
                    self.spoilt.append(call)
                    vectors = self.spoil(vectors)
            if not self.row_by_row:
                return method(network, vectors, *rest)
            rows = [
                method(network, vectors[k : k + 1], *(cut(part, k) for part in rest))
                for k in range(len(vectors))
            ]
            if isinstance(rows[0], torch.Tensor):
                return torch.cat(rows)
            return type(rows[0])(*map(torch.cat, zip(*rows, strict=True)))

        return spoilt


def cut(part: Any, row: int) -> Any:
    return part[row : row + 1] if isinstance(part, torch.Tensor) else part


def nan_in_the_second_row(vectors: torch.Tensor) -> torch.Tensor:
    spoilt = vectors.clone()
    spoilt[1] = float("nan")
    return spoilt


def no_memory(vectors: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def calls_of(engine: Engine, folder: Path, way: str) -> int:
    """How often the network is called without a fault."""
    with pytest.MonkeyPatch.context() as patch:
        fault = Fault(lambda call: False, no_memory).install(patch)
        made(engine, control_of(engine, folder, way))
    return fault.seen


def some(total: int) -> list[int]:
    """Four of so many calls: the first, the last and two between, of what precedes the images where anything does."""
    return sorted({0, total // 3, total // 2, total - 1})


@pytest.mark.parametrize("way", ASKED)
def test_the_batch_size_asked_for_changes_nothing(engine: Engine, folder: Path, way: str) -> None:
    control = control_of(engine, folder, way)
    expected = made(engine, control)
    assert expected.images.shape == (6, 112, 112, 3)
    assert expected.attributes["failed"].tolist() == [0] * 6
    for size in (1, 4):
        assert_equal(made(engine, control, size), expected)


@pytest.mark.parametrize("way", ASKED)
def test_a_nan_that_passes_is_made_again(
    engine: Engine, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call of the network it is that meets it: also those that refine identities or make references."""
    expected = made(engine, control_of(engine, folder, way))
    total = calls_of(engine, folder, way)
    for point in some(total):
        with monkeypatch.context() as patch:
            fault = Fault(lambda call, point=point: call == point, nan_in_the_second_row).install(patch)
            found = made(engine, control_of(engine, folder, way))
        assert fault.spoilt == [point]
        assert fault.seen > total, "nothing was made again"
        assert_equal(found, expected)


@pytest.mark.parametrize("way", ["plain", "posed", "steered"])
def test_a_nan_that_stays_is_recorded(
    engine: Engine, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = made(engine, control_of(engine, folder, way))
    with monkeypatch.context() as patch:
        fault = Fault(lambda call: True, lambda vectors: vectors * float("nan")).install(patch)
        found = made(engine, control_of(engine, folder, way))
        report = generate(
            2, 2, tmp_path / "set", model=folder / "small.safetensors", source="gaussian", device="cpu",
            attributes=ASKED[way](folder), compute_batch=ROWS,
        )  # fmt: skip
    assert fault.spoilt
    assert found.attributes["failed"].tolist() == [1] * 6
    assert found.attributes.keys() == expected.attributes.keys()
    assert report.failed == report.images == 4
    rows = np.load(tmp_path / "set" / "attributes" / "shard-000000.npy")
    assert rows["failed"].tolist() == [1] * 4


@pytest.mark.parametrize("way", ASKED)
def test_a_moment_without_memory_changes_no_byte(
    engine: Engine, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = made(engine, control_of(engine, folder, way))
    for point in some(calls_of(engine, folder, way)):
        with monkeypatch.context() as patch:
            fault = Fault(lambda call, point=point: call == point, no_memory).install(patch)
            control = control_of(engine, folder, way)
            found = made(engine, control)
        assert fault.spoilt == [point]
        assert (control.rows, control.retries) == (ROWS, 0)
        assert_equal(found, expected)


@pytest.mark.parametrize("way", ["plain", "posed", "steered"])
def test_less_memory_from_the_second_batch_on_changes_no_byte(
    engine: Engine, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the rows fit, on a machine whose kernels are batch-invariant."""
    control = control_of(engine, folder, way)
    with monkeypatch.context() as patch:
        Fault(lambda call: False, no_memory, row_by_row=True).install(patch)
        expected = made(engine, control)

    def half_fits(vectors: torch.Tensor) -> torch.Tensor:
        return no_memory(vectors) if len(vectors) > ROWS // 2 else vectors

    Fault(lambda call: True, half_fits, row_by_row=True).install(monkeypatch)
    found = made(engine, control)
    assert (control.rows, control.retries) == (ROWS // 2, 1)
    assert_equal(found, expected)
    assert_equal(made(engine, control), expected)  # the next shard begins with what fits


@pytest.mark.parametrize("way", ["plain", "posed", "steered"])
def test_a_first_batch_that_does_not_fit_says_what_to_ask_for(
    engine: Engine, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = control_of(engine, folder, way)
    Fault(lambda call: True, no_memory).install(monkeypatch)
    asked = {"steered": "slots=2"}.get(way, "--compute-batch 2")
    with pytest.raises(OutOfMemory, match=f"first batch of 4 rows.*{asked}"):
        made(engine, control)


@pytest.mark.parametrize("way", ["plain", "posed", "steered"])
def test_rows_that_would_make_other_bytes_are_refused(
    engine: Engine, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = control_of(engine, folder, way)
    made(engine, control)

    def other_with_fewer(vectors: torch.Tensor) -> torch.Tensor:
        return no_memory(vectors) if len(vectors) > ROWS // 2 else vectors * 1.5

    Fault(lambda call: True, other_with_fewer).install(monkeypatch)
    with pytest.raises(OutOfMemory, match="with 2 rows 4 of 4 images differ in some bit"):
        made(engine, control)

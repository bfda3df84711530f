"""Stripes and JPEG over faces that a recogniser learns from: what is documented of them, measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.training.rows import Rows
from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.train.augment import augment_faces, harden
from v2f_engine.train.recogniser_settings import RecogniserTraining
from v2f_engine.train.recogniser_step import RecogniserTrainer

COUNT = 400


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def hardened() -> torch.Tensor:
    """Grey faces: all that is on them is what was added."""
    return harden(torch.zeros(COUNT, 3, 112, 112), seeded(0))


def test_it_is_a_function_of_its_generator_and_leaves_what_it_was_given() -> None:
    images = torch.rand(6, 3, 112, 112, generator=seeded(1)) * 2 - 1
    before = images.clone()
    one, two, other = harden(images, seeded(2)), harden(images, seeded(2)), harden(images, seeded(3))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(images, before)
    assert one.dtype == torch.float32
    assert one.shape == images.shape


def test_the_range_is_kept() -> None:
    for level in (-1.0, 1.0):
        x = harden(torch.full((40, 3, 112, 112), level), seeded(4))
        assert float(x.min()) >= -1
        assert float(x.max()) <= 1


def from_jpeg(one: torch.Tensor) -> bool:
    """Pixels on the grid of 255 levels: a stripe of a face that no codec saw is not."""
    levels = (one.double() + 1) * 127.5
    return bool((levels - levels.round()).abs().max() < 1e-4)


def test_three_of_four_have_stripes_and_a_fifth_went_through_a_codec(hardened: torch.Tensor) -> None:
    swing = (hardened - hardened.mean((2, 3), keepdim=True)).abs().amax((1, 2, 3))
    assert float((swing > 1 / 127.5).float().mean()) == pytest.approx(0.75, abs=0.07)
    textured = torch.rand(COUNT, 3, 32, 32, generator=seeded(5)) * 1.6 - 0.8
    share = np.mean([from_jpeg(one) for one in harden(textured, seeded(6))])
    assert share == pytest.approx(0.2, abs=0.06)


def test_amplitudes_and_periods_and_directions(hardened: torch.Tensor) -> None:
    """2 to 14 grey levels; half with periods of 2 to 24 pixels, each octave alike, half of 6 to 18; two fifths of the
    bars horizontal, one fifth vertical."""
    levels, periods, kinds = [], [], []
    window = np.outer(np.hanning(112), np.hanning(112))
    for one in hardened:
        plane = one[0].double().numpy() * 127.5
        if from_jpeg(one) or np.abs(plane).max() < 1:
            continue
        assert torch.equal(one[0], one[1])  # on all channels alike
        levels.append(np.abs(plane).max())
        power = np.abs(np.fft.rfft2((plane - plane.mean()) * window, (448, 448)))
        row, column = np.unravel_index(power.argmax(), power.shape)
        y, x = min(row, 448 - row) / 448, column / 448
        periods.append(1 / np.hypot(y, x))
        kinds.append("horizontal" if x < 1.5 / 448 else "vertical" if y < 1.5 / 448 else "slanted")
    assert 1.5 < min(levels) < 3.5
    assert 12.5 < max(levels) < 14.1
    assert float(np.mean(levels)) == pytest.approx(8, abs=0.7)
    assert min(periods) < 2.6
    assert 18 < max(periods) < 27
    octaves = np.log(3) / np.log(12)  # from 2 to 6, and from 6 to 18
    assert np.mean(np.array(periods) < 6) == pytest.approx(octaves / 2, abs=0.09)
    assert np.mean((np.array(periods) > 6) & (np.array(periods) < 18)) == pytest.approx(
        (1 + octaves) / 2, abs=0.1
    )
    assert kinds.count("horizontal") / len(kinds) == pytest.approx(0.4, abs=0.1)
    assert kinds.count("vertical") / len(kinds) == pytest.approx(0.2, abs=0.08)


def test_the_training_sees_them_after_its_other_changes() -> None:
    """`hardened` is `rendered` and then stripes and JPEG, of one generator of the step."""
    images = np.random.default_rng(2).integers(0, 255, (8, 112, 112, 3)).astype(np.uint8)
    labels = np.arange(8) % 2
    shape = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 16), stem_stride=4)
    wanted = RecogniserTraining(Path("unused"), shape, batch=8, augment="hardened", bf16=False, seed=3)
    trainer = RecogniserTrainer(MemorySet(images, labels), wanted)
    x, _, _ = trainer.prepare(5, Rows(images, labels, None, ["row"] * 8))
    generator = seeded(3 * 1_000_003 + 5)
    unit = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    torch.testing.assert_close(x, harden(augment_faces(unit, generator), generator))

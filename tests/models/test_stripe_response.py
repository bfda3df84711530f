"""The stripe response against answers known beforehand: recognisers of a line of code whose cosines are arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.models.stripe_response import PERIODS, StripeResponse, stripe_response, striped

FACES = np.full((3, 112, 112, 3), 128, np.uint8)


class Reads:
    """A recogniser that is a function of float64 pixels `[B, H, W, 3]`."""

    notes: tuple[str, ...] = ()

    def __init__(self, of: Any) -> None:
        self.of = of
        self.dim = 2

    def describe(self) -> dict[str, Any]:
        return {"name": "arithmetic", "precision": "fp32"}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self.of(images.astype(np.float64)), np.float32)


@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize(("period", "phase"), [(2, 0.0), (4, 0.25), (5.5, 0.1)])
def test_a_stripe_is_a_rounded_cosine(direction: str, period: float, phase: float) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    seen = striped(drawn, period, direction, 6.0, phase)
    assert seen.dtype == np.uint8
    for place in (0, 1, 7, 111):
        level = 6.0 * np.cos(2 * np.pi * (place / period + phase))
        line = (slice(None), slice(None), place) if direction == "columns" else (slice(None), place)
        expected = np.rint(np.clip(drawn[line].astype(float) + level, 0, 255))
        np.testing.assert_array_equal(seen[line], expected)


def test_columns_are_vertical_bars() -> None:
    bars = striped(FACES, 4, "columns", 6.0, 0.0)
    assert (bars == bars[:, :1]).all()
    assert bars[0, 0, :4, 0].tolist() == [134, 128, 122, 128]


def test_a_recogniser_of_one_period_hears_that_one() -> None:
    """Its feature is (10, the mean of pixels against a cosine of period 4 over columns): 3 of 6 levels at phase 0."""
    wave = np.cos(2 * np.pi * np.arange(112) / 4)

    def of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        heard = ((x - 128) * wave[:, None]).mean((1, 2, 3))
        return np.stack([np.full(len(x), 10.0), heard], 1)

    found = stripe_response(Reads(of), FACES)
    # At phase 0 the mean of 6 cos^2 is 3; at phase 1/4, where the stripe is a sine, it is 0.
    expected = (10 / np.hypot(10, 3) + 1) / 2
    assert found.cosines["columns"][4] == pytest.approx(expected, abs=1e-6)
    assert found.worst == (found.cosines["columns"][4], "columns", 4)
    others = [c for name, row in found.cosines.items() for p, c in row.items() if (name, p) != ("columns", 4)]
    assert len(others) == 2 * len(PERIODS) - 1
    assert min(others) > 0.999


def test_what_it_says() -> None:
    found = StripeResponse(6.0, 64, {"columns": {2: 0.99, 4: 0.5}, "rows": {2: 1.0, 4: 0.98765}})
    assert found.to_json() == {
        "levels": 6.0,
        "images": 64,
        "cosine_by_period_px": {"columns": {"2": 0.99, "4": 0.5}, "rows": {"2": 1.0, "4": 0.9877}},
        "worst": {"cosine": 0.5, "direction": "columns", "period_px": 4},
    }
    assert found.lines() == [
        "period, px     2     4",
        "columns     0.99  0.50",
        "rows        1.00  0.99",
        "worst 0.500, 4 px across columns",
    ]


def test_every_image_is_counted_and_batches_are_kept() -> None:
    calls: list[int] = []
    counts: list[tuple[int, int]] = []

    def of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        calls.append(len(x))
        return np.ones((len(x), 2))

    stripe_response(Reads(of), FACES, periods=(2, 3), batch=2, progress=lambda *at: counts.append(at))
    assert counts == [(3 * n, 27) for n in range(1, 10)]  # 1 + 2 directions x 2 periods x 2 phases
    assert calls == [2, 1] * 9


def test_refusals() -> None:
    one = Reads(lambda x: np.ones((len(x), 2)))
    with pytest.raises(ConfigError, match="at least one image, found none"):
        stripe_response(one, FACES[:0])
    with pytest.raises(ConfigError, match="period"):
        stripe_response(one, FACES, periods=(1,))
    with pytest.raises(VectorError, match="stripe response: 3 of 3 rows are not finite .*--mean"):
        stripe_response(Reads(lambda x: np.full((len(x), 2), np.nan)), FACES)
    with pytest.raises(VectorError, match="stripe response: 3 of 3 rows are zero"):
        stripe_response(Reads(lambda x: np.zeros((len(x), 2))), FACES)

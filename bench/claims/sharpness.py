"""Is a generated face as sharp as a rendered one, and free of combs? A light measure, for use during training.

    python -m bench.claims.sharpness --generated mini --rendered people
    python -m bench.claims.sharpness --generated run/generator.safetensors --source run/statistics.safetensors \\
        --rendered people --frechet mini

Protocol. Luminance (Rec. 601) of the square of 80 pixels about the face, less its mean, under a Hann window; power
in grey levels squared per pixel, mean over the images. Comb ratio: energy of waves that run across (as a vertical
comb's) with a horizontal period of 3.5 to 4.7 pixels, whatever their vertical one, over the same the other way round;
noise of no direction has 1. Detail: energy by octave of period, generated over rendered; in the comb's band by either
direction too, and `detail_4px` is the lesser of the two, so that a comb does not count as detail. Energies: an
amplitude's ratio is the square root. `--frechet RECOGNISER`: Frechet distance in its features (`frechet.py`).
Both sets as datasets hold them, after JPEG of quality 95; rendered people of whatever world their folder holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.claims.frechet import against_rendered
from bench.claims.judged_sets import read_pictures
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import V2FError

Float64 = NDArray[np.float64]

TOP, LEFT, SIDE = 24, 16, 80
"""The square about the face: from above the brows to the chin, without the corners that show hair and ground."""
COMB = (3.5, 4.7)
"""Periods in pixels: whole frequencies 18 to 22 of 80, so a comb of 4 pixels lies in it with all that its window
spreads."""
OCTAVES = ((2, 4), (4, 8), (8, 16), (16, 32))
"""Periods in pixels."""
LONGEST = 16
"""Of the profile, in pixels."""
SHOWN = (2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 8, 10, 13, 16)
"""Periods that the text prints of it."""
RESAMPLES = 400
CHUNK = 256
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Spectrum:
    """Mean power of a set of images, and what it takes to say how far chance moves it.

    Args:
        power: float64 `[80, 80]`, by vertical and horizontal frequency as of `np.fft.fft2`; grey levels squared.
            It sums to the variance under the window.
        across, down: float64 `[N]`, energy of each image in the comb's band of either direction.
    """

    power: Float64
    across: Float64
    down: Float64

    def __len__(self) -> int:
        return len(self.across)

    @property
    def comb_ratio(self) -> float:
        return float(self.across.mean() / self.down.mean())

    def profile(self) -> tuple[Float64, Float64, Float64]:
        """(periods in pixels ascending, energy of waves that run across, of those that run down), `[36]` each."""
        bins = np.arange(SIDE // 2, SIDE // LONGEST - 1, -1)
        both = [self.power.sum(axis=axis) for axis in (0, 1)]
        across, down = (line[bins] + np.where(bins < SIDE // 2, line[-bins], 0) for line in both)
        return SIDE / bins, across, down

    def ring(self, shortest: float, longest: float) -> float:
        """Energy of all waves with periods above `shortest` and to `longest`, whatever their direction."""
        down, across = _frequencies()
        radius = np.hypot(down, across)
        return float(self.power[(radius >= 1 / longest) & (radius < 1 / shortest)].sum())


def _frequencies() -> tuple[Float64, Float64]:
    """Waves a pixel, without sign: `[80, 1]` of rows, `[1, 80]` of columns."""
    line = np.abs(np.fft.fftfreq(SIDE))
    return line[:, None], line[None]


def spectrum(images: NDArray[np.uint8]) -> Spectrum:
    """Of uint8 `[N, 112, 112, 3]`, RGB."""
    hann = np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE) ** 2
    window = np.outer(hann, hann)
    line = np.abs(np.fft.fftfreq(SIDE))
    band = (line >= 1 / COMB[1]) & (line <= 1 / COMB[0])
    total, across, down = np.zeros((SIDE, SIDE)), [], []
    for start in range(0, len(images), CHUNK):
        face = images[start : start + CHUNK, TOP : TOP + SIDE, LEFT : LEFT + SIDE] @ _LUMA
        face -= (np.einsum("nyx,yx->n", face, window) / window.sum())[:, None, None]
        power = np.abs(np.fft.fft2(face * window)) ** 2 / (SIDE**2 * (window**2).sum())
        total += power.sum(axis=0)
        across.append(power[:, :, band].sum(axis=(1, 2)))
        down.append(power[:, band].sum(axis=(1, 2)))
    return Spectrum(total / len(images), np.concatenate(across), np.concatenate(down))


def sharpness(generated: Spectrum, rendered: Spectrum) -> dict[str, Any]:
    """All that the text prints; `results` has what goals are about."""
    by_side = {
        side: float(getattr(generated, side).mean() / getattr(rendered, side).mean())
        for side in ("across", "down")
    }
    periods, *made = generated.profile()
    _, *real = rendered.profile()
    return {
        "images": {"generated": len(generated), "rendered": len(rendered)},
        "results": {"comb_ratio": generated.comb_ratio, "detail_4px": min(by_side.values())},
        "comb_ratio_95": _by_chance(generated.across, generated.down),
        "comb_ratio_rendered": rendered.comb_ratio,
        "detail": {
            f"{shortest:g}-{longest:g}": generated.ring(shortest, longest) / rendered.ring(shortest, longest)
            for shortest, longest in (*OCTAVES, COMB)
        },
        "detail_in_the_combs_band": by_side,
        "profile": {
            "period": periods.round(3).tolist(),
            **{
                f"{name}_{side}": values.tolist()
                for name, pair in (("generated", made), ("rendered", real))
                for side, values in zip(("across", "down"), pair, strict=True)
            },
        },
    }  # fmt: skip


def _by_chance(upper: Float64, lower: Float64) -> list[float]:
    """Central 95 % of the ratio of means over resampled images."""
    rng = np.random.Generator(np.random.Philox(key=0))
    rows = rng.integers(len(upper), size=(RESAMPLES, len(upper)))
    low, high = np.quantile(upper[rows].mean(axis=1) / lower[rows].mean(axis=1), (0.025, 0.975))
    return [float(low), float(high)]


def print_sharpness(record: dict[str, Any]) -> None:
    low, high = record["comb_ratio_95"]
    print(
        f"  comb ratio {record['results']['comb_ratio']:.2f} ({low:.2f} to {high:.2f} by chance of images), "
        f"rendered people {record['comb_ratio_rendered']:.2f}"
    )
    octaves = ", ".join(f"{period} px {100 * share:.1f} %" for period, share in record["detail"].items())
    print(f"  detail, energy over rendered: {octaves}")
    sides = ", ".join(
        f"{side} {100 * share:.1f} %" for side, share in record["detail_in_the_combs_band"].items()
    )
    print(f"  of waves of {COMB[0]:g} to {COMB[1]:g} px: {sides}; detail_4px is the lesser")
    profile = record["profile"]
    places = [int(np.abs(np.subtract(profile["period"], period)).argmin()) for period in SHOWN]
    print("  across over down by period, px: " + "".join(f"{period:>7g}" for period in SHOWN))
    for name in ("generated", "rendered"):
        ratios = [profile[f"{name}_across"][place] / profile[f"{name}_down"][place] for place in places]
        print(f"    {name:28}" + "".join(f"{ratio:7.2f}" for ratio in ratios))
    for name, found in record.get("frechet", {}).items():
        print(frechet_line(name, found))


def frechet_line(name: str, found: dict[str, Any]) -> str:
    return (
        f"  Frechet distance, {name}: {found['distance']:.4g}; rendered people to others {found['floor']:.4g} "
        f"(n {found['n']:,} each, {found['dimension']} features): {found['ratio']:.1f} times"
    )


def measure(made: ImageBatch, real: ImageBatch, recogniser: str | None) -> dict[str, Any]:
    """Of two sets of images; `recogniser` a name or path for the Frechet distance."""
    record = sharpness(spectrum(made.images), spectrum(real.images))
    if recogniser:
        from v2f_engine.models.features import extract_features
        from v2f_engine.models.weights import load_recogniser

        model = load_recogniser(recogniser).model
        features = [extract_features(model, batch.images) for batch in (made, real)]
        record["frechet"] = {recogniser: against_rendered(features[0], features[1], real.identity)}
    return record


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--generated", required=True, help="folder of a dataset, or a generator: name or path"
    )
    parser.add_argument("--rendered", type=Path, required=True, help="people of `v2f render`")
    parser.add_argument(
        "--images", type=int, default=400, help="of each set, at most; spread over its people"
    )
    parser.add_argument(
        "--per-id", type=int, default=4, help="images of a person, where a generator makes them"
    )
    parser.add_argument("--seed", type=int, default=0, help="of vectors, perturbation and masks")
    parser.add_argument(
        "--source", help="vectors for a generator that does not say its own: a statistics file, or mini"
    )
    parser.add_argument("--frechet", metavar="RECOGNISER", help="name or path; adds about 5 ms an image")
    parser.add_argument("--json", type=Path, help="file for the whole record, profiles included")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        real = read_pictures(options.rendered, options.images)
        made = read_pictures(
            options.generated, options.images, per_id=options.per_id, seed=options.seed, source=options.source
        )
        record = measure(made, real, options.frechet)
    except V2FError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.generated}: {len(made)} images beside {len(real)} of {options.rendered}")
    print_sharpness(record)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

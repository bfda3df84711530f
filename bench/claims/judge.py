"""Acceptance of an embedded model: its people beside rendered people, judged by a second recogniser.

    python -m bench.claims.judge --judge judge.safetensors --rendered people/test
    python -m bench.claims.judge --judge judge.safetensors --model mini --ids 1000 --images 10

Protocol. The judge is a recogniser trained on rendered people who are neither the generator's, nor those of
the recogniser the generator learned from, nor those rendered here. Rendered set: `--ids` identities x
`--images` images of `--rendered-seed`, in all poses. Generated set: as many identities, sampled as
`v2f generate` samples them (the model's own statistics, no two vectors as similar as its own limit) and
perturbed with its defaults. Both go through the same judge, one feature an image, no flip. EER: all genuine
pairs, 2,000,000 drawn impostor pairs. Threshold: the cosine that image pairs of different rendered people
reach at a rate of `--fmr`, from all such pairs. Unique share: identities whose centre is above it with no
earlier one's. Faces: dlib's frontal HOG detector, then its convolutional one, on near-frontal images, picked
by a regression of yaw fitted on the rendered set (its error on held-out identities is printed).
All numbers are numbers on rendered people.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench import RESULTS, ROOT
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import ConfigError, DatasetError, MissingDependency, V2FError
from v2f_engine.evaluate.consistency import measure_consistency
from v2f_engine.evaluate.detection import FaceFinder
from v2f_engine.evaluate.features import FeatureTable, read_features
from v2f_engine.evaluate.plots import plot_histograms
from v2f_engine.evaluate.separability import Separability, calibrate, measure_separability
from v2f_engine.evaluate.yaw import YawEstimator, thumbnails
from v2f_engine.models.weights import LoadedRecogniser, load_recogniser
from v2f_engine.pipeline import Engine
from v2f_engine.vectors.sampling import sample_identities

GOALS = {
    "eer_ratio": ("<=", 1.5),
    "unique_ratio": (">=", 0.95),
    "faces_found": (">=", 0.8),
    "own_eer": ("<=", 0.03),
}
"""As the specification of `mini` asks."""
NEAR_FRONTAL = 15.0
"""Degrees of estimated yaw."""


@dataclass
class Seen:
    """What is kept of images that pass by: thumbnails, yaw where known, and every image for the detector."""

    name: str
    total: int
    small: list[NDArray[np.float32]] = field(default_factory=list)
    yaw: list[NDArray[np.float32]] = field(default_factory=list)
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    count: int = 0

    def __call__(self, batch: ImageBatch) -> None:
        self.small.append(thumbnails(batch.images))
        self.images.append(batch.images)
        if "yaw" in batch.attributes:
            self.yaw.append(np.asarray(batch.attributes["yaw"], np.float32))
        before, self.count = self.count, self.count + len(batch)
        if before * 10 // self.total != self.count * 10 // self.total:
            rate = self.count / (time.perf_counter() - self.started)
            left = (self.total - self.count) / rate
            print(f"  {self.name}: {self.count:,} images, {rate:.0f}/s, {left:.0f} s left", file=sys.stderr)

    def pick(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Images by their place in the order seen; no copy of them all."""
        ends = np.cumsum([len(images) for images in self.images])
        for row in rows.tolist():
            block = int(np.searchsorted(ends, row, side="right"))
            yield self.images[block][row - int(ends[block])]


def read_rendered(path: Path, ids: int, per_id: int) -> Iterator[ImageBatch]:
    """A dataset made by `v2f render`: identities below `ids`, images below `per_id`, with their yaw where recorded.

    Raises:
        DatasetError: fewer than that lie there.
    """
    from v2f_engine.data import open_dataset

    faces = open_dataset(path)
    table = faces.attributes()
    number = np.arange(len(faces)) - np.searchsorted(faces.labels, faces.labels)  # labels ascend
    rows = np.flatnonzero((faces.labels < ids) & (number < per_id))
    if len(rows) != ids * per_id:
        raise DatasetError(f"{path}: expected {ids} identities x {per_id} images, found {len(rows)} images.")
    yaw = table["yaw"] if table is not None and "yaw" in (table.dtype.names or ()) else None
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        attributes = {} if yaw is None else {"yaw": yaw[part]}
        yield ImageBatch(faces.images(part, threads=2), faces.labels[part], number[part], attributes)


def rendered_people(options: argparse.Namespace) -> Iterable[ImageBatch]:
    if options.rendered is not None:
        return read_rendered(options.rendered, options.ids, options.images)
    from v2f_engine.rendered import render_people

    batches: Iterable[ImageBatch] = render_people(
        options.rendered_seed, range(options.ids), options.images, processes=options.processes
    )
    return batches


def read_real(options: argparse.Namespace, referee: LoadedRecogniser, seen: Seen) -> FeatureTable:
    """The rendered set's images into `seen`, and their features."""
    if options.cache is None:
        return read_features(rendered_people(options), referee.model, bf16=options.bf16, seen=seen)
    labels = []
    for batch in rendered_people(options):
        seen(batch)
        labels.append(batch.identity)
    return FeatureTable(cached_features(options, referee, seen), np.concatenate(labels))


def cached_features(options: argparse.Namespace, loaded: LoadedRecogniser, seen: Seen) -> NDArray[np.float32]:
    """Features of the images seen; kept in `--cache` under the hash of the weights and of the images."""
    from v2f_engine.models.features import extract_features

    if options.cache is None:
        return np.concatenate(
            [extract_features(loaded.model, images, bf16=options.bf16) for images in seen.images]
        )
    digest = hashlib.sha256((loaded.sha256 + (" bf16" if options.bf16 else "")).encode())
    for images in seen.images:
        digest.update(images.tobytes())
    path = Path(options.cache) / f"{digest.hexdigest()[:32]}.npy"
    if path.is_file():
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return features
    features = np.concatenate(
        [extract_features(loaded.model, images, bf16=options.bf16) for images in seen.images]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.save(file, features)
    temporary.replace(path)
    return features


def own_eer(
    options: argparse.Namespace, loaded: LoadedRecogniser, seen: Seen, labels: NDArray[np.int64]
) -> Separability:
    """The model's own recogniser on the rendered set."""
    table = FeatureTable(cached_features(options, loaded, seen), labels)
    return measure_separability(table, threshold=calibrate(table, options.fmr).threshold)


def yaw_from(rendered: Seen) -> tuple[YawEstimator, float]:
    """(estimator fitted on all rendered images, mean error in degrees of one fitted on the first 3/4)."""
    small, yaw = np.concatenate(rendered.small), np.concatenate(rendered.yaw)
    split = len(yaw) * 3 // 4
    error = np.abs(YawEstimator.fit(small[:split], yaw[:split])(small[split:]) - yaw[split:]).mean()
    return YawEstimator.fit(small, yaw), float(error)


def faces_found(finder: FaceFinder, seen: Seen, estimator: YawEstimator, sample: int) -> dict[str, Any]:
    """How many of a spread-out sample of near-frontal images hold a face for dlib."""
    near = np.flatnonzero(np.abs(estimator(np.concatenate(seen.small))) <= NEAR_FRONTAL)
    spread = np.unique(np.linspace(0, len(near) - 1, min(sample, len(near))).astype(int))
    by = [finder(image) for image in seen.pick(near[spread])]
    return {
        "near_frontal_share": len(near) / seen.count,
        "images": len(by),
        "hog": by.count("hog") / max(1, len(by)),
        "hog_or_cnn": (len(by) - by.count("")) / max(1, len(by)),
    }


def judge(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Separability]]:
    """All measurements, and the two distributions for the picture."""
    started = time.perf_counter()
    referee = load_recogniser(options.judge)
    engine = Engine.load(options.model, precision=options.precision)
    own = load_recogniser(options.recogniser) if options.recogniser else None
    if own is not None and own.sha256 == referee.sha256:
        raise ConfigError("The judge is the model's own recogniser; give one trained on other people.")

    total = options.ids * options.images
    rendered, generated = Seen("rendered", total), Seen("generated", total)
    real = read_real(options, referee, rendered)
    limit = engine.loaded.max_cosine if options.max_cosine is None else options.max_cosine
    table = sample_identities(
        options.ids, max_cosine=limit, seed=options.seed, source=engine.loaded.statistics
    )
    made = read_features(
        engine.images(table, options.images, seed=options.seed),
        referee.model,
        bf16=options.bf16,
        seen=generated,
    )
    calibration = calibrate(real, options.fmr)
    sets = {"rendered people": real, f"generated by {engine.loaded.name}": made}
    measured = {name: measure_separability(t, threshold=calibration.threshold) for name, t in sets.items()}
    first, second = measured.values()
    results: dict[str, Any] = {
        "eer_ratio": second.eer / first.eer if first.eer else None,
        "unique_ratio": second.unique_share / first.unique_share,
    }
    sections: dict[str, Any] = {
        "rendered": {**first.to_json(), "consistency": measure_consistency(real).to_json()},
        "generated": {**second.to_json(), "consistency": measure_consistency(made).to_json()},
        "threshold": {"cosine": calibration.threshold, "fmr": calibration.fmr, "pairs": calibration.pairs},
    }
    if own is not None:
        sections["own_recogniser"] = own_eer(options, own, rendered, real.labels).to_json()
        results["own_eer"] = sections["own_recogniser"]["eer"]
    if options.faces:
        if not rendered.yaw:
            raise DatasetError(
                "The rendered blocks carry no yaw, so near-frontal images cannot be picked: --faces 0."
            )
        finder = FaceFinder.load()
        estimator, error = yaw_from(rendered)
        sections["faces"] = {
            "near_frontal_degrees": NEAR_FRONTAL,
            "yaw_error_degrees": error,
            "rendered": faces_found(finder, rendered, estimator, options.faces),
            "generated": faces_found(finder, generated, estimator, options.faces),
        }
        results["faces_found"] = sections["faces"]["generated"]["hog_or_cnn"]
    record = {
        "protocol": __doc__,
        "settings": {
            "ids": options.ids,
            "images_per_id": options.images,
            "rendered_seed": options.rendered_seed,
            "seed": options.seed,
            "max_cosine": limit,
            "judge_precision": "bf16" if options.bf16 else "fp32",
            "judge_sha256": referee.sha256,
            "engine": engine.describe(),
            "identities": table.describe(),
        },
        "results": results,
        "goals": {
            key: {"goal": f"{sign} {limit}", "met": met(key, results[key])}
            for key, (sign, limit) in GOALS.items()
            if key in results
        },
        **sections,
        "machine": machine(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    return record, measured


def met(key: str, value: float | None) -> bool | None:
    """Whether a result meets its goal; None where it cannot be told (a ratio to an error of zero)."""
    sign, limit = GOALS[key]
    if value is None:
        return None
    return bool(value <= limit if sign == "<=" else value >= limit)


def machine() -> dict[str, Any]:
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }


def print_report(record: dict[str, Any]) -> None:
    settings, threshold = record["settings"], record["threshold"]
    print(record["protocol"].strip())
    size = f"{settings['ids']:,} identities x {settings['images_per_id']}"
    print(
        f"\n{size}, threshold {threshold['cosine']:.4f} "
        f"(false-match rate {threshold['fmr']:g}, {threshold['pairs']:,} pairs), "
        f"torch {record['machine']['torch']}, commit {record['machine']['commit']}, {record['seconds']:.0f} s"
    )
    print(f"  {'':12}{'EER %':>8}{'unique %':>10}{'FNMR %':>8}{'same':>8}{'others':>8}{'own nearest %':>15}")
    for name in ("rendered", "generated"):
        m = record[name]
        print(
            f"  {name:12}{100 * m['eer']:8.2f}{100 * m['unique_share']:10.1f}"
            f"{100 * m['false_non_match_rate']:8.1f}"
            f"{m['genuine_mean']:8.3f}{m['impostor_mean']:8.3f}{100 * m['consistency']['own_nearest']:15.1f}"
        )
    if "faces" in record:
        faces = record["faces"]
        print(f"  yaw estimate off by {faces['yaw_error_degrees']:.1f} degrees on held-out rendered people")
        for name in ("rendered", "generated"):
            f = faces[name]
            print(
                f"  faces, {name}: HOG {100 * f['hog']:.1f} %, HOG or CNN {100 * f['hog_or_cnn']:.1f} % "
                f"of {f['images']} near-frontal images ({100 * f['near_frontal_share']:.0f} % of all are)"
            )
    for key, goal in record["goals"].items():
        value = record["results"][key]
        verdict = {True: "met", False: "NOT met", None: "cannot be told"}[goal["met"]]
        shown = "none" if value is None else f"{value:.4f}"
        print(f"  {key:14}{shown:>8}  goal {goal['goal']:8} {verdict}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--judge", type=Path, required=True, help="weights of the second recogniser")
    parser.add_argument("--model", default="mini", help="generator: a name or a path")
    parser.add_argument("--recogniser", default="mini", help="the model's own recogniser; '' leaves it out")
    parser.add_argument("--rendered", type=Path, help="people of `v2f render`; rendered here without it")
    parser.add_argument(
        "--cache", type=Path, help="folder that keeps features of rendered images between runs"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="recognisers in bfloat16: 2.5 times as fast on a CPU"
    )
    parser.add_argument("--rendered-seed", type=int, default=404, help="seed of the people rendered or read")
    parser.add_argument("--ids", type=int, default=1000)
    parser.add_argument("--images", type=int, default=10, help="of each identity")
    parser.add_argument("--seed", type=int, default=0, help="of vectors, perturbation and masks")
    parser.add_argument("--max-cosine", type=float, help="of two vectors; the model's own limit by default")
    parser.add_argument("--fmr", type=float, default=1e-5)
    parser.add_argument(
        "--faces", type=int, default=300, help="near-frontal images for dlib; 0 leaves it out"
    )
    parser.add_argument("--precision", default="auto", help="of the generator")
    parser.add_argument("--processes", type=int, default=2, help="for rendering")
    parser.add_argument("--out", type=Path, default=RESULTS / "cpu/judge.json", help="and .png beside")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        if options.faces:
            FaceFinder.load()  # before the long work
        record, measured = judge(options)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")
        plot_histograms(measured, options.out.with_suffix(".png"))
    except MissingDependency as error:
        print(f"{error}\nOr leave the detector out: --faces 0.", file=sys.stderr)
        return error.exit_code
    except V2FError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print_report(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())

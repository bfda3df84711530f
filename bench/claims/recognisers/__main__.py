"""The claim in miniature: rendered people play the real world, and a recogniser is trained on people of nobody.

    python -m bench.claims.recognisers --out runs/claim     # about an hour of one idle core
    python -m bench.claims.recognisers --out runs/large --device cuda \
        --identities 1000 --images 40 --steps 20000 --pairs 2000

Five sets of people, none in two of them: the extractor's (seed 101), the generator's (202), the "real" training set's
(606), the tested (505), and the generated, who do not exist. The same small recogniser is trained, for the same
number of steps, on (a) rendered "real" people, (b) generated ones, as many images, (c) generated ones of 2, 5 and 10
times as many identities, each a prefix of the largest. Accuracies are those of the ten-fold protocol on seven sets of
rendered pairs. Every stage resumes; a finished one is not repeated. With `--trainings 3` sets (a) and (b) are each
trained on from three seeds, and the gap between them has an interval; `--curve-trainings` is the same of the sets (c).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import RESULTS
from bench.claims.recognisers.emphases import EMPHASES, write_tests
from bench.claims.recognisers.picture import figure, gap, table
from v2f_engine.data import open_dataset
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.verification import open_verification_set
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import OutputFolderError, V2FError
from v2f_engine.evaluate.verification import measure_verification
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.models.weights import load_recogniser
from v2f_engine.pipeline import generate
from v2f_engine.rendered import WORLD_VERSION, render_people
from v2f_engine.train.emulated import bf16_here
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser
from v2f_engine.vectors.perturbation import Perturbation

SEEDS = {"extractor": 101, "generator": 202, "tested": 505, "real": 606, "generated": 0}
RECOGNISER = IResNetConfig(layers=(1, 2, 2, 1), widths=(32, 64, 128, 128), stem_stride=4)
TARGET_COSINES = (0.9, 0.85, 0.8)
"""Of an image's vector to its identity. Chosen among four on people of seed 707, who are in no test here; the record
says how alike to `mini`'s own extractor the images of a generated and of a rendered person are (`pair_cosine`)."""


@dataclass(frozen=True)
class Settings:
    """What decides the result.

    Args:
        identities, images: of sets (a) and (b).
        scales: how many times as many identities.
        pairs: of a test set.
        steps, batch: of every training.
        model: generator and extractor.
        trainings: seeds of the recogniser on sets (a) and (b); accuracies are means over them.
        curve_trainings: seeds on sets (c).
        cosines: of an image's vector to its identity, drawn evenly.
    """

    identities: int
    images: int
    scales: tuple[int, ...]
    pairs: int
    steps: int
    batch: int
    model: str
    trainings: int
    curve_trainings: int = 1
    cosines: tuple[float, ...] = TARGET_COSINES

    def sets(self) -> list[tuple[str, str, int, int]]:
        """(name, source, identities, trainings), first those that answer the main question."""
        n = self.identities
        largest = [("generated", s * n, self.curve_trainings) for s in sorted(self.scales, reverse=True)]
        made = [("rendered", n, self.trainings), ("generated", n, self.trainings), *largest]
        return [(f"{source} {count}", source, count, trainings) for source, count, trainings in made]


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


class Progress:
    """Says how far a stage is, every tenth, with rate and time left."""

    def __init__(self, what: str) -> None:
        self.what, self.started, self.said = what, time.monotonic(), -1

    def __call__(self, done: int, total: int) -> None:
        if done * 10 // total > self.said:
            self.said = done * 10 // total
            rate = done / max(1e-9, time.monotonic() - self.started)
            left = (total - done) / rate if rate else 0.0
            say(f"{self.what}: {done:,} of {total:,} images, {rate:.0f}/s, {left:.0f} s left")


def prepare(out: Path, settings: Settings) -> None:
    """Writes the settings, or refuses a folder that holds others."""
    path, record = out / "settings.json", {**asdict(settings), "seeds": SEEDS, "world": WORLD_VERSION}
    text = json.dumps(record, indent=2, sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise OutputFolderError(f"{path} holds other settings; give a new --out, or the options of that run.")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_sets(out: Path, settings: Settings, device: str) -> dict[str, Any]:
    """Both training sets as datasets; both resume by themselves."""
    rendered = Plan.of(settings.identities, settings.images)
    write_dataset(
        out / "sets/rendered",
        {"world": WORLD_VERSION, "seed": SEEDS["real"]},
        rendered,
        lambda ids: render_people(SEEDS["real"], ids, settings.images),
        format="lmdb",
        encoder=Encoder(),
        progress=Progress("rendered people"),
    )
    report = generate(
        settings.identities * max(settings.scales),
        settings.images,
        out / "sets/generated",
        model=settings.model,
        format="lmdb",
        seed=SEEDS["generated"],
        perturbation=Perturbation.target_cosine(*settings.cosines),
        device=device,
        progress=Progress("generated people"),
    )
    assert report.manifest is not None
    return dict(json.loads(report.manifest.read_text())["settings"])


def read_set(folder: Path, identities: int) -> MemorySet:
    """The first identities of a dataset, in memory."""
    faces = open_dataset(folder)
    rows = np.flatnonzero(faces.labels < identities)
    return MemorySet(faces.images(rows), faces.labels[rows])


def train_and_test(
    out: Path, settings: Settings, name: str, source: str, count: int, seed: int, device: str
) -> dict[str, float]:
    """One training and its accuracies in percent, by test set."""
    folder = out / "recognisers" / f"{name.replace(' ', '-')}-seed{seed}"
    result = folder / "accuracy.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    say(f"training on {name} identities, seed {seed}")
    options = RecogniserTraining(
        out=folder,
        model=RECOGNISER,
        budget=Budget(steps=settings.steps),
        batch=settings.batch,
        seed=seed,
        checkpoint_every=150,
        device=device,
        bf16=bf16_here(device),
    )
    weights = folder / "recogniser.safetensors"
    if not weights.exists():
        train_recogniser(read_set(out / "sets" / source, count), options, say=say)
    recogniser = load_recogniser(weights).model.to(device)
    accuracy = {}
    for emphasis in EMPHASES:
        measured = measure_verification(
            open_verification_set(out / "tests" / f"{emphasis.name}.bin"), recogniser
        )
        accuracy[emphasis.name] = 100 * measured.accuracy
    say(f"{name}: " + "  ".join(f"{key} {value:.2f}" for key, value in accuracy.items()))
    result.write_text(json.dumps(accuracy, indent=2))
    return accuracy


def extractor_row(out: Path, settings: Settings) -> dict[str, float]:
    """What the extractor itself reaches: it saw thousands of rendered people, so it bounds what can be expected."""
    recogniser = load_recogniser(settings.model if settings.model == "mini" else "mini").model
    tests = (open_verification_set(out / "tests" / f"{e.name}.bin") for e in EMPHASES)
    return {
        e.name: 100 * measure_verification(t, recogniser).accuracy
        for e, t in zip(EMPHASES, tests, strict=True)
    }


def intra_cosine(out: Path, source: str, people: int = 50) -> float:
    """Mean cosine of a person's image pairs through the extractor."""
    data = read_set(out / "sets" / source, people)
    features = extract_features(load_recogniser("mini").model, data.images)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = []
    for label in range(data.classes):
        rows = unit[data.labels == label]
        cosine = rows @ rows.T
        means.append(cosine[np.triu_indices(len(rows), 1)].mean())
    return float(np.mean(means))


def run(out: Path, settings: Settings, device: str, results: Path) -> dict[str, Any]:
    started = time.monotonic()
    prepare(out, settings)
    counted = out / "tests/pairs.json"
    if not counted.exists():
        counts = write_tests(out / "tests", SEEDS["tested"], settings.pairs, say)
        counted.write_text(json.dumps(counts))
    generated = make_sets(out, settings, device)
    rows: dict[str, dict[str, Any]] = {}
    record: dict[str, Any] = {
        "protocol": __doc__,
        "settings": json.loads((out / "settings.json").read_text()),
        "pairs": json.loads(counted.read_text()),
        "emphases": {e.name: e.like for e in EMPHASES},
        "recogniser": RECOGNISER.to_json(),
        "generated_by": generated,
        "pair_cosine": {source: intra_cosine(out, source) for source in ("rendered", "generated")},
        "rows": rows,
        "extractor": extractor_row(out, settings),
        "machine": {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": device,
            "bf16": bf16_here(device),
        },
    }
    for name, source, count, trainings in settings.sets():
        runs = [train_and_test(out, settings, name, source, count, seed, device) for seed in range(trainings)]
        mean = {key: float(np.mean([one[key] for one in runs])) for key in runs[0]}
        average = float(np.mean(list(mean.values())))
        rows[name] = {
            "source": source,
            "identities": count,
            "images": count * settings.images,
            "accuracy": mean,
            "average": average,
            "averages": [float(np.mean(list(one.values()))) for one in runs],
        }
        record["seconds_of_this_call"] = round(time.monotonic() - started, 1)
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(record, indent=2) + "\n")
        figure(record, results.with_suffix(".png"))
    return record


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/claim"))
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--scales", default="2,5,10")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--trainings", type=int, default=1, help="seeds on the sets of equal size")
    parser.add_argument("--curve-trainings", type=int, default=1, help="seeds on each larger set")
    parser.add_argument(
        "--cosines", default=",".join(map(str, TARGET_COSINES)), help="of image vectors to their identity"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS / "cpu/claim.json", help="and .png")
    options = parser.parse_args(argv)
    settings = Settings(
        options.identities,
        options.images,
        tuple(int(part) for part in options.scales.split(",")),
        options.pairs,
        options.steps,
        options.batch,
        options.model,
        options.trainings,
        options.curve_trainings,
        tuple(float(part) for part in options.cosines.split(",")),
    )
    try:
        record = run(options.out, settings, options.device, options.results)
    except V2FError as error:
        print(f"error ({type(error).__name__}): {error}", file=sys.stderr)
        return error.exit_code
    print(table(record))
    print(gap(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The stages that every claim in miniature shares: rendered people, a training, its accuracies; each resumes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.claims.recognisers.emphases import EMPHASES, write_tests
from v2f_engine.data import open_dataset
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.verification import open_verification_set
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import OutputFolderError
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.verification import measure_verification
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNetConfig
from v2f_engine.models.weights import load_recogniser
from v2f_engine.rendered import WORLD_VERSION, render_people
from v2f_engine.train.emulated import bf16_here
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser

SEEDS = {"extractor": 101, "generator": 202, "tested": 505, "real": 606, "generated": 0}
RECOGNISER = IResNetConfig(layers=(1, 2, 2, 1), widths=(32, 64, 128, 128), stem_stride=4)


@dataclass(frozen=True)
class Recipe:
    """Of every training.

    Args:
        steps, batch: how long, and how many images a step.
        device: where.
    """

    steps: int
    batch: int
    device: str = "cpu"


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


def prepare(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the settings with seeds and world to a file, or refuses one that holds others; returns them."""
    record = {**settings, "seeds": SEEDS, "world": WORLD_VERSION}
    text = json.dumps(record, indent=2, sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise OutputFolderError(f"{path} holds other settings; give a new --out, or the options of that run.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return dict(json.loads(text))


def written_tests(out: Path, pairs: int) -> dict[str, int]:
    """Pairs by test set, which lie in `out`/tests afterwards."""
    counted = out / "tests/pairs.json"
    if not counted.exists():
        counted.write_text(json.dumps(write_tests(out / "tests", SEEDS["tested"], pairs, say)))
    return dict(json.loads(counted.read_text()))


def rendered_set(out: Path, identities: int, images: int) -> None:
    """The "real" training set in `out`/sets/rendered."""
    write_dataset(
        out / "sets/rendered",
        {"world": WORLD_VERSION, "seed": SEEDS["real"]},
        Plan.of(identities, images),
        lambda ids: render_people(SEEDS["real"], ids, images),
        format="lmdb",
        encoder=Encoder(),
        progress=Progress("rendered people"),
    )


def read_set(folder: Path, identities: int) -> MemorySet:
    """The first identities of a dataset, in memory."""
    faces = open_dataset(folder)
    rows = np.flatnonzero(faces.labels < identities)
    return MemorySet(faces.images(rows), faces.labels[rows])


def accuracy_file(out: Path, name: str, seed: int) -> Path:
    """Where a training's accuracies are kept, beside its weights."""
    return out / "recognisers" / f"{name.replace(' ', '-')}-seed{seed}" / "accuracy.json"


def train_and_test(
    out: Path, recipe: Recipe, name: str, source: str, count: int, seed: int
) -> dict[str, float]:
    """One training and its accuracies in percent, by test set."""
    result = accuracy_file(out, name, seed)
    folder = result.parent
    if result.exists():
        return dict(json.loads(result.read_text()))
    say(f"training on {name} identities, seed {seed}")
    options = RecogniserTraining(
        out=folder,
        model=RECOGNISER,
        budget=Budget(steps=recipe.steps),
        batch=recipe.batch,
        seed=seed,
        checkpoint_every=150,
        device=recipe.device,
        bf16=bf16_here(recipe.device),
    )
    weights = folder / "recogniser.safetensors"
    if not weights.exists():
        train_recogniser(read_set(out / "sets" / source, count), options, say=say)
    recogniser = load_recogniser(weights).model.to(recipe.device)
    accuracy = {}
    for emphasis in EMPHASES:
        measured = measure_verification(
            open_verification_set(out / "tests" / f"{emphasis.name}.bin"), recogniser
        )
        accuracy[emphasis.name] = 100 * measured.accuracy
    say(f"{name}: " + "  ".join(f"{key} {value:.2f}" for key, value in accuracy.items()))
    result.write_text(json.dumps(accuracy, indent=2))
    return accuracy


def extractor_row(out: Path) -> dict[str, float]:
    """What the extractor itself reaches: it saw thousands of rendered people, so it bounds what can be expected."""
    recogniser = load_recogniser("mini").model
    tests = (open_verification_set(out / "tests" / f"{e.name}.bin") for e in EMPHASES)
    return {
        e.name: 100 * measure_verification(t, recogniser).accuracy
        for e, t in zip(EMPHASES, tests, strict=True)
    }


def average_row(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Accuracies of trainings that differ in their seed alone, as a row of a record."""
    mean = {key: float(np.mean([one[key] for one in runs])) for key in runs[0]}
    averages = [float(np.mean(list(one.values()))) for one in runs]
    return {"accuracy": mean, "average": float(np.mean(averages)), "averages": averages}


def machine(device: str) -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device,
        "bf16": bf16_here(device),
    }


def own_features(out: Path, source: str, people: int | None = None) -> FeatureTable:
    """Features of a set's images through `mini`'s extractor."""
    count = np.iinfo(np.int64).max if people is None else people
    data = read_set(out / "sets" / source, count)
    return FeatureTable(extract_features(load_recogniser("mini").model, data.images), data.labels)


def intra_cosine(table: FeatureTable) -> float:
    """Mean cosine of a person's image pairs."""
    unit = table.features / np.linalg.norm(table.features, axis=1, keepdims=True)
    means = []
    for label in np.unique(table.labels):
        rows = unit[table.labels == label]
        cosine = rows @ rows.T
        means.append(cosine[np.triu_indices(len(rows), 1)].mean())
    return float(np.mean(means))

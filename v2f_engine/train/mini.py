"""Retrains the embedded model from nothing, as one command: `python -m v2f_engine.train.mini`.

    render people -> train a recogniser on some -> features of others -> train the generator on those -> embed

The three sets of people have disjoint seeds: features of people that a recogniser was trained on collapse to
one point a person, and a generator that learns from those draws one picture of each.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from v2f_engine.models.features import extract_features
from v2f_engine.rendered import WORLD_VERSION, render_people
from v2f_engine.train.embed import embed
from v2f_engine.train.generator import GeneratorTraining, train_generator
from v2f_engine.train.loop import Budget
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser
from v2f_engine.train.training_set import TrainingSet

SEEDS = {"recogniser": 101, "generator": 202}
"""Seeds of the people each network learns from; 303 and 404 belong to the judge and the test."""


def rendered_set(seed: int, identities: int, images: int, processes: int) -> TrainingSet:
    """People of one seed, held in memory."""
    print(f"rendering {identities} x {images} people of seed {seed}", file=sys.stderr)  # noqa: T201
    return TrainingSet.of(render_people(seed, range(identities), images, processes))


def main() -> None:
    """Runs the whole chain; both trainings resume from their checkpoints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="checkpoints, logs, sample grids")
    parser.add_argument("--assets", type=Path, default=Path(__file__).parents[1] / "assets" / "mini")
    parser.add_argument("--identities", type=int, default=2500, help="people of each set")
    parser.add_argument("--images", type=int, default=16, help="images of each person")
    parser.add_argument("--processes", type=int, default=2, help="render processes")
    parser.add_argument("--recogniser-minutes", type=float, default=21.0)
    parser.add_argument("--generator-minutes", type=float, default=27.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    people = rendered_set(SEEDS["recogniser"], options.identities, options.images, options.processes)
    reading = RecogniserTraining(
        out=options.out / "recogniser",
        budget=Budget(minutes=options.recogniser_minutes),
        device=options.device,
    )
    recogniser = train_recogniser(people, reading)
    others = rendered_set(SEEDS["generator"], options.identities, options.images, options.processes)
    others = replace(others, features=extract_features(recogniser, others.images))
    drawing = GeneratorTraining(
        out=options.out / "generator", budget=Budget(minutes=options.generator_minutes), device=options.device
    )
    train_generator(others, recogniser, drawing)
    told = {
        "world": WORLD_VERSION,
        "seeds": SEEDS,
        "people": {"identities": options.identities, "images": options.images},
        "recogniser_training": {k: str(v) for k, v in asdict(reading).items()},
        "generator_training": drawing.to_json(),
    }
    measured = embed(
        options.assets,
        drawing.out / "generator.safetensors",
        reading.out / "recogniser.safetensors",
        others,
        told,
    )
    print(f"embedded in {options.assets}: {measured}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()

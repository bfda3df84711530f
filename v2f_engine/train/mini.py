"""Retrains the embedded model from nothing, as one command: `python -m v2f_engine.train.mini`.

    render people -> recogniser on some of them, then on all -> features of others -> generator on those -> embed
    -> pose model on that generator -> embed

The sets of people have disjoint seeds: features of people that a recogniser was trained on collapse to one
point a person, and a generator that learns from those draws one picture of each. The recogniser learns in two
stages, the second with more people and a head started at their centres: a head of 2,500 random classes takes
most of a short training to find its place. Rendered people are kept on disk and both trainings resume.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from v2f_engine.data.records.plan import Plan
from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.training.training_set import open_training_set
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.weights import load_generator, load_recogniser
from v2f_engine.rendered import WORLD_VERSION, render_people
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.embed import embed, embed_pose
from v2f_engine.train.generator import GeneratorTraining, train_generator
from v2f_engine.train.held_out import hold_out
from v2f_engine.train.loop import Budget
from v2f_engine.train.pose import PoseTraining, train_pose
from v2f_engine.train.pose_data import read_pose_data
from v2f_engine.train.pose_persons import persons
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser

SEEDS = {"recogniser": 101, "generator": 202}
"""Seeds of the people each network learns from; 303 and 404 belong to the judge and the test."""


def rendered_set(folder: Path, seed: int, identities: int, images: int, processes: int) -> MemorySet:
    """People of one seed, rendered into `folder` unless they are there, held in memory."""
    print(f"rendering {identities} x {images} people of seed {seed}", file=sys.stderr)  # noqa: T201
    write_dataset(
        folder,
        {"world": WORLD_VERSION, "seed": seed},
        Plan.of(identities, images),
        lambda chosen: render_people(seed, range(chosen.start, chosen.stop), images, processes),
        format="lmdb",
        encoder=Encoder(codec="png"),
    )
    return MemorySet.load(open_training_set(folder, with_features=False))


def read_recogniser(people: MemorySet, o: argparse.Namespace) -> tuple[IResNet, list[RecogniserTraining]]:
    """The two stages; the trained network and their settings."""
    first = RecogniserTraining(
        out=o.out / "recogniser-1",
        budget=Budget(minutes=o.recogniser_minutes[0]),
        seed=o.seed,
        device=o.device,
        start_from=o.recogniser_from,
    )
    few = max(2, round(0.6 * people.classes))
    train_recogniser(people.take([int(row) for row in (people.labels < few).nonzero()[0]]), first)
    second = replace(
        first,
        out=o.out / "recogniser",
        budget=Budget(minutes=o.recogniser_minutes[1]),
        lr=1e-3,
        m=0.15,
        seed=o.seed + 1,
        start_from=first.out / "recogniser.safetensors",
    )
    return train_recogniser(people, second), [first, second]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="people, checkpoints, samples")
    parser.add_argument("--assets", type=Path, default=Path(__file__).parents[1] / "assets" / "mini")
    parser.add_argument("--identities", type=int, default=2500, help="people of each set")
    parser.add_argument("--images", type=int, default=16, help="images of each person")
    parser.add_argument("--held-out", type=int, default=10, help="people kept for validation and samples")
    parser.add_argument("--processes", type=int, default=2, help="render processes")
    parser.add_argument(
        "--recogniser-minutes", type=float, nargs=2, default=(15.0, 6.0), help="of the two stages"
    )
    parser.add_argument("--recogniser-from", type=Path, help="weights that the first stage goes on from")
    parser.add_argument("--recogniser", type=Path, help="finished weights: none is trained")
    parser.add_argument("--generator-minutes", type=float, default=27.0)
    parser.add_argument("--generator-from", type=Path, help="weights that the generator goes on from")
    parser.add_argument("--pose-minutes", type=float, default=25.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--base-lr", type=float, default=4.9e-3)
    parser.add_argument("--watch-every", type=int, default=400, help="steps")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Runs the whole chain; what is finished is not done again."""
    o = options(arguments)
    weights = o.recogniser or o.out / "recogniser" / "recogniser.safetensors"
    stages: list[RecogniserTraining] = []
    if o.recogniser is None:
        people = rendered_set(
            o.out / "people-recogniser", SEEDS["recogniser"], o.identities, o.images, o.processes
        )
        recogniser, stages = read_recogniser(people, o)
    else:
        recogniser = load_recogniser(o.recogniser).model.to(o.device)
    everyone = rendered_set(
        o.out / "people-generator", SEEDS["generator"], o.identities, o.images, o.processes
    )
    everyone = replace(everyone, features=extract_features(recogniser, everyone.images, bf16=True))
    others, held_out = hold_out(everyone, o.held_out)
    drawing = GeneratorTraining(
        out=o.out / "generator",
        budget=Budget(minutes=o.generator_minutes),
        batch=o.batch,
        base_lr=o.base_lr,
        picture_every=o.watch_every,
        seed=o.seed + 22,
        device=o.device,
        start_from=o.generator_from,
    )
    train_generator(others, recogniser, drawing, held_out)
    card = training_card(o, stages, drawing)
    measured = embed(o.assets, drawing.out / "generator.safetensors", weights, others, card)
    posing = PoseTraining(o.out / "pose", Budget(minutes=o.pose_minutes), o.batch, lr=1e-3, seed=o.seed + 44)
    data = persons(read_pose_data(o.out / "people-generator", recogniser), o.seed)
    base = load_generator(drawing.out / "generator.safetensors").model
    train_pose(data, base, recogniser, posing, Ranks(device=o.device))
    embed_pose(o.assets, posing.out / "pose.safetensors", {"world": WORLD_VERSION, "seeds": SEEDS})
    print(f"embedded in {o.assets}: {measured}", file=sys.stderr)  # noqa: T201


def training_card(
    o: argparse.Namespace, stages: list[RecogniserTraining], drawing: GeneratorTraining
) -> dict[str, Any]:
    """What the card says of the training."""
    return {
        "world": WORLD_VERSION,
        "seeds": SEEDS,
        "people": {"identities": o.identities, "images": o.images, "held_out": o.held_out},
        "recogniser_training": [{k: str(v) for k, v in asdict(stage).items()} for stage in stages],
        "generator_training": drawing.to_json(),
    }


if __name__ == "__main__":
    main()

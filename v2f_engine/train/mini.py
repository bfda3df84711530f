"""Retrains the embedded model from nothing, as one command: `python -m v2f_engine.train.mini`.

    render people -> extractor on some of them, then on all -> a second recogniser of another stem
                  -> features of others -> generator on those, watched by both -> embed
                  -> pose model on that generator -> embed

The sets of people have disjoint seeds: features of people that a recogniser was trained on collapse to one
point a person, and a generator that learns from those draws one picture of each. The extractor learns in two
stages, the second with more people and a head started at their centres: a head of 2,500 random classes takes
most of a short training to find its place. The second also holds an image's feature steady under what hardening
adds (`steady`): eight minutes of it took the worst cosine under stripes from 0.961 to 0.982 and the EER on unseen
people from 1.38 to 1.34 %. Meanwhile the generator's people are rendered on the other cores. Rendered people are kept
on disk and all trainings resume.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from v2f_engine.data.records.plan import Plan
from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.training.training_set import open_training_set
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.models.features import extract_features
from v2f_engine.models.file_hash import file_sha256
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.weights import load_generator, load_recogniser
from v2f_engine.rendered import RENDERERS, WORLD_VERSION, render_people
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.embed import embed, embed_pose
from v2f_engine.train.emulated import bf16_here
from v2f_engine.train.generator import GeneratorTraining, train_generator
from v2f_engine.train.held_out import hold_out
from v2f_engine.train.loop import Budget
from v2f_engine.train.pose import PoseTraining, train_pose, with_learned_lora
from v2f_engine.train.pose_data import read_pose_data
from v2f_engine.train.pose_persons import persons
from v2f_engine.train.recogniser import RecogniserTraining, train_recogniser

SEEDS = {"recogniser": 101, "generator": 202}
"""Seeds of the people each network learns from; 303 and 404 belong to the judge and the test."""
SECOND = IResNetConfig(layers=(1, 1, 1, 1), widths=(16, 32, 64, 128), stem_stride=1, blur=True)
"""The generator's second judge: its stem sees every pixel, where the extractor's sees every other one."""
SECOND_PEOPLE, SECOND_WEIGHT = 0.5, 0.1
STEADY = 6.0
RECOGNISER_SHARES = (0.24, 0.10)
SHARES = {"second": 0.10, "generator": 0.46, "pose": 0.10}
"""Of `--minutes`."""


def rendered_set(
    folder: Path,
    seed: int,
    identities: int,
    images: int,
    processes: int,
    renderer: str = RENDERERS[0],
    device: str = "cpu",
) -> MemorySet:
    """People of one seed, rendered into `folder` unless they are there, held in memory.

    A set that was begun with one renderer is refused to the other: their pictures differ by a grey level somewhere.
    """
    print(f"rendering {identities} x {images} people of seed {seed}", file=sys.stderr)  # noqa: T201
    write_dataset(
        folder,
        {"world": WORLD_VERSION, "seed": seed} | ({} if renderer == RENDERERS[0] else {"renderer": renderer}),
        Plan.of(identities, images),
        lambda chosen: render_people(
            seed, range(chosen.start, chosen.stop), images, processes, renderer=renderer, device=device
        ),
        format="lmdb",
        encoder=Encoder(codec="png"),
    )
    return MemorySet.load(open_training_set(folder, with_features=False))


def read_recogniser(people: MemorySet, o: argparse.Namespace) -> tuple[IResNet, list[RecogniserTraining]]:
    """The extractor in its two stages; the trained network and their settings."""
    first = RecogniserTraining(
        out=o.out / "recogniser-1",
        budget=Budget(minutes=o.recogniser_minutes[0]),
        batch=o.recogniser_batch,
        augment="hardened",
        seed=o.seed,
        device=o.device,
        bf16=o.bf16,
        start_from=o.recogniser_from,
    )
    train_recogniser(_first_people(people, 0.6), first)
    second = replace(
        first,
        out=o.out / "recogniser",
        budget=Budget(minutes=o.recogniser_minutes[1]),
        lr=1e-3,
        m=0.2,
        steady=STEADY,
        seed=o.seed + 1,
        start_from=first.out / "recogniser.safetensors",
    )
    return train_recogniser(people, second), [first, second]


def read_second(people: MemorySet, o: argparse.Namespace) -> RecogniserTraining:
    """Trains the second judge; its settings."""
    settings = RecogniserTraining(
        out=o.out / "second",
        model=SECOND,
        budget=Budget(minutes=o.second_minutes),
        batch=o.recogniser_batch,
        lr=2e-3,
        m=0.1,
        augment="hardened",
        seed=o.seed + 20,
        device=o.device,
        bf16=o.bf16,
    )
    train_recogniser(_first_people(people, SECOND_PEOPLE), settings)
    return settings


def _first_people(people: MemorySet, share: float) -> MemorySet:
    few = max(2, round(share * people.classes))
    return people.take([int(row) for row in (people.labels < few).nonzero()[0]])


def draw_generator(
    people: MemorySet, held_out: MemorySet, recogniser: IResNet, second: Path, o: argparse.Namespace
) -> GeneratorTraining:
    """Trains the generator; its settings."""
    recipe = GeneratorTraining.named("sharp", o.out / "generator")
    settings = replace(
        recipe,
        budget=Budget(minutes=o.generator_minutes),
        batch=o.batch,
        base_lr=o.base_lr,
        picture_every=o.watch_every,
        seed=o.seed + 22,
        device=o.device,
        bf16=o.bf16,
        start_from=o.generator_from,
        second=second,
        weights=replace(recipe.loss_weights, second=SECOND_WEIGHT),
    )
    train_generator(people, recogniser, settings, held_out)
    return settings


def turn_generator(generator: Path, recogniser: IResNet, o: argparse.Namespace) -> Path:
    """Trains the pose model of a generator, on the people it learned from; its weights."""
    settings = PoseTraining(
        o.out / "pose",
        Budget(minutes=o.pose_minutes),
        o.batch,
        lr=1e-3,
        seed=o.seed + 44,
        bf16=o.bf16,
    )
    data = persons(read_pose_data(o.out / "people-generator", recogniser), o.seed)
    base, pose = load_generator(generator).model, None
    if o.pose_from is not None:
        earlier = load_generator(o.pose_from)
        base, pose = with_learned_lora(base, earlier.model), earlier.pose
        settings = replace(settings, rank=base.config.lora_rank, alpha=base.config.lora_alpha)
    train_pose(data, base, recogniser, settings, Ranks(device=o.device), pose)
    return settings.out / "pose.safetensors"


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; what depends on the device or on `--minutes` is filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="people, checkpoints, samples")
    parser.add_argument("--assets", type=Path, default=Path(__file__).parents[1] / "assets" / "mini")
    parser.add_argument("--identities", type=int, default=2500, help="people of each set")
    parser.add_argument("--images", type=int, default=16, help="images of each person")
    parser.add_argument("--held-out", type=int, default=10, help="people kept for validation and samples")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="render processes")
    parser.add_argument(
        "--renderer", choices=RENDERERS, default=RENDERERS[0], help="torch: people are drawn on --device"
    )
    parser.add_argument("--minutes", type=float, help="of all trainings together, instead of each one's own")
    parser.add_argument(
        "--recogniser-minutes", type=float, nargs=2, default=(60.0, 25.0), help="its two stages"
    )
    parser.add_argument("--recogniser-from", type=Path, help="weights that the first stage goes on from")
    parser.add_argument("--recogniser", type=Path, help="finished weights of the extractor: none is trained")
    parser.add_argument("--second-minutes", type=float, default=20.0)
    parser.add_argument("--second", type=Path, help="finished weights of the second judge: none is trained")
    parser.add_argument("--generator-minutes", type=float, default=220.0)
    parser.add_argument("--generator-from", type=Path, help="weights that the generator goes on from")
    parser.add_argument("--pose-minutes", type=float, default=25.0)
    parser.add_argument("--pose-from", type=Path, help="an earlier pose model: LoRA and pose network go on")
    parser.add_argument("--batch", type=int, help="of generator and pose model: 16 on a CPU, 256 on a GPU")
    parser.add_argument("--recogniser-batch", type=int, help="64 on a CPU, 512 on a GPU")
    parser.add_argument(
        "--base-lr", type=float, help="of the generator, for 112 images: 2.8e-3; 7e-4 on a GPU"
    )
    parser.add_argument("--watch-every", type=int, default=400, help="steps")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    o = parser.parse_args(arguments)
    large = torch.device(o.device).type == "cuda"
    o.batch = o.batch or (256 if large else 16)
    o.recogniser_batch = o.recogniser_batch or (512 if large else 64)
    o.base_lr = o.base_lr or (7e-4 if large else 2.8e-3)
    o.bf16 = bf16_here(o.device)
    if o.minutes is not None:
        o.recogniser_minutes = tuple(o.minutes * share for share in RECOGNISER_SHARES)
        for name, share in SHARES.items():
            setattr(o, f"{name}_minutes", o.minutes * share)
    return o


def main(arguments: list[str] | None = None) -> None:
    """Runs the whole chain; what is finished is not done again."""
    o = options(arguments)
    weights = o.recogniser or o.out / "recogniser" / "recogniser.safetensors"
    second = o.second or o.out / "second" / "recogniser.safetensors"
    stages: list[RecogniserTraining] = []
    people: MemorySet | None = None
    if o.recogniser is None or o.second is None:
        people = _people(o, "recogniser")
    with ThreadPoolExecutor(1, "rendering") as beside:
        coming: Future[MemorySet] = beside.submit(_people, o, "generator")
        if o.recogniser is None:
            assert people is not None
            recogniser, stages = read_recogniser(people, o)
        else:
            recogniser = load_recogniser(o.recogniser).model.to(o.device)
        if o.second is None:
            assert people is not None
            stages.append(read_second(people, o))
        everyone = coming.result()
    everyone = replace(everyone, features=extract_features(recogniser, everyone.images, bf16=o.bf16))
    others, held_out = hold_out(everyone, o.held_out)
    drawing = draw_generator(others, held_out, recogniser, second, o)
    card = training_card(o, stages, drawing)
    measured = embed(o.assets, drawing.out / "generator.safetensors", weights, others, card)
    posed = turn_generator(drawing.out / "generator.safetensors", recogniser, o)
    about: dict[str, Any] = {"world": WORLD_VERSION, "seeds": SEEDS}
    if o.pose_from is not None:
        about["went_on_from"] = {"sha256": file_sha256(o.pose_from)}
    embed_pose(o.assets, posed, about)
    print(f"embedded in {o.assets}: {measured}", file=sys.stderr)  # noqa: T201


def _people(o: argparse.Namespace, network: str) -> MemorySet:
    folder, where = o.out / f"people-{network}", "cpu" if o.renderer == RENDERERS[0] else o.device
    return rendered_set(folder, SEEDS[network], o.identities, o.images, o.processes, o.renderer, where)


def training_card(
    o: argparse.Namespace, stages: list[RecogniserTraining], drawing: GeneratorTraining
) -> dict[str, Any]:
    """What the card says of the training."""
    return {
        "date": date.today().isoformat(),
        "world": WORLD_VERSION,
        "seeds": SEEDS,
        "people": {"identities": o.identities, "images": o.images, "held_out": o.held_out},
        "recogniser_training": [{k: str(v) for k, v in asdict(stage).items()} for stage in stages],
        "generator_training": drawing.to_json(),
    }


if __name__ == "__main__":
    main()

"""Does steering do what was asked, by judges that learned from other people? A measurement, a sheet, a figure.

    python -m bench.claims.steering --judge judge/recogniser.safetensors --judge-pose judge_pose.safetensors \
        --judge-quality judge_quality.safetensors --ids 12

Protocol. `--ids` identities are sampled as `v2f generate` samples them; each gets one image a yaw target, started
from bench import RESULTS
from its default perturbation. The embedded pose estimator steers; another estimator, of another shape and trained
on other rendered people (`v2f train estimator pose --judge`), says what was reached. Identity: cosine of the
judge recogniser's feature to the mean of `--centre-images` unsteered images of that identity, beside that of the
unsteered images that steering started from. Quality: the same unsteered images steered to `--quality` points,
judged by another quality estimator before and after. All numbers are numbers on rendered people.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bench import RESULTS
from v2f_engine.attributes.control import AttributeControl, Control
from v2f_engine.attributes.estimators import load_estimator
from v2f_engine.attributes.goals import Goal
from v2f_engine.attributes.targets import Verdict
from v2f_engine.models import landmarks
from v2f_engine.models.features import extract_features, to_network
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.weights import load_recogniser
from v2f_engine.options import ImageOptions
from v2f_engine.pipeline import Engine
from v2f_engine.pipeline.draws import Draw, Draws
from v2f_engine.pipeline.makers.posed import MASKS, NOISE, PoseCondition
from v2f_engine.vectors.sampling import sample_identities

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
CENTRE_FROM = 1000
"""Image numbers of the unsteered images that make a centre."""


def unsteered(engine: Engine, draws: Draws, identity: Any, image: Any) -> tuple[Images, Draw]:
    """Images as the plain way makes them, and their draws."""
    draw = draws.at(identity, image)
    return engine.plain(draw).images, draw


@torch.inference_mode()
def judged(estimator: torch.nn.Module, images: Images) -> Floats:
    parts = [estimator(to_network(torch.from_numpy(images[i : i + 64]))) for i in range(0, len(images), 64)]
    return torch.cat(parts)[:, 0].numpy()


def unit(features: Floats) -> Floats:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def sheet(path: Path, images: Images, columns: list[str]) -> None:
    """Rows of identities, a column a target, its label above."""
    width, rows = len(columns), len(images) // len(columns)
    grid = (
        images.reshape(rows, width, 112, 112, 3).transpose(0, 2, 1, 3, 4).reshape(rows * 112, width * 112, 3)
    )
    page = Image.new("RGB", (width * 112, rows * 112 + 20), "white")
    page.paste(Image.fromarray(grid), (0, 20))
    draw = ImageDraw.Draw(page)
    for number, label in enumerate(columns):
        draw.text((number * 112 + 56, 10), label, fill="black", anchor="mm")
    page.save(path)


def steer(control: Control, draw: Draw, goals: dict[str, Floats], centres: Floats) -> tuple[Any, float]:
    start = time.perf_counter()
    names = tuple(attribute.name for attribute in control.attributes)
    said = lambda done, total: print(f"  steered {done}/{total}", file=sys.stderr)  # noqa: E731
    made = control.steerer(names)(*draw.inputs, goals, centres, progress=said)
    return made, time.perf_counter() - start


class YawTask:
    """The images to be turned, what they are turned from, and the judges of what became of them."""

    def __init__(self, options: argparse.Namespace, engine: Engine, vectors: Floats) -> None:
        self.options, self.engine, self.vectors = options, engine, vectors
        self.draws = Draws.of(vectors, ImageOptions(1, options.seed), engine.masks)
        self.targets = [float(part) for part in options.yaw.split(",")]
        count = len(vectors)
        self.identity = np.repeat(np.arange(count), len(self.targets))
        image = np.tile(np.arange(len(self.targets)), count)
        self.goal = np.tile(np.asarray(self.targets, np.float32), count)
        self.plain, self.draw = unsteered(engine, self.draws, self.identity, image)
        many = np.repeat(np.arange(count), options.centre_images)
        numbers = CENTRE_FROM + np.tile(np.arange(options.centre_images), count)
        centre_images, _ = unsteered(engine, self.draws, many, numbers)
        self.pose = load_estimator(options.judge_pose).model
        self.referee = load_recogniser(options.judge).model
        features = unit(extract_features(self.referee, centre_images))
        self.centre = unit(features.reshape(count, options.centre_images, -1).mean(1))[self.identity]
        self.near = self.cosine(self.plain)

    def cosine(self, images: Images) -> Floats:
        """Of each image's feature and its identity's centre."""
        seen = unit(extract_features(self.referee, images))
        return np.asarray(np.einsum("nd,nd->n", seen, self.centre), np.float32)

    def result(self, name: str, images: Images, seconds: float) -> dict[str, Any]:
        """What the judges say of images, in the order of the goals; the sheet goes beside."""
        found, near = judged(self.pose, images), self.cosine(images)
        sheet(self.options.out / f"{name}.png", images, [f"yaw {t:+.0f}" for t in self.targets])
        record: dict[str, Any] = {
            "images": len(images),
            "mean_absolute_error": float(np.abs(found - self.goal).mean()),
            "identity_cosine": float(near.mean()),
            "identity_cosine_unsteered": float(self.near.mean()),
            "seconds": seconds,
            "images_per_second": len(images) / seconds,
            "by_target": [],
        }
        for target in self.targets:
            mine = self.goal == target
            record["by_target"].append(
                {
                    "yaw": target,
                    "reached_mean": float(found[mine].mean()),
                    "reached_std": float(found[mine].std()),
                    "mean_absolute_error": float(np.abs(found[mine] - target).mean()),
                    "identity_cosine": float(near[mine].mean()),
                    "identity_cosine_unsteered": float(self.near[mine].mean()),
                }
            )
        return record

    def steering(self) -> dict[str, Any]:
        """By gradient, image by image."""
        options = self.options
        asked = AttributeControl(
            {"yaw": Goal.of(options.yaw)},
            iterations=options.iterations,
            tolerance={"yaw": options.tolerance},
            min_cosine=options.min_cosine,
        )
        maker: Any = self.engine.control(asked).maker
        kept = maker.before.references(self.draws)
        made, seconds = steer(maker.control, self.draw, {"yaw": self.goal}, kept[self.identity])
        return {
            **self.result("steering", made.images, seconds),
            "own_estimator_error": float(np.abs(made.values["yaw"] - self.goal).mean()),
            "verdicts": {v.name: int((made.verdicts == v).sum()) for v in Verdict},
            "mean_iterations": float(made.iterations.mean()),
            "iterations_per_second": float(made.iterations.sum() / seconds),
        }

    def pose_model(self) -> dict[str, Any]:
        """By the pose model: one pass an image, drawn as `v2f generate --by pose-model` draws."""
        engine = Engine.load(self.options.pose_model, precision=self.options.precision)
        condition = engine.control(PoseCondition({"yaw": Goal.of(self.options.yaw)}))
        start = time.perf_counter()
        pictures = landmarks.draw(landmarks.project(self.goal, np.zeros_like(self.goal)))
        images = ImageOptions(1, self.options.seed, NOISE)
        draws = Draws.of(self.vectors, images, MASK_SCHEDULES[MASKS])
        image = np.tile(np.arange(len(self.targets)), len(self.vectors))
        made = condition(draws.at(self.identity, image).noting({}, pictures=pictures)).images
        return self.result("pose-model", made, time.perf_counter() - start)


def measure_yaw(options: argparse.Namespace, engine: Engine, vectors: Floats) -> dict[str, Any]:
    task = YawTask(options, engine, vectors)
    sheet(options.out / "steering-before.png", task.plain, [f"before {t:+.0f}" for t in task.targets])
    before = float(np.abs(judged(task.pose, task.plain) - task.goal).mean())
    record = {"yaw": {"mean_absolute_error_before": before, **task.steering()}}
    if options.pose_model is not None:
        record["pose_model"] = task.pose_model()
    figure(options.out / "steering-figure.png", record)
    return record


def figure(path: Path, record: dict[str, Any]) -> None:
    """Yaw reached against yaw asked, and identity kept, a line for each way."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(9, 3.8), layout="constrained")
    reached, kept = page.subplots(1, 2)
    for name, label in (("yaw", "steering"), ("pose_model", "pose model")):
        if name not in record:
            continue
        rows, rate = record[name]["by_target"], record[name]["images_per_second"]
        asked = [row["yaw"] for row in rows]
        reached.errorbar(
            asked,
            [row["reached_mean"] for row in rows],
            [row["reached_std"] for row in rows],
            marker="o",
            capsize=3,
            label=f"{label}, {rate:.1f} images/s",
        )
        kept.plot(asked, [row["identity_cosine"] for row in rows], marker="o", label=label)
    rows = record["yaw"]["by_target"]
    asked = [row["yaw"] for row in rows]
    reached.plot(asked, asked, "k:", linewidth=1, label="asked")
    kept.plot(asked, [row["identity_cosine_unsteered"] for row in rows], "k:", label="unsteered")
    reached.set(xlabel="yaw asked, degrees", ylabel="yaw by an independent estimator, degrees")
    kept.set(xlabel="yaw asked, degrees", ylabel="cosine to the identity's centre, by a judge")
    for axes in (reached, kept):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    page.savefig(path, dpi=110)


def measure_quality(options: argparse.Namespace, engine: Engine, vectors: Floats) -> dict[str, Any]:
    count = len(vectors)
    identity = np.repeat(np.arange(count), options.quality_images)
    image = np.tile(np.arange(options.quality_images), count)
    draws = Draws.of(vectors, ImageOptions(1, options.seed), engine.masks)
    plain, draw = unsteered(engine, draws, identity, image)
    asked = AttributeControl(
        {"quality": options.quality}, iterations=options.iterations, min_cosine=options.min_cosine
    )
    maker: Any = engine.control(asked).maker
    goal = np.full(len(identity), options.quality, np.float32)
    kept = maker.before.references(draws)[identity]
    made, seconds = steer(maker.control, draw, {"quality": goal}, kept)
    judge = load_estimator(options.judge_quality).model
    before, after = judged(judge, plain), judged(judge, made.images)
    sheet(options.out / "steering-quality.png", np.concatenate([plain[:5], made.images[:5]]), [""] * 5)
    moved = made.iterations > 1
    return {
        "images": len(goal),
        "goal": options.quality,
        "judged_before": float(before.mean()),
        "judged_after": float(after.mean()),
        "share_raised": float((after > before).mean()),
        "share_raised_of_those_below_the_goal": float((after > before)[moved].mean())
        if moved.any()
        else None,
        "already_there": int((~moved).sum()),
        "own_before": float(made.start["quality"].mean()),
        "own_after": float(made.values["quality"].mean()),
        "verdicts": {v.name: int((made.verdicts == v).sum()) for v in Verdict},
        "mean_iterations": float(made.iterations.mean()),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--judge", type=Path, required=True, help="recogniser trained on other people")
    parser.add_argument("--judge-pose", type=Path, required=True)
    parser.add_argument("--judge-quality", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument(
        "--pose-model", type=Path, help="`pose.safetensors` of `v2f train pose`, to compare with"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ids", type=int, default=12)
    parser.add_argument("--yaw", default="-45,-30,0,30,45")
    parser.add_argument("--tolerance", type=float, default=3.0, help="degrees within which the loop stops")
    parser.add_argument("--min-cosine", type=float, default=None)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--centre-images", type=int, default=10)
    parser.add_argument("--quality", type=float, default=24.0)
    parser.add_argument("--quality-images", type=int, default=5)
    parser.add_argument("--only", choices=["yaw", "quality"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    engine = Engine.load(options.model, precision=options.precision)
    table = sample_identities(
        options.ids, max_cosine=engine.loaded.max_cosine, seed=options.seed, source=engine.people.source
    )
    record: dict[str, Any] = {
        "command": "python -m bench.claims.steering "
        + " ".join(Path(a).name if a.startswith("/") else a for a in sys.argv[1:]),
        "engine": engine.describe(),
    }
    if options.only != "quality":
        record |= measure_yaw(options, engine, table.vectors)
        print(json.dumps({name: record[name] for name in record if name in ("yaw", "pose_model")}, indent=1))
    if options.only != "yaw":
        record["quality"] = measure_quality(options, engine, table.vectors)
        print(json.dumps(record["quality"], indent=1))
    (options.out / "steering.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

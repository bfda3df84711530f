"""`v2f train` and `v2f features`: where options end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from wiring_case import OVERWRITE, Scene, case, dry_run
from wiring_generate import GENERATOR, RECOGNISER
from wiring_spies import give, stop

EXTRACT = "v2f_engine.models.features:extract_features"
HOLD_OUT = "v2f_engine.train.held_out:hold_out"
JOINED = "v2f_engine.train.distributed:joined"
OPEN = "v2f_engine.data.training.training_set:open_training_set"
MEMORY = "v2f_engine.data.training.memory_set:MemorySet.load"


def features(call: Any, arguments: Mapping[str, Any]) -> Any:
    """Instead of a recogniser's: as many random features as images, always the same."""
    return np.random.default_rng(0).standard_normal((len(arguments["images"]), 512)).astype(np.float32)


VALIDATED = "v2f_engine.evaluate.validation:VerificationSets.opened"


def no_sets(call: Any, arguments: Mapping[str, Any]) -> Any:
    """Instead of opening verification sets."""
    from v2f_engine.evaluate.validation import VerificationSets

    return VerificationSets((), ())


TRAINER = "v2f_engine.train.recogniser:train_recogniser"
RECOGNISER_SCENE = Scene(
    "train recogniser",
    "<data={faces}> --out {out}",
    {
        "data": case("{strangers}", (OPEN, "path", "{strangers}")),
        "--recipe": case(
            "published-adaface",
            (TRAINER, "settings.margin", "adaface"),
            (TRAINER, "settings.optimiser", "sgd"),
        ),
        "--mask": case("{index}", (TRAINER, "data", lambda people: len(people) == 14)),
        "--split": case("train", (OPEN, "split", "train")),
        "--on-bad": (
            case("skip", (OPEN, "on_bad", "skip")),
            case(
                "skip",
                ("v2f_engine.data.training.stored_set:StoredSet", "skip", True),
                also="--held-out {strangers}",
            ),
        ),
        "--held-out": case("{strangers}", (TRAINER, "held_out.dataset.path", "{strangers}")),
        "--held-out-people": case(
            "3", (HOLD_OUT, "people", 3), (TRAINER, "data.classes", 5), (TRAINER, "held_out.classes", 3)
        ),
        **dry_run(
            ("v2f_engine.train.recogniser:foresee_recogniser", "settings.batch", 3),
            also="--batch 3 --depth iresnet18",
        ),
        "--out": case("{out}-b", (TRAINER, "settings.out", "{out}-b")),
        "--depth": case("iresnet18", (TRAINER, "settings.model.layers", (2, 2, 2, 2))),
        "--se": case(None, (TRAINER, "settings.model.se", True), also="--depth iresnet18"),
        "--margin": case("arcface", (TRAINER, "settings.margin", "arcface")),
        "--m": case("0.45", (TRAINER, "settings.m", 0.45)),
        "--sample-rate": case("0.3", (TRAINER, "settings.sample_rate", 0.3)),
        "--epochs": case("3", (TRAINER, "settings.budget.epochs", 3.0)),
        "--steps": case("4", (TRAINER, "settings.budget.steps", 4)),
        "--minutes": case("5", (TRAINER, "settings.budget.minutes", 5.0)),
        "--batch": case("12", (TRAINER, "settings.batch", 12)),
        "--lr": case("0.007", (TRAINER, "settings.lr", 0.007)),
        "--dropout": case("0.25", (TRAINER, "settings.dropout", 0.25)),
        "--stepping": case(
            "graph",
            (TRAINER, "settings.stepping", "graph"),
            ("v2f_engine.train.stepping:require_stepping", "stepping", "graph"),
            spies={"v2f_engine.train.graphed:recorder_of": give(None)},
        ),
        "--batch-per-gpu": case("5", (TRAINER, "settings.batch_per_gpu", 5)),
        "--set": case("drops=18,28", (TRAINER, "settings.drops", (18.0, 28.0))),
        "--validate": case(
            "a.bin",
            (VALIDATED, "paths", lambda paths: [path.name for path in paths] == ["a.bin"]),
            (TRAINER, "validation", lambda sets: sets is not None),
        ),
        "--validate-images": case(
            "{pictures}", (VALIDATED, "pictures", "{pictures}"), also="--validate a.txt"
        ),
        "--validate-every": case("7", (TRAINER, "settings.validate_every", 7), also="--validate a.bin"),
        "--threads": case("3", (TRAINER, "settings.threads", 3)),
        "--in-memory": case(None, (MEMORY, "stored.dataset.path", "{faces}"), also="--no-in-memory"),
        "--no-in-memory": case(None, (TRAINER, "data", lambda people: type(people).__name__ == "StoredSet")),
        "--fp32": case(None, (TRAINER, "settings.bf16", False)),
        "--checkpoint-every": case("6", (TRAINER, "settings.checkpoint_every", 6)),
        "--start-from": case("{reader}", (TRAINER, "settings.start_from", "{reader}")),
        "--seed": case("8", (TRAINER, "settings.seed", 8)),
        "--device": case("meta", (TRAINER, "settings.device", "meta"), (JOINED, "device", "meta")),
    },
    {TRAINER: stop, VALIDATED: no_sets},
)

GENERATING = "v2f_engine.train.generator:train_generator"
GENERATOR_SCENE = Scene(
    "train generator",
    "<data={faces}> --out {out} --device cpu",
    {
        "data": case("{strangers}", (OPEN, "path", "{strangers}")),
        "--preset": case(
            "plus",
            (GENERATING, "settings.preset", "plus"),
            (GENERATING, "settings.clip", 1.0),
            (GENERATING, "settings.fp16_amp", True),
            also="--vgg {pictures}",
        ),
        "--recogniser": case("{reader}", (RECOGNISER, "model", "{reader}")),
        "--features": case(
            "{others}",
            (OPEN, "features", "{others}"),
            (GENERATING, "data", lambda s: type(s).__name__ == "StoredSet"),
        ),
        "--mask": case("{index}", (GENERATING, "data", lambda people: len(people) == 14)),
        "--split": case("train", (OPEN, "split", "train")),
        "--on-bad": case("skip", (OPEN, "on_bad", "skip")),
        "--held-out": case(
            "{strangers}", (OPEN, "path", "{strangers}"), (GENERATING, "held_out", lambda s: s is not None)
        ),
        "--held-out-people": case(
            "3", (HOLD_OUT, "people", 3), (GENERATING, "data.classes", 5), (GENERATING, "held_out.classes", 3)
        ),
        "--vgg": case("{pictures}", (GENERATING, "settings.vgg", "{pictures}")),
        **dry_run(
            ("v2f_engine.train.generator:foresee_generator", "settings.batch", 3),
            also="--batch 3",
        ),
        "--out": case("{out}-b", (GENERATING, "settings.out", "{out}-b")),
        "--size": case(
            "large",
            (GENERATING, "settings.model.width", lambda width: width > 768 // 2),
            (GENERATING, "settings.model.encoder_blocks", lambda n: n > 6),
        ),
        "--epochs": case("3", (GENERATING, "settings.budget.epochs", 3.0)),
        "--steps": case("4", (GENERATING, "settings.budget.steps", 4)),
        "--minutes": case("5", (GENERATING, "settings.budget.minutes", 5.0)),
        "--batch": case("12", (GENERATING, "settings.batch", 12)),
        "--base-lr": case("0.007", (GENERATING, "settings.base_lr", 0.007)),
        "--critic-width": case("24", (GENERATING, "settings.critic_width", 24)),
        "--batch-per-gpu": case("5", (GENERATING, "settings.batch_per_gpu", 5)),
        "--set": case(
            "loss.ssim=0.75",
            (GENERATING, "settings.weights.ssim", 0.75),
            (GENERATING, "settings.weights.token", 0.01),
        ),
        "--accumulate": case("4", (GENERATING, "settings.accumulate", 4)),
        "--as-published": case(None, (GENERATING, "settings.as_published.critic_leak", True)),
        "--stepping": case(
            "compiled",
            (GENERATING, "settings.stepping", "compiled"),
            ("v2f_engine.train.stepping:require_stepping", "stepping", "compiled"),
        ),
        "--dropout": case("0.25", (GENERATING, "settings.model.dropout", 0.25)),
        "--fp32": case(None, (GENERATING, "settings.bf16", False)),
        "--checkpoint-every": case("6", (GENERATING, "settings.checkpoint_every", 6)),
        "--watch-every": case("7", (GENERATING, "settings.picture_every", 7)),
        "--log-every": case("9", (GENERATING, "settings.log_every", 9)),
        "--start-from": case("{small}", (GENERATING, "settings.start_from", "{small}")),
        "--seed": case("8", (GENERATING, "settings.seed", 8)),
        "--device": (
            case("meta", (GENERATING, "settings.device", "meta"), (JOINED, "device", "meta")),
            case("auto", ("v2f_engine.backends:choose", "device", "auto")),
        ),
    },
    {GENERATING: stop, EXTRACT: features},
)

ESTIMATING = "v2f_engine.train.estimators:train_estimator"
READ = "v2f_engine.train.estimators:read_labelled"
RENDER = "v2f_engine.rendered.people:render_people"
ESTIMATOR_SCENE = Scene(
    "train estimator",
    "<name=pose> <data={faces}> --out {out}.safetensors",
    {
        **OVERWRITE,
        "name": case("quality", (ESTIMATING, "settings.recipe", "quality"), (READ, "names", ("blur",))),
        "data": case("{strangers}", (READ, "path", "{strangers}")),
        **dry_run(),
        "--out": case("{out}-b.safetensors", (ESTIMATING, "settings.out", "{out}-b.safetensors")),
        "--judge": case(None, (ESTIMATING, "settings.model", lambda model: model is not None)),
        "--people": case("3", (RENDER, "identities", range(3)), instead="pose", spies={RENDER: stop}),
        "--render-seed": case("55", (RENDER, "seed", 55), instead="pose", spies={RENDER: stop}),
        "--steps": case("4", (ESTIMATING, "settings.budget.steps", 4)),
        "--minutes": case("5", (ESTIMATING, "settings.budget.minutes", 5.0)),
        "--batch": case("12", (ESTIMATING, "settings.batch", 12)),
        "--fp32": case(None, (ESTIMATING, "settings.bf16", False)),
        "--seed": case("8", (ESTIMATING, "settings.seed", 8)),
        "--device": case("meta", (ESTIMATING, "settings.device", "meta")),
    },
    {ESTIMATING: stop},
)

POSING = "v2f_engine.train.pose:train_pose"
POSE_SCENE = Scene(
    "train pose",
    "<data={faces}> --model {small} --out {out}",
    {
        "data": case("{strangers}", (OPEN, "path", "{strangers}")),
        "--recipe": (
            case(
                "published",
                (POSING, "settings.betas", (0.9, 0.999)),
                (POSING, "settings.batch_per_gpu", 64),
                (POSING, "settings.budget.epochs", 10),
                (POSING, "settings.decay_all", True),
                also="--vgg {pictures}",
            ),
        ),
        "--model": case("mini", (GENERATOR, "model", "mini"), spies={GENERATOR: stop}),
        "--recogniser": case("{reader}", (RECOGNISER, "model", "{reader}")),
        "--vgg": case("{pictures}", (POSING, "settings.vgg", "{pictures}")),
        **dry_run(("v2f_engine.train.pose:foresee_pose", "settings.batch", lambda batch: batch > 0)),
        "--out": case("{out}-b", (POSING, "settings.out", "{out}-b")),
        "--steps": case("4", (POSING, "settings.budget.steps", 4)),
        "--minutes": case("5", (POSING, "settings.budget.minutes", 5.0)),
        "--batch": case("12", (POSING, "settings.batch", 12)),
        "--lr": case("0.007", (POSING, "settings.lr", 0.007)),
        "--fp32": case(None, (POSING, "settings.bf16", False)),
        "--epochs": case("4", (POSING, "settings.budget.epochs", 4.0)),
        "--batch-per-gpu": case("3", (POSING, "settings.batch_per_gpu", 3)),
        "--on-bad": case(
            "skip",
            (OPEN, "on_bad", "skip"),
            ("v2f_engine.train.pose_data:read_pose_data", "on_bad", "skip"),
            spies={OPEN: stop},
        ),
        "--limit": case("6", (POSING, "data", lambda faces: len(faces) == 6)),
        "--split": case("train", ("v2f_engine.train.pose_data:read_pose_data", "split", "train")),
        "--seed": case("8", (POSING, "settings.seed", 8)),
        "--device": case("meta", (JOINED, "device", "meta"), (POSING, "group.device", "meta")),
    },
    {POSING: stop, EXTRACT: features},
)

DEVICE_OF = "v2f_engine.machine:device_of"
EMBEDDER = "v2f_engine.models.embedder:TorchEmbedder.__call__"
FEATURES_SCENE = Scene(
    "features",
    "<dataset={faces}> --out {out}.npy",
    {
        **OVERWRITE,
        "dataset": case("{strangers}", (OPEN, "path", "{strangers}")),
        **dry_run(),
        "--out": case("{out}-b.npy", ("v2f_engine.atomic:write_atomically", "path", "{out}-b.json")),
        "--recogniser": case("{reader}", (RECOGNISER, "model", "{reader}")),
        "--mask": case("{index}", ("v2f_engine.data.training.stored_set:StoredSet", "subset", np.arange(14))),
        "--split": case("train", (OPEN, "split", "train")),
        "--channels": case("bgr", (EMBEDDER, "self.pixels.channels", "bgr")),
        "--mean": case("120", (EMBEDDER, "self.pixels.mean", 120.0), also="--std 127.5"),
        "--std": case("128", (EMBEDDER, "self.pixels.std", 128.0), also="--mean 127.5"),
        "--on-bad": case("skip", ("v2f_engine.data.training.stored_set:StoredSet", "skip", True)),
        "--batch": case("5", (EMBEDDER, "images", lambda images: len(images) == 5)),
        "--threads": case("3", ("v2f_engine.data.training.prefetch:Prefetcher", "threads", 3)),
        "--bf16": case(None, (EMBEDDER, "self.bf16", True)),
        "--device": case(  # torch's device without memory stands in for a GPU, which device_of would refuse here
            "meta",
            (DEVICE_OF, "device", "meta"),
            (EMBEDDER, "self.device", "meta"),
            spies={DEVICE_OF: lambda call, asked: (asked["device"], asked["device"], "as asked")},
        ),
        "--probe": case(
            None,
            ("v2f_engine.models.stripe_response:stripe_response", "images", lambda faces: len(faces) == 16),
            instead="<dataset={faces}>",
        ),
    },
    {EMBEDDER: features},
)

SCENES = (RECOGNISER_SCENE, GENERATOR_SCENE, ESTIMATOR_SCENE, POSE_SCENE, FEATURES_SCENE)

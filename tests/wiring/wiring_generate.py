"""`v2f generate`, `render`, `repair`, `convert`, `verify`, `inspect`, `bench`, `env`: where options end."""

from __future__ import annotations

import json
from subprocess import CompletedProcess
from typing import Any

from wiring_case import CLAIM, Case, Scene, case, dry_run
from wiring_spies import give, stop, through

from v2f_engine.faces.align import Alignment

CHOOSE = "v2f_engine.backends:choose"
CONE = "v2f_engine.vectors.perturbation_cone:Cone.draw"
CONTROL = "v2f_engine.attributes.control:Control"
DRAW = "v2f_engine.vectors.perturbation:Perturbation.draw"
ENCODER = "v2f_engine.data.writing.encode:submit"
DEALT = "v2f_engine.vectors.dealing:dealt"
EXCLUSION = "v2f_engine.vectors.exclusion:Exclusion.passing"
GENERATOR = "v2f_engine.models.weights:load_generator"
LEVELS = "v2f_engine.models.image_decoder:levels_of"
LINE = "v2f_engine.data.writing.assembly_line:AssemblyLine"
MASKS = "v2f_engine.models.mask_schedule:MaskSchedule.draw"
OPEN_RUN = "v2f_engine.data.writing.open_run:open_run"
POSED = "v2f_engine.pipeline.makers.posed:Posed"
RECOGNISER = "v2f_engine.models.weights:load_recogniser"
RUNNER = "v2f_engine.runtime:open_runner"
RUNNER_FOR = "v2f_engine.runtime:runner_for"
SCALED = "v2f_engine.scale.coordinator:Coordinator"
STREAM = "v2f_engine.vectors.sampling:IdentityStream"
SUBPROCESS = "subprocess:run"
OWN = "examples/brightness_attribute.py:Brightness"


def goal(text: str) -> Any:
    """A predicate: this goal, parsed."""

    def is_it(found: Any) -> bool:
        from v2f_engine.attributes.goals import Goal

        return bool(found == Goal.of(text))

    return is_it


def row_of_vectors(found: Any) -> bool:
    """Whether centres are the first rows of `{vectors}`, which are drawn from seed 0 with length 22.6."""
    import numpy as np

    rng = np.random.default_rng(0)
    for rows in (16, 16, 5, 60):
        rng.standard_normal((rows, 512))
    expected = rng.standard_normal((3, 512)).astype(np.float32)
    return bool(np.array_equal(found[:2], np.repeat(expected[:1], 2, axis=0)))


def steered(words: str | None, *seen: tuple[str, str, Any], also: str = "", **further: Any) -> Case:
    """A case of attribute control, which ends where the control is made ready."""
    return case(words, *seen, also=also, spies={CONTROL: stop, POSED: stop}, **further)


def scaled(words: str, *seen: tuple[str, str, Any], also: str = "") -> Case:
    """A case of several workers, which ends where they would be started."""
    return case(words, *seen, also=also, spies={SCALED: stop})


MADE = "v2f_engine.pipeline.selected:ChoiceOptions.open"


def chosen(words: str, *seen: tuple[str, str, Any], also: str = "--make 4") -> Case:
    """A case of a choice among more images, which ends where its judges would be loaded."""
    return case(words, *seen, also=also, spies={MADE: stop})


GENERATE = Scene(
    "generate",
    "--ids 3 --images 2 --out {out} --model {small} --source gaussian --compute-batch 2",
    {
        "--ids": case("2", (OPEN_RUN, "manifest.plan.identities", 2)),
        "--images": case("1", (DRAW, "image", lambda image: image.max() == 0)),
        **dry_run(),
        "--out": case("{out}-elsewhere", (OPEN_RUN, "root", "{out}-elsewhere")),
        "--extend": case(
            "{broken}",
            (OPEN_RUN, "root", "{broken}"),
            (OPEN_RUN, "manifest.grown", lambda grown: [one.identities for one in grown] == [2]),
            instead="--ids 5 --model {small} --source gaussian",
            spies={OPEN_RUN: stop},
        ),
        "--model": case("mini", (GENERATOR, "model", "mini"), spies={GENERATOR: stop}),
        "--format": case("webdataset", (LINE, "run.format.name", "webdataset")),
        "--vectors": case(
            "{vectors}",
            (DRAW, "centres", row_of_vectors),
            instead="--images 2 --out {out} --model {small}",
        ),
        "--references": case(
            "{faces}",
            ("v2f_engine.data.formats:open_dataset", "path", "{faces}"),
            (OPEN_RUN, "manifest.plan.identities", 8),
            also="--rescale",  # these faces are noise, whose means are half as long as a face's feature
            instead="--images 2 --out {out} --model {small}",
        ),
        "--reference-identity": case(
            "image",
            ("v2f_engine.pipeline.reference_people:looked_at", "asked", "image"),
            (OPEN_RUN, "manifest.plan.identities", 16),
            also="--references {faces} --rescale",
            instead="--images 1 --out {out} --model {small}",
        ),
        "--recogniser": (
            case(
                "{reader}",
                (RECOGNISER, "model", "{reader}"),
                also="--references {faces}",
                instead="--images 1 --out {out} --model {small}",
            ),
            case("{reader}", (RECOGNISER, "model", "{reader}"), also="--calibration {faces} --fmr 0.5"),
        ),
        "--source": case("{statistics}", (STREAM, "self.source.name", "statistics.safetensors")),
        "--mix": case(
            "old:1,young:3",
            (STREAM, "self.source.parts", (1, 3)),
            instead="--ids 3 --images 2 --out {out} --model {small} --source {grouped} --compute-batch 2",
        ),
        "--rescale": case(
            None,
            ("v2f_engine.vectors.people:People.admitted", "rescale", True),
            also="--vectors {vectors}",
            instead="--images 2 --out {out} --model {small}",
        ),
        "--max-cosine": case("0.25", (STREAM, "self.max_cosine", 0.25)),
        "--fmr": case("0.05", (STREAM, "calibration.fmr", 0.05), also="--calibration {known}"),
        "--calibration": (
            case("{known}", (STREAM, "calibration.origin", "known.npy"), also="--fmr 0.05"),
            case("{faces}", ("v2f_engine.data.formats:open_dataset", "path", "{faces}"), also="--fmr 0.5"),
        ),
        "--exclude": case("{gallery}", (EXCLUSION, "self.rows", 5)),
        "--make": chosen("5", (MADE, "self.make", 5), (MADE, "keep", 2), also=""),
        "--select": chosen("diversity", (MADE, "self.by", ("diversity",))),
        "--select-recogniser": chosen("{reader}", (MADE, "self.recogniser", "{reader}")),
        "--select-min-cosine": chosen("0.5", (MADE, "self.min_cosine", 0.5)),
        "--select-duplicate-cosine": chosen("0.9", (MADE, "self.duplicate_cosine", 0.9)),
        "--select-quality-model": chosen(
            "{reader}", (MADE, "self.quality_model", "{reader}"), also="--make 4 --select quality"
        ),
        "--sigma": case("0.1,0.2,0.4", (DRAW, "self.levels", (0.1, 0.2, 0.4))),
        "--sigma-weights": case("0.5,0.25,0.25", (DRAW, "self.weights", (0.5, 0.25, 0.25))),
        "--target-cosine": case("0.9,0.8", (DRAW, "self.levels", (0.9, 0.8)), (DRAW, "self.unit", "cosine")),
        "--perturbation": (
            case(
                "cone:0.45",
                (CONE, "self.lowest", 0.45),
                (CONE, "self.nearest.cosine", lambda one: len(one) == 3),
            ),
            case("cone:0.45,unguarded", (CONE, "self.guarded", False)),
            case(
                "cosine:0.9,0.8@0.25,0.75",
                (DRAW, "self.weights", (0.25, 0.75)),
                (DRAW, "self.unit", "cosine"),
            ),
        ),
        "--masks": case("demo", (MASKS, "self.maximum", 0.5)),
        "--seed": case("7", (STREAM, "self.seed", 7), (DRAW, "seed", 7), (MASKS, "seed", 7)),
        "--device": (
            case("cpu", (CHOOSE, "device", "cpu")),
            scaled("cpu", (SCALED, "job.device", "cpu"), also="--workers 2"),
        ),
        "--precision": case("fp32", (CHOOSE, "precision", "fp32")),
        "--runner": case("cuda_graph", (RUNNER, "name", "cuda_graph"), spies={RUNNER: stop}),
        "--yaw": steered("25", (CONTROL, "asked.goals.yaw", goal("25"))),
        "--pitch": steered("-5:5", (CONTROL, "asked.goals.pitch", goal("-5:5"))),
        "--quality": steered("24", (CONTROL, "asked.goals.quality", goal("24"))),
        "--attribute": steered(
            OWN + "=120",
            (CONTROL, "asked.attributes.0.name", "brightness"),
            (CONTROL, "asked.goals.brightness", goal("120")),
        ),
        "--steer": steered("both", (CONTROL, "asked.use", "both"), also="--quality 24"),
        "--iterations": steered("9", (CONTROL, "asked.iterations", 9), also="--yaw 5"),
        "--unsigned": steered(None, (CONTROL, "asked.signed", False), also="--yaw 5"),
        "--steering": steered("plus", (CONTROL, "asked.steering", "plus"), also="--yaw 5"),
        "--steer-recogniser": steered("{reader}", (CONTROL, "asked.recogniser", "{reader}"), also="--yaw 5"),
        "--quality-model": steered("{reader}", (CONTROL, "asked.quality", "{reader}"), also="--quality 24"),
        "--steer-rate": steered("0.03", (CONTROL, "asked.rate", 0.03), also="--yaw 5"),
        "--tolerance": steered("yaw=3", (CONTROL, "asked.tolerance.yaw", 3.0), also="--yaw 5"),
        "--min-cosine": steered("0.6", (CONTROL, "asked.min_cosine", 0.6), also="--yaw 5"),
        "--dead-zone": steered("0.5", (CONTROL, "asked.dead_zone", 0.5), also="--yaw 5"),
        "--pose-model": steered("{reader}", (CONTROL, "asked.pose", "{reader}"), also="--yaw 5"),
        "--by": steered("pose-model", (POSED, "asked.goals.yaw", goal("5")), also="--yaw 5"),
        "--landmarks": steered(
            "{pictures}", (POSED, "asked.pictures.0", "{pictures}/a.jpg"), also="--by pose-model"
        ),
        "--landmark-heights": steered(
            "published", (POSED, "asked.heights", "published"), also="--by pose-model --yaw 5"
        ),
        "--jpeg-quality": case("71", (ENCODER, "encoder.quality", 71)),
        "--jpeg-encoder": case("pillow", (ENCODER, "encoder.library", "pillow")),
        "--rounding": case("truncate", (LEVELS, "rounding", "truncate")),
        "--mask-batch": case(
            "3",
            (MASKS, "chance", lambda chance: chance is not None),
            (OPEN_RUN, "manifest.settings.mask_batch", 3),
        ),
        "--sigma-shares": case("exact", (DEALT, "n", 6)),
        "--as-published": steered(
            None,
            (CONTROL, "asked.goals.quality", goal("27")),
            (CONTROL, "asked.use", "identities"),
            (CHOOSE, "precision", "fp32"),
        ),
        "--images-per-shard": case("2", (OPEN_RUN, "manifest.plan.shards", 3)),
        "--fetch": case(None, (GENERATOR, "fetch", True)),
        "--compute-batch": case(
            "3", (RUNNER, "batch_size", 3), (DRAW, "centres", lambda rows: len(rows) == 3)
        ),
        "--executor": scaled("local", (SCALED, "executor", lambda e: type(e).__name__ == "LocalExecutor")),
        "--workers": scaled("2", (SCALED, "workers", 2), also="--executor local --images-per-shard 2"),
        "--executor-option": scaled(
            "minutes=5",
            ("v2f_engine.scale.executors:get_executor", "options.minutes", 5),
            also="--executor slurm",
        ),
    },
)

RENDER_PEOPLE = "v2f_engine.rendered.people:render_people"
RENDER = Scene(
    "render",
    "--ids 3 --images 2 --out {out}",
    {
        "--ids": case("4", (RENDER_PEOPLE, "identities", range(4))),
        "--images": case("5", (RENDER_PEOPLE, "images_per_id", 5)),
        **dry_run(spies={RENDER_PEOPLE: through}),
        "--out": case("{out}-elsewhere", (LINE, "run.root", "{out}-elsewhere")),
        "--format": case("recordio", (LINE, "run.format.name", "recordio")),
        "--seed": case("9", (RENDER_PEOPLE, "seed", 9)),
        "--first": case("50", (RENDER_PEOPLE, "identities", range(50, 53))),
        "--processes": case("7", (RENDER_PEOPLE, "processes", 7)),
        "--world": case("1", (RENDER_PEOPLE, "world", 1), (OPEN_RUN, "manifest.settings.world", 1)),
        "--quality": case("71", (LINE, "encoder.quality", 71)),
    },
    {RENDER_PEOPLE: stop},
)

ALIGN_ALL = "v2f_engine.faces.align:align"
ALIGN = Scene(
    "align",
    "<photographs={strangers}> --out {out}",
    {
        "photographs": case("{faces}", (ALIGN_ALL, "source", "{faces}")),
        "--out": case("{out}-elsewhere", (ALIGN_ALL, "out", "{out}-elsewhere")),
        "--several": case("largest", (ALIGN_ALL, "options.several", "largest")),
        "--min-side": case("31", (ALIGN_ALL, "options.min_side", 31)),
        "--codec": case("jpeg", (ALIGN_ALL, "options.codec", "jpeg")),
        "--processes": case("7", (ALIGN_ALL, "processes", 7)),
        "--skip-bad": case(None, ("v2f_engine.cli.align:_end", "skip_bad", True)),
    },
    {ALIGN_ALL: give(Alignment((), 0, 0)), "v2f_engine.cli.align:_end": stop},
)

OPEN_IMAGES = "v2f_engine.pipeline.shard_source:open_images"
REPAIR = Scene(
    "repair",
    "<dataset={broken}>",
    {
        "dataset": case("{also_broken}", (OPEN_IMAGES, "root", "{also_broken}")),
        "--model": case("{small}", (GENERATOR, "model", "{small}"), spies={GENERATOR: stop}),
        "--device": case("cpu", (OPEN_IMAGES, "device", "cpu"), spies={GENERATOR: stop}),
        "--fetch": case(None, (GENERATOR, "fetch", True), spies={GENERATOR: stop}),
    },
)

RESUME = Scene(
    "resume",
    "<place={unfinished}>",
    {
        "place": case(
            "{also_unfinished}",
            ("v2f_engine.cli.resume:_of_set", "place", "{also_unfinished}"),
            spies={"v2f_engine.cli.resume:_of_set": stop},
        ),
    },
)

PAIRS = "v2f_engine.data.writing.convert_pairs:convert_pairs"
CONVERT = Scene(
    "convert",
    "<source={faces}> <target={out}>",
    {
        "--overwrite": case(None, (CLAIM, "overwrite", True), instead="{reader} {out}.safetensors"),
        **dry_run(),
        "source": case("{strangers}", ("v2f_engine.data.formats:open_dataset", "path", "{strangers}")),
        "target": case("{out}-elsewhere", (OPEN_RUN, "root", "{out}-elsewhere")),
        "--format": case("recordio", (OPEN_RUN, "manifest.format", "recordio")),
        "--split": case("train", ("v2f_engine.data.formats:open_dataset", "split", "train")),
        "--resize": case(None, ("v2f_engine.data.writing.convert:convert_dataset", "resize", True)),
        "--images": case("{pictures}", (PAIRS, "pictures", "{pictures}"), instead="a.txt {out}.bin"),
        "--precision": case(
            "fp16",
            ("v2f_engine.models.weights:save_weights", "precision", "fp16"),
            instead="{small} {out}.safetensors",
        ),
    },
)

CHOSEN = "v2f_engine.selection.chosen_set:Selection"
EMBEDDER = "v2f_engine.models.embedder:open_embedder"
SELECTED = {CHOSEN: stop}
"""Ends a selection where the set is looked at."""
SELECT = Scene(
    "select",
    "<dataset={faces}> --keep 1 --out {out}",
    {
        **dry_run(),
        "dataset": case("{strangers}", (CHOSEN, "source.path", "{strangers}"), spies=SELECTED),
        "--keep": case("2", (CHOSEN, "rule.keep", 2), spies=SELECTED),
        "--by": case("diversity", (CHOSEN, "rule.by", ("diversity",)), spies=SELECTED),
        "--out": case("{out}-elsewhere", (OPEN_RUN, "root", "{out}-elsewhere")),
        "--format": case("recordio", (OPEN_RUN, "manifest.format", "recordio")),
        "--min-cosine": case("0.5", (CHOSEN, "rule.min_cosine", 0.5), spies=SELECTED),
        "--duplicate-cosine": case("0.9", (CHOSEN, "rule.duplicate_cosine", 0.9), spies=SELECTED),
        "--at-least": case("1", (CHOSEN, "rule.at_least", 1), spies=SELECTED),
        "--recogniser": case("{reader}", (RECOGNISER, "model", "{reader}"), spies=SELECTED),
        "--channels": case("bgr", (CHOSEN, "judges.recogniser.pixels.channels", "bgr"), spies=SELECTED),
        "--mean": case(
            "127", (CHOSEN, "judges.recogniser.pixels.mean", 127.0), also="--std 128", spies=SELECTED
        ),
        "--std": case(
            "128",
            (CHOSEN, "judges.recogniser.pixels.std", 128.0),
            also="--mean 127",
            spies={EMBEDDER: through},
        ),
        "--bf16": case(None, (CHOSEN, "judges.recogniser.bf16", True), spies=SELECTED),
        "--device": case("cuda:7", (EMBEDDER, "device", "cuda:7"), spies={EMBEDDER: stop}),
        "--quality-model": case(
            "{reader}",
            ("v2f_engine.models.embedder:open_embedder", "source", "{reader}"),
            also="--by quality",
            spies=SELECTED,
        ),
        "--split": case("train", ("v2f_engine.data.formats:open_dataset", "split", "train")),
    },
)

VERIFY_MANIFEST = "v2f_engine.data.records.verify:verify_manifest"
VERIFY = Scene(
    "verify",
    "<dataset={faces}>",
    {
        "dataset": case("{strangers}", (VERIFY_MANIFEST, "root", "{strangers}")),
        "--fast": case(None, (VERIFY_MANIFEST, "full", False)),
        "--full": case(None, (VERIFY_MANIFEST, "full", True), instead="{faces} --fast"),
    },
)

SOUND = CompletedProcess([], 0, json.dumps({"sound": True, "summary": "told", "account": ["told"]}), "")
INSPECT = Scene(
    "inspect",
    "<file={vectors}>",
    {
        "file": case("{gallery}", (SUBPROCESS, "popenargs.0.3", "{gallery}")),
        "--split": case("train", (SUBPROCESS, "popenargs.0.4", "train")),
    },
    {SUBPROCESS: give(SOUND)},
)

SAMPLE = "v2f_engine.vectors.sampling:sample_identities"
BENCH = Scene(
    "bench",
    "<what=machine> --model {small} --images 2 --rounds 1",
    {
        "what": (
            case("ops", (SUBPROCESS, "popenargs.0.2", "bench.kernels.ops")),
            case("compare", (SUBPROCESS, "popenargs.0.2", "bench.generation.compare")),
        ),
        "--model": (
            case("mini", (GENERATOR, "model", "mini"), spies={GENERATOR: stop}),
            case(
                "base",
                (SUBPROCESS, "popenargs.0", lambda words: words[3:] == ["--model", "base"]),
                instead="ops",
            ),
        ),
        "--device": case("cpu", (CHOOSE, "device", "cpu")),
        "--precision": case("fp32", (CHOOSE, "precision", "fp32")),
        "--runner": case("cuda_graph", (RUNNER, "name", "cuda_graph"), spies={RUNNER: stop}),
        "--images": case(
            "3", (SAMPLE, "n", 3), ("v2f_engine.data.writing.write:write_dataset", "plan.images", 3)
        ),
        "--rounds": case("2", ("statistics:median", "data", lambda seconds: len(seconds) == 2)),
    },
    {SUBPROCESS: give(CompletedProcess([], 0)), SAMPLE: through},
)

SELF_TEST = "v2f_engine.pipeline.engine:Engine.self_test"
ENV = Scene(
    "env",
    "",
    {
        "--device": (
            case("cpu", (CHOOSE, "device", "cpu")),
            case(
                "cpu",
                ("v2f_engine.pipeline.engine:Engine.load", "device", "cpu"),
                also="--self-test --model {small}",
            ),
        ),
        "--precision": (
            case("fp32", (CHOOSE, "precision", "fp32")),
            case(
                "fp32",
                ("v2f_engine.pipeline.engine:Engine.load", "precision", "fp32"),
                also="--self-test --model {small}",
            ),
        ),
        "--self-test": case(None, (SELF_TEST, "self.loaded.name", "small"), also="--model {small}"),
        "--model": case("{small}", (GENERATOR, "model", "{small}"), also="--self-test"),
    },
    {SELF_TEST: give("alike")},
)

LOOKED_AT = "v2f_engine.cli.show.command:looked_at"
SHOW = Scene(
    "show",
    "<place={strangers}>",
    {
        "place": case("{faces}", (LOOKED_AT, "place", "{faces}")),
        "--toml": case(
            None,
            ("v2f_engine.cli.show.command:as_toml", "command", "generate"),
            instead="{broken}",
            spies={"v2f_engine.pipeline.replay:options_of": give({"ids": 2})},
        ),
        "--pictures": case("{out}.png", ("v2f_engine.atomic:write_file", "path", "{out}.png")),
        "--overwrite": case(None, (CLAIM, "overwrite", True), also="--pictures {out}.png"),
    },
)

SCENES = (GENERATE, RENDER, ALIGN, REPAIR, RESUME, SHOW, CONVERT, SELECT, VERIFY, INSPECT, BENCH, ENV)

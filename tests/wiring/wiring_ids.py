"""`v2f ids`: where options end."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from wiring_case import CLAIM, OVERWRITE, Scene, case, dry_run
from wiring_generate import CHOOSE, EXCLUSION, GENERATOR, RECOGNISER, RUNNER, STREAM
from wiring_spies import give, stop, through

CALIBRATE = "v2f_engine.vectors.calibration:calibrate_threshold"
FACES = "v2f_engine.pipeline.proof:FaceFeatures"
FIT = "v2f_engine.vectors.statistics:fit_statistics"
FIT_GROUPS = "v2f_engine.vectors.labelled:fit_groups"
FIT_CENTRES = "v2f_engine.vectors.statistics:fit_centres"
MEANS = "v2f_engine.vectors.centres:person_centres"
ADMITTED = "v2f_engine.vectors.people:People.admitted_source"
LOCATE = "v2f_engine.models.registry:locate"
OPEN = "v2f_engine.data.formats:open_dataset"
PICK = "v2f_engine.backends:function"
PILOT = "v2f_engine.vectors.planner:plan_identities"
PILOT_ON = "v2f_engine.vectors.growth_plan:plan_extension"
EXTEND = "v2f_engine.vectors.growth:extend_identities"
GO_ON = "v2f_engine.vectors.sampling:IdentityStream.go_on"
PROVE = "v2f_engine.vectors.proof:prove_identities"
TAKE = "v2f_engine.vectors.sampling:IdentityStream.take"
CURVE = "v2f_engine.vectors.separability:separability_curve"
PLOT = "v2f_engine.vectors.plots:plot_{}"
WRITE = "v2f_engine.atomic:write_atomically"

_count = SimpleNamespace(repeated=0, identities=2, rejected=0, nearest=np.zeros(2))
_table = SimpleNamespace(save=lambda path: None, table_hash="0" * 64)
PROVEN = SimpleNamespace(
    to_json=dict,
    before=_count,
    after=_count,
    max_cosine=0.3,
    rounds=(),
    made=2,
    table=None,
    features=np.zeros((2, 4), np.float32),
    require=lambda: _table,
)
"""What a finished proof is to the command that prints it."""


SAMPLE = Scene(
    "ids sample",
    "<n_ids=5> --out {out}.safetensors --source gaussian",
    {
        **OVERWRITE,
        **dry_run(),
        "n_ids": case("6", (TAKE, "n", 6)),
        "--out": case(
            "{out}-b.safetensors",
            ("v2f_engine.vectors.identities:Identities.save", "path", "{out}-b.safetensors"),
        ),
        "--source": case("{statistics}", (STREAM, "self.source.name", "statistics.safetensors")),
        "--mix": case(
            "old:1,young:3",
            (STREAM, "self.source.parts", (1, 3)),
            instead="<n_ids=5> --out {out}.safetensors --source {grouped}",
        ),
        "--model": case("{small}", (LOCATE, "model", "{small}")),
        "--rescale": case(None, (ADMITTED, "rescale", True), also="--model {small}"),
        "--max-cosine": case("0.25", (STREAM, "self.max_cosine", 0.25)),
        "--fmr": case("0.05", (STREAM, "calibration.fmr", 0.05), also="--calibration {known}"),
        "--calibration": (
            case("{known}", (STREAM, "calibration.origin", "known.npy"), also="--fmr 0.05"),
            case("{faces}", (OPEN, "path", "{faces}"), also="--fmr 0.5"),
        ),
        "--recogniser": case(
            "{reader}", (RECOGNISER, "model", "{reader}"), also="--calibration {faces} --fmr 0.5"
        ),
        "--exclude": case("{gallery}", (EXCLUSION, "self.rows", 5)),
        "--extend": case(
            "{table}",
            (EXTEND, "n", 5),
            (EXTEND, "table", lambda table: len(table) == 3),
            (GO_ON, "candidate", lambda numbers: len(numbers) == 3),
        ),
        "--seed": case("7", (STREAM, "self.seed", 7)),
        "--backend": case("reference", (STREAM, "self.backend", "reference"), (PICK, "backend", "reference")),
    },
)

CENTRES_SCENE = Scene(
    "ids centres",
    "<features={features}> --labels {labels} --out {out}.npy",
    {
        **OVERWRITE,
        "features": case("{others}", (MEANS, "what", "{others}")),
        "--labels": case(
            "{swapped}",
            (MEANS, "codes", lambda codes: codes[0] == 7),
            instead="<features={features}> --out {out}.npy",
        ),
        "--out": case("{out}-b.npy", ("v2f_engine.vectors.centres:Centres.save", "path", "{out}-b.npy")),
        "--mask": case("{index}", (MEANS, "codes", lambda codes: (codes < 0).sum() == 2)),
        "--people": case("8", ("v2f_engine.pipeline.labelled:_expect", "expected", 8)),
        "--unit": case(None, (MEANS, "unit", True)),
        "--on-bad": case("skip", (MEANS, "skip", True)),
    },
)

WITHIN = "v2f_engine.vectors.within:fit_within"
WITHIN_SCENE = Scene(
    "ids within",
    "<features={features}> --labels {labels} --out {out}.safetensors",
    {
        **OVERWRITE,
        "features": case("{others}", (MEANS, "what", "{others}")),
        "--labels": case(
            "{swapped}",
            (WITHIN, "codes", lambda codes: codes[0] == 7),
            instead="<features={features}> --out {out}.safetensors",
        ),
        "--out": case(
            "{out}-b.safetensors", ("v2f_engine.atomic:write_atomically", "path", "{out}-b.safetensors")
        ),
        "--components": case("5", (WITHIN, "components", 5)),
        "--shrinkage": (case("0.25", (WITHIN, "shrinkage", 0.25)), case("oas", (WITHIN, "shrinkage", "oas"))),
    },
)

FIT_SCENE = Scene(
    "ids fit",
    "<features={known}> --out {out}.safetensors",
    {
        **OVERWRITE,
        "features": case("{features}", (FIT, "origin", "features.npy")),
        "--labels": case(
            "{labels}",
            (MEANS, "codes", lambda codes: codes[-1] == 7),
            (FIT, "origin", "8 people of features.npy"),
            instead="{features} --out {out}.safetensors",
        ),
        "--length": (
            case(
                "images",
                (FIT_CENTRES, "length", "images"),
                also="--labels {labels}",
                instead="{features} --out {out}.safetensors",
            ),
            case(
                "images",
                (FIT_CENTRES, "length", "images"),
                also="--images {faces}",
                instead="--out {out}.safetensors",
            ),
        ),
        "--images": case("{faces}", (OPEN, "path", "{faces}"), instead="--out {out}.safetensors"),
        "--recogniser": case(
            "{reader}",
            (RECOGNISER, "model", "{reader}"),
            also="--images {faces}",
            instead="--out {out}.safetensors",
        ),
        "--out": case(
            "{out}-b.safetensors",
            ("v2f_engine.vectors.statistics:save_statistics", "path", "{out}-b.safetensors"),
        ),
        "--components": (
            case("5", (FIT, "components", 5)),
            case("5", (FIT, "components", 5), also="--images {faces}", instead="--out {out}.safetensors"),
        ),
        "--shrinkage": (
            case("0.25", (FIT, "shrinkage", 0.25)),
            case("oas", (FIT, "shrinkage", "oas")),
            case(
                "0.25", (FIT, "shrinkage", 0.25), also="--images {faces}", instead="--out {out}.safetensors"
            ),
        ),
        "--groups": case(
            "{other_groups}",
            (FIT_GROUPS, "groups", lambda names: names[0] == "early"),
            also="--column age --shrinkage 0.5",
        ),
        "--column": case(
            "glasses",
            (FIT_GROUPS, "column", "glasses"),
            also="--groups {groups} --shrinkage 0.5",
            instead="<features={known}> --out {out}.safetensors",
        ),
        "--covariance": case(
            "pooled",
            (FIT_GROUPS, "covariance", "pooled"),
            also="--groups {groups} --column age --shrinkage 0.5",
        ),
    },
    {"v2f_engine.vectors.statistics:save_statistics": stop, FIT_GROUPS: stop},
)

WORK = "v2f_engine.pipeline.whole_plan:plan_work"
PLANNED = SimpleNamespace(lines=tuple, feasible=True, to_json=dict, refuse_if_saturated=lambda: None)
AFTER = {PILOT: give(PLANNED), WORK: stop}
"""The plan of the vectors is spared, and the command ends where the rest of the work is planned."""

PLAN = Scene(
    "ids plan",
    "<n_ids=30> --source gaussian",
    {
        "n_ids": case("40", (PILOT, "identities", 40)),
        "--source": case("{statistics}", (PILOT, "source.name", "statistics.safetensors")),
        "--mix": case(
            "old:1,young:3", (PILOT, "source.parts", (1, 3)), instead="<n_ids=30> --source {grouped}"
        ),
        "--model": case("{small}", (LOCATE, "model", "{small}")),
        "--rescale": case(None, (ADMITTED, "rescale", True), also="--model {small}"),
        "--max-cosine": case("0.25", (PILOT, "max_cosine", 0.25)),
        "--fmr": case(
            "0.05",
            (CALIBRATE, "fmr", 0.05),
            (PILOT, "max_cosine", lambda c: 0 < c < 0.2),
            also="--calibration {known}",
        ),
        "--calibration": (
            case("{known}", (CALIBRATE, "origin", "known.npy"), also="--fmr 0.05"),
            case("{faces}", (OPEN, "path", "{faces}"), also="--fmr 0.5"),
        ),
        "--recogniser": case(
            "{reader}", (RECOGNISER, "model", "{reader}"), also="--calibration {faces} --fmr 0.5"
        ),
        "--seed": case("7", (PILOT, "seed", 7)),
        "--backend": case("reference", (PILOT, "backend", "reference")),
        "--max-candidates": (
            case("123456", (PILOT, "max_candidates", 123456)),
            case(
                "123456",
                (PILOT_ON, "max_candidates", 123456),
                also="--extend {table}",
                spies={PILOT_ON: stop},
            ),
        ),
        "--extend": case(
            "{table}",
            (PILOT_ON, "identities", 30),
            (PILOT_ON, "table", lambda table: len(table) == 3),
            spies={PILOT_ON: stop},
        ),
        "--overwrite": case(None, (CLAIM, "overwrite", True), also="--plot {out}.png"),
        "--plot": case(
            "{out}.png",
            (PLOT.format("saturation"), "path", "{out}.png"),
            spies={PLOT.format("saturation"): stop, **AFTER, WORK: give(PLANNED)},
        ),
        "--pack": case(None, (WORK, "work.pack", True), spies=AFTER),
        "--steps": case("7", (WORK, "work.steps", 7), also="--pack", spies=AFTER),
        "--perturbation": case("cone:0.7", (WORK, "work.around.lowest", 0.7), spies=AFTER),
        "--images": case("7", (WORK, "work.keep", 7), spies=AFTER),
        "--make": case("70", (WORK, "work.choice.make", 70), (WORK, "work.keep", 50), spies=AFTER),
        "--select": case("quality", (WORK, "work.choice.by", ("quality",)), also="--make 70", spies=AFTER),
        "--format": case("parquet", (WORK, "work.format", "parquet"), also="--images 3", spies=AFTER),
    },
    {PILOT: stop},
)

CHECK = Scene(
    "ids check",
    "<vectors={known}>",
    {
        "vectors": (
            case("{features}", (CURVE, "vectors", lambda rows: len(rows) == 16)),
            case("{table}", (CURVE, "vectors", lambda rows: len(rows) == 3)),
        ),
        "--threshold": case("0.35", (CURVE, "threshold", 0.35)),
        "--fmr": case(
            "0.05",
            (CALIBRATE, "fmr", 0.05),
            (CURVE, "threshold", lambda c: 0 < c < 0.2),
            also="--calibration {known}",
        ),
        "--calibration": (
            case("{features}", (CALIBRATE, "origin", "features.npy"), also="--fmr 0.2"),
            case("{faces}", (OPEN, "path", "{faces}"), also="--fmr 0.5"),
        ),
        "--recogniser": case(
            "{reader}", (RECOGNISER, "model", "{reader}"), also="--calibration {faces} --fmr 0.5"
        ),
        "--step": case("7", (CURVE, "step", 7)),
        "--overwrite": case(None, (CLAIM, "overwrite", True), also="--plot {out}.png"),
        "--plot": case(
            "{out}.png",
            (PLOT.format("separability"), "path", "{out}.png"),
            spies={PLOT.format("separability"): stop},
        ),
    },
)

PACK = "v2f_engine.vectors.packing:packing"
STEPS = "v2f_engine.vectors.packing_steps:Steps"
BOUNDED = "v2f_engine.vectors.packing_request:bounded"
PACKED = {STEPS: through, PLOT.format("packing"): give(None)}
PACK_SCENE = Scene(
    "ids pack",
    "<table={table}> --out {out}.safetensors",
    {
        **OVERWRITE,
        **dry_run(spies={STEPS: through}),
        "table": case("{features}", (PACK, "table.provenance.source", "{features}")),
        "--out": case(
            "{out}-b.safetensors",
            ("v2f_engine.vectors.identities:Identities.save", "path", "{out}-b.safetensors"),
            spies=PACKED,
        ),
        "--curve": case("{out}-c.csv", (WRITE, "path", "{out}-c.csv"), spies=PACKED),
        "--plot": case("{out}-c.png", (PLOT.format("packing"), "path", "{out}-c.png"), spies=PACKED),
        "--max-cosine": case("-0.1", (STEPS, "aim", -0.1)),
        "--steps": case("3", (STEPS, "steps", 3)),
        "--pull": case("0.3", (STEPS, "pull", 0.3)),
        "--max-drift": case("0.5", (STEPS, "max_drift", 0.5)),
        "--source": case(
            "{statistics}",
            (STEPS, "likely.mean", lambda mean: bool(np.any(mean))),
            instead="<table={known}> --out {out}.safetensors --source gaussian",
        ),
        "--exclude": case("{gallery}", (EXCLUSION, "self.rows", 5)),
        "--recogniser": case("{reader}", (RECOGNISER, "model", "{reader}"), also="--exclude {faces}"),
        "--device": case("cuda:9", (BOUNDED, "device", "cuda:9"), spies={BOUNDED: stop}),
    },
    {STEPS: stop},
)

FINISHED = {PROVE: give(PROVEN), PLOT.format("proof"): give(None)}
PROVE_SCENE = Scene(
    "ids prove",
    "<n_ids=2> --out {out}.safetensors --model {small} --source gaussian",
    {
        **OVERWRITE,
        **dry_run(),
        "n_ids": case("3", (PROVE, "n", 3)),
        "--out": (
            case("{out}-b.safetensors", (FACES, "work", "{out}-b.work")),
            case("{out}-b.safetensors", (WRITE, "path", "{out}-b.json"), spies=FINISHED),
        ),
        "--report": case("{out}-c.json", (WRITE, "path", "{out}-c.json"), spies=FINISHED),
        "--plot": case("{out}-c.png", (PLOT.format("proof"), "path", "{out}-c.png"), spies=FINISHED),
        "--features": case("{out}-c.npy", (WRITE, "path", "{out}-c.npy"), spies=FINISHED),
        "--model": case("mini", (GENERATOR, "model", "mini"), spies={GENERATOR: stop}),
        "--recogniser": (
            case("{reader}", (RECOGNISER, "model", "{reader}")),
            case("{reader}", (RECOGNISER, "model", "{reader}"), also="--calibration {faces} --fmr 0.5"),
        ),
        "--images": (
            case("3", (FACES, "images.images_per_id", 3)),
            case(
                "2",
                ("v2f_engine.pipeline.references:face_centres", "images_per_row", 2),
                also="--calibration {faces} --fmr 0.5",
            ),
        ),
        "--source": case("{statistics}", (STREAM, "self.source.name", "statistics.safetensors")),
        "--rescale": case(None, (ADMITTED, "rescale", True)),
        "--max-cosine": case("0.25", (STREAM, "self.max_cosine", 0.25)),
        "--image-cosine": case("0.35", (PROVE, "max_cosine", 0.35)),
        "--fmr": case("0.05", (PROVE, "calibration.fmr", 0.05), also="--calibration {known}"),
        "--calibration": (
            case("{known}", (PROVE, "calibration.origin", "known.npy"), also="--fmr 0.05"),
            case("{faces}", (OPEN, "path", "{faces}"), also="--fmr 0.5"),
        ),
        "--exclude": case("{gallery}", (STREAM, "self.shield.rows", 5)),
        "--sigma": case("0.1,0.2,0.4", (FACES, "images.perturbation.levels", (0.1, 0.2, 0.4))),
        "--sigma-weights": case("0.5,0.25,0.25", (FACES, "images.perturbation.weights", (0.5, 0.25, 0.25))),
        "--target-cosine": case(
            "0.9,0.8",
            (FACES, "images.perturbation.levels", (0.9, 0.8)),
            (FACES, "images.perturbation.unit", "cosine"),
        ),
        "--perturbation": case(
            "cone:0.86,unguarded",
            (FACES, "images.perturbation.lowest", 0.86),
            (FACES, "images.perturbation.guarded", False),
        ),
        "--masks": case("demo", (FACES, "engine.masks.maximum", 0.5)),
        "--seed": case("7", (STREAM, "self.seed", 7), (FACES, "images.seed", 7)),
        "--max-rounds": case("3", (PROVE, "max_rounds", 3)),
        "--max-made": case("17", (PROVE, "max_made", 17)),
        "--device": case("cpu", (CHOOSE, "device", "cpu")),
        "--precision": case("fp32", (CHOOSE, "precision", "fp32")),
        "--runner": case("cuda_graph", (RUNNER, "name", "cuda_graph"), spies={RUNNER: stop}),
        "--compute-batch": case("3", (RUNNER, "batch_size", 3)),
        "--backend": case(
            "reference", (STREAM, "self.backend", "reference"), (PROVE, "backend", "reference")
        ),
        "--fetch": case(None, (GENERATOR, "fetch", True), (RECOGNISER, "fetch", True)),
    },
    {PROVE: stop},
)

SCENES = (SAMPLE, CENTRES_SCENE, WITHIN_SCENE, FIT_SCENE, PLAN, CHECK, PACK_SCENE, PROVE_SCENE)

"""`v2f evaluate`: where options end. Features of images are random; measures are real and small."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from wiring_case import CLAIM, OVERWRITE, Case, Scene, case
from wiring_generate import RECOGNISER
from wiring_spies import Answer, give, stop
from wiring_train import EXTRACT, features

from v2f_engine.data.verification import VerificationSet

CALIBRATE = "v2f_engine.evaluate.separability:calibrate"
NPY = "v2f_engine.vectors.streams:open_vectors"
OPEN = "v2f_engine.data.formats:open_dataset"
PLOT = "v2f_engine.evaluate.plots:plot_{}"
WRITE = "v2f_engine.atomic:write_atomically"


def on_meta(recogniser: Any) -> bool:
    """Whether a network was moved to the device that holds no numbers."""
    return next(recogniser.parameters()).device.type == "meta"


def pictures(count: int) -> Any:
    """A predicate: that many pictures were read."""
    return lambda images: len(images) == count


def reading(line: str, *, images: int | None = 8) -> dict[str, Case]:
    """What every command that reads images through a recogniser offers."""
    shared = {
        "--recogniser": case("{reader}", (RECOGNISER, "model", "{reader}"), instead=line),
        "--bf16": case(None, (EXTRACT, "bf16", True), instead=line),
        "--device": case("meta", (EXTRACT, "recogniser", on_meta), instead=line),
        "--channels": case("bgr", (EXTRACT, "recogniser.pixels.channels", "bgr"), instead=line),
        "--mean": case("100", (EXTRACT, "recogniser.pixels.mean", 100.0), instead=line, also="--std 50"),
        "--std": case("50", (EXTRACT, "recogniser.pixels.std", 50.0), instead=line, also="--mean 100"),
    }
    if images is not None:
        shared["--images"] = case("1", (EXTRACT, "images", pictures(images)), instead=line)
        shared["--split"] = case("train", (OPEN, "split", "train"), instead=line)
    return shared


SEPARABLE = "v2f_engine.evaluate.separability:measure_separability"
UNIQUE = "v2f_engine.evaluate.dcface:measure_uniqueness"
DIVERSE = "v2f_engine.evaluate.dcface:measure_diversity"
GROUPS = "v2f_engine.evaluate.groups:measure_groups"
SEPARABILITY = Scene(
    "evaluate separability",
    "<data={features}> --labels {labels} --recogniser mini --out {out}.json",
    {
        "data": case("{others}", (NPY, "path", "{others}")),
        "--labels": case("{swapped}", (SEPARABLE, "table.labels", lambda labels: labels[0] == 7)),
        **reading("{faces} --out {out}.json"),
        "--threshold": case(
            "0.35",
            (SEPARABLE, "threshold", 0.35),
            ("v2f_engine.vectors.separability:separability_curve", "threshold", 0.35),
            instead="{features} --labels {labels} --out {out}.json",
        ),
        "--reference": case(
            "{strangers}", (OPEN, "path", "{strangers}"), (CALIBRATE, "fmr", 0.5), also="--fmr 0.5"
        ),
        "--fmr": case("0.25", (CALIBRATE, "fmr", 0.25), also="--reference {strangers}"),
        "--radius": case("0.45", (UNIQUE, "radius", 0.45)),
        "--real": case(
            "{others}",
            (NPY, "path", "{others}"),
            (DIVERSE, "real", lambda rows: len(rows) == 16),
            instead="{faces} --out {out}.json",
            spies={DIVERSE: give(0.5)},
        ),
        "--groups": case(
            "yaw", (GROUPS, "groups", lambda names: len(set(names)) == 3), instead="{faces} --out {out}.json"
        ),
        **OVERWRITE,
        "--out": case(
            "{out}-b.json",
            (WRITE, "path", "{out}-b.json"),
            (PLOT.format("histograms"), "path", "{out}-b.png"),
        ),
    },
    {EXTRACT: features, PLOT.format("histograms"): stop},
)

CONSISTENT = "v2f_engine.evaluate.consistency:measure_consistency"
CONSISTENCY = Scene(
    "evaluate consistency",
    "<data={features}> --labels {labels} --out {out}.json",
    {
        "data": case("{others}", (NPY, "path", "{others}")),
        "--labels": case("{swapped}", (CONSISTENT, "table.labels", lambda labels: labels[0] == 7)),
        **reading("{faces} --out {out}.json"),
        **OVERWRITE,
        "--out": case(
            "{out}-b.json",
            (WRITE, "path", "{out}-b.json"),
            (PLOT.format("consistency"), "path", "{out}-b.png"),
        ),
    },
    {EXTRACT: features, PLOT.format("consistency"): stop},
)

LEAKING = "v2f_engine.evaluate.leakage:measure_leakage"
LEAKAGE = Scene(
    "evaluate leakage",
    "<synthetic={features}> <gallery={gallery}> --out {out}.json --fmr 0",
    {
        "synthetic": case("{others}", (NPY, "path", "{others}")),
        "gallery": case("{known}", (LEAKING, "gallery", lambda rows: len(rows) == 60)),
        "--labels": case("{labels}", (LEAKING, "labels", np.repeat(np.arange(8), 2))),
        "--gallery-labels": case("{gallery_labels}", (LEAKING, "gallery_labels", np.array([0, 0, 1, 2, 3]))),
        **reading("{faces} {strangers} --out {out}.json --fmr 0"),
        "--threshold": case("0.61", (LEAKING, "thresholds", (0.61,))),
        "--fmr": case("0.05", (LEAKING, "fmr", 0.05), instead="{features} {known} --out {out}.json"),
        "--worst": case("3", (LEAKING, "worst", 3)),
        "--backend": case("reference", (LEAKING, "backend", "reference")),
        **OVERWRITE,
        "--out": case(
            "{out}-b.json", (WRITE, "path", "{out}-b.json"), (PLOT.format("leakage"), "path", "{out}-b.png")
        ),
    },
    {EXTRACT: features, PLOT.format("leakage"): stop},
)

SETS = "v2f_engine.data.verification.sets:open_verification_set"


def opened(call: Any, arguments: Mapping[str, Any]) -> VerificationSet:
    """A set of 20 pairs."""
    return VerificationSet("pairs", np.arange(20) % 2 == 0, pixels=np.zeros((40, 3, 112, 112), np.uint8))


VERIFICATION = Scene(
    "evaluate verification",
    "<sets=a.bin> --out {out}.json",
    {
        "sets": case("b.bin c.bin", (SETS, "path", "b.bin"), (SETS, "path", "c.bin")),
        **reading("a.bin --out {out}.json", images=None),
        **OVERWRITE,
        "--images": case("{pictures}", (SETS, "pictures", "{pictures}"), instead="a.txt --out {out}.json"),
        "--out": case(
            "{out}-b.json",
            (WRITE, "path", "{out}-b.json"),
            (PLOT.format("verification"), "path", "{out}-b.png"),
        ),
    },
    {EXTRACT: features, SETS: opened, PLOT.format("verification"): stop},
)

TEMPLATES = "v2f_engine.evaluate.ijb:template_features"
PROTOCOL = "v2f_engine.evaluate.ijb:read_columns"
RATES = "v2f_engine.evaluate.ijb:tpr_at_fpr"
CROPS = "v2f_engine.evaluate.crops:read_crops"
ALIGNED = "v2f_engine.evaluate.crops:_aligned"
IJB_IMAGES = "{meta} --name ijbb --crops {pictures} --out {out}.json"
IJB = Scene(
    "evaluate ijb",
    "<meta={meta}> --name ijbb --features {eight} --out {out}.json",
    {
        "meta": case("{other_meta}", (PROTOCOL, "path", "{other_meta}/ijbb_face_tid_mid.txt")),
        "--features": case(
            "{eight}",
            (TEMPLATES, "features", lambda rows: rows.shape == (8, 512)),
            instead="{meta} --name ijbb --out {out}.json",
        ),
        "--crops": case(
            "{pictures}", (CROPS, "folder", "{pictures}"), instead="{meta} --name ijbb --out {out}.json"
        ),
        "--name": case("ijbc", (PROTOCOL, "path", "{meta}/ijbc_face_tid_mid.txt")),
        **reading(IJB_IMAGES, images=None),
        "--scores": case(None, (TEMPLATES, "scores", lambda scores: scores is not None), also="--no-scores"),
        "--no-scores": case(None, (TEMPLATES, "scores", None)),
        "--curve": case("exact", (RATES, "curve", "exact")),
        **OVERWRITE,
        "--out": case(
            "{out}-b.json", (WRITE, "path", "{out}-b.json"), (PLOT.format("ijb"), "path", "{out}-b.png")
        ),
    },
    {
        EXTRACT: features,
        ALIGNED: give(np.zeros((112, 112, 3), np.uint8)),
        "v2f_engine.evaluate.crops:missing_crops": give([]),
        PLOT.format("ijb"): stop,
    },
)

REPORTING = "v2f_engine.evaluate.report.measure:make_report"
PAGE = "v2f_engine.evaluate.report.page:page"
CARD = "v2f_engine.data.records.card:write_card"
WHOLE: dict[str, Answer] = {
    REPORTING: give(SimpleNamespace(record={})),
    PAGE: give("<html>"),
    CARD: stop,
    "v2f_engine.cli.evaluate_report:card_measures": give({}),
}
"""A report whose measures are canned, written to its end."""
REPORT = Scene(
    "evaluate report",
    "<data={faces}> --out {out}.html",
    {
        "data": case("{strangers}", (REPORTING, "source.name", "strangers")),
        **reading("{faces} --out {out}.html"),
        "--threshold": case("0.35", (REPORTING, "threshold", 0.35)),
        "--reference": case("{strangers}", (REPORTING, "reference.name", "strangers"), also="--fmr 0.5"),
        "--fmr": case(
            "0.25", (CALIBRATE, "fmr", 0.25), (REPORTING, "fmr", 0.25), also="--reference {strangers}"
        ),
        "--gallery": case("{gallery}", (REPORTING, "gallery.name", "gallery")),
        "--beside": case("{strangers}", (REPORTING, "beside.0.name", "strangers")),
        "--accuracy": case("mine={verification}", (REPORTING, "accuracy.0.name", "mine")),
        "--groups": case("yaw", (REPORTING, "groups", "yaw")),
        "--card": case(None, (CARD, "root", "{faces}"), also="--no-card", spies=WHOLE),
        **OVERWRITE,
        "--out": case(
            "{out}-b.html", (WRITE, "path", "{out}-b.html"), (WRITE, "path", "{out}-b.json"), spies=WHOLE
        ),
    },
    {EXTRACT: features, REPORTING: stop},
)

READ = "v2f_engine.evaluate.tables.results:read_result"
MAKE = "v2f_engine.evaluate.tables.build:_table"
TABLE = Scene(
    "evaluate table",
    "<results={result}>",
    {
        "results": case("{other_result}", (READ, "path", "{other_result}")),
        "--name": case("mine", (MAKE, "rows.0.name", "mine")),
        "--table": case("challenging", (MAKE, "layout.key", "challenging")),
        "--order": case("below", (MAKE, "order", "below")),
        "--against": case("VFace10K", (MAKE, "against", ["VFace10K"])),
        "--format": case("csv", ("v2f_engine.evaluate.tables.formats:render", "form", "csv")),
        "--out": case("{out}-b.md", (WRITE, "path", "{out}-b.md")),
        "--overwrite": case(None, (CLAIM, "overwrite", True), also="--out {out}.md"),
    },
)

SCENES = (SEPARABILITY, CONSISTENCY, LEAKAGE, VERIFICATION, IJB, REPORT, TABLE)

"""Which way of drawing, placing and choosing makes the better training set? The claim in miniature over all of them.

    python -m bench.claims.recognisers.methods --out runs/methods           # all perturbations, nothing else
    python -m bench.claims.recognisers.methods --perturbation within --perturbation wide \
        --packing no --packing yes --selection all --selection diverse      # 2 x 2 x 2 methods
    python -m bench.claims.recognisers.methods --report                     # nothing new: the table of what is there

Protocol. Sets of equal size, of people of the same seed, differ in nothing but
  the perturbation: how vectors of images lie around their identity's (`PERTURBATIONS`; `within` is the covariance of
      rendered people of the generator's own training set, fitted by `v2f ids within`);
  packing: whether the people were moved apart after rejection (`v2f ids pack` at its defaults);
  selection: whether all images are kept, or the best of 1.6 times as many (`SELECTIONS`; `generate --make --keep`).
The same small recogniser is trained on each for the same number of steps, from `--trainings` seeds, and tested on seven
sets of rendered pairs, as in `bench.claims.recognisers`, whose stages these are; so is a set of rendered people. Every
stage resumes. Intervals are Welch's, 95 %, over the seeds of the recogniser: people and test pairs are the same in all.
Beside it what the model's own extractor sees of each set: mean cosine of a person's pairs, EER of all its pairs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import RESULTS
from bench.claims.recognisers.emphases import EMPHASES
from bench.claims.recognisers.methods_picture import figure, table
from bench.claims.recognisers.stages import (
    RECOGNISER,
    SEEDS,
    Progress,
    Recipe,
    accuracy_file,
    average_row,
    extractor_row,
    intra_cosine,
    machine,
    own_features,
    prepare,
    rendered_set,
    say,
    train_and_test,
    written_tests,
)
from v2f_engine.errors import V2FError
from v2f_engine.evaluate.separability import measure_separability
from v2f_engine.models.features import extract_features
from v2f_engine.models.weights import load_recogniser
from v2f_engine.pipeline import generate
from v2f_engine.pipeline.labelled import within_of
from v2f_engine.pipeline.selected import ChoiceOptions
from v2f_engine.rendered import render_people
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.packing import packing
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.perturbation_contract import Around
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.within import Within

PERTURBATIONS = {
    "published": "sigma:0.3,0.5,0.7@0.4,0.4,0.2",
    "narrow": "cosine:0.9,0.85,0.8",
    "wide": "cosine:0.8,0.7,0.6",
    "wider": "cosine:0.7,0.6,0.5",
    "cone": "cone:0.6",
    "open cone": "cone:0.6,unguarded",
    "within": "covariance",
}
"""Of `--perturbation`. `narrow` is what `bench.claims.recognisers` draws by."""
SELECTIONS: dict[str, tuple[str, float | None] | None] = {
    "all": None,
    "centre": ("centre", None),
    "diverse": ("diversity", 0.5),
}
"""Criterion, and the least cosine to the person's centre."""
MADE = 1.6
"""Times as many images as are kept: 80 for 50."""
WITHIN_PEOPLE, WITHIN_IMAGES = 300, 12


@dataclass(frozen=True)
class Method:
    """How a training set is made.

    Args:
        perturbation, selection: names in `PERTURBATIONS` and `SELECTIONS`.
        packed: whether its people were moved apart.
    """

    perturbation: str
    packed: bool = False
    selection: str = "all"

    @property
    def name(self) -> str:
        parts = [self.perturbation, "packed" if self.packed else "", self.selection]
        return ", ".join(part for part in parts if part not in ("", "all"))

    @property
    def folder(self) -> str:
        return self.name.replace(", ", "+").replace(" ", "-")


@dataclass(frozen=True)
class Settings:
    """What decides the results, but for the methods."""

    identities: int
    images: int
    pairs: int
    steps: int
    batch: int
    model: str

    @property
    def made(self) -> int:
        """Images of a person of which `images` are chosen."""
        return round(MADE * self.images)


def fitted_within(out: Path) -> Path:
    """The covariance of rendered people of the generator's training seed, as the extractor sees their images."""
    path = out / "within.safetensors"
    if path.exists():
        return path
    say(f"within: rendering {WITHIN_PEOPLE} people x {WITHIN_IMAGES}")
    recogniser = load_recogniser("mini").model
    features, labels = [], []
    for batch in render_people(SEEDS["generator"], range(WITHIN_PEOPLE), WITHIN_IMAGES):
        features.append(extract_features(recogniser, batch.images, bf16=False))
        labels.append(batch.identity)
    rows, whose = out / "within-features.npy", out / "within-labels.npy"
    np.save(rows, np.concatenate(features))
    np.save(whose, np.concatenate(labels))
    path.write_bytes(within_of([rows], whose).to_bytes())
    return path


def packed_people(out: Path, settings: Settings) -> Identities:
    path = out / "packed.safetensors"
    if not path.exists():
        people = sample_identities(settings.identities, model=settings.model, seed=SEEDS["generated"])
        packing(people).table.save(path)
    return Identities.load(path)


def perturbation(out: Path, method: Method) -> Around:
    words = PERTURBATIONS[method.perturbation]
    return Perturbation.of(f"covariance:{fitted_within(out)}" if words == "covariance" else words)


def generated_set(out: Path, settings: Settings, method: Method, device: str) -> None:
    """A method's set in `out`/sets."""
    chosen = SELECTIONS[method.selection]
    generate(
        None if method.packed else settings.identities,
        settings.images,
        out / "sets" / method.folder,
        model=settings.model,
        format="lmdb",
        seed=SEEDS["generated"],
        identities=packed_people(out, settings) if method.packed else None,
        perturbation=perturbation(out, method),
        choice=None if chosen is None else ChoiceOptions(settings.made, (chosen[0],), chosen[1]),
        device=device,
        progress=Progress(method.name),
    )


def seen(out: Path, source: str) -> dict[str, float]:
    """What `mini`'s extractor sees of a set; kept beside the sets."""
    path = out / "seen" / f"{source}.json"
    if not path.exists():
        features = own_features(out, source)
        rate = measure_separability(features, threshold=0.0).eer
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"pair_cosine": intra_cosine(features), "own_eer": rate}))
    return dict(json.loads(path.read_text()))


def accuracies(out: Path, name: str, trainings: int) -> list[dict[str, float]]:
    """Of the trainings that lie there, by seed."""
    found = (accuracy_file(out, name, seed) for seed in range(trainings))
    return [json.loads(path.read_text()) for path in found if path.exists()]


def run(out: Path, settings: Settings, methods: Sequence[Method], trainings: int, device: str) -> None:
    """All stages of these methods; first each with one seed, so that a run that is ended early says most."""
    written_tests(out, settings.pairs)
    rendered_set(out, settings.identities, settings.images)
    for method in methods:
        generated_set(out, settings, method, device)
        seen(out, method.folder)
    recipe = Recipe(settings.steps, settings.batch, device)
    for seed in range(trainings):
        for source in ["rendered", *(method.folder for method in methods)]:
            train_and_test(out, recipe, source, source, settings.identities, seed)


def record_of(out: Path, told: dict[str, Any], trainings: int, device: str) -> dict[str, Any]:
    """All methods that lie in `out`, with the trainings that ended."""
    rows: dict[str, dict[str, Any]] = {}
    everything = [Method(*parts) for parts in itertools.product(PERTURBATIONS, (False, True), SELECTIONS)]
    sources: list[tuple[str, str, Method | None]] = [("rendered people", "rendered", None)]
    sources += [(method.name, method.folder, method) for method in everything]
    for name, folder, method in sources:
        runs = accuracies(out, folder, trainings)
        if runs:
            how = {} if method is None else vars(method)
            rows[name] = {**how, **average_row(runs), **seen(out, folder)}
    return {
        "protocol": __doc__,
        "settings": told,
        "perturbations": PERTURBATIONS,
        "within": Within.load(fitted).origin if (fitted := out / "within.safetensors").exists() else None,
        "selections": {name: None if how is None else list(how) for name, how in SELECTIONS.items()},
        "made": MADE,
        "emphases": {e.name: e.like for e in EMPHASES},
        "recogniser": RECOGNISER.to_json(),
        "rows": rows,
        "extractor": extractor_row(out),
        "machine": machine(device),
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--perturbation", action="append", choices=PERTURBATIONS, help="all by default")
    parser.add_argument("--packing", action="append", choices=["no", "yes"], help="no by default")
    parser.add_argument("--selection", action="append", choices=SELECTIONS, help="all images by default")
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", action="store_true", help="make nothing: table and plot of what is there")
    parser.add_argument("--results", type=Path, default=RESULTS / "cpu/methods.json", help="and .png")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    settings = Settings(
        options.identities, options.images, options.pairs, options.steps, options.batch, options.model
    )
    methods = [
        Method(drawn, packed == "yes", selection)
        for drawn, packed, selection in itertools.product(
            options.perturbation or PERTURBATIONS, options.packing or ["no"], options.selection or ["all"]
        )
    ]
    try:
        told = prepare(options.out / "settings.json", vars(settings))
        if not options.report:
            started = time.monotonic()
            run(options.out, settings, methods, options.trainings, options.device)
            say(f"{len(methods)} methods in {time.monotonic() - started:.0f} s")
        record = record_of(options.out, told, options.trainings, options.device)
    except V2FError as error:
        print(f"error ({type(error).__name__}): {error}", file=sys.stderr)
        return error.exit_code
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(record, indent=2) + "\n")
    figure(record, options.results.with_suffix(".png"))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The claim over methods: each has a name and folder of its own, and the table says what lies there."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.claims.recognisers.emphases import EMPHASES
from bench.claims.recognisers.methods import (
    MADE,
    PERTURBATIONS,
    SELECTIONS,
    Method,
    Settings,
    parse,
    perturbation,
    record_of,
    run,
)
from bench.claims.recognisers.methods_picture import figure, ordered, table
from v2f_engine.pipeline.selected import ChoiceOptions
from v2f_engine.vectors.perturbation import Perturbation

EVERY = [Method(*parts) for parts in itertools.product(PERTURBATIONS, (False, True), SELECTIONS)]


def test_every_method_has_a_name_and_a_folder_of_its_own() -> None:
    assert len({method.name for method in EVERY}) == len({method.folder for method in EVERY}) == len(EVERY)
    assert Method("open cone", True, "diverse").name == "open cone, packed, diverse"
    assert Method("open cone", True, "diverse").folder == "open-cone+packed+diverse"
    assert Settings(100, 50, 300, 1200, 32, "mini").made == 80


def test_perturbations_and_selections_are_those_that_generate_takes(tmp_path: Path) -> None:
    for name, words in PERTURBATIONS.items():
        if words != "covariance":
            assert perturbation(tmp_path, Method(name)) == Perturbation.of(words)
    assert perturbation(tmp_path, Method("published")) == Perturbation()
    for how in SELECTIONS.values():
        if how is not None:
            assert ChoiceOptions(8, (how[0],), how[1]).rule(round(8 / MADE)).keep == 5


def lay(out: Path, folder: str, values: list[float], cosine: float) -> None:
    """Accuracies as `train_and_test` writes them, and what `seen` keeps."""
    for seed, value in enumerate(values):
        place = out / "recognisers" / f"{folder}-seed{seed}"
        place.mkdir(parents=True)
        (place / "accuracy.json").write_text(json.dumps({e.name: value for e in EMPHASES}))
    (out / "seen").mkdir(exist_ok=True)
    (out / "seen" / f"{folder}.json").write_text(json.dumps({"pair_cosine": cosine, "own_eer": 0.0125}))


def test_the_table_has_what_lies_there_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.claims.recognisers.methods.extractor_row", lambda out: {})
    real, made = [86.0, 86.5, 87.0], [84.0, 83.0, 83.5]
    lay(tmp_path, "rendered", real, 0.655)
    lay(tmp_path, "wide", [82.0], 0.51)
    lay(tmp_path, "within+packed", made, 0.7)
    told = {"identities": 100, "images": 20, "steps": 1200}
    record = record_of(tmp_path, told, trainings=3, device="cpu")
    assert [name for name, _ in ordered(record)] == ["rendered people", "within, packed", "wide"]
    assert record["rows"]["within, packed"]["packed"] is True
    lines = table(record).splitlines()
    assert lines[2].split("|")[2:5] == [" **86.5** (86.0 to 87.0) ", "  ", " 3 "]
    # Two samples of three with variance 1/4: t of 4 degrees of freedom at 0.975 is 2.776.
    half = 2.776 * np.sqrt(2 * 0.25 / 3)
    assert lines[3].split("|")[3].strip() == f"3.00 ({3 - half:.2f} to {3 + half:.2f})"
    assert lines[4].split("|")[3].strip() == "4.50"
    assert lines[4].endswith("| 0.510 | 1.25% |")
    figure(record, tmp_path / "methods.png")
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")


def test_trainings_go_round_the_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended early, every method has as many trainings as another, or one more."""
    done: list[tuple[str, int]] = []
    there = "bench.claims.recognisers.methods"
    for name in ("written_tests", "rendered_set", "generated_set", "seen"):
        monkeypatch.setattr(f"{there}.{name}", lambda *given: None)
    monkeypatch.setattr(
        f"{there}.train_and_test",
        lambda out, recipe, name, source, count, seed: done.append((source, seed)),
    )
    run(tmp_path, Settings(4, 5, 10, 3, 4, "mini"), [Method("cone"), Method("wide", True)], 2, "cpu")
    assert done == [(source, seed) for seed in (0, 1) for source in ("rendered", "cone", "wide+packed")]
    assert parse(["--packing", "yes"]).packing == ["yes"]

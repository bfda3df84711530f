"""`v2f ids plan` for all of the work: parts that add up, each as it is measured, and what cannot be done."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
from command_line import v2f

from v2f_engine.cli import saying
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.forecast import Probe, set_bytes
from v2f_engine.errors import ConfigError, SaturationError
from v2f_engine.pipeline import foreseen
from v2f_engine.pipeline.selected import ChoiceOptions
from v2f_engine.pipeline.whole_plan import Part, WholePlan, Work, plan_work
from v2f_engine.vectors.growth_plan import plan_extension
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.planner import plan_identities
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import GaussianSource

SOURCE = GaussianSource(512)


def test_the_whole_is_its_parts() -> None:
    parts = (
        Part("sample", 5.0, 100, 7, "a"),
        Part("pack", 7.5, 300, 9, "b"),
        Part("images", 2.5, 200, 1, "c"),
    )
    whole = WholePlan(parts, free=10, load=9.0, cores=2)
    assert (whole.seconds, whole.memory, whole.disk, whole.possible) == (15.0, 300, 17, True)
    lines = whole.lines()
    assert [line.split()[0] for line in lines] == ["part", "sample", "pack", "images", "whole", "rates"]
    assert "7 bytes too few" in lines[4]
    assert "load 9.0 on 2 cores" in lines[5]
    never = WholePlan((*parts, Part("nearest", math.inf, 1, 1, "d", "why")), 100, 0.0, 2)
    told = json.loads(json.dumps(never.to_json(), allow_nan=False))
    assert told["whole"]["seconds"] is None
    assert not told["whole"]["possible"]
    assert [one["name"] for one in told["parts"]] == ["sample", "pack", "images", "nearest"]
    assert never.lines()[-1] == "nearest would be refused: why"
    assert "never" in never.lines()[-2]


def test_parts_are_those_that_are_asked_for() -> None:
    plan = plan_identities(300, SOURCE, 0.3, pilot_rows=600)
    names = {
        Work(): ["sample"],
        Work(pack=True, steps=3): ["sample", "pack"],
        Work(around=Perturbation.of("cone:0.6")): ["sample", "nearest"],
        Work(around=Perturbation.of("cone:0.6,unguarded")): ["sample"],
        Work(around=Perturbation.of("sigma:0.3")): ["sample"],
        Work(pack=True, around=Perturbation.of("cone:0.5")): ["sample", "pack", "nearest"],
    }
    for work, expected in names.items():
        whole = plan_work(plan, SOURCE, work)
        assert [part.name for part in whole.parts] == expected
        assert all(0 < part.seconds < 60 and part.memory > 0 and part.disk > 0 for part in whole.parts)


def test_a_table_that_goes_on_is_what_the_rest_is_timed_on() -> None:
    """All parts but the first are of the larger table; the files' seconds stand with the new part."""
    held = sample_identities(250, source=SOURCE, max_cosine=0.3)
    plan = plan_extension(held, 400, SOURCE, pilot_rows=600)
    whole = plan_work(
        plan, SOURCE, Work(pack=True, steps=2, around=Perturbation.of("cone")), held, files_s=5.0
    )
    sample, pack, nearest = whole.parts
    assert sample.seconds == plan.seconds + 5.0
    assert sample.disk == pack.disk == 400 * (512 * 4 + 8)
    assert nearest.disk == 400 * 24
    assert pack.measured.startswith("250 identities")


def test_what_cannot_be_sampled_is_said_and_the_rest_is_planned() -> None:
    source = GaussianSource(24)
    plan = plan_identities(50_000, source, 0.3, pilot_rows=600)
    whole = plan_work(plan, source, Work(pack=True, around=Perturbation.of("cone")))
    assert whole.parts[0].refused == f"about {plan.kept_at_budget:,.0f} can be had"
    assert whole.parts[2].refused is None
    assert math.isfinite(whole.parts[2].seconds)
    assert whole.seconds == math.inf
    with pytest.raises(SaturationError):
        plan.refuse_if_saturated()


@pytest.mark.parametrize("format", ["webdataset", "null"])
def test_images_are_those_of_the_dry_runs_probe(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rate and its bytes, for everybody: one function measures both."""
    asked, probe = [], Probe((5000, 7000), 8.0, "measured here", 3)
    monkeypatch.setattr(
        "v2f_engine.pipeline.generation.prepare", lambda request, *a, **k: asked.append(request)
    )
    # foreseen was imported above: for the first time here, it would keep the other's stand-in for ever.
    monkeypatch.setattr(foreseen, "probe_of", lambda ready, encoder: probe)
    plan = plan_identities(2000, SOURCE, 0.3, pilot_rows=600)
    work = Work(
        around=Perturbation.of("cone:0.5"),
        keep=5,
        choice=ChoiceOptions(9, ("quality",)),
        format=format,
        model="m",
    )
    images = plan_work(plan, SOURCE, work).parts[-1]
    assert images.seconds == 2000 * 5 / 8.0
    beside = 2000 * (512 * 4 + 8 + 24) if format == "webdataset" else 0
    assert images.disk == set_bytes(format, Plan.of(2000, 5, None), probe.sizes, 10_000, 3, ()) + beside
    (request,) = asked
    assert (request.images.images_per_id, request.choice.make, request.choice.by) == (5, 9, ("quality",))
    assert request.images.perturbation == Perturbation.of("cone:0.5")
    assert (request.engine.model, request.output.format) == ("m", format)
    assert len(request.identities.identities) == 64
    with pytest.raises(ConfigError, match="expected as many made or more"):
        plan_work(plan, SOURCE, Work(keep=10, choice=ChoiceOptions(9)))


def test_the_command_says_parts_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from v2f_engine.vectors import mix_plan

    monkeypatch.setattr(
        mix_plan, "plan_identities", lambda *a, **k: plan_identities(*a, **{**k, "pilot_rows": 600})
    )
    words = "ids plan 200 --source gaussian --pack --steps 3 --perturbation cone:0.6"
    said = v2f(*words.split())
    assert [line.split()[0] for line in said.splitlines()[7:12]] == [
        "part",
        "sample",
        "pack",
        "nearest",
        "whole",
    ]
    told = saying.plain(saying.now().values)
    assert [part["name"] for part in told["parts"]] == ["sample", "pack", "nearest"]
    assert told["whole"]["seconds"] == pytest.approx(sum(part["seconds"] for part in told["parts"]))
    assert told["feasible"]


@pytest.mark.slow
def test_selection_is_measured_with_the_generator() -> None:
    """Three of six: about twice the time of three of three, the judge's aside."""
    plan = plan_identities(300, SOURCE, 0.3, pilot_rows=600)
    keep = plan_work(plan, SOURCE, Work(keep=3)).parts[-1]
    choose = plan_work(plan, SOURCE, Work(keep=3, choice=ChoiceOptions(6))).parts[-1]
    assert 1.2 * keep.seconds < choose.seconds < 6 * keep.seconds
    assert SimpleNamespace(**vars(choose)).refused is None

"""The miniature claim: test sets keep the pose, age, beard and exposure they promise; the table tells all rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.claims.recognisers.__main__ import Settings
from bench.claims.recognisers.emphases import (
    EMPHASES,
    PROFILE,
    ImageNumbers,
    Roles,
    assemble,
    exposed,
    is_man,
)
from bench.claims.recognisers.picture import figure, gap, table
from v2f_engine.errors import ConfigError
from v2f_engine.rendered.people import make_person, render_person


def test_image_numbers_stand_for_the_pose_they_were_chosen_by() -> None:
    numbers = ImageNumbers(505)
    chosen = [numbers.next(3, PROFILE) for _ in range(3)]
    assert len(set(chosen)) == 3
    yaw = np.abs(render_person(make_person(505, 3), chosen).attributes["yaw"])
    assert ((yaw >= PROFILE[0]) & (yaw < PROFILE[1])).all()


def test_a_person_may_be_older_or_bearded_and_stays_who_he_is() -> None:
    man = next(identity for identity in range(20) if is_man(505, identity))
    own = make_person(505, man)
    assert make_person(505, man, age=own.age).neutral == pytest.approx(own.neutral)
    young, old = (make_person(505, man, age=age) for age in (25, 60))
    assert (young.age, old.age) == (25, 60)
    # The same person's face moves less with the years than two people's faces differ.
    other = make_person(505, man + 1, age=25)
    between = np.abs(young.neutral - other.neutral).mean()
    assert 0 < np.abs(young.neutral - old.neutral).mean() < between
    bare, full = (make_person(505, man, beard=kind) for kind in ("none", "full"))
    assert np.array_equal(bare.neutral, full.neutral)
    assert full.hair_maps[..., 0].sum() != bare.hair_maps[..., 0].sum() or (full.skin != bare.skin).any()
    with pytest.raises(ConfigError, match="beard 'ful' is not known; did you mean 'full'"):
        make_person(505, man, beard="ful")
    with pytest.raises(ConfigError, match="age must lie between"):
        make_person(505, man, age=5)


def test_exposure_is_in_powers_of_two_of_the_light() -> None:
    image = np.full((2, 2, 3), 128, np.uint8)
    darker = exposed(image, -1.0)
    assert darker[0, 0, 0] == round(255 * ((128 / 255) ** 2.2 / 2) ** (1 / 2.2))
    assert exposed(image, 5.0).min() == 255
    assert exposed(image, 0.0) is image


def test_pairs_alternate_and_an_impostor_is_another_person() -> None:
    roles = [Roles([b"g%d" % n, b"h%d" % n], [b"a%d" % n, b"b%d" % n]) for n in range(23)]
    images, same = assemble(roles, own_double=False)
    assert len(images) == 80
    assert same == [True, False] * 20
    assert images[:4] == [b"g0", b"h0", b"a0", b"b10"]
    assert all(images[i][1:] == images[i + 1][1:] for i in range(0, 80, 4))
    assert all(images[i + 2][1:] != images[i + 3][1:] for i in range(0, 80, 4))
    doubles, _ = assemble(roles, own_double=True)
    assert doubles[2:4] == [b"a0", b"b0"]
    assert {emphasis.like.split(",")[0] for emphasis in EMPHASES} >= {
        "LFW",
        "CFP-FP",
        "CPLFW",
        "Hadrian",
        "Eclipse",
    }


def test_the_table_and_the_curve_tell_every_row(tmp_path: Path) -> None:
    names = [emphasis.name for emphasis in EMPHASES]

    def row(source: str, count: int, value: float) -> dict[str, object]:
        return {
            "source": source, "identities": count, "images": count * 20,
            "accuracy": dict.fromkeys(names, value), "average": value,
        }  # fmt: skip

    record = {
        "emphases": {emphasis.name: emphasis.like for emphasis in EMPHASES},
        "rows": {
            "c": row("generated", 1000, 84.5),
            "a": row("rendered", 100, 83.0),
            "b": row("generated", 100, 80.25),
        },
    }
    lines = table(record).splitlines()
    assert lines[2].startswith("| rendered | 100 | 2,000 | 83.0 |")
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["100", "100", "1,000"]
    assert lines[-1].endswith("**84.5** |")
    figure(record, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_gap_says_its_interval_or_that_it_has_none() -> None:
    def row(source: str, averages: list[float]) -> dict[str, object]:
        return {
            "source": source, "identities": 100, "images": 2000, "accuracy": {},
            "average": float(np.mean(averages)), "averages": averages,
        }  # fmt: skip

    real, made = [88.0, 89.0, 90.0], [86.0, 86.5, 88.5]
    record = {"emphases": {}, "rows": {"b": row("generated", made), "a": row("rendered", real)}}
    variances = [np.var(real, ddof=1) / 3, np.var(made, ddof=1) / 3]
    freedom = sum(variances) ** 2 / sum(v**2 / 2 for v in variances)  # Welch and Satterthwaite
    assert 3 < freedom < 4  # Student's t at 0.975 lies between 3.182 (3) and 2.776 (4)
    text = gap(record)
    assert text.startswith("gap at 100 identities: 2.00 points (95 % interval -")
    low, high = (float(part) for part in text.split("interval ")[1].split(",")[0].split(" to "))
    assert (low + high) / 2 == pytest.approx(2.0, abs=0.01)
    assert 2.776 * sum(variances) ** 0.5 < (high - low) / 2 < 3.182 * sum(variances) ** 0.5
    assert "(86.0 to 88.5)" in table(record)
    record["rows"] = {"b": row("generated", made[:1]), "a": row("rendered", real[:1])}
    assert gap(record) == "gap at 100 identities: 2.00 points (one training of each: no interval)"


def test_the_equal_sets_and_the_curve_have_trainings_of_their_own() -> None:
    settings = Settings(100, 20, (2, 10), 300, 6000, 32, "mini", trainings=3, curve_trainings=2)
    assert [(name, times) for name, _, _, times in settings.sets()] == [
        ("rendered 100", 3), ("generated 100", 3), ("generated 1000", 2), ("generated 200", 2),
    ]  # fmt: skip

"""Every option of every command, given a value that is not its default: the value arrives where it is used.

The tables (`wiring_*.py`) say for each option what is typed and in which function's argument it must be seen.
Each is run twice, with the option and without: the value must be seen with it and not without it, so that an
entry which would always pass fails. An option or a command without an entry fails `test_nothing_is_left_out`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import wiring_evaluate
import wiring_export
import wiring_generate
import wiring_hub
import wiring_ids
import wiring_train
import wiring_ui
from wiring_case import (
    Case,
    Played,
    Scene,
    cases_of,
    commands,
    missing,
    names_of,
    own_of,
    play,
    spies_of,
    typed,
)

SCENES = {
    scene.command: scene
    for table in (
        wiring_generate,
        wiring_ids,
        wiring_train,
        wiring_evaluate,
        wiring_export,
        wiring_hub,
        wiring_ui,
    )
    for scene in table.SCENES
}
CASES = [(command, name, case) for command, scene in SCENES.items() for name, case in cases_of(scene)]
Run = Callable[[Scene, str, Case, bool], Played]


def test_nothing_is_left_out() -> None:
    """The command line's own tree against the tables, both ways."""
    found = commands()
    assert set(found) == set(SCENES)
    for command, click_command in found.items():
        table = set(SCENES[command].options)
        untold = [names_of(p) for p in own_of(click_command) if not names_of(p) & table]
        assert untold == [], f"v2f {command}: say in the table where the value of these ends: {untold}"
        unknown = table - {name for p in click_command.params for name in names_of(p)}
        assert unknown == set(), f"v2f {command} has no {unknown}"


@pytest.fixture(scope="module")
def run(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a case; runs without an option, of which many are alike, are kept."""
    kept: dict[tuple[str, ...], Played] = {}
    numbers, folder = count(), tmp_path_factory.mktemp("runs")

    def run(scene: Scene, name: str, case: Case, with_it: bool) -> Played:
        spies = spies_of(scene, case)
        words = typed(scene, name, case, with_it, {**places, "out": "OUT"})
        alike = (*words, *sorted(spies), *map(str, spies.values()))
        if with_it or alike not in kept:
            out = folder / f"{next(numbers)}"
            kept[alike] = play(typed(scene, name, case, with_it, {**places, "out": out}), spies)
            kept[alike].calls["out"] = [{"out": out}]
        return kept[alike]

    return run


@pytest.mark.parametrize(
    ("command", "name", "case"),
    CASES,
    ids=[f"{command} {name} {case.words}" for command, name, case in CASES],
)
def test_the_value_arrives(command: str, name: str, case: Case, places: dict[str, Path], run: Run) -> None:
    scene = SCENES[command]
    played = run(scene, name, case, True)
    here = {**places, "out": played.calls["out"][0]["out"]}
    assert missing(played, case, here) == [], played.ended
    without = run(scene, name, case, False)
    assert len(missing(without, case, here)) == len(case.seen), (
        "seen without the option, too: this entry shows nothing"
    )

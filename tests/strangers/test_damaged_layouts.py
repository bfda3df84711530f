"""Every layout, damaged in every way: the exact people that are then there, or a named error; nothing else, ever.

What is exact is computed by `damages` from what was done, never by a reader. `-s` prints how many cases of each.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from all_layouts import LAYOUTS, Layout, picture
from damage_case import Case, Damage, Expected
from damages import DAMAGES
from people_given import Groups, People, groups

from v2f_engine.data import convert_dataset, open_dataset
from v2f_engine.errors import V2FError

LIMIT_S = 60
"""Seconds after which a reader hangs; a case takes milliseconds."""


def drawn(rng: random.Random) -> list[list[bytes]]:
    """2 to 5 people of 1 to 4 pictures, the first two of at least two."""
    numbers = iter(rng.sample(range(400), 20))
    counts = [rng.randint(1, 4) for _ in range(rng.randint(2, 5))]
    counts[:2] = [max(2, count) for count in counts[:2]]
    return [[picture(next(numbers)) for _ in range(count)] for count in counts]


@contextmanager
def limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise AssertionError(f"not read within {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(path: Path, split: str | None = None) -> Groups:
    """Everything that a reader gives, decoded to the last picture, its books balanced."""
    found = open_dataset(path, split=split)
    account = found.account()
    people: dict[int, list[bytes]] = {}
    for index, (data, label) in enumerate(found):
        people.setdefault(label, []).append(data)
        found.image(index)
    held = groups(list(people.values()))
    assert (account.images, account.identities, account.missing) == (sum(map(len, held)), len(held), 0)
    return held


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Layout, int], tuple[Layout, People]]:
    """Sets of ours take half a second to be written: each once, and copied."""
    root = tmp_path_factory.mktemp("ours")

    @cache
    def of(layout: Layout, seed: int) -> tuple[Layout, People]:
        people = drawn(random.Random(seed))
        made = layout.maker(root / f"{layout.name} {seed}", people)

        def copied(folder: Path, _: People) -> Path:
            shutil.copytree(made, folder / made.name)
            return folder / made.name

        return replace(layout, maker=copied), people

    return of


def run(case: Case, damage: Damage) -> str | None:
    """`"exact"` or `"refused"`; None where the damage does not apply.

    Raises:
        AssertionError: other data than is there, another error, or a refusal of what nothing happened to.
    """
    expected = damage(case)
    if expected is None:
        return None
    try:
        with limited():
            found = read(case.path)
    except V2FError as error:
        if expected.must:
            raise AssertionError(f"refused, though nothing is lost: {error}") from error
        assert len(str(error)) > 30, error
        return "refused"
    counts = f"{len(found)} people with {sum(map(len, found))} pictures"
    allowed = [f"{len(each)} people with {sum(map(len, each))} pictures" for each in expected.data]
    if found not in expected.data:
        raise AssertionError(f"read as {counts}; right: {' or '.join(allowed) or 'an error'}")
    return "exact"


def every(
    root: Path,
    kept: Callable[[Layout, int], tuple[Layout, People]],
    seeds: Sequence[int],
    converted: int,
) -> tuple[Counter[tuple[str, str]], Counter[str], list[str]]:
    """(cases by family and damage, answers, what went wrong) of all layouts, damages and seeds."""
    cases: Counter[tuple[str, str]] = Counter()
    answers: Counter[str] = Counter()
    wrong: list[str] = []
    for layout in LAYOUTS:
        for name, damage in DAMAGES:
            for seed in seeds:
                rng = random.Random(f"{layout.name} {name} {seed}")
                folder = root / str(cases.total()) / "set"
                folder.mkdir(parents=True)
                used, people = (
                    kept(layout, seed % 3) if layout.name.startswith("ours") else (layout, drawn(rng))
                )
                case = Case(used, folder, [[*pictures] for pictures in people], rng)
                try:
                    answer = run(case, damage)
                    if answer == "exact" and converted and answers["exact"] % converted == 0:
                        convert_dataset(case.path, folder.with_name("new"), "webdataset")
                        assert read(folder.with_name("new")) == read(case.path), "converted to other people"
                        answers["converted"] += 1
                except Exception as error:  # every other error is wrong, whatever it is
                    wrong.append(f"{layout.name}, {name}, seed {seed}: {type(error).__name__}: {error}")
                    answer = "wrong"
                if answer is not None:
                    cases[layout.family, name] += 1
                    answers[answer] += 1
                shutil.rmtree(folder.parent)
    return cases, answers, wrong


def told(cases: Counter[tuple[str, str]], answers: Counter[str]) -> str:
    """The table of cases: a line a damage, a column a family; `-` where it does not apply."""
    families = list(dict.fromkeys(layout.family for layout in LAYOUTS))
    lines = [" " * 20 + "".join(f"{family:>9}" for family in families)]
    for name, _ in DAMAGES:
        lines.append(f"{name:20}" + "".join(f"{cases[family, name] or '-':>9}" for family in families))
    lines.append(
        f"{cases.total()} damaged sets of {len(LAYOUTS)} layouts in {len(DAMAGES)} ways: {answers['exact']} read "
        f"exactly ({answers['converted']} of them converted), {answers['refused']} refused by name, "
        f"{answers['wrong']} wrong"
    )
    return "\n".join(lines)


def test_every_damaged_layout_is_read_exactly_or_refused(
    tmp_path: Path, kept: Callable[[Layout, int], tuple[Layout, People]]
) -> None:
    cases, answers, wrong = every(tmp_path, kept, [0], 40)
    print(told(cases, answers))
    assert not wrong, "\n".join(wrong)
    assert cases.total() >= 1000, f"{cases.total()} cases"
    assert all(sum(cases[family, name] for family, _ in cases) for name, _ in DAMAGES)


@pytest.mark.slow
def test_thousands_of_damaged_layouts(
    tmp_path: Path, kept: Callable[[Layout, int], tuple[Layout, People]]
) -> None:
    cases, answers, wrong = every(tmp_path, kept, range(1, 13), 100)
    print(told(cases, answers))
    assert not wrong, "\n".join(wrong)
    assert cases.total() >= 10_000, f"{cases.total()} cases"


def flipped_footer(case: Case) -> Expected:
    """A bit of a Parquet file's footer, which has no checksum."""
    case.make()
    path = case.rng.choice(case.files("*.parquet"))
    held = bytearray(path.read_bytes())
    length = int.from_bytes(held[-8:-4], "little")
    held[len(held) - 8 - case.rng.randrange(1, length + 1)] ^= 1 << case.rng.randrange(8)
    path.write_bytes(held)
    return case.whole()


@pytest.mark.slow
def test_footers_of_tables_are_read_exactly_or_refused(
    tmp_path: Path, kept: Callable[[Layout, int], tuple[Layout, People]]
) -> None:
    """In a process each: pyarrow ends it (SIGABRT) for about one in 500, which `v2f inspect` reports."""
    answers: Counter[str] = Counter()
    wrong = []
    for layout in LAYOUTS:
        for seed in range(60 if layout.family == "parquet" else 0):
            rng = random.Random(f"{layout.name} footer {seed}")
            folder = tmp_path / f"{layout.name} {seed}"
            folder.mkdir()
            used, people = kept(layout, seed % 3) if layout.name.startswith("ours") else (layout, drawn(rng))
            child = os.fork()
            if child == 0:
                try:
                    case = Case(used, folder, [[*pictures] for pictures in people], rng)
                    os._exit(0 if run(case, flipped_footer) == "exact" else 1)
                except BaseException:
                    os._exit(2)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            answers[{0: "exact", 1: "refused", -signal.SIGABRT: "ended by pyarrow"}.get(code, "wrong")] += 1
            if code not in (0, 1, -signal.SIGABRT):
                wrong.append(f"{layout.name}, seed {seed}: {code}")
            shutil.rmtree(folder)
    print(f"{answers.total()} flipped bits of footers: {dict(answers)}")
    assert not wrong, wrong
    assert answers["ended by pyarrow"] < answers.total() // 100

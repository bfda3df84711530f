"""Applies one mutant at a time in a copy of the tree, runs the tests that must notice, prints the table.

    python tests/mutants/run.py [WORDS ...]     # only mutants whose name or file has one of the words

Tables are the files `table_*.py` beside this one; each holds `MUTANTS`. The copy is the working tree as it is:
what git tracks or would track, and the compiled extension. Nothing outside a temporary folder is written. A
mutant is *killed* when its tests fail under it and pass without it; *survived* when they pass; *stale* when
its old text is not found exactly once. Exit status: 0 when all were killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutant import ROOT, Mutant

LIMIT_S = 600.0
"""A mutant that makes its tests hang is killed, too."""
FAILED = 1
"""Exit status of pytest when tests ran and some failed; 2 and above mean that they did not run."""


def mutants() -> list[Mutant]:
    """All tables."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("table_*.py"))
    return [mutant for name in names for mutant in import_module(name).MUTANTS]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `verdict` is killed, survived, stale or broken; `why` names a test or a reason."""

    mutant: Mutant
    verdict: str
    why: str
    seconds: float


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the working tree in a temporary folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    built = [str(path.relative_to(ROOT)) for path in (ROOT / "kernels").rglob("*.so")]
    with tempfile.TemporaryDirectory(prefix="v2f-mutants-") as folder:
        for name in filter(None, [*listed, *built]):
            source, target = ROOT / name, Path(folder) / name
            if source.is_file():  # a file may have been deleted and not yet committed
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        yield Path(folder)


def run_tests(root: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """(exit status, the first test that failed or the last words of pytest)."""
    # Byte code is compared by time and size: two versions of a file within a second would be taken for one.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{root}:{root / 'kernels'}"}
    if "interpreter" in tests:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED, f"still running after {LIMIT_S:.0f} s"
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, (failed or lines[-1:] or ["no output"])[0]


def judge(root: Path, mutant: Mutant, sound: dict[tuple[str, ...], str]) -> Outcome:
    """Applies a mutant to the copy at `root`, runs its tests and takes it back.

    Args:
        sound: tests -> why they do not pass without a mutant ("" where they do); filled as they are first met.
    """
    started = time.perf_counter()
    why = mutant.stale(root)
    if why:
        return Outcome(mutant, "stale", why, 0.0)
    if mutant.tests not in sound:
        status, words = run_tests(root, mutant.tests)
        sound[mutant.tests] = "" if status == 0 else f"without the mutant: {words}"
    if sound[mutant.tests]:
        return Outcome(mutant, "broken", sound[mutant.tests], time.perf_counter() - started)
    before = mutant.apply(root)
    try:
        status, words = run_tests(root, mutant.tests)
    finally:
        (root / mutant.file).write_text(before)
    verdict = {0: "survived", FAILED: "killed"}.get(status, "broken")
    return Outcome(mutant, verdict, words, time.perf_counter() - started)


def judge_all(chosen: Iterable[Mutant], told: Callable[[Outcome], None]) -> list[Outcome]:
    """Every mutant in one copy of the tree, one after another."""
    outcomes, sound = [], {}
    with copied_tree() as root:
        for mutant in chosen:
            outcomes.append(judge(root, mutant, sound))
            told(outcomes[-1])
    return outcomes


def main(words: list[str]) -> int:
    chosen = [m for m in mutants() if not words or any(w in f"{m.name} {m.file}" for w in words)]

    def told(outcome: Outcome) -> None:
        print(
            f"{outcome.verdict:9}{outcome.seconds:6.1f} s  {outcome.mutant.file}: {outcome.mutant.name}\n"
            f"{'':19}{outcome.why[:150]}",
            flush=True,
        )

    outcomes = judge_all(chosen, told)
    counts = {
        verdict: sum(outcome.verdict == verdict for outcome in outcomes)
        for verdict in ("killed", "survived", "stale", "broken")
    }
    print(f"{len(outcomes)} mutants: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
    return 0 if outcomes and counts["killed"] == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

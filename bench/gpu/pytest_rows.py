"""A pytest plugin that runs a shard of a file and writes every test the moment it is over."""

from __future__ import annotations

from typing import Any

from bench import protocol
from bench.gpu.job import Context

SECTION = "correctness, tests"


def shard_of(items: list[str], shard: int, of: int) -> list[int]:
    """Indices of the items of a shard. Every test function's cases are spread over all shards, neighbours together:
    shards then take equally long, and neighbours share compiled kernels.

    Args:
        items: node identifiers; those that agree up to `[` are cases of one function.
        shard, of: which of how many.
    """
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.partition("[")[0], []).append(index)
    return [
        index
        for number, group in enumerate(groups.values())
        for place, index in enumerate(group)
        if (number + place * of // len(group)) % of == shard
    ]


class Rows:
    """The plugin; `lost` says why no more tests can run in this process, if so."""

    def __init__(self, context: Context, shard: int, of: int) -> None:
        self.context, self.shard, self.of = context, shard, of
        self.begun = context.begun()
        self.failed: dict[str, str] = {}
        self.lost = ""
        self.session: Any = None

    def pytest_sessionstart(self, session: Any) -> None:
        self.session = session

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        mine = [items[i] for i in shard_of([item.nodeid for item in items], self.shard, self.of)]
        items[:] = [item for item in mine if item.nodeid not in self.begun]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._row(report.nodeid, False, f"cannot be collected: {_last_line(report)}")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.context.begin(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.context.note(f"{report.nodeid}: {why}")
        elif report.failed:
            self._row(report.nodeid, False, f"{report.when}: {_last_line(report)}")
            if self.context.lost():
                self.lost = f"the device answers no more after {report.nodeid}"
                self.session.shouldstop = self.lost
        elif report.when == "call":
            self._row(report.nodeid, True, f"passed in {report.duration:.2f} s")

    def _row(self, nodeid: str, passed: bool, words: str) -> None:
        self.context.row(protocol.Row(SECTION, nodeid, "pytest", passed, words))


def _last_line(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).strip()[:400]

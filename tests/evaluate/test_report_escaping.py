"""Names in a report are words: whatever they contain, the page has the elements it has for plain names."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.evaluate.report import Report, make_report, page
from v2f_engine.evaluate.source import FeatureSource

NAMES = st.one_of(
    st.sampled_from(
        (
            "<img src=x onerror=alert(1)>",
            "</title><script>alert(1)</script>",
            '" onmouseover="alert(1)',
            "' onmouseover='alert(1)",
            "&lt;b&gt;",
            "--><svg/onload=alert(1)>",
            "undecodable \udcff",
        )
    ),
    st.text(st.sampled_from("<>&\"'/=-! \nabonx"), max_size=24),
    st.text(max_size=16),
)
WORDS = (
    "name",
    "what",
    "threshold_from",
    "command",
    "gallery_name",
    "part",
    "licence",
    "trained_on",
    "sha256",
)
"""Entries of a record that hold a name or words from outside."""


class Elements(HTMLParser):
    """Every element of a page with the names of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, ...]] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[(tag, *(key for key, _ in attrs))] += 1


def elements(report: Report) -> Counter[tuple[str, ...]]:
    parser = Elements()
    parser.feed(page(report).encode().decode())
    return parser.seen


def people(seed: int) -> FeatureSource:
    dice = np.random.default_rng(seed)
    labels = np.repeat(np.arange(20), 4)
    rows = dice.standard_normal((20, 16))[labels] + 0.5 * dice.standard_normal((80, 16))
    return FeatureSource("n", rows.astype(np.float32), labels, recogniser={"name": "n", "sha256": "00"})


@pytest.fixture(scope="module")
def report() -> Report:
    sets = [{"name": "n", "accuracy": 0.9, "deviation": 0.1, "pairs": 10}]
    made = make_report(
        people(1),
        threshold=0.4,
        threshold_from="n",
        gallery=people(2),
        reference=people(3),
        beside=[people(4)],
        accuracy=[{"name": "n", "average": 0.9, "sets": sets}],
        command="n",
    )
    dataset = {
        **made.record["dataset"],
        "settings": [["n", "n"]],
        "licences": [{"part": "n", "name": "n", "licence": "n", "trained_on": "n", "sha256": "n"}],
    }
    return replace(made, record={**made.record, "dataset": dataset})


def renamed(value: Any, name: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {inner: renamed(item, name, inner) for inner, item in value.items()}
    if isinstance(value, list | tuple) and key != "settings":
        return [renamed(item, name, key) for item in value]
    if key == "settings":
        return [[name, name]]
    return name if isinstance(value, str) and key in WORDS else value


@given(NAMES)
@settings(max_examples=80, deadline=None)
def test_a_name_adds_no_element_and_no_attribute(report: Report, name: str) -> None:
    plain = elements(replace(report, record=renamed(report.record, "a name")))
    assert elements(replace(report, record=renamed(report.record, name or "a"))) == plain

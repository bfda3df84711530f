"""The page as a browser lays it out: nothing sideways on a telephone, faces over a desktop, legible in the dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from v2f_engine.batch import ImageBatch
from v2f_engine.data import open_dataset
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.evaluate.report import make_report, page
from v2f_engine.evaluate.source import FeatureSource

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

CONTRAST = """() => {
  const light = text => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
      .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return ['p', 'td', 'td small', '.note', '.good', '.bad', 'h2', '.legend'].map(which => {
    const found = document.querySelector(which);
    if (!found) return [which, null];
    const ink = light(getComputedStyle(found).color);
    return [which, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)];
  });
}"""
"""Contrast of words to the paper, as WCAG 2 counts it; 4.5 is what it asks of text."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of eleven people, one of which varies more, with pictures, on one page."""
    root = tmp_path_factory.mktemp("sets")
    dice = np.random.default_rng(0)
    sources = []
    for name, spread in (("a set with a rather long name", 0.6), ("other", 2.0)):

        def make(ids: range) -> Any:
            for identity in ids:
                faces = dice.integers(0, 256, (8, 7, 7, 3), np.uint8).repeat(16, 1).repeat(16, 2)
                yield ImageBatch(faces, np.full(8, identity), np.arange(8), {})

        write_dataset(root / name, {"seed": 1}, Plan.of(11, 8), make, format="imagefolder")
        dataset = open_dataset(root / name)
        rows = dice.standard_normal((11, 32))[dataset.labels] + spread * dice.standard_normal((88, 32))
        reader = {"name": "toy", "sha256": "00" * 32}
        sources.append(
            FeatureSource(name, rows.astype(np.float32), dataset.labels, dataset, np.arange(88), reader)
        )
    made = make_report(
        sources[0], threshold=0.4, threshold_from="given", beside=sources[1:], gallery=sources[1]
    )
    path = root / "report.html"
    path.write_text(page(made))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def shown(browser: Any, file: Path, width: int, scheme: str = "light") -> Any:
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    return tab


def test_a_telephone_shows_every_difference_and_nothing_sideways(browser: Any, file: Path) -> None:
    tab = shown(browser, file, 390)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    rows = tab.query_selector_all(".stack tbody tr")
    assert len(rows) > 15
    for row in rows:
        for cell in row.query_selector_all("td"):
            box = cell.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
    labels = tab.eval_on_selector_all(
        ".stack td[data-name]",
        "all => new Set(all.map(one => getComputedStyle(one, '::before').content)).size",
    )
    assert labels == 2  # each value says of which set it is


def test_faces_fill_a_desktop(browser: Any, file: Path) -> None:
    tab = shown(browser, file, 1440)
    boxes = [one.bounding_box() for one in tab.query_selector_all(".faces img")]
    assert len(boxes) == 2 * 8 * 8
    assert max(box["x"] + box["width"] for box in boxes) - min(box["x"] for box in boxes) > 1300
    assert min(box["width"] for box in boxes) > 60
    assert {round(box["width"]) == round(box["height"]) for box in boxes} == {True}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(browser: Any, file: Path, scheme: str) -> None:
    found = dict(shown(browser, file, 1440, scheme).evaluate(CONTRAST))
    assert found["td"] is not None
    assert found["td small"] is not None
    assert {
        which: contrast for which, contrast in found.items() if contrast is not None and contrast < 4.5
    } == {}


def test_pictures_have_words_and_charts_have_titles(browser: Any, file: Path) -> None:
    tab = shown(browser, file, 1440)
    words = tab.eval_on_selector_all("img", "all => all.map(one => one.alt)")
    assert "identity 1, image 1" in words
    assert "made face of pair 1" in words
    assert all(words)
    titles = tab.eval_on_selector_all("svg", "all => all.map(one => one.getAttribute('aria-label'))")
    assert all(titles)
    assert len(set(titles)) == len(titles)

"""The published figures: complete, from named sources, and equal to the mean of what they average."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from v2f_engine.evaluate.tables import make_tables
from v2f_engine.evaluate.tables import published as p
from v2f_engine.evaluate.tables.layouts import LAYOUTS

ROOT = Path(__file__).parents[2]
TABLES = (p.VERIFICATION, p.CHALLENGING, p.IJB, p.LEAKAGE, p.SEPARABILITY)
SYSTEMS = (
    "SynFace", "GANDiffFace", "SFace", "IDnet", "ExFaceGAN", "SFace2", "Langevin-DisCo", "DigiFace", "IDiff-Face",
    "HyperFace", "DCFace", "ID³", "Arc2Face", "CemiFace", "ADMIS Syn_10k", "ADMIS Syn_30k", "VIGFace(S)", "VIGFace(B)",
    "VIGFace(L)", "VariFace", "CASIA-WebFace", "WebFace4M",
)  # fmt: skip
FAMILY = [f"{name}{size}K" for name, sizes in (("HSFace", (10, 20, 100, 200, 300)), ("VFace", (10, 20, 100, 300)))
          for size in sizes]  # fmt: skip


def test_every_system_of_the_talk_is_there() -> None:
    names = [row.name for row in p.VERIFICATION]
    assert set(SYSTEMS) | set(FAMILY) <= set(names)
    assert len(names) == len(set(names)) == 50
    for table in (p.CHALLENGING, p.IJB, p.LEAKAGE):
        assert set(FAMILY) <= {row.name for row in table}


def test_averages_are_the_mean_of_the_five() -> None:
    """IDnet's source states 79.13 beside figures whose mean is 77.20, and the row says so."""
    checked = 0
    for row in p.VERIFICATION:
        if row.accuracy is None:
            continue
        if row.name == "IDnet":
            assert "77.20" in row.note
            assert np.mean(row.accuracy) == pytest.approx(77.20, abs=0.005)
            continue
        assert row.average == pytest.approx(np.mean(row.accuracy), abs=0.0101), row.name
        checked += 1
    assert checked >= 35


def test_figures_of_the_readmes() -> None:
    """Typed a second time from the READMEs of Vec2Face (9d9fa8c) and Vec2Face+ (7aea100)."""
    rows = {row.name: row for row in p.VERIFICATION}
    assert rows["HSFace100K"].accuracy == (99.25, 90.36, 86.75, 94.38, 94.12)
    assert rows["HSFace200K"].accuracy == (99.23, 90.81, 87.30, 94.22, 94.52)
    assert rows["VFace100K"].accuracy == (99.52, 95.09, 90.23, 95.17, 94.38)
    averages = [rows[name].average for name in FAMILY]
    assert averages == [92.00, 92.47, 92.97, 93.22, 93.52, 93.89, 94.60, 94.88, 94.93]
    assert [rows[name].images for name in FAMILY] == [
        500_000, 1_000_000, 5_000_000, 10_000_000, 15_000_000, 500_000, 1_000_000, 4_000_000, 12_000_000,
    ]  # fmt: skip
    four = {row.name: [f.value for f in row.figures.values()] for row in p.CHALLENGING}
    assert four["HSFace200K"] == [79.85, 71.12, 95.70, 89.86]
    assert four["CASIA-WebFace"] == [77.82, 68.52, 96.95, 95.11]  # the project page misprints Eclipse


def test_every_row_and_figure_has_a_source() -> None:
    for table in TABLES:
        assert len({row.name for row in table}) == len(table)
        for row in table:
            for source in (row.source, *(figure.source for figure in row.figures.values())):
                assert source.url.startswith("https://")
                assert source.name
                assert source.revision


def test_what_was_read_off_a_plot_says_so() -> None:
    for row in p.VERIFICATION:
        off_plot = [figure.off_plot for figure in row.figures.values()]
        assert all(off_plot) if row.source is p.PLUS_PLOT else not any(off_plot), row.name
    assert all(figure.off_plot for row in p.SEPARABILITY for figure in row.figures.values())


def test_every_shown_row_with_a_figure_names_its_source() -> None:
    for table in make_tables():
        assert len(table) == len(LAYOUTS[table.key].rows)
        for line in table:
            if any(cell.value is not None for cell in line.cells):
                note = table.footnotes[line.notes[0] - 1]
                assert line.source in note.text
                assert note.url == line.url


@pytest.mark.parametrize("figure", ["98.87", "93.52", "79.85", "94.88"])
def test_no_figure_is_written_twice(figure: str) -> None:
    """A second copy in the code would be forgotten when one is corrected."""
    files = [
        path for path in (ROOT / "v2f_engine").rglob("*.py") if re.search(rf"\b{figure}\b", path.read_text())
    ]
    assert [path.name for path in files] == ["published.py"]

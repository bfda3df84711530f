"""Every number of the report in its own cell: a record of numbers that are all different, looked up on the page."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from v2f_engine.evaluate.report import make_report, page
from v2f_engine.evaluate.report.measure import Report
from v2f_engine.evaluate.source import FeatureSource

FMR = 0.002
THRESHOLD = 0.4


def people(identities: int, each: int, seed: int, name: str, spread: float) -> FeatureSource:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), each)
    rows = generator.standard_normal((identities, 64))[labels]
    rows = rows + spread * generator.standard_normal((len(labels), 64))
    return FeatureSource(
        name, rows.astype(np.float32), labels, recogniser={"name": "toy", "sha256": "00" * 32}
    )


@pytest.fixture(scope="module")
def made() -> Report:
    """Ours vary little, the known people much; the gallery is larger than either."""
    return make_report(
        people(40, 5, 1, "ours", 1.0),
        threshold=THRESHOLD,
        threshold_from="given",
        gallery=people(130, 3, 2, "gallery", 0.8),
        reference=people(50, 4, 3, "known", 1.4),
        fmr=FMR,
    )


def test_a_reference_is_measured_by_itself_and_the_gallery_by_its_size(made: Report) -> None:
    record = made.record
    for section, source in (
        (record, people(40, 5, 1, "ours", 1.0)),
        (record["reference"], people(50, 4, 3, "known", 1.4)),
    ):
        units = source.features / np.linalg.norm(source.features, axis=1, keepdims=True)
        cosine = (units @ units.T)[np.triu_indices(len(units), 1)]
        labels = np.asarray(source.labels)
        same = (labels[:, None] == labels)[np.triu_indices(len(units), 1)]
        apart = section["separability"]
        assert apart["identities"] == len(np.unique(labels))
        assert apart["genuine_pairs"] == same.sum()
        assert apart["genuine_mean"] == pytest.approx(cosine[same].mean(), abs=1e-5)
        assert apart["genuine_std"] == pytest.approx(cosine[same].std(), abs=1e-5)
        assert apart["impostor_mean"] == pytest.approx(cosine[~same].mean(), abs=5e-3)
        assert section["consistency"]["pair_cosine"] == pytest.approx(cosine[same].mean(), abs=1e-5)
        assert section["dcface"]["radius"] == pytest.approx(1 - THRESHOLD)
    leaks = record["leakage"]
    assert (leaks["synthetic"], leaks["gallery"]) == (200, 390)
    assert leaks["above"][0]["by_chance"] == pytest.approx(1 - (1 - FMR) ** 390)
    assert leaks["above"][0]["threshold"] == THRESHOLD


class Cells(HTMLParser):
    """Tiles, table rows, paragraphs and figures of a page, as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tiles: dict[str, tuple[str, str]] = {}
        self.rows: list[list[str]] = []
        self._words: dict[str, str] = {}
        self._inside: list[str] = []
        self.paragraphs: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class") or ""
        self._inside.append(f"{tag}.{kind}")
        if self._inside[-1] == "div.tile":
            self._words = {"b": "", "span": "", "small": ""}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "p":
            self.paragraphs.append("")
        if tag in ("meta", "img", "line", "path", "br", "i"):
            self._inside.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in ("meta", "img", "line", "path", "br", "i"):
            return
        if self._inside.pop() == "div.tile":
            self.tiles[self._words["span"]] = (self._words["b"], self._words["small"])

    def handle_data(self, data: str) -> None:
        kinds = [kind.partition(".")[0] for kind in self._inside]
        if "div.tile" in self._inside and kinds[-1] in self._words:
            self._words[kinds[-1]] += data
        if "td" in kinds or "th" in kinds:
            self.rows[-1][-1] += data
        if "p" in kinds:
            self.paragraphs[-1] += data


def distinct(made: Report) -> Report:
    """The same report with made-up numbers, no two of which are written alike."""
    record: dict[str, Any] = copy.deepcopy(made.record)
    record["dataset"] |= {"identities": 1041, "images": 5203}
    record["threshold"] = 0.417
    for section, by in ((record, 0.0), (record["reference"], 0.003)):
        section["separability"] |= {
            "unique_share": 0.911 + by, "eer": 0.021 + by, "fmr100": 0.031 + by, "fmr1000": 0.041 + by,
            "fdr": 7.1 + by * 100, "genuine_mean": 0.701 + by, "genuine_std": 0.101 + by,
            "impostor_mean": 0.051 + by, "impostor_std": 0.111 + by,
            "genuine_pairs": 12_345, "impostor_pairs": 67_891, "impostor_pairs_in_all": 91_876,
        }  # fmt: skip
        section["dcface"] |= {"radius": 0.58, "unique": 0.921 + by, "consistent": 0.931 + by}
        section["consistency"] |= {
            "own_nearest": 0.951 + by, "pair_cosine": 0.721 + by, "pair_cosine_p05": 0.511 + by,
            "pair_cosine_p95": 0.881 + by, "rest_cosine": 0.821 + by,
        }  # fmt: skip
    for section, by in ((record, 0.0), (record["reference"], 0.003)):
        for name, low, high in (
            ("unique_share", 0.9015, 0.9225), ("eer", 0.0195, 0.0225), ("own_nearest", 0.9475, 0.9525),
            ("true_match_at_0.01", 0.9665, 0.9715), ("true_match_at_0.001", 0.9565, 0.9615),
            ("fdr", 6.85, 7.35), ("impostor_mean", 0.049, 0.054), ("leakage", 0.0025, 0.0045),
            ("pair_cosine", 0.715, 0.732),
        ):  # fmt: skip
            known = {"value": 0.5, "identities": 40, "method": "wilson", "why": ""}
            section["intervals"][name] = known | {"low": low + by, "high": high + by}
    record["leakage"] |= {"synthetic": 5204, "gallery": 99_001}
    record["leakage"]["above"] = [
        {"what": "one person", "threshold": 0.417, "count": 17, "share": 0.00327, "by_chance": 0.00411},
        {"what": "published", "threshold": 0.5, "count": 9, "share": 0.00173, "by_chance": None},
    ]
    names = ("lfw", "cfp_fp", "cplfw", "agedb_30", "calfw")
    record["accuracy"] = [
        {"name": "mine", "average": 0.5, "sets": [
            {"name": name, "accuracy": 0.81 + place / 100, "deviation": 0.001, "pairs": 6000}
            for place, name in enumerate(names)
        ]},
        {"name": "other", "average": 0.7654, "sets": [
            {"name": "frontal", "accuracy": 0.7321, "deviation": 0.0213, "pairs": 371}
        ]},
    ]  # fmt: skip
    return Report(record, made.faces, [(None, None, 0.654)])


def test_every_number_is_in_its_own_cell(made: Report) -> None:
    cells = Cells(page(distinct(made)))
    assert cells.tiles == {
        "identities": ("1,041", ""),
        "images measured": ("5,203", ""),
        "unique identities": ("91.10 %", "95 %: 90.15 to 92.25known: 91.40 %"),
        "equal error rate": ("2.10 %", "95 %: 1.95 to 2.25known: 2.40 %"),
        "images nearest to their own identity": ("95.10 %", "95 %: 94.75 to 95.25known: 95.40 %"),
        "images like somebody in the gallery": ("0.33 %", "95 %: 0.25 to 0.45by chance: 0.41 %"),
    }
    apart = cells.rows.index(["set", "EER", "FMR100", "FMR1000", "FDR", "genuine", "impostor", "U", "C"])
    assert cells.rows[apart + 1 : apart + 3] == [  # each with its interval below it
        [
            "ours",
            "2.10 %1.95 to 2.25",
            "3.10 %2.85 to 3.35",
            "4.10 %3.85 to 4.35",
            "7.106.85 to 7.35",
            "0.701 ± 0.101",
            "0.051 ± 0.1110.049 to 0.054",
            "0.921",
            "0.931",
        ],
        [
            "known",
            "2.40 %2.25 to 2.55",
            "3.40 %2.55 to 3.05",
            "4.40 %3.55 to 4.05",
            "7.406.85 to 7.35",
            "0.704 ± 0.104",
            "0.054 ± 0.1140.052 to 0.057",
            "0.924",
            "0.934",
        ],
    ]
    leaks = cells.rows.index(["threshold", "cosine", "above", "share", "by chance"])
    assert cells.rows[leaks + 1 : leaks + 3] == [
        ["one person", "0.417", "17", "0.327 %", "0.411 %"],
        ["published", "0.500", "9", "0.173 %", ""],
    ]
    other = cells.rows.index(["test set", "accuracy, %", "pairs"])
    assert cells.rows[other + 1 : other + 3] == [
        ["frontal", "73.21 ± 2.13", "371"],
        ["average", "76.54", ""],
    ]
    (head,) = (row for row in cells.rows if row[:2] == ["training set", "images"])
    (mine,) = (dict(zip(head, row, strict=True)) for row in cells.rows if row[0] == "mine")
    assert mine == {
        "training set": "mine", "images": "", "LFW": "81.00", "CFP-FP": "82.00", "CPLFW": "83.00",
        "AgeDB-30": "84.00", "CALFW": "85.00", "average": "83.00", "source": "this report",
    }  # fmt: skip
    text = " ".join(cells.paragraphs)
    for sentence in (
        "one person above a cosine of 0.417 (given)",
        "All 12,345 pairs of one identity, and 67,891 different ones of the 91,876 pairs of two",
        "shares at a distance of 0.58",
        "mean cosine of 0.721 (95 %: 0.715 to 0.732); over identities it runs from 0.511 (5 %) to 0.881 (95 %)",
        "the rest of its identity have 0.821",
        "known: 0.724, from 0.514 to 0.884",
        "Each of 5,204 images against each of 99,001 rows of gallery",
    ):
        assert sentence in text, sentence


def figures(text: str) -> dict[str, str]:
    """Title -> figure, in the order of the page; of two with one title the first."""
    found: dict[str, str] = {}
    for figure in re.findall(r"<figure.*?</figure>", text, re.S):
        found.setdefault(re.search(r'aria-label="([^"]*)"', figure)[1], figure)  # type: ignore[index]
    return found


def curve(figure: str, colour: str) -> np.ndarray:
    """Points of the line in a colour, `[N, 2]`: x to the right, y upwards."""
    (drawn,) = (p for p in re.findall(r"<path [^>]*/>", figure) if f'stroke="{colour}"' in p)
    text = re.search(r' d="M([^"Z]*)', drawn)[1]  # type: ignore[index]
    points = np.array([[float(n) for n in point.split()] for point in text.split("L")])
    return points * [1, -1]


def legend(figure: str) -> dict[str, str]:
    return {name: colour for colour, name in re.findall(r'background:([^"]*)"></i>([^<]*)<', figure)}


def test_curves_have_the_colours_of_their_names(made: Report) -> None:
    """Genuine pairs lie right of impostors; the set with the smaller spread has the better ROC."""
    drawn = figures(page(made))
    histogram = drawn["Histogram of cosines of genuine and impostor pairs of ours"]
    names = legend(histogram)
    tops = {name: curve(histogram, colour) for name, colour in names.items()}
    peak = {name: points[points[:, 1].argmax(), 0] for name, points in tops.items()}
    assert set(peak) == {"same person", "different people"}
    assert peak["same person"] > peak["different people"] + 100
    for title, better in (("ROC curve", 1), ("DET curve", -1)):
        names = legend(drawn[title])
        assert list(names) == ["ours", "known"]
        own, other = (curve(drawn[title], names[name])[:, 1].mean() for name in ("ours", "known"))
        assert better * own >= better * other, title
    prefixes = drawn["Unique identities among the first N"]
    ends = {name: curve(prefixes, colour)[-1] for name, colour in legend(prefixes).items()}
    assert ends["ours"][0] < ends["known"][0] == ends["all unique"][0]  # 40 and 50 people

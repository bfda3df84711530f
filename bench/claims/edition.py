"""What pages repeat of the embedded model: where each figure stands, and where it comes from.

    python -m bench.claims.edition           what the pages would have to say otherwise, by the card; writes nothing
    python -m bench.claims.edition --write   runs the quoted commands too, and writes pages and contact sheet

`make mini-figures` is the second, after the notebook and the golden pictures. A figure comes from the card, from a
command that is run here (three minutes of a core), or from a record under results/. A record of other weights is left,
and named with the command that measures it: nothing here trains, renders or judges.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench import RESULTS
from v2f_engine.data.layout import SHEET
from v2f_engine.data.records.licences import MINI_STATISTICS
from v2f_engine.errors import ConfigError
from v2f_engine.models.registry import CARD, MINI, locate
from v2f_engine.vectors.people import People
from v2f_engine.vectors.statistics import load_statistics

ROOT = Path(__file__).resolve().parents[2]
LICENCES = "v2f_engine/data/records/licences.py"
CONTACT_SHEET = "docs/contact_sheet.png"
Figures = dict[str, str]


@dataclass(frozen=True)
class Quote:
    """A place that repeats a figure.

    Args:
        figure: its name.
        file: from the root of the clone.
        pattern: of what stands around it, over lines; its one group is the figure.
    """

    figure: str
    file: str
    pattern: str


QUOTES = (
    Quote("limit", "docs/identities.md", r"the model's own limit \(`mini`: ([\d.]+),"),
    Quote("limit", "docs/fidelity.md", r"([\d.]+) of `mini` says nothing of"),
    Quote("limit", "docs/command_line.md", r'"max_cosine": ([\d.]+), "hash"'),
    Quote("limit", "v2f_engine/vectors/repeats.py", r"recogniser here \(0.3 to ([\d.]+)\)"),
    Quote("limit", "docs/notebooks/tour.ipynb", r"max_cosine ([\d.]+), seed 0"),
    Quote("length", "docs/identities.md", r"3/2 of the model's \(`mini`: ([\d.]+)\)"),
    Quote("length", "docs/serve.md", r"that the model knows, ([\d.]+) for mini"),
    Quote("length", "docs/serve.md", r"^vectors \*= ([\d.]+) / np"),
    Quote("dimension", "README.md", r"about (\d+) effective dimensions"),
    Quote("statistics", "docs/tour.md", r"statistics of mini, sha256 (\w{12})"),
    Quote("statistics", "docs/identities.md", r"statistics of mini, sha256 (\w{12})"),
    Quote("stripes, periods", "docs/recognisers.md", r"^\| period, px \| (.*) \|$"),
    Quote("stripes, columns", "docs/recognisers.md", r"^\| columns \(vertical bars\) \| (.*) \|$"),
    Quote("stripes, rows", "docs/recognisers.md", r"^\| rows \| (.*) \|$"),
    Quote("stripes, date", "docs/recognisers.md", r"`mini` as of (\S+) on 64"),
    Quote("own eer", "README.md", r"unseen people x 10: equal error rate \| ([\d.]+) %"),
    Quote("separability", "docs/tour.md", r"^(100 identities, 1,000 images: EER .*)$"),
    Quote("eer", "README.md", r"the equal error rate is ([\d.]+) % and"),
    Quote("unique", "README.md", r"% and (\d+) % are unique, to the digit"),
    Quote("gaussian eer", "README.md", r"has never seen, ([\d.]+) % and"),
    Quote("gaussian unique", "README.md", r"has never seen, [\d.]+ % and (\d+) %"),
    Quote("bytes at 75", "docs/fidelity.md", r"Pillow's default\), ([\d,]+) bytes a face of mini"),
    Quote("bytes at 95", "docs/fidelity.md", r"bytes a face of mini \| 95, 4:2:0, ([\d,]+) bytes"),
    Quote("similarity", "docs/identities.md", r"^(similarity  p = .*)$"),
    Quote("pilot", "docs/identities.md", r"^(pilot       kept .*)$"),
    Quote("candidates", "docs/identities.md", r"^(candidates  .*)$"),
    Quote("room", "docs/identities.md", r"`v2f ids plan 1000000` says ([\d,]+) and"),
    Quote("looser", "docs/identities.md", r"`v2f ids plan 1000000` says [\d,]+ and ([\d.]+)\."),
    Quote("thousands", "docs/ten_million.md", r"`mini` keeps about (\d+) thousand apart"),
    Quote("five, hash", "docs/command_line.md", r'"max_cosine": [\d.]+, "hash": "(\w{16})'),
    Quote("five, candidates", "docs/command_line.md", r'"identities": 5, "candidates": (\d+)'),
    Quote("judged eer", "README.md", r"by a second recogniser: equal error rate \| ([\d.]+) %"),
    Quote("rendered eer", "README.md", r"by a second recogniser: .* \(rendered people ([\d.]+) %\)"),
    Quote("judged unique", "README.md", r"unique at a false-match rate of 1e-5 \| ([\d.]+) %"),
    Quote("rendered unique", "README.md", r"rate of 1e-5 \| [\d.]+ % \(rendered people ([\d.]+) %\)"),
    Quote("faces found", "README.md", r"images in which dlib finds a face \| (\d+) %"),
    Quote("judged genuine", "README.md", r"vary less \(cosine ([\d.]+)\)"),
    Quote("rendered genuine", "README.md", r"than rendered ones \(([\d.]+)\)\."),
    Quote("alike", "README.md", r"rate of 1e-6 \| ([\d,]+) looked like"),
    Quote("made", "README.md", r"looked like an earlier one; after ([\d,]+) made"),
)
RECORDS: Mapping[str, str] = {
    "judge.json": "python -m bench.claims.judge --judge JUDGE --rendered PEOPLE (6 minutes of a core)",
    "ids_proof_mini.json": "make prove-mini (8 minutes of a core)",
    "claim.json": "make miniature (an hour of a core); README's table is what it prints",
    "steering.json": "python -m bench.claims.steering (6 minutes of a core); docs/attributes.md, Measured",
}
"""Record under results/cpu that names the generator's sha256 -> what measures it anew."""
BY_HAND = (
    "docs/ui_desktop.jpg, docs/ui_phone.jpg: `v2f ui` in a browser at 1280x900 and 390x844",
    "docs/report.jpg, docs/report_two.jpg: the page of `v2f evaluate report`, one set and two",
    "README.md, docs/index.md: how and in what time it was trained; whether it is soft",
    "v2f_engine/assets/mini/MODEL_CARD.md: all of it; docs/attributes.md: yaw of mini-pose",
    "constants that were measured on an edition: MINI in attributes/control.py (cosine of an image to its vector),"
    " RIGHT in ui/asked.py and docs/ui.md (pitch of mini-pose), JPEG_BYTES in data/writing/room.py",
)


def card() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MINI / CARD).read_text())
    return found


@cache
def own_statistics() -> str:
    """sha256 of the statistics, as manifests have it."""
    return load_statistics(MINI / "statistics.safetensors").sha256


def from_card() -> Figures:
    """What the card and the statistics say; takes no time."""
    about = card()
    features = about["features"]
    figures = {
        "limit": f"{features['max_cosine']:g}",
        "length": f"{People.of(locate('mini', 'generator')).length:.1f}",
        "dimension": f"{features['effective_dimension']:.0f}",
        "statistics": own_statistics()[:12],
    }
    if stripes := features.get("stripes"):
        for direction, cosines in stripes["cosine_by_period_px"].items():
            periods = sorted(cosines, key=int)  # a card's keys are sorted as words
            figures["stripes, periods"] = " | ".join(periods)
            figures[f"stripes, {direction}"] = " | ".join(f"{cosines[period]:.2f}" for period in periods)
        if "date" in about:
            figures["stripes, date"] = about["date"]
    if seen := about.get("extractor", {}).get("eer_unseen"):
        figures["own eer"] = f"{100 * seen['eer']:.1f}"
    return figures


def from_records() -> Figures:
    """What was measured on these weights before, under results/cpu."""
    figures: Figures = {}
    if not stale("judge.json"):
        found = json.loads((RESULTS / "cpu/judge.json").read_text())
        for name, key in (("judged", "generated"), ("rendered", "rendered")):
            figures[f"{name} eer"] = f"{100 * found[key]['eer']:.1f}"
            figures[f"{name} unique"] = f"{100 * found[key]['unique_share']:.1f}"
            figures[f"{name} genuine"] = f"{found[key]['genuine_mean']:.2f}"
        if "faces_found" in found["results"]:
            figures["faces found"] = f"{100 * found['results']['faces_found']:.0f}"
    if not stale("ids_proof_mini.json"):
        found = json.loads((RESULTS / "cpu/ids_proof_mini.json").read_text())
        figures["alike"], figures["made"] = f"{found['before']['repeated']:,}", f"{found['made']:,}"
    return figures


def stale(record: str) -> bool:
    """Whether a record is of another generator."""
    return card()["files"]["generator.safetensors"]["sha256"] not in (RESULTS / "cpu" / record).read_text()


def from_commands(folder: Path) -> Figures:
    """What the quoted commands print, run in `folder`; it holds `own`, the set of the contact sheet, thereafter."""
    figures: Figures = {}
    for name, words in (("", []), ("gaussian ", ["--source", "gaussian"])):
        out = folder / (name.strip() or "own")
        v2f("generate", "--ids", "100", "--images", "10", "--out", str(out), *words)
        line = matched(r"^100 identities, 1,000 images: EER .*$", v2f("evaluate", "separability", str(out)))[
            0
        ]
        figures[f"{name}separability"] = line
        figures[f"{name}eer"] = matched(r"EER ([\d.]+) %", line)[1]
        unique = matched(r"unique ([\d.]+) %", line)[1]
        figures[f"{name}unique"] = f"{float(unique):.0f}"
    v2f("generate", "--ids", "100", "--images", "10", "--out", str(folder / "at 75"), "--jpeg-quality", "75")
    for quality, name in ((95, "own"), (75, "at 75")):
        sizes = [path.stat().st_size for path in (folder / name / "images").rglob("*.jpg")]
        figures[f"bytes at {quality}"] = f"{sum(sizes) / len(sizes):,.0f}"
    plan = v2f("ids", "plan", "10000")
    for name in ("similarity", "pilot", "candidates"):
        figures[name] = matched(rf"^{name} .*$", plan)[0]
    refused = v2f("ids", "plan", "1000000", fails=True)
    figures["room"] = matched(r"gives about ([\d,]+)\.", refused)[1]
    figures["looser"] = matched(r"max_cosine to about ([\d.]+),", refused)[1]
    figures["thousands"] = f"{int(figures['room'].replace(',', '')) / 1000:.0f}"
    five = json.loads(v2f("ids", "sample", "5", "--out", str(folder / "five.safetensors"), "--json"))
    figures["five, hash"], figures["five, candidates"] = five["hash"][:16], str(five["candidates"])
    return figures


def v2f(*words: str, fails: bool = False) -> str:
    """What a command prints, its two streams joined.

    Raises:
        ConfigError: it ended otherwise than expected.
    """
    print("v2f", *words, file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", "v2f_engine", *words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if bool(done.returncode) is not fails:
        raise ConfigError(
            f"v2f {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]} Mend it first."
        )
    return done.stdout if "--json" in words else done.stdout + done.stderr


def matched(pattern: str, text: str) -> re.Match[str]:
    """Raises ConfigError where nothing matches: a sentence was worded anew."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ConfigError(f"Expected {pattern!r} in {text[:300]!r}. Word the pattern as the sentence is now.")
    return found


def rewritten(text: str, quote: Quote, value: str) -> str:
    """The text with the figure; raises ConfigError where the place is not there."""
    found = matched(quote.pattern, text)
    return text[: found.start(1)] + value + text[found.end(1) :]


def changes(figures: Figures) -> dict[str, str]:
    """File -> its new text, of those that say something else than `figures`."""
    texts = {quote.file: (ROOT / quote.file).read_text() for quote in QUOTES}
    before = dict(texts)
    for quote in QUOTES:
        was = matched(quote.pattern, texts[quote.file])[1]
        value = figures.get(quote.figure, was)
        if value != was:
            print(f"{quote.file}: {quote.figure}: {was} -> {value}")
            texts[quote.file] = rewritten(texts[quote.file], quote, value)
    own = own_statistics()
    if own not in MINI_STATISTICS:
        print(f"{LICENCES}: the statistics {own[:12]} of this edition")
        before[LICENCES] = (ROOT / LICENCES).read_text()
        lines = "".join(f'    "{sha256}",\n' for sha256 in (own, *MINI_STATISTICS))
        old = matched(r"^MINI_STATISTICS = \([^)]*\)$", before[LICENCES])[0]
        texts[LICENCES] = before[LICENCES].replace(old, f"MINI_STATISTICS = (\n{lines})")
    return {file: text for file, text in texts.items() if text != before[file]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="run the commands and write")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as name:
        figures = {**from_card(), **from_records(), **(from_commands(Path(name)) if write else {})}
        found = changes(figures)
        if write:
            for file, text in found.items():
                (ROOT / file).write_text(text)
            shutil.copy(Path(name) / "own" / SHEET, ROOT / CONTACT_SHEET)
    print("\nnot written here:")
    for record, command in RECORDS.items():
        if stale(record):
            print(f"  bench/results/cpu/{record} is of other weights: {command}; then this again")
    if write and (silent := sorted({quote.figure for quote in QUOTES} - figures.keys())):
        print(f"  left as they were, for want of a record or a line on the card: {'; '.join(silent)}")
    for line in BY_HAND:
        print(f"  {line}")


if __name__ == "__main__":
    main()

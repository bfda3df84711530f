"""`v2f evaluate report`: everything about a dataset on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.evaluate import SetFlags, ThresholdFlags
from v2f_engine.cli.flags import grouped
from v2f_engine.cli.outputs import Overwrite, claimed
from v2f_engine.cli.outputs import beside as next_to
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, result, say

if TYPE_CHECKING:
    from v2f_engine.data.records.manifest import Manifest


@grouped
def report(
    data: Annotated[Path, typer.Argument(help="a dataset in any format")],
    *,
    sets: SetFlags,
    apart: ThresholdFlags,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="a set to compare it with, measure by measure, with intervals; may be repeated"),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="real people who must not be in it, for leakage")
    ] = None,
    accuracy: Annotated[
        list[str] | None,
        typer.Option(help="NAME=verification.json of a recogniser trained on it; may be repeated"),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="attribute to tell the set group by group, e.g. gender; by default its own groups, if it has any"
        ),
    ] = None,
    card: Annotated[bool, typer.Option(help="write the measures into the dataset's card")] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            help="HTML, a JSON beside it; in DATA.evaluation/ next to the data by default: report.html, or "
            "report_beside_OTHER.html"
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Everything about a dataset on one page, or of several side by side: faces, separability, leakage, origin.

    Every measure has an interval of 95 %; with --beside a difference is said in words, or that there is none to tell.
    """
    import json
    import shlex
    import sys
    from dataclasses import replace

    from v2f_engine.atomic import write_atomically
    from v2f_engine.evaluate.report import make_report, page

    others = tuple(beside or ())
    out = out or next_to(data, f"{page_name(data, others)}.html")
    with claimed(overwrite, out, out.with_suffix(".json"), endings=(".html", ".htm")):
        accuracies = [_accuracy(text) for text in accuracy or ()]
        apart.check_first(data, sets)
        known = None if apart.reference is None else sets.read(apart.reference)
        cosine, why = apart.limit(data, sets, known)
        source = sets.read(data, split=sets.split)
        real = None if gallery is None else sets.read(gallery)
        compared = [sets.read(other) for other in others]
        source, *compared = (
            replace(one, name=name) if "/" in name else one
            for one, name in zip((source, *compared), distinct((data, *others)), strict=True)
        )
        with progress_bar("intervals", "resamples") as progress:
            made = make_report(
                source,
                threshold=cosine,
                threshold_from=why,
                gallery=real,
                reference=known,
                beside=compared,
                fmr=apart.fmr if apart.threshold is None and known is not None else None,
                accuracy=accuracies,
                groups=groups,
                command=shlex.join(["v2f", *sys.argv[1:]]),
                progress=progress,
            )
        write_atomically(out.with_suffix(".json"), (json.dumps(made.record, sort_keys=True) + "\n").encode())
        write_atomically(out, page(made).encode())
        result(out=out, record=out.with_suffix(".json"), **made.record)
    for words in plain_words(made.record):
        say(words)
    say(f"{out}  {out.stat().st_size / 1e6:.1f} MB   {out.with_suffix('.json').name}")
    if card and source.dataset is not None and source.dataset.manifest is not None and data.is_dir():
        _write_card(data, source.dataset.manifest, made.record)


def page_name(data: Path, others: Sequence[Path]) -> str:
    """What the page is called without its ending: a comparison never has the name of a single report.

    Raises:
        ConfigError: a set beside itself, or twice.
    """
    from v2f_engine.errors import ConfigError

    places = [path.resolve() for path in (data, *others)]
    for place, path in enumerate(places):
        if path in places[:place]:
            raise ConfigError(
                f"--beside {others[place - 1]} is {'DATA itself' if path == places[0] else 'given twice'}: expected "
                "another set in each place. Leave it out, or give the other set's path."
            )
    names = [
        "".join(c if c.isalnum() or c in "-." else "_" for c in name)[:60] for name in distinct(places)[1:]
    ]
    return "_beside_".join(["report", "_and_".join(names)]) if names else "report"


def distinct(places: Sequence[Path]) -> list[str]:
    """Names of sets at different paths; those that are alike with as many folders above as tell them apart."""
    whole = [path.resolve().parts for path in places]
    depths = [1] * len(whole)
    while True:
        names = ["/".join(parts[-depth:]) for parts, depth in zip(whole, depths, strict=True)]
        alike = [place for place, name in enumerate(names) if names.count(name) > 1]
        if not any(depths[place] < len(whole[place]) for place in alike):
            return names
        for place in alike:
            depths[place] = min(depths[place] + 1, len(whole[place]))


def plain_words(record: dict[str, Any]) -> list[str]:
    """What --beside found of each measure, a line each."""
    from v2f_engine.evaluate.report.measures import MEASURES, difference_text, value_text

    lines = []
    for other in record.get("beside", ()):
        lines.append(f"{record['dataset']['name']} beside {other['name']}")
        for measure in MEASURES:
            ours, theirs = record["intervals"].get(measure.name), other["intervals"].get(measure.name)
            if ours is not None or theirs is not None:
                values = f"{value_text(measure, ours)}, {value_text(measure, theirs)}"
                words = difference_text(measure, other["differences"].get(measure.name))
                lines.append(f"  {measure.title}: {values}; {words}")
    return lines


def _write_card(data: Path, manifest: Manifest, record: dict[str, Any]) -> None:
    """Adds the measures to the set's card; a set that cannot be written is measured all the same."""
    from v2f_engine.data.records.card import write_card

    try:
        card = write_card(data, manifest, card_measures(record))
        result(card=card)
        say(str(card))
    except OSError as error:
        note(f"the card in {data} was not written: {error.strerror}")


def card_measures(record: dict[str, Any]) -> dict[str, str]:
    """What the dataset card says of a report; leakage that was measured before stays there."""
    apart, alike = record["separability"], record["consistency"]
    reader = f"{record['recogniser'].get('name')} {record['recogniser'].get('sha256', '')[:12]}"
    measures = {
        "recogniser": reader,
        "threshold": f"cosine {record['threshold']:.3f} ({record['threshold_from']})",
        "unique identities": _told(record, apart, "unique_share", f" of {apart['identities']:,}"),
        "equal error rate": _told(record, apart, "eer", f", {apart['images']:,} images"),
        "mean pair cosine within identities": _told(record, alike, "pair_cosine"),
        "images nearest to their own identity": _told(record, alike, "own_nearest"),
    }
    if record["leakage"] is None:
        return {**measures, "leakage": "not measured"}
    leaks = record["leakage"]
    for above in leaks["above"]:
        measures[f"leakage above {above['threshold']:.3f}"] = (
            f"{above['count']:,} of {leaks['synthetic']:,} images against {leaks['gallery']:,} rows of "
            f"{leaks['gallery_name']} ({above['what']}, read by {reader})"
        )
        for kind, words in (("pairs", "rows"), ("centres", "people by their centres")):
            if (pairs := above.get(kind)) is not None:
                measures[f"pairs of {words} above {above['threshold']:.3f}"] = (
                    f"{100 * pairs['share']:.3g} %, {pairs['count']:,} of {pairs['total']:,}"
                )
    return measures


def _told(record: dict[str, Any], section: dict[str, Any], name: str, of: str = "") -> str:
    """A measure with what it is of and its interval, or that there is too little to tell it."""
    from v2f_engine.evaluate.report.measures import KNOWN, TOO_FEW, interval_text

    if section[name] is None:
        return TOO_FEW
    unit, found = KNOWN[name].unit, record["intervals"].get(name)
    ends = "" if found is None or found["low"] is None else f" (95 %: {interval_text(KNOWN[name], found)})"
    return f"{unit.bare(section[name])}{unit.sign}{of}{ends}"


def _accuracy(text: str) -> dict[str, Any]:
    import json

    from v2f_engine.errors import ConfigError

    name, _, path = text.partition("=")
    try:
        record = json.loads(Path(path).read_text())
        sets = [
            {key: item[key] for key in ("name", "accuracy", "deviation", "pairs")} for item in record["sets"]
        ]
        return {"name": name, "average": float(record["average"]), "sets": sets}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--accuracy {text!r}: expected NAME=FILE, the JSON of `v2f evaluate verification`; {error!r}."
        ) from error

"""`v2f evaluate report`: everything about a dataset on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.evaluate import SetFlags, ThresholdFlags
from v2f_engine.cli.flags import grouped
from v2f_engine.cli.outputs import Overwrite, beside, claimed
from v2f_engine.cli.saying import note, result, say

if TYPE_CHECKING:
    from v2f_engine.data.records.manifest import Manifest


@grouped
def report(
    data: Annotated[Path, typer.Argument(help="a dataset in any format")],
    *,
    sets: SetFlags,
    apart: ThresholdFlags,
    gallery: Annotated[
        Path | None, typer.Option(help="real people who must not be in it, for leakage")
    ] = None,
    accuracy: Annotated[
        list[str] | None,
        typer.Option(help="NAME=verification.json of a recogniser trained on it; may be repeated"),
    ] = None,
    card: Annotated[bool, typer.Option(help="write the measures into the dataset's card")] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML, a JSON beside it; in DATA.evaluation/ next to the data by default"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Everything about a dataset on one page: faces, separability, leakage, accuracy beside published sets, origin."""
    import json
    import shlex
    import sys

    from v2f_engine.atomic import write_atomically
    from v2f_engine.evaluate.report import make_report, page

    out = out or beside(data, "report.html")
    with claimed(overwrite, out, out.with_suffix(".json"), endings=(".html", ".htm")):
        accuracies = [_accuracy(text) for text in accuracy or ()]
        apart.check_first(data, sets)
        known = None if apart.reference is None else sets.read(apart.reference)
        cosine, why = apart.limit(data, sets, known)
        source = sets.read(data, split=sets.split)
        real = None if gallery is None else sets.read(gallery)
        made = make_report(
            source,
            threshold=cosine,
            threshold_from=why,
            gallery=real,
            reference=known,
            fmr=apart.fmr if apart.threshold is None and known is not None else None,
            accuracy=accuracies,
            command=shlex.join(["v2f", *sys.argv[1:]]),
        )
        write_atomically(out.with_suffix(".json"), (json.dumps(made.record, sort_keys=True) + "\n").encode())
        write_atomically(out, page(made).encode())
        result(out=out, record=out.with_suffix(".json"), **made.record)
    say(f"{out}  {out.stat().st_size / 1e6:.1f} MB   {out.with_suffix('.json').name}")
    if card and source.dataset is not None and source.dataset.manifest is not None and data.is_dir():
        _write_card(data, source.dataset.manifest, made.record)


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
        "unique identities": f"{100 * apart['unique_share']:.2f} % of {apart['identities']:,}",
        "equal error rate": f"{100 * apart['eer']:.2f} %, {apart['images']:,} images",
        "mean pair cosine within identities": f"{alike['pair_cosine']:.3f}",
        "images nearest to their own identity": f"{100 * alike['own_nearest']:.2f} %",
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

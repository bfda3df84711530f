"""`v2f evaluate table`: what was measured, between what others have published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.outputs import Overwrite, claimed
from v2f_engine.cli.saying import note, result, say

ENDINGS = (".txt", ".md", ".html", ".htm", ".tex", ".csv", ".json")


def table(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="JSONs of evaluate verification, ijb, leakage, separability, consistency, or SET.evaluation/ folders"
        ),
    ] = None,
    *,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="of the row: once for all RESULTS together, or once for each; by default the set's or recogniser's"
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="verification, challenging, ijb, leakage, separability, consistency, other or all; by default those "
            "that show a result"
        ),
    ] = None,
    order: Annotated[
        str, typer.Option(help="average: ours where they belong; below: ours beneath the published")
    ] = "average",
    against: Annotated[
        list[str] | None,
        typer.Option(help="published rows that ours are compared with; HSFace10K and CASIA-WebFace"),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="text, markdown, html, latex, csv or json; by default what --out ends in, else text"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; printed without it")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Your results between the published ones: five sets, Hadrian and the like, IJB, leakage, separability."""
    from v2f_engine.atomic import write_atomically
    from v2f_engine.evaluate.tables import AGAINST, make_tables, read_results
    from v2f_engine.evaluate.tables.formats import render, to_record

    chosen = _format(format, out)
    with claimed(overwrite, out, endings=ENDINGS, tells=True):
        found = read_results(results or (), name or ())
        for told in found.passed_over:
            note(f"passed over: {told}")
        tables = make_tables(found.results, which=table or (), order=order, against=against or AGAINST)
        text = render(tables, chosen)
        result(out=out, format=chosen, tables=[to_record(one) for one in tables])
        if out is not None:
            write_atomically(out, text.encode())
    say(text if out is None else f"{out}  {len(tables)} tables", nl=out is not None)


def _format(asked: str | None, out: Path | None) -> str:
    """What was asked for, or what the file's ending says. Raises ConfigError where they contradict each other."""
    from v2f_engine.config import one_of
    from v2f_engine.errors import ConfigError
    from v2f_engine.evaluate.tables.formats import ENDINGS as SAID
    from v2f_engine.evaluate.tables.formats import FORMATS

    said = None if out is None else SAID.get(out.suffix.lower())
    if asked is None:
        return said or "text"
    one_of("--format", asked, FORMATS)
    if said is not None and said != asked:
        raise ConfigError(
            f"--format {asked} into {out}, which is a name for {said}; change one, or leave --format out."
        )
    return asked

"""`v2f select`: of the images of each person of a set the best, into a set of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.evaluate import ReaderFlags
from v2f_engine.cli.flags import Split, grouped, tell
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, result, say


@grouped
def select(
    dataset: Annotated[Path, typer.Argument(help="a dataset in any format, of pictures of 112x112")],
    *,
    keep: Annotated[int, typer.Option(help="images of each person")] = 50,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="centre (default; nearest to the person's own), quality, diversity, vector; repeated: by the sum of "
            "places"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the new dataset; the same command resumes")],
    format: Annotated[str, typer.Option(help="format of the new dataset")] = "webdataset",
    min_cosine: Annotated[
        float | None,
        typer.Option(help="to the person's centre, below which an image goes before all others"),
    ] = None,
    duplicate_cosine: Annotated[
        float | None,
        typer.Option(help="above which two images of a person count as one, and the later goes first"),
    ] = None,
    at_least: Annotated[
        int | None, typer.Option(help="people with fewer than --keep images, but so many, keep all of them")
    ] = None,
    reader: ReaderFlags,
    quality_model: Annotated[
        str,
        typer.Option(
            help="judges quality: an estimator's file, or a recogniser by the length of its feature"
        ),
    ] = "quality",
    split: Split = None,
    dry_run: DryRun = False,
) -> None:
    """Choose the best images of each person of a dataset, and say of every image why it was kept or dropped."""
    from v2f_engine.data.layout import SELECTION
    from v2f_engine.selection.chosen_set import foresee_selection, select_dataset
    from v2f_engine.selection.judges import Judges
    from v2f_engine.selection.rule import Rule

    rule = Rule(keep, tuple(by or ("centre",)), min_cosine, duplicate_cosine, at_least)
    judges = Judges.open(
        rule,
        reader.judge,
        quality_model,
        channels=reader.channels,
        mean=reader.mean,
        std=reader.std,
        device=reader.device,
        bf16=reader.bf16,
    )
    for told in judges.notes:
        note(f"{reader.judge}: {told}")
    if dry_run:
        seen, lines = foresee_selection(dataset, out, rule, format, judges=judges, split=split)
        tell(dataset, lines)
        say_plan(seen.lines(), **vars(seen))
        return
    with progress_bar("select", "images") as progress:
        report = select_dataset(dataset, out, rule, format, judges=judges, split=split, progress=progress)
    tell(dataset, report.told)
    tally = report.tally
    result(
        out=out, format=report.format, images=report.images, written=report.images_written,
        identities=report.identities, manifest=report.manifest, selection=out / SELECTION,
        judged=None if tally is None else vars(tally),
    )  # fmt: skip
    if tally is None:
        say(f"already complete, {report.images:,} images in {out}")
        return
    for line in tally.lines():
        note(line)
    say(f"{tally.kept:,} of {tally.images:,} images kept in {out}, of {tally.people:,} people")
    say(f"selection      {out / SELECTION}")

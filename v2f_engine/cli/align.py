"""`v2f align`: photographs to aligned faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say

if TYPE_CHECKING:
    from v2f_engine.faces import Alignment


def align(
    photographs: Annotated[
        Path, typer.Argument(help="a folder of pictures or of folders of them, a list, or one picture")
    ],
    out: Annotated[Path, typer.Option(help="folder of the faces; the same command resumes")],
    several: Annotated[
        str,
        typer.Option(
            help="of several faces in a picture: refuse the picture, take the largest, or all, a file each"
        ),
    ] = "refuse",
    min_side: Annotated[
        int, typer.Option(help="pixels that a side of the aligned face must have in the picture")
    ] = 56,
    codec: Annotated[str, typer.Option(help="of the faces: png (lossless) or jpeg")] = "png",
    processes: Annotated[int, typer.Option(help="that look for faces; changes nothing else")] = 2,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="end well where pictures have no face that can be aligned; else exit code 3"
        ),
    ] = False,
) -> None:
    """Find the faces of photographs and align them to 112x112, as recognisers and the generator expect them."""
    from v2f_engine.faces import AlignOptions
    from v2f_engine.faces.align import account_of
    from v2f_engine.faces.align import align as align_all
    from v2f_engine.faces.outcomes import ALIGNED, CURES

    options = AlignOptions(several, min_side, codec)
    with progress_bar("align", "photographs") as progress:
        report = align_all(photographs, out, options, processes=processes, progress=progress)
    counts = report.counts
    table = account_of(out) / "pictures.csv"
    result(photographs=report.pictures, written=report.written, counts=counts, out=out, table=table)
    say(
        f"{report.pictures:,} photographs: {counts[ALIGNED]:,} faces in {out} ({report.written:,} written now)"
    )
    for outcome, count in _bad(report).items():
        say(f"  {outcome}: {count:,} ({CURES[outcome]})")
    say(f"every photograph and why: {table}")
    _end(report, table, skip_bad)


def _bad(report: Alignment) -> dict[str, int]:
    """Outcomes but `aligned` -> how many, where there are any."""
    from v2f_engine.faces.outcomes import ALIGNED

    return {outcome: count for outcome, count in report.counts.items() if count and outcome != ALIGNED}


def _end(report: Alignment, table: Path, skip_bad: bool) -> None:
    """Raises PhotographsRefused where photographs gave no face, unless that was said to be well."""
    from v2f_engine.errors import PhotographsRefused

    bad = _bad(report)
    if bad and not skip_bad:
        raise PhotographsRefused(
            f"{sum(bad.values()):,} of {report.pictures:,} photographs gave no face: "
            + ", ".join(f"{outcome} {count:,}" for outcome, count in bad.items())
            + f". {table} names each; all others are aligned, and --skip-bad takes that as done."
        )

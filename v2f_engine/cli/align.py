"""`v2f align`: photographs to aligned faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say


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
    from v2f_engine.errors import PhotographsRefused
    from v2f_engine.faces import AlignOptions
    from v2f_engine.faces.align import align as align_all
    from v2f_engine.faces.outcomes import ALIGNED, CURES

    options = AlignOptions(several, min_side, codec)
    with progress_bar("align", "photographs") as progress:
        report = align_all(photographs, out, options, processes=processes, progress=progress)
    counts = report.counts
    table = out.with_name(f"{out.name}.alignment") / "pictures.csv"
    result(photographs=report.pictures, written=report.written, counts=counts, out=out, table=table)
    say(
        f"{report.pictures:,} photographs: {counts[ALIGNED]:,} faces in {out} ({report.written:,} written now)"
    )
    bad = {outcome: count for outcome, count in counts.items() if count and outcome != ALIGNED}
    for outcome, count in bad.items():
        say(f"  {outcome}: {count:,} ({CURES[outcome]})")
    say(f"every photograph and why: {table}")
    if bad and not skip_bad:
        raise PhotographsRefused(
            f"{sum(bad.values()):,} of {report.pictures:,} photographs gave no face: "
            + ", ".join(f"{outcome} {count:,}" for outcome, count in bad.items())
            + f". {table} names each. All others are in {out}; --skip-bad takes it as done."
        )

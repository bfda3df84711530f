"""`v2f render`: rendered people, the offline training world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say


def render(
    ids: Annotated[int, typer.Option(help="people")] = 100,
    images: Annotated[int, typer.Option(help="images of each")] = 16,
    out: Annotated[Path, typer.Option(help="folder of the dataset; the same command resumes")] = Path(
        "people"
    ),
    format: Annotated[str, typer.Option(help="imagefolder, webdataset, lmdb, recordio, parquet")] = "lmdb",
    seed: Annotated[int, typer.Option(help="decides every person and image")] = 0,
    first: Annotated[int, typer.Option(help="number of the first person")] = 0,
    processes: Annotated[int, typer.Option(help="render processes; changes nothing else")] = 2,
    quality: Annotated[int, typer.Option(help="JPEG quality")] = 95,
) -> None:
    """Render people who do not exist, with exact pose, expression and light of every image."""
    from v2f_engine.data.records.plan import Plan
    from v2f_engine.data.writing.encode import Encoder
    from v2f_engine.data.writing.write import write_dataset
    from v2f_engine.rendered import WORLD_VERSION, render_people

    with progress_bar("render", "images") as progress:
        report = write_dataset(
            out,
            {"world": WORLD_VERSION, "seed": seed, "first": first},
            Plan.of(ids, images),
            lambda chosen: render_people(
                seed, range(first + chosen.start, first + chosen.stop), images, processes
            ),
            format=format,
            encoder=Encoder(quality=quality),
            progress=progress,
        )
    result(
        out=out, format=format, identities=ids, images=report.images, written=report.images_written,
        seconds=report.seconds, manifest=report.manifest, contact_sheet=report.contact_sheet,
    )  # fmt: skip
    say(f"{ids} people, {ids * images} images in {out}; contact sheet {report.contact_sheet}")

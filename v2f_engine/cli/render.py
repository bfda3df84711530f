"""`v2f render`: rendered people, the offline training world."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli import replay
from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say
from v2f_engine.rendered.worlds import WORLD_VERSION, known_world


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
    world: Annotated[
        int, typer.Option(help="version of the people, 1 or 2: an older one stays as it was")
    ] = WORLD_VERSION,
    quality: Annotated[int, typer.Option(help="JPEG quality")] = 95,
    dry_run: DryRun = False,
    *,
    context: typer.Context,
) -> None:
    """Render people who do not exist, with exact pose, expression and light of every image."""
    from v2f_engine.data.records.plan import Plan
    from v2f_engine.data.writing.encode import Encoder
    from v2f_engine.data.writing.write import manifest_for, write_dataset
    from v2f_engine.rendered import render_people

    settings, plan, encoder = (
        {"world": known_world(world), "seed": seed, "first": first},
        Plan.of(ids, images),
        Encoder(quality=quality),
    )
    manifest = manifest_for(format, plan, encoder.describe(), settings)
    replay.checking(context)(manifest)
    if dry_run:
        from v2f_engine.data.writing.forecast import forecast, probed

        seen = forecast(
            out,
            manifest,
            lambda: probed(
                render_people(seed, range(first, first + ids), min(images, 8), world=world), encoder
            ),
        )
        share = min(processes, os.cpu_count() or 1)
        how = f"{seen.measured} by one process; so many at a time: {share}"
        if share > 1 and seen.images_per_second:
            seen = replace(
                seen,
                seconds=seen.seconds / share,
                images_per_second=share * seen.images_per_second,
                measured=how,
            )
        say_plan(seen.lines(), **vars(seen))
        return
    with progress_bar("render", "images") as progress:
        report = write_dataset(
            out,
            settings,
            plan,
            lambda chosen: (
                replace(batch, identity=batch.identity - first)  # labels of a set begin at 0
                for batch in render_people(
                    seed, range(first + chosen.start, first + chosen.stop), images, processes, world=world
                )
            ),
            format=format,
            encoder=encoder,
            progress=progress,
        )
    result(
        out=out, format=format, identities=ids, images=report.images, written=report.images_written,
        seconds=report.seconds, manifest=report.manifest, contact_sheet=report.contact_sheet,
    )  # fmt: skip
    say(f"{ids} people, {ids * images} images in {out}; contact sheet {report.contact_sheet}")

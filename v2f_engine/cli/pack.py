"""`v2f ids pack`: identities of a table moved further apart, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import Exclude, Judge, grouped
from v2f_engine.cli.outputs import Overwrite, claimed, would_write
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, result, say


@dataclass(frozen=True)
class PackedFiles:
    """What is written."""

    out: Annotated[
        Path, typer.Option(help="table of identities, .safetensors, for `v2f generate --vectors`")
    ] = Path("packed.safetensors")
    curve: Annotated[
        Path | None, typer.Option(help="CSV of what was found on the way; OUT with .csv by default")
    ] = None
    plot: Annotated[Path | None, typer.Option(help="PNG; OUT with .png by default")] = None
    overwrite: Overwrite = False


@dataclass(frozen=True)
class PackingFlags:
    """How far identities are moved, and what holds them."""

    max_cosine: Annotated[
        float | None,
        typer.Option(help="cosine that no two shall exceed; 0.07 below the table's worst by default"),
    ] = None
    steps: Annotated[int, typer.Option(help="at most; fewer where the target is met")] = 20
    pull: Annotated[
        float, typer.Option(help="share of its way back that the first step draws each vector; fades to 0")
    ] = 0.02
    max_drift: Annotated[
        float,
        typer.Option(
            help="how far the mean distance to the source's mean may go, in spreads of one candidate's"
        ),
    ] = 1.0
    source: Annotated[
        str, typer.Option(help="auto (what the table says), mini, gaussian, or a file of `v2f ids fit`")
    ] = "auto"
    exclude: Exclude = None
    recogniser: Judge = "mini"
    device: Annotated[str, typer.Option(help="of the products of all pairs: cpu, cuda, cuda:1")] = "cpu"


@grouped
def pack(
    table: Annotated[Path, typer.Argument(help="table of `v2f ids sample`, or a file of vectors [N,512]")],
    files: PackedFiles,
    how: PackingFlags,
    dry_run: DryRun = False,
) -> None:
    """Move the identities of a table further apart, held where their source draws people."""
    from v2f_engine.pipeline.given import excluded_from, load_identities
    from v2f_engine.vectors.identities import BYTES_PER_IDENTITY
    from v2f_engine.vectors.neighbours import TILE
    from v2f_engine.vectors.packing import packing, save_curve
    from v2f_engine.vectors.packing_plan import foresee_packing
    from v2f_engine.vectors.packing_request import bounded
    from v2f_engine.vectors.plots import plot_packing

    out = files.out
    curve, plot = files.curve or out.with_suffix(".csv"), files.plot or out.with_suffix(".png")
    identities = load_identities(table)
    room = BYTES_PER_IDENTITY * len(identities)
    if dry_run:
        bounded(how.steps, how.pull, how.max_drift, TILE, how.device)
        lines = would_write(files.overwrite, out, curve, plot, endings=(".safetensors",), room=room)
        exclude = excluded_from(how.exclude, how.recogniser, note)
        seen = foresee_packing(
            identities, source=how.source, steps=how.steps, target=how.max_cosine, exclude=exclude
        )
        say_plan([*lines, *seen.lines()], out=out, **vars(seen))
        return
    with claimed(files.overwrite, out, curve, plot, endings=(".safetensors",), room=room):
        exclude = excluded_from(how.exclude, how.recogniser, note)
        with progress_bar("pack", "steps") as progress:
            packed = packing(
                identities,
                source=how.source,
                steps=how.steps,
                target=how.max_cosine,
                pull=how.pull,
                max_drift=how.max_drift,
                exclude=exclude,
                device=how.device,
                progress=progress,
            )
        packed.table.save(out)
        save_curve(packed, curve)
        plot_packing(packed, plot)
        result(out=out, csv=curve, plot=plot, **packed.to_json())
        for line in packed.lines():
            say(line)
        say(f"curve    {curve}")
        say(f"plot     {plot}")
    say(f"table    {out}, hash {packed.table.table_hash[:12]}")

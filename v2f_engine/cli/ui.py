"""`v2f ui`: the page in a browser."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.flags import Device, Fetch, Judge, Model, Precision
from v2f_engine.cli.saying import note, result, say


def ui(
    model: Model = "mini",
    vectors: Annotated[
        Path | None,
        typer.Option(help="people to look through and compare with: a table, or a file of [N,512]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder into which sets of kept people are written")] = Path(
        "ui-sets"
    ),
    host: Annotated[
        str, typer.Option(help="address to listen on; another than loopback lets others in")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="to listen on; 0 takes a free one")] = 8765,
    opens: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="open a browser; by default where there is a screen"),
    ] = None,
    recogniser: Judge = "mini",
    device: Device = "auto",
    precision: Precision = "auto",
    fetch: Fetch = False,
) -> None:
    """See people in a browser: draw them, move sliders, keep some, write them as a set."""
    from v2f_engine import stopping
    from v2f_engine.options import EngineOptions
    from v2f_engine.ui import serving
    from v2f_engine.ui.begun import Begun

    engine = EngineOptions(model, device, precision, fetch=fetch)
    begun = Begun(engine, recogniser, vectors, out)

    def told(words: str) -> None:
        if words.startswith("warning"):
            note(words)
        else:
            say(words)

    try:
        serving.serve(begun, host, port, opens=serving.opens_itself() if opens is None else opens, say=told)
    except (stopping.Stopped, KeyboardInterrupt) as stop:
        if getattr(stop, "number", signal.SIGINT) != signal.SIGINT:
            raise
        say(f"ended; sets are in {out}" if out.exists() else "ended; no set was written")
    result(out=out)

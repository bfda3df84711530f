"""`v2f features`: recogniser features of a dataset, once, for every training that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.progress import progress_bar


def features(
    dataset: Annotated[Path, typer.Argument(help="a dataset of aligned faces in any format")],
    out: Annotated[Path, typer.Option(help=".npy of features, or .lmdb in the published training layout")],
    recogniser: Annotated[
        str, typer.Option(help="mini, a published name, or a path: .pth, .safetensors, .onnx")
    ] = "mini",
    mask: Annotated[Path | None, typer.Option(help=".npy of row numbers: only these rows")] = None,
    channels: Annotated[str | None, typer.Option(help="rgb (default) or bgr (AdaFace, MagFace)")] = None,
    mean: Annotated[float | None, typer.Option(help="of the pixels, in grey levels; default 127.5")] = None,
    std: Annotated[float | None, typer.Option(help="of the pixels, in grey levels; default 127.5")] = None,
    on_bad: Annotated[
        str, typer.Option(help="an image that cannot be read: refuse (stop, name it) or skip (NaN, note it)")
    ] = "refuse",
    batch: Annotated[int, typer.Option(help="images a call")] = 128,
    threads: Annotated[int, typer.Option(help="that decode images")] = 1,
    bf16: Annotated[bool, typer.Option(help="convolutions in bfloat16 (torch recognisers)")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Extract the features of every image; after a kill the same command goes on."""
    from v2f_engine.models.embedder import open_embedder
    from v2f_engine.train.extract import store_features

    embedder = open_embedder(recogniser, channels=channels, mean=mean, std=std, device=device, bf16=bf16)
    with progress_bar("features", "images") as progress:
        record = store_features(
            dataset,
            out,
            embedder,
            subset=mask,
            on_bad=on_bad,
            batch=batch,
            threads=threads,
            progress=progress,
        )
    used = record["recogniser"]
    bad = record["bad"]
    typer.echo(
        f"{record['dataset']['rows']} images, {record['dim']} numbers each, in {out}: {used['name']}, "
        f"{used['channels']}, (x - {used['mean']:g}) / {used['std']:g}, {bad['count']} bad {bad['by_kind']}"
    )

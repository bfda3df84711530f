"""`v2f convert` and `v2f verify`: datasets and weights after they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WEIGHTS = (".pth", ".pt", ".safetensors")


def convert(
    source: Annotated[Path, typer.Argument(help="a dataset, or weights (.pth, .safetensors)")],
    target: Annotated[Path, typer.Argument(help="folder of the new dataset, or a .safetensors file")],
    format: Annotated[str, typer.Option(help="format of the new dataset")] = "webdataset",
    precision: Annotated[str, typer.Option(help="of the new weights: fp32, fp16, bf16")] = "fp32",
) -> None:
    """Convert a dataset to another format, or a published checkpoint to safetensors."""
    if source.suffix in WEIGHTS:
        from v2f_engine.models.weights import convert as convert_weights

        typer.echo(f"{target}  sha256 {convert_weights(source, target, precision=precision)}")
        return
    from v2f_engine.data.convert import convert_dataset

    report = convert_dataset(source, target, format)
    typer.echo(f"{report.images_written} images in {target}")


def verify(
    dataset: Annotated[Path, typer.Argument(help="folder of a dataset")],
    level: Annotated[str, typer.Option(help="fast (sizes) or full (every sha256)")] = "full",
) -> None:
    """Check every file of a dataset against its manifest."""
    from v2f_engine.data.verify import verify_dataset
    from v2f_engine.errors import DatasetError

    report = verify_dataset(dataset, level)
    typer.echo(f"{report.shards} shards, {report.files} files checked, {len(report.broken)} broken")
    for fault in report.faults:
        typer.echo(f"  {fault}")
    if report.broken or report.faults:
        raise DatasetError(f"{dataset}: broken. The same command that made it makes the broken shards again.")

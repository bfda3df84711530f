"""`v2f ids within`: how images of one person differ, for `--perturbation covariance:FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.ids import Labels
from v2f_engine.cli.outputs import Overwrite, claimed
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say


def within(
    features: Annotated[
        list[Path],
        typer.Argument(
            help="features of images: files [N,512], a list or folders of .npy, or a training LMDB that holds them"
        ),
    ],
    labels: Labels = None,
    out: Annotated[
        Path, typer.Option(help="covariance, .safetensors, for `v2f generate --perturbation covariance:OUT`")
    ] = Path("within.safetensors"),
    overwrite: Overwrite = False,
    components: Annotated[int | None, typer.Option(help="PCA components; all by default")] = None,
    shrinkage: Annotated[str, typer.Option(help="0..1 or `oas`")] = "0",
) -> None:
    """Fit how images of one person differ from their mean: the pooled within-person covariance of features."""
    from v2f_engine.atomic import write_atomically
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.labelled import within_of

    try:
        share = shrinkage if shrinkage == "oas" else float(shrinkage)
    except ValueError as error:
        raise ConfigError(f"--shrinkage: expected 0..1 or `oas`, found {shrinkage!r}.") from error
    with claimed(overwrite, out, endings=(".safetensors",)):
        with progress_bar("within", "rows") as progress:
            found = within_of(
                features, labels, components=components, shrinkage=share, progress=progress, say=progress.say
            )
        write_atomically(out, found.to_bytes())
        result(
            out=out, images=found.images, people=found.people, length=found.length,
            components=found.factor.shape[1], shrinkage=found.shrinkage, sha256=found.sha256,
            rank=found.rank,
        )  # fmt: skip
    say(
        f"{out}: {found.images:,} images of {found.people:,} people differ from their means by {found.length:.3g}, "
        f"{found.factor.shape[1]} components, shrinkage {found.shrinkage:.3g}, sha256 {found.sha256[:12]}"
    )
    if found.rank < found.factor.shape[1]:
        say(
            f"note           {found.images:,} images of {found.people:,} people leave {found.free:,} differences, so "
            f"images will differ in {found.rank:,} of {found.factor.shape[1]} components; more images, or --shrinkage "
            "oas"
        )

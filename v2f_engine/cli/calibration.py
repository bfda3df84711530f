"""Options that set a threshold by a false-match rate, the same in every command that has a threshold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2f_engine.cli.progress import progress_bar

if TYPE_CHECKING:
    from v2f_engine.vectors.calibration import Calibration

Rate = Annotated[
    float | None,
    typer.Option(help="false-match rate that sets the threshold instead, e.g. 1e-4; needs --calibration"),
]
Known = Annotated[
    Path | None,
    typer.Option(
        "--calibration", help="known people to calibrate --fmr on: .npy of centres, or a dataset of faces"
    ),
]
Judge = Annotated[str, typer.Option(help="looks at the faces of a dataset: a name or a path")]


def calibrated(
    max_cosine: float | None, fmr: float | None, known: Path | None, recogniser: str, images_per_id: int = 1
) -> Calibration | None:
    """The threshold of a false-match rate, or None where no rate is asked for.

    Raises:
        ConfigError: a rate and a cosine, a rate without people or people without a rate.
    """
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.references import calibrate_on_faces
    from v2f_engine.vectors.calibration import limit_of

    if fmr is None and known is None:
        return None
    if fmr is not None and max_cosine is not None:
        raise ConfigError(f"Give either --fmr ({fmr:g}) or a cosine ({max_cosine:g}), not both.")
    if fmr is None or known is None or known.suffix == ".npy":
        return limit_of(None, fmr, known)[1]
    with progress_bar("calibrate", "images") as progress:
        return calibrate_on_faces(known, recogniser, fmr=fmr, images_per_id=images_per_id, progress=progress)

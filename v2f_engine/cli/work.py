"""What comes after sampling, as `v2f ids plan` is asked of it: options mean what they mean where the work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from v2f_engine.pipeline.selected import ChoiceOptions
    from v2f_engine.pipeline.whole_plan import Work

IMAGES = 50
"""Images of each identity where only --make is typed, as `v2f generate` has it."""


@dataclass(frozen=True)
class WorkFlags:
    """`pipeline.whole_plan.Work` as typed."""

    pack: Annotated[bool, typer.Option("--pack", help="moving them apart afterwards, as `v2f ids pack`")] = (
        False
    )
    steps: Annotated[int, typer.Option(help="of --pack, at most")] = 20
    perturbation: Annotated[
        str | None,
        typer.Option(
            help="how images lie around an identity, as `v2f generate` has it; cone:0.6 looks for each one's nearest "
            "other first"
        ),
    ] = None
    images_per_id: Annotated[
        int | None, typer.Option("--images", "--keep", help="images of each identity, made by --model")
    ] = None
    make: Annotated[
        int | None, typer.Option(help="images of each identity that are made, of which --keep are kept")
    ] = None
    select: Annotated[
        list[str] | None,
        typer.Option(help="which are kept: centre (default), quality, diversity, vector; repeatable"),
    ] = None
    format: Annotated[
        str, typer.Option(help="of the images: imagefolder, webdataset, lmdb, recordio, parquet or null")
    ] = "imagefolder"

    def asked(self, model: str, rescale: bool) -> Work:
        """What is planned.

        Args:
            model, rescale: of the stream.

        Raises:
            ConfigError: a form, a number or a criterion that cannot be.
        """
        from v2f_engine.config import whole_number
        from v2f_engine.pipeline.whole_plan import Work
        from v2f_engine.vectors.perturbation import Perturbation

        keep = IMAGES if self.images_per_id is None and self.make is not None else self.images_per_id
        return Work(
            pack=self.pack,
            steps=whole_number("steps", self.steps, 1),
            around=None if self.perturbation is None else Perturbation.of(self.perturbation),
            keep=None if keep is None else whole_number("images", keep, 1),
            choice=self._choice(),
            format=self.format,
            model=model,
            rescale=rescale,
        )

    def _choice(self) -> ChoiceOptions | None:
        if self.make is None:
            return None
        from v2f_engine.pipeline.selected import ChoiceOptions

        return ChoiceOptions(self.make, tuple(self.select or ("centre",)))

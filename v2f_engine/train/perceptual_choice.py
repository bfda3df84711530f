"""What a training compares images by: LPIPS, which needs weights of the user's own, or the recogniser's maps."""

from __future__ import annotations

from pathlib import Path

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError, ModelNotFound

PERCEPTUAL = ("auto", "lpips", "recogniser")
"""Whose maps the perceptual term compares; `auto`: LPIPS where `vgg` is given and else the recogniser's."""


def check_perceptual(perceptual: str, vgg: Path | None) -> None:
    """Raises ConfigError: a name that is not in `PERCEPTUAL`, or LPIPS weights that would not be read."""
    one_of("perceptual", perceptual, PERCEPTUAL)
    if perceptual == "recogniser" and vgg is not None:
        raise ConfigError(
            f"perceptual='recogniser' compares the recogniser's maps, so {vgg} would not be read: leave out either."
        )


def lpips_missing(recipe: str, repository: str, otherwise: str) -> ModelNotFound:
    """The error for a recipe that compares by LPIPS without weights for it.

    Args:
        recipe: by name, as its command calls it.
        repository: on github.com, whose `lpips/vgg.pth` holds the linear layers.
        otherwise: how the recogniser's maps are compared instead.
    """
    return ModelNotFound(
        f"{recipe} compares images by LPIPS: expected its weights in --vgg, found none. Put torchvision's VGG16"
        " (https://download.pytorch.org/models/vgg16-397923af.pth) and the linear layers (lpips/vgg.pth of"
        f" github.com/{repository}, or weights/v0.1/vgg.pth of the lpips package) into one folder and give --vgg"
        f" FOLDER. {otherwise}"
    )

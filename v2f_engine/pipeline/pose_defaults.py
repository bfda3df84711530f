"""What images of a pose network are drawn with where nobody says otherwise, and what a begun dataset says of it.

A pose network is asked as it was published: few rows seen, no noise. Datasets begun before that was the default were
drawn as all others are; the command that began one goes on with what its manifest says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2f_engine.data.layout import MANIFEST, RUN, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule
from v2f_engine.options import EngineOptions, ImageOptions
from v2f_engine.pipeline.makers.posed import MASKS, NOISE, PoseCondition
from v2f_engine.vectors.perturbation_contract import Around


def pose_defaults(
    engine: EngineOptions, images: ImageOptions, condition: PoseCondition, out: Path, chosen: Collection[str]
) -> tuple[EngineOptions, ImageOptions, PoseCondition]:
    """The options with what a pose network is asked with; a dataset of a pose network begun at `out` keeps its own.

    Args:
        chosen: `masks` and `perturbation` where the user gave them; those stay.

    Raises:
        DatasetError: the folder's manifest cannot be read.
    """
    begun = _begun(out)
    if begun is not None:
        condition = condition.as_begun(begun["attributes"]["pose model"])
    if "masks" not in chosen:
        engine = replace(engine, masks=MASKS if begun is None else _masks(begun["masks"]))
    if "perturbation" not in chosen:
        noise: Around = NOISE
        if begun is not None:
            told = {"seed": 0, "perturbation": begun["perturbation"]}
            noise = ImageOptions.from_manifest(1, told, out).perturbation
        images = replace(images, perturbation=noise)
    return engine, images, condition


def _begun(out: Path) -> Mapping[str, Any] | None:
    """Settings of a dataset of a pose network at `out`, finished or not."""
    for place in (out / MANIFEST, out / WORK / RUN):
        if place.is_file():
            settings = Manifest.load(place).settings
            posed = "pose model" in settings.get("attributes", {})
            return settings if posed and {"masks", "perturbation"} <= settings.keys() else None
    return None


def _masks(told: Mapping[str, float]) -> str | MaskSchedule:
    found = MaskSchedule(told["min"], told["mean"], told["std"], told["max"])
    return next((name for name, schedule in MASK_SCHEDULES.items() if schedule == found), found)

"""What the published scripts fix: their options by name (`--as-published`), and how a run differs from them.

    image_generation.py                  identities sampled or given: each vector steered to quality 27, then perturbed
    image_generation_with_reference.py   identities of pictures: sigma 0.2, nothing steered
    pose_image_generation.py             each image steered to a yaw, left or right, and to quality 27
    pose_control.py                      a pose network: no noise, four to nine tenths of the rows masked

All truncate grey levels, save JPEG by Pillow (through imageio) at its quality 75 with 4:2:0, draw one mask ratio a
batch of 64 (`--batch_size`) and compute in fp32 (pose_control.py on a GPU: fp16 around fp32 transformer blocks).
HaiyuWu/Vec2Face at 9d9fa8c, HaiyuWu/Vec2Face_plus at 7aea100.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.options import EngineOptions, ImageOptions, OutputOptions
from v2f_engine.vectors.perturbation import Perturbation

if TYPE_CHECKING:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.pipeline.makers.posed import PoseCondition

    Attributes = AttributeControl | PoseCondition | None

QUALITY = 27.0
"""`q_target` of the scripts that steer."""
FORM = "published-2025"
"""Their loop, a name in `attributes.forms.FORMS`."""


@dataclass(frozen=True)
class Script:
    """A published script.

    Args:
        name: its file.
        use: what it steers (`AttributeControl.use`); nothing where None.
        perturbation: its noise.
        masks: its mask ratios, a name in `MASK_SCHEDULES`.
    """

    name: str
    use: str | None
    perturbation: Perturbation
    masks: str = "generate"
    rounding: str = field(default="truncate", init=False)
    precision: str = field(default="fp32", init=False)
    mask_batch: int = field(default=64, init=False)
    sigma_shares: str = field(default="exact", init=False)
    jpeg_quality: int = field(default=75, init=False)
    jpeg_encoder: str = field(default="pillow", init=False)


SCRIPTS = {
    "sampled": Script("image_generation.py", "identities", Perturbation()),
    "references": Script("image_generation_with_reference.py", None, Perturbation((0.2,), (1.0,))),
    "turned": Script("pose_image_generation.py", "images", Perturbation()),
    "landmarks": Script("pose_control.py", None, Perturbation((0.0,), (1.0,)), "plus-generate"),
}


def script_for(attributes: Attributes, references: bool) -> Script:
    """The script that does what is asked."""
    from v2f_engine.pipeline.makers.posed import PoseCondition

    if isinstance(attributes, PoseCondition):
        return SCRIPTS["landmarks"]
    if attributes is not None and {"yaw", "pitch", "roll"} & set(attributes.goals):
        return SCRIPTS["turned"]
    return SCRIPTS["references" if references else "sampled"]


@dataclass(frozen=True)
class Asked:
    """The groups of options that a script fixes something of."""

    engine: EngineOptions
    images: ImageOptions
    output: OutputOptions
    attributes: Attributes = None

    def as_published(self, script: Script, chosen: Collection[str] = ()) -> Asked:
        """The same with what a script fixes; fields named in `chosen` stay as they are.

        Goals that were asked for stay; quality 27 joins them where the script steers and no quality was asked for. The
        loop is the script's own, which leaves left and right of a yaw open.
        """

        def fixed(group: Any, *names: str) -> Any:
            return replace(group, **{name: getattr(script, name) for name in names if name not in chosen})

        return Asked(
            fixed(self.engine, "rounding", "precision", "masks"),
            fixed(self.images, "perturbation", "mask_batch", "sigma_shares"),
            fixed(self.output, "jpeg_quality", "jpeg_encoder"),
            self.attributes if "attributes" in chosen else _steered(self.attributes, script, chosen),
        )


def _steered(attributes: Attributes, script: Script, chosen: Collection[str]) -> Attributes:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.attributes.goals import Goal

    if script.use is None:
        return attributes
    if attributes is None:
        return AttributeControl({"quality": QUALITY}, use=script.use, steering=FORM)
    if not isinstance(attributes, AttributeControl):
        return attributes
    goals: dict[str, str | float | Goal] = {"quality": QUALITY, **attributes.goals}
    use = attributes.use if "use" in chosen else script.use
    form = attributes.steering if "steering" in chosen else FORM
    return replace(attributes, goals=goals, use=use, steering=form)


def departures(asked: Asked, script: Script, precision: str) -> tuple[str, ...]:
    """How a run differs from a script, each in a few words.

    Args:
        precision: what `auto` became.
    """
    engine, images, noise = asked.engine, asked.images, asked.images.perturbation
    mixed = isinstance(noise, Perturbation) and len(noise.levels) > 1
    shared = "an image" if images.mask_batch == 1 else f"for {images.mask_batch} images"
    steering = _words(asked.attributes, script)
    told = (
        (engine.rounding != script.rounding, "levels rounded"),
        (asked.output.jpeg_quality != script.jpeg_quality, f"JPEG {asked.output.jpeg_quality}"),
        (asked.output.jpeg_encoder != script.jpeg_encoder, f"by {asked.output.jpeg_encoder}"),
        (precision != script.precision, precision),
        (engine.schedule != MASK_SCHEDULES[script.masks], f"masks {engine.masks}"),
        (images.mask_batch != script.mask_batch, f"a mask ratio {shared}"),
        (noise != script.perturbation, noise.words),
        (images.sigma_shares != script.sigma_shares and mixed, "sigma drawn an image"),
        (bool(steering), steering),
    )
    return tuple(words for differs, words in told if differs)


def _words(attributes: Attributes, script: Script) -> str:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.attributes.goals import Goal

    asked = attributes if isinstance(attributes, AttributeControl) else None
    if script.use is None:
        return "steered" if asked else ""
    if asked is None:
        return f"no AttrOP to quality {QUALITY:g}"
    at_published = (asked.use, asked.steering, asked.goals.get("quality")) == (
        script.use,
        FORM,
        Goal.of(QUALITY),
    )
    return "" if at_published else f"other AttrOP than {script.use} to quality {QUALITY:g}"

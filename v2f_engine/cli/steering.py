"""Options of attribute control and of the pose model, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.pipeline.makers.posed import PoseCondition


@dataclass(frozen=True)
class SteeringFlags:
    """`attributes.control.AttributeControl`, or `pipeline.makers.posed.PoseCondition`, as typed."""

    yaw: Annotated[
        str | None,
        typer.Option(help="degrees: a number, a range -60:60, or a list -45,0,45; + is image right"),
    ] = None
    pitch: Annotated[str | None, typer.Option(help="degrees, as --yaw; + looks down")] = None
    quality: Annotated[
        str | None, typer.Option(help="points at least, as --yaw: feature norm, 22 to 30 (24 is good)")
    ] = None
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="file.py:Name, an attribute of your own; file.py:Name=GOAL sets its goal"),
    ] = None
    steer: Annotated[
        str, typer.Option(help="images (each one), identities (refine each vector once), or both")
    ] = "images"
    iterations: Annotated[
        int | None,
        typer.Option(
            help="bound of the steering of one image; 40, of --steering plus 32, of published-* 202 and 206"
        ),
    ] = None
    unsigned: Annotated[bool, typer.Option(help="leave left and right open, as published")] = False
    steering: Annotated[
        str,
        typer.Option(
            help="ours, or loss, thresholds and end of a release: published-2024, published-2025, plus; these leave "
            "left and right open"
        ),
    ] = "ours"
    steer_recogniser: Annotated[
        str | None,
        typer.Option(
            help="judges identity: the recogniser of the model's vectors, a name or weights with gradients"
        ),
    ] = None
    quality_model: Annotated[
        str | None,
        typer.Option(
            help="judges quality: an estimator's file, or a recogniser by the length of its feature"
        ),
    ] = None
    pose_model: Annotated[
        Path | None, typer.Option(help="another pose estimator: its file, or 6DRepNet weights")
    ] = None
    steer_rate: Annotated[float | None, typer.Option(help="Adam's rate on the vector; 0.1 as published")] = (
        None
    )
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=WIDTH, within which a goal is met: yaw=5 degrees, quality=1 point; repeatable"
        ),
    ] = None
    min_cosine: Annotated[
        float | None, typer.Option(help="to an identity, below which it is lost; 0.7, of published-2024 0.5")
    ] = None
    dead_zone: Annotated[
        float | None,
        typer.Option(
            help="cosine distance up to which identity adds no loss, as published-2024 (0.5), plus (0.3)"
        ),
    ] = None
    by: Annotated[
        str, typer.Option(help="steering, or pose-model (a Vec2Face+ model with a pose network)")
    ] = "steering"
    landmarks: Annotated[
        list[Path] | None,
        typer.Option(
            help="landmark pictures for --by pose-model, instead of --yaw: a picture, a folder, or a text list; "
            "repeatable; the images of the run take them in turn"
        ),
    ] = None
    landmark_heights: Annotated[
        str,
        typer.Option(
            help="heights at which --yaw draws landmarks: auto (those the model was trained on), rendered, published"
        ),
    ] = "auto"

    @property
    def goals(self) -> dict[str, str]:
        """Attribute -> goal, where one was typed."""
        typed = {"yaw": self.yaw, "pitch": self.pitch, "quality": self.quality}
        return {name: goal for name, goal in typed.items() if goal is not None}

    @property
    def asked(self) -> AttributeControl | PoseCondition | None:
        """The control asked for; None where no option asks for any."""
        from v2f_engine.config import one_of

        if one_of("by", self.by, ("steering", "pose-model")) == "pose-model":
            from v2f_engine.pipeline.makers.posed import PoseCondition, landmark_files

            return PoseCondition(
                self.goals,
                landmark_files(self.landmarks) if self.landmarks else (),
                heights=None if self.landmark_heights == "auto" else self.landmark_heights,
            )
        return self._control() if self.goals or self.attribute else None

    def _control(self) -> AttributeControl:
        from v2f_engine.attributes.control import AttributeControl
        from v2f_engine.attributes.from_file import attribute_from_file
        from v2f_engine.attributes.goals import Goal

        made, wanted = [], {name: Goal.of(goal, f"--{name}") for name, goal in self.goals.items()}
        for typed in self.attribute or []:
            place, _, goal = typed.partition("=")
            made.append(attribute_from_file(place))
            if goal:
                wanted[made[-1].name] = Goal.of(goal, f"--attribute {place}")
        return AttributeControl(
            wanted,
            tuple(made),
            use=self.steer,
            iterations=self.iterations,
            signed=not self.unsigned,
            steering=self.steering,
            recogniser=self.steer_recogniser,
            quality=self.quality_model,
            pose=self.pose_model,
            rate=self.steer_rate,
            tolerance=widths(self.tolerance or []),
            min_cosine=self.min_cosine,
            dead_zone=self.dead_zone,
        )


def widths(texts: list[str]) -> dict[str, float]:
    """`["yaw=3"]` as `{"yaw": 3.0}`.

    Raises:
        ConfigError: something else.
    """
    from v2f_engine.errors import ConfigError

    table: dict[str, float] = {}
    for text in texts:
        name, _, width = text.partition("=")
        try:
            table[name.strip()] = float(width)
        except ValueError:
            raise ConfigError(f"--tolerance: expected NAME=WIDTH such as yaw=3, found {text!r}.") from None
    return table

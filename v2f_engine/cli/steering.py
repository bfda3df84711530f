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
    iterations: Annotated[int, typer.Option(help="bound of the steering of one image")] = 40
    unsigned: Annotated[bool, typer.Option(help="leave left and right open, as published")] = False
    pose_model: Annotated[
        Path | None, typer.Option(help="another pose estimator: its file, or 6DRepNet weights")
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
            pose=self.pose_model,
        )

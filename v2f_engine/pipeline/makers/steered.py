"""Generation under attribute control: vectors steered until their images meet their goals.

`use="images"` steers every image, `"identities"` refines each identity's vector once and then goes the plain way,
`"both"` does both. Refined identities have one goal each, whatever is drawn: each of their images is measured.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.attributes.control import AttributeControl, Control
from v2f_engine.attributes.counted import CountedSteerer, fresh_masks
from v2f_engine.attributes.steering import SteeredBatch
from v2f_engine.attributes.targets import Verdict
from v2f_engine.backends import Choice, choose
from v2f_engine.errors import ConfigError
from v2f_engine.models import bind_ops
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import LoadedModel
from v2f_engine.pipeline.draws import Draw, Draws
from v2f_engine.pipeline.finish import sound
from v2f_engine.pipeline.makers import Made, Maker
from v2f_engine.pipeline.makers.plain import Plain
from v2f_engine.pipeline.memory import WithinMemory
from v2f_engine.ranges import doing
from v2f_engine.runtime import NetworkRunner, Runner, network_runner, with_rows

ROUNDS = 16
"""Samples queued at a time, as a multiple of the slots: idle slots at the end of a queue are then few."""
REFINING = 2**32 - 1
"""Image number whose masks refine an identity; no image has it."""
REACHED = "refined_"
"""Before the name of what the picture reached that refined an identity, in the attributes of its images."""
SLOWER = (0.3, 0.1)
"""Shares of the rate with which an identity is refined again whose first step lost it: a pixel at the clip may make
the first gradient 20 times as long as the next. One of 4 identities of mini turned to 30 degrees never came back from a
step of 0.1, but met its goal in 2 steps of 0.03."""
REFERENCES = 8
"""Unsteered images of an identity whose mean feature is its reference; numbered down from `REFINING`."""


def steered(
    asked: AttributeControl, loaded: object, runner: Runner, unsteered: WithinMemory, masks: MaskSchedule
) -> Maker:
    """The maker of a control, ready for an engine.

    Args:
        loaded, runner, masks: of the engine.
        unsteered: its plain maker.

    Raises:
        ConfigError: an engine without gradients, or a goal without an attribute.
        ModelNotFound, CheckpointError: of the networks that judge.
    """
    network = network_runner(runner, "Attribute control needs gradients, so it")
    if not isinstance(loaded, LoadedModel):
        raise ConfigError("Attribute control needs the weights of a model, not an exported file.")
    choice = choose(network.choice.device, network.choice.precision, gradients=True)
    control = Control(asked, loaded, _twin(network, choice), choice, network.n_dropped)
    before = Before(control, unsteered, masks)
    return Steered(before) if asked.steers_images else Refined(runner, before)


def _twin(runner: NetworkRunner, choice: Choice) -> Vec2Face:
    """The runner's network with the same tensors, bound to the ops of a choice with gradients."""
    shared = {id(tensor): tensor for tensor in chain(runner.model.parameters(), runner.model.buffers())}
    twin = copy.deepcopy(runner.model, shared)
    bind_ops(twin, choice)
    return twin


class Steering(Maker):
    """Vectors steered towards the goals that stand among their draws' attributes.

    Args:
        control: the networks that judge, and the loop.
        names: attributes that count; identity is among them.
        masks: what a form that draws masks anew at each step draws them from.
    """

    fewer = "AttributeControl(settings=SteeringSettings(slots={}))"

    def __init__(self, control: Control, names: tuple[str, ...], masks: MaskSchedule) -> None:
        self.control, self.names, self.masks = control, names, masks
        self.rows = control.settings.slots
        self.batch = self.rows * ROUNDS

    def __call__(self, draw: Draw) -> Made:
        asked = [name for name in self.control.asked.goals if name in self.names]
        goals = {name: draw.attributes[f"{name}_goal"] for name in asked}
        steerer, given = self.control.steerer(self.names), (*draw.inputs, goals, draw.given["kept"])
        if isinstance(steerer, CountedSteerer):
            made = steerer(*given, masks=fresh_masks(self.masks, draw.seed, draw.keys, draw.image))
        else:
            made = steerer(*given)
        return Made(made.images, _recorded(made), made.vectors, doubtful=made.spoilt)

    def smaller(self, rows: int) -> Steering:
        fewer = copy.copy(self)
        fewer.control, fewer.rows = self.control.with_slots(rows), rows
        return fewer


def _unmoved(draw: Draw, made: Made) -> NDArray[np.bool_]:
    """bool `[B]`: whose best picture is the one it began with."""
    assert made.vectors is not None
    still: NDArray[np.bool_] = (draw.vectors == made.vectors).all(1)
    return still


def _recorded(made: SteeredBatch) -> dict[str, NDArray[np.float32]]:
    columns = {name: values for name, values in made.values.items() if name != "identity"}
    columns["identity_cosine"] = made.values["identity"]
    columns["verdict"] = made.verdicts.astype(np.float32)
    columns["iterations"] = made.iterations.astype(np.float32)
    return {name: np.ascontiguousarray(values, np.float32) for name, values in columns.items()}


def _with_goals(control: Control, draw: Draw, image: NDArray[np.int64]) -> Draw:
    goals = control.goals(draw.seed, draw.keys, image)
    return draw.noting({f"{name}_goal": values for name, values in goals.items()})


class Before:
    """What is known of identities before their images: the feature each has to keep, and its refined vector.

    Args:
        control: see `attributes.control`.
        unsteered: makes the images that are an identity's reference.
        masks: of the engine.
    """

    def __init__(self, control: Control, unsteered: WithinMemory, masks: MaskSchedule) -> None:
        self.control, self.unsteered, self.masks = control, unsteered, masks
        self._refining = WithinMemory(Steering(control, control.refined, masks))

    def __call__(self, draws: Draws) -> Draws:
        draws = replace(draws, given={"kept": self.references(draws)})
        if not self.control.asked.refines or not len(draws.identity):
            return draws
        centres, reached = self.refined(draws)
        return replace(draws, centres=centres, given={**draws.given, **reached})

    def references(self, draws: Draws) -> NDArray[np.float32]:
        """What each identity's images are compared with, `[I, D]`: its vector, or the mean feature of its images."""
        count = len(draws.identity)
        if self.control.reference == "vector" or not count:
            return draws.centres
        doing(lambda: f"looking at {REFERENCES} faces of each of {count} identities before they are steered")
        row = np.repeat(np.arange(count), REFERENCES)
        image = REFINING - 1 - np.tile(np.arange(REFERENCES, dtype=np.int64), count)
        size = self.unsteered.maker.batch
        starts = range(0, len(row), size)
        batches = (draws.at(row[start : start + size], image[start : start + size]) for start in starts)
        features = [
            self.control.features(sound(self.unsteered, draw, made)[0].images)
            for draw, made in self.unsteered.stream(batches)
        ]
        means = np.concatenate(features).reshape(count, REFERENCES, -1).mean(1)
        return np.asarray(means, np.float32)

    def refined(self, draws: Draws) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """The identities' vectors `[I, 512]` after steering, and what each reached.

        Each is as long as it was; in a published form, as it became.
        """
        row = np.arange(len(draws.identity))
        doing(lambda: f"refining {len(row)} identities")
        draw = draws.at(row, np.full(len(row), REFINING), perturbed=False)
        draw = _with_goals(self.control, draw, np.zeros_like(draw.image))
        made, _ = sound(self._refining, draw, self._refining(draw))
        ours = self.control.asked.form is None
        for share in SLOWER if ours and self.control.refines_pose else ():
            still = np.flatnonzero(_unmoved(draw, made) & (made.attributes["verdict"] != Verdict.MET))
            if len(still):
                slower = WithinMemory(Steering(self.control.slower(share), self.control.refined, self.masks))
                made = made.with_rows(still, slower(draw.rows(still)))
        assert made.vectors is not None
        norm = np.linalg.norm(draw.vectors, axis=1) / np.linalg.norm(made.vectors, axis=1)
        norm = norm if ours else np.ones_like(norm)
        reached = {f"{REACHED}{name}": values for name, values in made.attributes.items()}
        return np.asarray(made.vectors * norm[:, None], np.float32), reached


class Steered(Steering):
    """Images each steered on its own."""

    def __init__(self, before: Before) -> None:
        control = before.control
        super().__init__(control, tuple(attribute.name for attribute in control.attributes), before.masks)
        self.before = before

    @property
    def moves_centres(self) -> bool:
        return self.before.control.asked.refines

    def prepared(self, draws: Draws) -> Draws:
        return self.before(draws)

    def furnished(self, draw: Draw) -> Draw:
        return _with_goals(self.control, draw, draw.image)

    def describe(self) -> dict[str, Any]:
        return self.before.control.describe()


class Refined(Plain):
    """Plain images of identities whose vectors were refined, measured: a goal is asked once of each identity."""

    def __init__(self, runner: Runner, before: Before) -> None:
        super().__init__(runner)
        self.before = before

    def __call__(self, draw: Draw) -> Made:
        return self._measured(draw, super().__call__(draw))

    def stream(self, draws: Iterable[Draw]) -> Generator[Made]:
        taken: deque[Draw] = deque()

        def feed() -> Generator[Draw]:
            for draw in draws:
                taken.append(draw)
                yield draw

        made = super().stream(feed())
        try:
            for one in made:
                yield self._measured(taken.popleft(), one)
        finally:
            made.close()

    def _measured(self, draw: Draw, made: Made) -> Made:
        return replace(made, attributes=self.before.control.measured(made.images, draw.given["kept"]))

    def smaller(self, rows: int) -> Refined:
        return Refined(with_rows(self.runner, rows), self.before)

    @property
    def moves_centres(self) -> bool:
        return self.before.control.asked.refines

    def prepared(self, draws: Draws) -> Draws:
        return self.before(draws)

    def furnished(self, draw: Draw) -> Draw:
        reached = {name: values for name, values in draw.given.items() if name.startswith(REACHED)}
        return _with_goals(self.before.control, draw.noting(reached), np.zeros_like(draw.image))

    def describe(self) -> dict[str, Any]:
        return self.before.control.describe()

"""The steering loop: input vectors optimised until each image meets its own targets, within a bound.

Against the published loop: every sample has its own optimiser state, stop, best iterate and verdict; a finished
sample leaves its slot to the next one, so the device stays full; the mask noise is the image's own throughout;
the image returned is the very one that was judged (rounded to bytes before it is judged, straight through for
the gradient); weights are frozen, so only input gradients are computed; the bound is hard.

All state lives in `Slots` of a fixed size and an iteration changes it in place without asking the device
anything, so that one iteration is one CUDA graph. A slot that has finished freezes itself: how late the host
looks changes nothing but speed. A sample's result depends on nothing but itself and the number of slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2f_engine.attributes.targets import Judged, Objective, Verdict
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.config import at_least, between
from v2f_engine.errors import ConfigError
from v2f_engine.models.image_decoder import levels_of
from v2f_engine.models.mask_schedule import N_TOKENS
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.ranges import doing

LOST = 1e6
"""Added to the score of an iterate that lost what is required: any that kept it is better."""


@dataclass(frozen=True)
class SteeringSettings:
    """Of the optimiser and its bound.

    Args:
        iterations: hard bound for each sample; the first one judges the vector as it came.
        lr: of Adam on the vector; 0.1 as published, for vectors of norm about 22.
        betas, eps: of Adam.
        slots: samples on the device at a time; part of what decides a result, since libraries round a batch of
            another size otherwise. Of a smooth loss that moves a vector by 1e-6. But a pixel at the clip
            switches its gradient, and Adam's first step is `lr` times the gradient's sign: a component whose
            gradient is about zero may then differ by `2 lr` (seen once in 33 samples).
        look_every: iterations between two looks of the host at what has finished; changes speed alone.
    """

    iterations: int = 30
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    slots: int = 16
    look_every: int = 1

    def __post_init__(self) -> None:
        at_least("iterations", self.iterations, 1)
        at_least("slots", self.slots, 1)
        at_least("look_every", self.look_every, 1)
        between("lr", self.lr, 0.0, 1e3)

    def describe(self) -> dict[str, Any]:
        """What decides a result, for manifests."""
        return {"iterations": self.iterations, "lr": self.lr, "betas": list(self.betas), "slots": self.slots}


@dataclass(frozen=True)
class SteeredBatch:
    """Steered samples, in the order given.

    Args:
        images: uint8 `[N, 112, 112, 3]`, the best iterates, exactly as they were judged.
        vectors: float32 `[N, 512]` that made them.
        verdicts: int8 `[N]`, a `Verdict` each.
        iterations: int32 `[N]`, images of that sample that were judged.
        spoilt: bool `[N]`, samples that met something not finite, which ended them before their time.
        values: attribute -> float32 `[N]`, of the image returned.
        start: attribute -> float32 `[N]`, of the unsteered image.
    """

    images: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    verdicts: NDArray[np.int8]
    iterations: NDArray[np.int32]
    spoilt: NDArray[np.bool_]
    values: Mapping[str, NDArray[np.float32]]
    start: Mapping[str, NDArray[np.float32]]


class Slots:
    """The state of one device's samples; every tensor's first dimension is the slot."""

    def __init__(self, slots: int, dim: int, goals: int, feature: int, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(slots, *shape, dtype=dtype, device=device)

        self.vectors, self.first, self.second = zeros(dim), zeros(dim), zeros(dim)
        self.noise, self.n_masked = zeros(N_TOKENS), zeros(dtype=torch.int64)
        self.goals, self.identity = zeros(goals), zeros(feature)
        self.count, self.tally = zeros(dtype=torch.int32), zeros(dtype=torch.int32)
        self.active = zeros(dtype=torch.bool)
        self.met, self.kept, self.spoilt = (zeros(dtype=torch.bool) for _ in range(3))
        self.score, self.values, self.start = zeros(), zeros(goals), zeros(goals)
        self.best = zeros(dim)
        self.image = zeros(IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)
        # Idle slots compute something finite until they are first filled.
        self.vectors += 1.0
        self.identity += 1.0

    def put(self, at: torch.Tensor, rows: Mapping[str, torch.Tensor]) -> None:
        """Fresh samples into slots `at`."""
        for name, values in rows.items():
            getattr(self, name)[at] = values
        for tensor in (self.first, self.second, self.count, self.values, self.start):
            tensor[at] = 0
        for tensor in (self.met, self.kept, self.spoilt):
            tensor[at] = False
        self.best[at] = self.vectors[at]
        self.score[at] = torch.inf
        self.active[at] = True


def to_bytes_through(images: torch.Tensor, rounding: str = "nearest") -> tuple[torch.Tensor, torch.Tensor]:
    """Images as uint8 `[B, H, W, 3]`, and as float32 on that grid of 256 levels with the gradient of a clip.

    Args:
        images: `[B, 3, H, W]`, unclipped, nominally in [-1, 1].
        rounding: see `models.image_decoder.levels_of`.
    """
    clipped = images.float().clamp(-1.0, 1.0)
    levels = levels_of(clipped.detach(), rounding)
    seen = clipped + (levels / 127.5 - 1.0 - clipped).detach()
    return levels.to(torch.uint8).permute(0, 2, 3, 1), seen


class Steerer:
    """Steers samples of one frozen generator towards one objective's goals.

    Args:
        generator: frozen (`models.fold.freeze`) and bound to its ops, on the device.
        objective: its modules frozen and on the same device.
        settings: of the loop.
        n_dropped: rows that never enter the encoder, fixed by the mask schedule.
        feature_dim: D of the identity features.
        graph: capture one iteration as a CUDA graph; on a GPU only.

    Raises:
        ConfigError: a module with weights that ask for gradients.
    """

    def __init__(
        self,
        generator: Vec2Face,
        objective: Objective,
        settings: SteeringSettings | None = None,
        *,
        n_dropped: int,
        feature_dim: int = 512,
        graph: bool = False,
    ) -> None:
        for module, name in ((generator, "generator"), (objective, "objective")):
            if any(parameter.requires_grad for parameter in module.parameters()):
                raise ConfigError(f"{name}: expected frozen weights; use models.fold.freeze first.")
        self.generator, self.objective = generator, objective
        self.settings = settings or SteeringSettings()
        self.n_dropped = n_dropped
        parameter = next(generator.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        dim = generator.config.vector_dim
        self.slots = Slots(self.settings.slots, dim, len(objective.names), feature_dim, self.device)
        self.advance: Callable[[], None] = self.iterate
        if graph:
            from v2f_engine.attributes.steering_graph import captured

            self.advance = captured(self.iterate, self.device)

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor, Judged]:
        """(bytes, gradient of each sample's loss on its vector, what was judged) of the present vectors."""
        state = self.slots
        with torch.enable_grad():
            vectors = state.vectors.detach().requires_grad_()
            images = self.generator(
                vectors.to(self.dtype), state.noise, state.n_masked, self.n_dropped
            ).images
            levels, seen = to_bytes_through(images, self.generator.im_decoder.rounding)
            judged = self.objective(seen, state.goals, state.identity)
            # Samples do not touch one another, so the gradient of the sum is every sample's own.
            (gradient,) = torch.autograd.grad(judged.loss.sum(), vectors)
        return levels, gradient, judged

    @torch.no_grad()
    def iterate(self) -> None:
        """One iteration of every active slot: judge, remember the best, stop or step. Static shapes, in place."""
        state, settings = self.slots, self.settings
        levels, gradient, judged = self.gradient()
        loss = judged.loss.detach()
        score = loss + torch.where(judged.kept, 0.0, LOST)
        sound = torch.isfinite(loss) & torch.isfinite(gradient).all(1)
        # A sample that is met stops, so its last iterate is the best one whatever the score before.
        better = state.active & sound & ((score < state.score) | judged.met)
        first = state.active & (state.count == 0)
        self.keep(better, first, levels, judged, score)
        state.spoilt.logical_or_(state.active & ~sound)
        state.count.add_(state.active.to(torch.int32))
        state.active.logical_and_(~judged.met & sound & (state.count < settings.iterations))
        self._step(gradient)

    def keep(
        self,
        better: torch.Tensor,
        first: torch.Tensor,
        levels: torch.Tensor,
        judged: Judged,
        score: torch.Tensor,
    ) -> None:
        """Remembers the iterates of slots `better`; of those at their first also what they began as."""
        state, values = self.slots, judged.values.detach()
        wide = better[:, None]
        state.best.copy_(torch.where(wide, state.vectors, state.best))
        state.values.copy_(torch.where(wide | first[:, None], values, state.values))
        state.start.copy_(torch.where(first[:, None], values, state.start))
        state.image.copy_(torch.where((better | first)[:, None, None, None], levels, state.image))
        state.score.copy_(torch.where(better, score, state.score))
        state.kept.copy_(torch.where(better, judged.kept, state.kept))
        state.met.copy_(torch.where(better, judged.met, state.met))

    def filled(self, at: torch.Tensor, rows: Mapping[str, torch.Tensor]) -> None:
        """Fresh samples into slots `at`."""
        self.slots.put(at, rows)

    def before(self, holds: NDArray[np.int64]) -> None:
        """Called before each iteration with the row that each slot holds, -1 for none."""

    def _step(self, gradient: torch.Tensor) -> None:
        """Adam, with each slot's own moments and count; only slots that go on move."""
        state, settings = self.slots, self.settings
        beta1, beta2 = settings.betas
        moves = state.active[:, None]
        gradient = torch.where(moves, gradient, torch.zeros_like(gradient))
        state.first.copy_(torch.where(moves, torch.lerp(gradient, state.first, beta1), state.first))
        square = torch.lerp(gradient.square(), state.second, beta2)
        state.second.copy_(torch.where(moves, square, state.second))
        power = state.count.clamp_min(1).to(torch.float32)[:, None]
        mean = state.first / (1.0 - torch.pow(torch.full_like(power, beta1), power))
        spread = (state.second / (1.0 - torch.pow(torch.full_like(power, beta2), power))).sqrt()
        step = settings.lr * mean / (spread + settings.eps)
        state.vectors.copy_(torch.where(moves, state.vectors - step, state.vectors))

    def __call__(
        self,
        vectors: NDArray[np.float32],
        noise: NDArray[np.float32],
        n_masked: NDArray[np.int64],
        goals: Mapping[str, NDArray[np.float32] | float],
        identity: NDArray[np.float32] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> SteeredBatch:
        """Steers N samples.

        Args:
            vectors: float32 `[N, 512]`, where each starts.
            noise, n_masked: each image's own masks, `[N, 49]` and `[N]`, kept throughout.
            goals: attribute -> one goal, or one for each sample `[N]`; NaN for none. Attributes not named
                have their own default goal.
            identity: features to keep `[N, D]`; the starting vectors by default, as published.
            progress: called with (samples finished, N).

        Raises:
            ConfigError: an unknown attribute, or arrays that do not fit together.
        """
        total = len(vectors)
        queue = self._queue(vectors, noise, n_masked, goals, identity)
        names = self.objective.names
        images = np.zeros((total, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        best = np.zeros((total, vectors.shape[1]), np.float32)
        verdicts, iterations = np.zeros(total, np.int8), np.zeros(total, np.int32)
        spoilt = np.zeros(total, np.bool_)
        values, start = np.zeros((2, total, len(names)), np.float32)
        for rows, slots in self._finished(queue, total, progress):
            state = self.slots
            images[rows] = state.image[slots].cpu().numpy()
            best[rows] = state.best[slots].cpu().numpy()
            values[rows], start[rows] = state.values[slots].cpu().numpy(), state.start[slots].cpu().numpy()
            iterations[rows] = state.count[slots].cpu().numpy()
            spoilt[rows] = state.spoilt[slots].cpu().numpy()
            met, kept = state.met[slots].cpu().numpy(), state.kept[slots].cpu().numpy()
            verdicts[rows] = np.where(met, Verdict.MET, np.where(kept, Verdict.BEST_EFFORT, Verdict.FAILED))
        return SteeredBatch(
            images,
            best,
            verdicts,
            iterations,
            spoilt,
            {name: values[:, i] for i, name in enumerate(names)},
            {name: start[:, i] for i, name in enumerate(names)},
        )

    def _finished(
        self, queue: Mapping[str, torch.Tensor], total: int, progress: Callable[[int, int], None] | None
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Rows that ended and the slots they lie in; their slots are refilled after each yield."""
        state = self.slots
        holds = np.full(self.settings.slots, -1, np.int64)
        state.active.zero_()
        following = done = 0

        def fill(free: NDArray[np.int64]) -> None:
            nonlocal following
            taken = free[: total - following]
            holds[free] = -1
            if len(taken):
                rows = np.arange(following, following + len(taken))
                holds[taken] = rows
                at = torch.from_numpy(taken).to(self.device)
                self.filled(at, {k: v[rows].to(self.device, non_blocking=True) for k, v in queue.items()})
                following += len(taken)

        fill(np.arange(self.settings.slots))
        # Each sample ends after `iterations` at the latest: so many rounds are the most there can be.
        while done < total:
            for _ in range(self.settings.look_every):
                self.before(holds)
                self.advance()
            doing(partial(self._words, done, total))
            ended = np.flatnonzero(~state.active.cpu().numpy() & (holds >= 0))
            if len(ended):
                yield holds[ended].copy(), torch.from_numpy(ended).to(self.device)
                done += len(ended)
                fill(ended)
                if progress is not None:
                    progress(done, total)

    def _words(self, done: int, total: int) -> str:
        """For a person who waits: how far the sample is that is steered longest."""
        furthest = int((self.slots.count * self.slots.active).max())
        return f"steering: iteration {furthest} of at most {self.settings.iterations}, {done} of {total} faces done"

    def _queue(
        self,
        vectors: NDArray[np.float32],
        noise: NDArray[np.float32],
        n_masked: NDArray[np.int64],
        goals: Mapping[str, NDArray[np.float32] | float],
        identity: NDArray[np.float32] | None,
    ) -> dict[str, torch.Tensor]:
        total = len(vectors)
        unknown = [name for name in goals if name not in self.objective.names]
        if unknown:
            raise ConfigError(f"goals for {unknown}, but the objective has {list(self.objective.names)}.")
        table = np.empty((total, len(self.objective.names)), np.float32)
        for column, attribute in enumerate(self.objective.attributes):
            table[:, column] = goals.get(attribute.name, attribute.goal)
        kept = vectors if identity is None else identity
        dim = self.slots.identity.shape[1]
        if kept.shape != (total, dim) or noise.shape != (total, N_TOKENS) or n_masked.shape != (total,):
            raise ConfigError(
                f"{total} vectors: expected identity [{total}, {dim}], noise [{total}, {N_TOKENS}] and n_masked"
                f" [{total}], found {list(kept.shape)}, {list(noise.shape)} and {list(n_masked.shape)}."
            )
        arrays = {"vectors": vectors, "noise": noise, "n_masked": n_masked, "goals": table, "identity": kept}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

"""The engine: a frozen generator on one device, yielding batches of images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.arguments import (
    COUNT,
    FUNCTION,
    GALLERY,
    MASKS,
    NUMBER,
    NUMBER_OR_WORD,
    PATH,
    RANGE,
    SWITCH,
    VECTORS,
    VECTORS_OR_PATH,
    WORD,
    takes,
)
from v2f_engine.batch import ImageBatch
from v2f_engine.config import one_of, whole_number
from v2f_engine.errors import ConfigError
from v2f_engine.indexing import rows_of
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.options import EngineOptions, ImageOptions
from v2f_engine.pipeline.draws import Draws
from v2f_engine.pipeline.finish import finished, rebatched
from v2f_engine.pipeline.image_stream import ImageStream
from v2f_engine.pipeline.makers import refuse_moved
from v2f_engine.pipeline.makers.plain import Plain
from v2f_engine.pipeline.memory import WithinMemory
from v2f_engine.randomness import Purpose, normals
from v2f_engine.ranges import stage
from v2f_engine.runtime import Inputs, NetworkRunner, Runner, open_runner, runner_for
from v2f_engine.runtime.artefact import ServedModel, is_artefact, open_artefact, served_model
from v2f_engine.vectors.gate import DIMENSION, Vectors
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.mix import MixLike
from v2f_engine.vectors.people import People
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.perturbation_contract import Around
from v2f_engine.vectors.sampling import sample_identities

if TYPE_CHECKING:
    import torch

    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.export.unexported import UnexportedOnnx
    from v2f_engine.models.weights import LoadedModel
    from v2f_engine.pipeline.makers.posed import PoseCondition
    from v2f_engine.pipeline.streamed import StreamedFaces
    from v2f_engine.runtime.batch_invariance import BatchInvariance
    from v2f_engine.vectors.calibration import Calibration

COMPUTE_BATCH = {"cpu": 16, "cuda": 256}
"""Rows of every decoding call. CPU: 16 images of 112x112x128 fp32 activations are 103 MB, past any cache
already. GPU: 256 fills 132 SMs 47 times over at the last level (12,544 rows an image, 128x128 tiles)."""


class Engine:
    """A frozen generator on one device, with its kernels chosen once.

    Build it with `Engine.load`; sample its people with `sample_identities`, make their images with `images`.
    `engine.describe()` has the backend of each op among everything that decides a byte; `v2f env` says why it is that.

    Args:
        loaded: the weights: name, sha256, licence, limit.
        runner: what decodes.
        masks: how many rows of a face are masked.
        usual: whether nobody asked for those masks, so that a pose network takes its own.
        asked: what it was opened from, for processes that open it again; None where it was put together by hand.
    """

    def __init__(
        self,
        loaded: LoadedModel | ServedModel,
        runner: Runner,
        masks: MaskSchedule,
        *,
        usual: bool = False,
        asked: EngineOptions | None = None,
    ) -> None:
        self.asked = asked
        self.loaded = loaded
        self.runner = runner
        self.masks, self.usual = masks, usual
        self.plain = WithinMemory(Plain(runner))

    @classmethod
    @takes(model=PATH, device=WORD, precision=WORD, masks=MASKS, runner=WORD, fetch=SWITCH, rounding=WORD)
    def load(
        cls,
        model: str | Path = "mini",
        *,
        device: str = "auto",
        precision: str = "auto",
        masks: str | MaskSchedule | None = None,
        compute_batch: int | None = None,
        runner: str = "auto",
        fetch: bool = False,
        rounding: str = "nearest",
    ) -> Engine:
        """Loads, freezes and binds a model; for the arguments see `options.EngineOptions`.

        Masks that are None are `generate`, and for a pose network its own (`makers.posed.MASKS`).

        Raises:
            ModelNotFound: an unknown name, or weights that are not here.
            CheckpointError: weights that are broken or do not fit.
            ArtefactError: an exported file that is damaged, foreign, or of another version or GPU.
            ConfigError: a device, precision, schedule or runner that does not exist.
            BackendUnavailable: a device or runner that this machine lacks, with the reason.
        """
        asked = EngineOptions(
            model,
            device,
            precision,
            "generate" if masks is None else masks,
            compute_batch,
            runner,
            fetch,
            rounding,
        )
        engine = cls.open(asked)
        engine.usual = masks is None
        return engine

    @classmethod
    def open(
        cls, asked: EngineOptions, notify: Callable[[str], None] | None = None, *, exporting: bool = True
    ) -> Engine:
        """`load`, of options that are together already; `notify` hears of what takes long once.

        Without `exporting` nothing is written: `export.unexported` stands for a file that is not there yet.
        """
        with stage("import"):
            from v2f_engine import backends
            from v2f_engine.models.weights import LoadedModel, load_generator

        served, runner, largest = None, asked.runner, None
        if is_artefact(asked.model):
            served, runner, largest = _file_runner(asked.model, runner, asked.precision)
        choice = backends.choose(asked.device, "auto" if served or runner == "onnx" else asked.precision)
        name, batch = runner_for(runner, choice.device), asked.compute_batch
        if batch is None:
            batch = COMPUTE_BATCH[choice.device.split(":")[0]]
            batch = batch if largest is None else min(batch, largest)
        schedule = asked.schedule
        stand_in = None
        if served is None and name == "onnx":
            if not exporting:
                stand_in = _unexported_for(asked, choice.device, batch)
            if stand_in is None:
                served = _exported_for(asked, choice.device, notify or (lambda sentence: None))
        if (served or stand_in) is not None and asked.rounding != "nearest":
            raise ConfigError(
                f"rounding {asked.rounding!r} (--rounding): runner {name!r} runs an exported generator, which rounds "
                "to the nearest level inside its file. Use a model's weights with runner 'eager' or 'cuda_graph'."
            )
        if stand_in is not None:
            return cls(stand_in[0], stand_in[1], schedule, asked=asked)
        with stage("load weights"):
            loaded = served or load_generator(asked.model, fetch=asked.fetch)
        if isinstance(loaded, LoadedModel):
            # every copy that a runner or a maker takes keeps it
            loaded.model.im_decoder.rounding = asked.rounding
        return cls(
            loaded, open_runner(name, loaded, choice, schedule.n_dropped, batch), schedule, asked=asked
        )

    @property
    def rounding(self) -> str:
        """How grey levels become whole ones: in `options.ROUNDINGS`."""
        return self.runner.model.im_decoder.rounding if isinstance(self.runner, NetworkRunner) else "nearest"

    @property
    def precision(self) -> str:
        """What it computes in."""
        return str(self.runner.describe()["precision"])

    @cached_property
    def people(self) -> People:
        """Where this model's people come from, and what it says of vectors from elsewhere."""
        return People.of(self.loaded)

    @takes(
        max_cosine=NUMBER_OR_WORD, fmr=NUMBER, calibration=VECTORS_OR_PATH, seed=COUNT, exclude=GALLERY,
        exclude_cosine=NUMBER, max_candidates=COUNT, progress=FUNCTION,
    )  # fmt: skip
    def sample_identities(
        self,
        n: int,
        *,
        max_cosine: float | str | None = "auto",
        fmr: float | None = None,
        calibration: Calibration | str | Path | NDArray[np.float32] | None = None,
        seed: int = 0,
        mix: MixLike | None = None,
        exclude: str | Path | NDArray[np.float32] | Sequence[str | Path | NDArray[np.float32]] | None = None,
        exclude_cosine: float | None = None,
        max_candidates: int | None = None,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> Identities:
        """People of this model: `vectors.sampling.sample_identities` from its own source, at its own limit.

        The vectors are those that `v2f generate` draws for the same seed.

        Raises:
            SaturationError: the model does not know that many people.
            ArtefactError: an exported file that does not say from what its people are drawn.
            ConfigError, VectorError: as `vectors.sampling.sample_identities`.
        """
        auto = isinstance(max_cosine, str)
        if auto:
            one_of("max_cosine", str(max_cosine), ("auto",))
        table = sample_identities(
            n,
            max_cosine="auto" if auto and fmr is not None else self.people.max_cosine if auto else max_cosine,
            fmr=fmr,
            calibration=calibration,
            seed=seed,
            source=self.people.require_source(),
            mix=mix,
            exclude=exclude,
            exclude_cosine=exclude_cosine,
            max_candidates=max_candidates,
            progress=progress,
        )
        return replace(table, provenance={**table.provenance, "model": self.loaded.name})

    @takes(
        identities=VECTORS, images_per_id=COUNT, seed=COUNT, batch_size=COUNT, select=RANGE, rescale=SWITCH
    )
    def images(
        self,
        identities: Identities | Vectors,
        images_per_id: int,
        *,
        seed: int = 0,
        perturbation: Around | None = None,
        batch_size: int = 64,
        select: range | None = None,
        control: WithinMemory | None = None,
        rescale: bool = False,
        mask_batch: int = 1,
        sigma_shares: str = "drawn",
    ) -> ImageStream:
        """Images of identities, in order of (identity, image).

        Args:
            identities: a table from `sample_identities`, or vectors `[N, 512]` of any library (see `gate.from_any`).
            images_per_id: how many of each.
            seed: 64-bit seed of perturbation and masks.
            perturbation: how images lie around the identity's vector; default sigma 0.3/0.5/0.7 at 40/40/20 %, and none
                where a pose network is the `control`. A guarded cone is told of all of `identities` here, whatever
                `select`; told before (`cone.over(table.vectors, table.keys)`), it keeps that table's guard.
            batch_size: images a batch that is yielded; changes nothing else.
            select: identities to make, e.g. one shard's; all by default.
            control: attributes to steer to, from `Engine.control`.
            rescale: bring each vector to the length that the model was trained on, instead of refusing others.
            mask_batch, sigma_shares: see `options.ImageOptions`; both count over all of `identities`.

        Returns:
            an iterable of `ImageBatch`, whose `len` is the number of batches; each `for` makes the images again. A
            batch has the attributes `sigma`, `cosine_to_centre`, `n_masked` and `failed` (1 where the image came out
            constant twice, as a NaN anywhere in the network makes it); steered ones also the value and goal of
            every attribute, `identity_cosine`, `verdict` and `iterations`; those of a pose network their goals.

        Warns:
            V2FWarning: vectors of another kind than the model's own, whose faces may be alike.

        Raises:
            VectorError: vectors of another shape, not finite, of zero norm, or of lengths that the model does not know.
            ConfigError: another argument of a wrong type or out of range.
            OutOfMemory: see `pipeline.memory`.
        """
        asked = self._asked(images_per_id, seed, perturbation, mask_batch, sigma_shares, control)
        table = _table(identities)
        if rescale or select is None:
            table = self.people.admitted(table, rescale)
        elif len(chosen := table.part(rows_of(select))):
            self.people.admitted(
                chosen
            )  # the rows to be made: a loop over parts of a large table looks at each once
        return self._stream(table, asked, select, control, batch_size)

    def batches(
        self,
        identities: Identities | NDArray[np.float32],
        asked: ImageOptions,
        select: range | None = None,
        control: WithinMemory | None = None,
        batch_size: int | None = None,
    ) -> Iterator[ImageBatch]:
        """`images`, of options that are together already; in batches as the runner computes them by default."""
        return iter(self._stream(identities, asked, select, control, batch_size))

    def _stream(
        self,
        identities: Identities | NDArray[np.float32],
        asked: ImageOptions,
        select: range | None,
        control: WithinMemory | None,
        batch_size: int | None,
    ) -> ImageStream:
        size = self.runner.batch_size if batch_size is None else batch_size
        size = whole_number("batch_size", size, 1)
        masks = self.masks if control is None else control.maker.usual_masks or self.masks
        refuse_moved(asked.perturbation, None if control is None else control.maker)
        draws = Draws.of(identities, asked, masks, select)

        def start() -> Generator[ImageBatch]:
            return rebatched(finished(control or self.plain, draws), size)

        return ImageStream(start, len(draws), size)

    @takes(identities=VECTORS, images_per_id=COUNT, seed=COUNT, rescale=SWITCH)
    def dataset(
        self,
        identities: Identities | Vectors,
        images_per_id: int,
        *,
        seed: int = 0,
        perturbation: Around | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        fresh: bool = False,
        drop_last: bool = False,
        control: AttributeControl | PoseCondition | None = None,
        rescale: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> StreamedFaces:
        """The images of `images` as a torch `IterableDataset`, made while a trainer reads them; nothing is written.

        Items are (uint8 `[3, 112, 112]`, label); with `batch_size`, for a loader with `batch_size=None`, they are
        (uint8 `[B, 3, 112, 112]`, int64 `[B]`). A label is the identity's row in the table. Workers and ranks share the
        images out: each is made once, of the same bytes, whatever their number (`pipeline.streamed`).

        Args:
            identities, images_per_id, seed, perturbation, rescale: as in `images`.
            transform: of a picture or batch of them, e.g. `lambda x: x / 127.5 - 1`.
            batch_size: images an item: faster, and in the same order with any number of workers.
            shuffle: images in an order of chance, another one each epoch (`set_epoch`); else by (identity, image).
            fresh: other images of the same people each epoch.
            drop_last: leaves out the images that do not fill a batch on every rank, so that ranks have equally many.
            control: steering or a pose network's condition.
            rank, world_size: of a process group; torch.distributed's own by default.

        Raises:
            VectorError, ConfigError: as `images`.
        """
        from v2f_engine.pipeline.streamed import shared_out

        opened = None if control is None else self.control(control)
        asked = self._asked(images_per_id, seed, perturbation, 1, "drawn", opened)
        refuse_moved(asked.perturbation, None if opened is None else opened.maker)
        return shared_out(
            self,
            self.people.admitted(_table(identities), rescale),
            asked,
            control,
            transform=transform,
            batch_size=batch_size,
            shuffle=shuffle,
            fresh=fresh,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )

    @staticmethod
    def _asked(
        images_per_id: int,
        seed: int,
        perturbation: Around | None,
        mask_batch: int,
        sigma_shares: str,
        control: WithinMemory | None,
    ) -> ImageOptions:
        if control is not None and not isinstance(control, WithinMemory):
            raise ConfigError(
                f"control must come from Engine.control, found {control!r:.60}: engine.control(AttributeControl(...))."
            )
        usual = Perturbation() if control is None else control.maker.noise
        noise = usual if perturbation is None else perturbation
        return ImageOptions(images_per_id, seed, noise, mask_batch, sigma_shares)

    def control(self, asked: AttributeControl | PoseCondition) -> WithinMemory:
        """Steering (`attributes.control.AttributeControl`) or a pose network's condition, ready for this engine.

        Raises:
            ConfigError: a goal without an attribute, or a runner without gradients.
            ModelNotFound, CheckpointError: of the networks that judge.
        """
        from v2f_engine.attributes.control import AttributeControl
        from v2f_engine.pipeline.makers.posed import PoseCondition, Posed
        from v2f_engine.pipeline.makers.steered import steered

        if not isinstance(asked, (PoseCondition, AttributeControl)):
            raise ConfigError(f"control must be an AttributeControl or a PoseCondition, found {asked!r:.60}.")
        if isinstance(asked, PoseCondition):
            return WithinMemory(Posed(asked, self.loaded, self.runner, None if self.usual else self.masks))
        return WithinMemory(steered(asked, self.loaded, self.runner, self.plain, self.masks))

    def self_test(self, seed: int = 0) -> BatchInvariance:
        """Makes one batch with other numbers of rows a call: are this machine's kernels batch-invariant?

        Raises:
            OutOfMemory: the runner is a fixed engine, whose rows cannot be changed.
        """
        from v2f_engine.runtime.batch_invariance import measure

        return measure(self.runner, self.test_inputs(seed))

    def test_inputs(self, seed: int) -> Inputs:
        """One batch of rows that `self_test` makes."""
        image = np.arange(self.runner.batch_size, dtype=np.int64)
        centres = normals(seed, Purpose.PERTURBATION, image, image, 512)
        return (centres, *self.masks.draw(seed, image, image))

    def __repr__(self) -> str:
        told = self.runner.describe()  # an exported file's says no device
        how = [str(told[name]) for name in ("device", "precision") if name in told]
        return f"Engine({', '.join([repr(self.loaded.name), *how, 'runner ' + repr(told['runner'])])})"

    def describe(self) -> dict[str, Any]:
        """Everything about this engine that decides an image's bytes, for manifests."""
        masks = self.masks
        rounding = self.rounding
        return {
            "model": {"name": self.loaded.name, "sha256": self.loaded.sha256},
            "masks": {"min": masks.minimum, "mean": masks.mean, "std": masks.std, "max": masks.maximum},
            "runner": self.runner.describe(),
            **({} if rounding == "nearest" else {"rounding": rounding}),
        }


def _table(given: Identities | Vectors) -> Identities:
    return given if isinstance(given, Identities) else Identities.from_vectors(given, dimension=DIMENSION)


def _file_runner(model: str | Path, runner: str, precision: str) -> tuple[ServedModel, str, int | None]:
    """(model inside, runner, largest batch) of an exported file.

    Raises:
        ModelNotFound, ArtefactError: see `runtime.artefact.open_artefact`.
        ConfigError: another runner or precision than the file's.
    """
    path = Path(model)
    sidecar = open_artefact(path)
    if runner not in ("auto", sidecar.kind):
        raise ConfigError(f"{path}: runs as runner {sidecar.kind!r}, asked for {runner!r}.")
    if precision not in ("auto", sidecar.precision):
        raise ConfigError(f"{path}: was exported in {sidecar.precision}, asked for {precision}.")
    largest = max((high for _, _, high in sidecar.profiles), default=None)
    return served_model(path, sidecar), sidecar.kind, largest


def _export_precision(asked: EngineOptions, device: str) -> str:
    """`auto` is fp32 on a CPU, where onnxruntime has no bf16, and fp16 on a GPU."""
    return asked.precision if asked.precision != "auto" else "fp16" if device.startswith("cuda") else "fp32"


def _unexported_for(
    asked: EngineOptions, device: str, batch: int
) -> tuple[LoadedModel, UnexportedOnnx] | None:
    """The weights and what stands for their ONNX file; None where that is there. Raises as `UnexportedOnnx`."""
    from v2f_engine.export.onnx import cache_of
    from v2f_engine.export.unexported import UnexportedOnnx
    from v2f_engine.models.weights import load_generator
    from v2f_engine.runtime.artefact import sidecar_path

    loaded, precision = load_generator(asked.model, fetch=asked.fetch), _export_precision(asked, device)
    if sidecar_path(cache_of(loaded, precision, asked.schedule)).is_file():
        return None
    return loaded, UnexportedOnnx(loaded, precision, asked.schedule, device, batch)


def _exported_for(asked: EngineOptions, device: str, notify: Callable[[str], None]) -> ServedModel:
    """The model as an ONNX file, exported on first use. Raises as `export.onnx.cached_onnx`."""
    from v2f_engine.export.onnx import cached_onnx

    return cached_onnx(
        asked.model,
        _export_precision(asked, device),
        asked.schedule,
        fetch=asked.fetch,
        progress=lambda step: notify(f"exporting {asked.model} to ONNX, once for these weights: {step}"),
    )

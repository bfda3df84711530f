"""What a user asks for, in five groups: the same names in Python, on the command line, in manifests and in every room.

Each is checked at birth, so that every option has been looked at before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_engine.config import at_least, one_of
from v2f_engine.data.formats import get_format
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule
from v2f_engine.runtime import RUNNERS
from v2f_engine.vectors.perturbation import Perturbation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from v2f_engine.models.weights import LoadedModel
    from v2f_engine.runtime.artefact import ServedModel
    from v2f_engine.vectors.calibration import Calibration
    from v2f_engine.vectors.identities import Identities


@dataclass(frozen=True)
class EngineOptions:
    """Which generator, and how it computes.

    Args:
        model: `"mini"` (embedded), `"vec2face"`, `"vec2face-plus"`, a path to weights, or a file of `v2f
            export`: `model.onnx`, `engine.plan`.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
        masks: a name in `MASK_SCHEDULES` or a schedule.
        compute_batch: rows of every decoding call; recorded, since it decides the last bits.
        runner: a name in `runtime.RUNNERS`; `"auto"` is `cuda_graph` on a GPU and `eager` on a CPU.
        fetch: allow huggingface_hub to download published weights that are not here.

    Raises:
        ConfigError: a schedule or runner that does not exist, or a batch below 1.
    """

    model: str | Path = "mini"
    device: str = "auto"
    precision: str = "auto"
    masks: str | MaskSchedule = "generate"
    compute_batch: int | None = None
    runner: str = "auto"
    fetch: bool = False

    def __post_init__(self) -> None:
        one_of("runner", self.runner, ["auto", *RUNNERS])
        if isinstance(self.masks, str):
            one_of("masks", self.masks, MASK_SCHEDULES)
        if self.compute_batch is not None:
            at_least("compute_batch", self.compute_batch, 1)

    @property
    def schedule(self) -> MaskSchedule:
        """The masks, by name or given."""
        return MASK_SCHEDULES[self.masks] if isinstance(self.masks, str) else self.masks


@dataclass(frozen=True, eq=False)
class IdentityOptions:
    """Which people: how many, and where their vectors come from.

    Args:
        n_ids: identities to sample; None when `identities` are given.
        identities: vectors to use instead of sampling: a table, or float32 `[N, 512]`.
        source: where vectors are sampled from: `auto` (the model's own statistics), `gaussian`, or a file
            written by `v2f ids fit`.
        max_cosine: no two identities' vectors are as similar as this; by default the model's own limit.
        fmr, calibration: a false-match rate that sets the threshold instead, and the known people it is measured
            on: `.npy` or array of centres, or a finished calibration.
        exclude: `.npy` of real centres `[M, 512]`, one or several; no identity is within `max_cosine` of one.

    Raises:
        ConfigError: neither a number nor vectors, or no identity at all.
    """

    n_ids: int | None = None
    identities: Identities | NDArray[np.float32] | None = None
    source: str | Path = "auto"
    max_cosine: float | None = None
    fmr: float | None = None
    calibration: Calibration | str | Path | NDArray[np.float32] | None = None
    exclude: Sequence[str | Path] | str | Path | None = None

    def __post_init__(self) -> None:
        if self.n_ids is not None:
            at_least("n_ids", self.n_ids, 1)
        elif self.identities is None:
            raise ConfigError(
                "Give either n_ids, to sample identities, or identities, to use your own vectors."
            )
        elif not len(self.identities):
            raise ConfigError("identities: expected at least one, found none.")

    def for_model(self, loaded: LoadedModel | ServedModel) -> IdentityOptions:
        """The same with what a model decides filled in: its own statistics and limit."""
        return replace(
            self,
            source=loaded.statistics if self.source == "auto" else self.source,
            max_cosine=loaded.max_cosine if self.max_cosine is None else self.max_cosine,
        )


@dataclass(frozen=True)
class ImageOptions:
    """Which images of each person.

    Args:
        images_per_id: images of each identity.
        seed: one number decides every vector, mask and image.
        perturbation: noise around an identity's vector; sigma 0.3/0.5/0.7 at 40/40/20 % by default.

    Raises:
        ConfigError: fewer than one image.
    """

    images_per_id: int = 50
    seed: int = 0
    perturbation: Perturbation = field(default_factory=Perturbation)

    def __post_init__(self) -> None:
        at_least("images_per_id", self.images_per_id, 1)


@dataclass(frozen=True)
class OutputOptions:
    """The dataset on disk.

    Args:
        out: folder of the dataset. Made if missing; resumed if it holds the same run; otherwise refused.
        format: a name in `data.formats.FORMATS`.
        jpeg_quality: of the files, 1..100.
        images_per_shard: unit of commit and of resume.

    Raises:
        ConfigError: a format that does not exist, or numbers out of range.
    """

    out: Path = Path("faces")
    format: str = "imagefolder"
    jpeg_quality: int = 95
    images_per_shard: int | None = None

    def __post_init__(self) -> None:
        get_format(self.format)
        _ = self.encoder
        if self.images_per_shard is not None:
            at_least("images_per_shard", self.images_per_shard, 1)

    @property
    def encoder(self) -> Encoder:
        """What turns an image into a file."""
        return Encoder(quality=self.jpeg_quality)


@dataclass(frozen=True)
class WorkerOptions:
    """Who works; it changes no byte.

    Args:
        executor: `inline` (this process), or in `scale.EXECUTORS`: `local`, `ray`, `slurm`; `auto` is `local` when
            there is more than one GPU or `workers` is above 1, else `inline`.
        workers: processes at a time; by default one per device.
        options: of the executor, e.g. `{"partition": "gpu"}`.

    Raises:
        ConfigError: an executor that does not exist, no worker, or several of them inline.
    """

    executor: str = "auto"
    workers: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from v2f_engine.scale.executors import EXECUTORS

        one_of("executor", self.executor, ["auto", "inline", *EXECUTORS])
        if self.workers is not None:
            at_least("workers", self.workers, 1)
        if self.executor == "inline" and (self.workers or 1) > 1:
            raise ConfigError(
                f"The executor 'inline' is one process, found workers {self.workers}. Use 'local'."
            )

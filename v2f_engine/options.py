"""What a user asks for, in five groups: the same names in Python, on the command line, in manifests and in every room.

Each is checked at birth, so that every option has been looked at before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_engine.config import between, one_of, whole_number
from v2f_engine.data.formats import get_format
from v2f_engine.data.layout import PERTURBATION
from v2f_engine.data.writing.encode import LIBRARIES, Encoder
from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MaskSchedule, schedule_of
from v2f_engine.runtime import RUNNERS
from v2f_engine.vectors.calibration import Calibration, limit_of
from v2f_engine.vectors.exclusion import Exclusion, hold_apart
from v2f_engine.vectors.gate import DIMENSION, from_any
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.mix import MixLike
from v2f_engine.vectors.perturbation import Perturbation, from_manifest
from v2f_engine.vectors.perturbation_contract import Around
from v2f_engine.vectors.sources import VectorSource, find_source, mixed_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from v2f_engine.vectors.people import People


@dataclass(frozen=True)
class EngineOptions:
    """Which generator, and how it computes.

    Args:
        model: `"mini"` (embedded), `"vec2face"`, `"vec2face-plus"`, a path to weights, or a file of `v2f
            export`: `model.onnx`, `engine.plan`.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
        masks: a name in `MASK_SCHEDULES`, a schedule, or one ratio for all images: `"0.4"`.
        compute_batch: rows of every decoding call; recorded, since it decides the last bits.
        runner: a name in `runtime.RUNNERS`; `"auto"` is `cuda_graph` on a GPU and `eager` on a CPU.
        fetch: allow huggingface_hub to download published weights that are not here.
        rounding: in `ROUNDINGS`: `nearest` grey level, or `truncate` as the published scripts do.

    Raises:
        ConfigError: a schedule, rounding or runner that does not exist, or a batch below 1.
    """

    model: str | Path = "mini"
    device: str = "auto"
    precision: str = "auto"
    masks: str | MaskSchedule = "generate"
    compute_batch: int | None = None
    runner: str = "auto"
    fetch: bool = False
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        one_of("runner", self.runner, ["auto", *RUNNERS])
        one_of("rounding", self.rounding, ROUNDINGS)
        schedule_of(self.masks)
        if self.compute_batch is not None:
            object.__setattr__(self, "compute_batch", whole_number("compute_batch", self.compute_batch, 1))

    @property
    def schedule(self) -> MaskSchedule:
        """The masks, by name or given."""
        return schedule_of(self.masks)


ROUNDINGS = ("nearest", "truncate")
"""How a real grey level becomes a whole one; the published scripts truncate."""
SIGMA_SHARES = ("drawn", "exact")
"""How noise levels get their shares: each image draws its own, or those of a run are dealt out to one image."""


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
        rescale: bring given vectors, or those of a given source, to the length that the model was trained on.
        mix: of a source with groups, the share of each; see `vectors.mix.parts_of_mix`.

    Given identities are held to `exclude`, and to `max_cosine` or `fmr` where one is given: an identity that breaks
    them is an error that names it, never left out.

    Raises:
        ConfigError: neither a number nor vectors, no identity at all, or an option that says nothing beside the others.
        VectorError: identities that are no vectors.
    """

    n_ids: int | None = None
    identities: Identities | NDArray[np.float32] | None = None
    source: str | Path | VectorSource = "auto"
    max_cosine: float | None = None
    fmr: float | None = None
    calibration: Calibration | str | Path | NDArray[np.float32] | None = None
    exclude: Sequence[str | Path | NDArray[np.float32]] | str | Path | NDArray[np.float32] | None = None
    rescale: bool = False
    mix: MixLike | None = None

    def __post_init__(self) -> None:
        if self.n_ids is not None:
            object.__setattr__(self, "n_ids", whole_number("n_ids", self.n_ids, 1))
        elif self.identities is None:
            raise ConfigError(
                "Give either n_ids, to sample identities, or identities, to use your own vectors."
            )
        if self.max_cosine is not None:
            between("max_cosine", self.max_cosine, -1, 1)
            if self.fmr is not None:
                raise ConfigError(
                    f"Give either max_cosine ({self.max_cosine:g}) or fmr ({self.fmr:g}), not both."
                )
        if self.identities is None:
            if self.rescale and self._auto:
                raise ConfigError(
                    "rescale (--rescale) is for given vectors or a given source; the model's own have its length."
                )
            return
        if self.mix is not None:
            raise ConfigError(
                "mix (--mix) and given identities (--vectors, --references) exclude each other: nothing is sampled "
                "where vectors are given. Leave one of them out."
            )
        if not self._auto:
            raise ConfigError(
                f"source (--source {self.source}) and given identities (--vectors, --references) exclude each other: "
                "nothing is sampled where vectors are given. Leave one of them out."
            )
        if not isinstance(self.identities, Identities) and not len(from_any(self.identities, "identities")):
            raise ConfigError("identities: expected at least one, found none.")

    @property
    def _auto(self) -> bool:
        return isinstance(self.source, str) and self.source == "auto"

    def for_model(self, people: People) -> IdentityOptions:
        """The same with what a model decides: its own source and limit; given vectors and sources admitted by it.

        Warns:
            V2FWarning: vectors or a source of another kind than the model's.

        Raises:
            VectorError: vectors or a source of lengths that the model does not know, without `rescale`; given
                identities that break `exclude`, `max_cosine` or `fmr`; their rows are named.
            ArtefactError: an exported file that does not say from what its people are drawn.
        """
        limit = people.max_cosine if self.max_cosine is None else self.max_cosine
        if self.identities is None:
            source = mixed_source(people.require_source(), self.mix) if self._auto else people.admitted_source(
                mixed_source(find_source(self.source), self.mix), self.rescale
            )  # fmt: skip
            return replace(
                self,
                source=source,
                max_cosine=limit if self.fmr is None else None,
                rescale=self.rescale and not self._auto,
            )
        given = self.identities
        table = (
            given if isinstance(given, Identities) else Identities.from_vectors(given, dimension=DIMENSION)
        )
        table = people.admitted(table, self.rescale)
        asked, calibration = limit_of(self.max_cosine, self.fmr, self.calibration)
        near = Exclusion.of(self.exclude, None, limit if asked is None else asked, table.vectors.shape[1])
        table = hold_apart(table, near, asked, calibration)
        return replace(self, identities=table, rescale=False)


@dataclass(frozen=True)
class ImageOptions:
    """Which images of each person.

    Args:
        images_per_id: images of each identity.
        seed: one number decides every vector, mask and image.
        perturbation: how images lie around an identity's vector: `Perturbation(...)`, sigma 0.3/0.5/0.7 at 40/40/20 %
            by default, or another form of it, such as `Perturbation.cone(0.6)`.
        mask_batch: images that share one mask ratio: those of the run, in order of (identity, image), in groups of
            this many. 1 gives each its own; the published scripts share one in a batch, 64 by their default.
        sigma_shares: in `SIGMA_SHARES`: `drawn` for each image, or dealt out so that the shares of the run are
            `exact` to one image, as the published scripts do.

    Raises:
        ConfigError: fewer than one image, or shares that do not exist or say nothing.
    """

    images_per_id: int = 50
    seed: int = 0
    perturbation: Around = field(default_factory=Perturbation)
    mask_batch: int = 1
    sigma_shares: str = "drawn"

    def __post_init__(self) -> None:
        object.__setattr__(self, "images_per_id", whole_number("images_per_id", self.images_per_id, 1))
        object.__setattr__(self, "mask_batch", whole_number("mask_batch", self.mask_batch, 1))
        between("mask_batch", self.mask_batch, 1, 2**62)
        between("images_per_id", self.images_per_id, 1, 2**32)
        one_of("sigma_shares", self.sigma_shares, SIGMA_SHARES)
        object.__setattr__(self, "seed", whole_number("seed", self.seed))
        if not isinstance(self.perturbation, Around):
            raise ConfigError(
                f"perturbation: expected a Perturbation, found {self.perturbation!r:.60}. "
                "Give Perturbation((0.3, 0.5), (0.5, 0.5)), Perturbation.cone(0.6) or Perturbation.of('cone:0.6')."
            )
        if self.sigma_shares != "drawn" and not self.perturbation.takes_chance:
            raise ConfigError(
                f"sigma_shares {self.sigma_shares!r} (--sigma-shares) says nothing of {self.perturbation.words}, which "
                "has no levels: leave it out."
            )

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values, for manifests; what came later is absent at its default, so that datasets
        begun before it go on."""
        later = {"mask_batch": (self.mask_batch, 1), "sigma_shares": (self.sigma_shares, "drawn")}
        return {
            "seed": self.seed,
            "perturbation": self.perturbation.describe(),
            **{name: value for name, (value, default) in later.items() if value != default},
        }

    @classmethod
    def from_manifest(
        cls, images_per_id: int, settings: Mapping[str, Any], folder: Path | None = None
    ) -> ImageOptions:
        """What `describe` told; `folder` is the dataset's, which holds what a perturbation depends on beside it."""
        return cls(
            images_per_id,
            settings["seed"],
            from_manifest(settings["perturbation"], None if folder is None else folder / PERTURBATION),
            settings.get("mask_batch", 1),
            settings.get("sigma_shares", "drawn"),
        )


@dataclass(frozen=True)
class OutputOptions:
    """The dataset on disk.

    Args:
        out: folder of the dataset. Made if missing; resumed if it holds the same run; otherwise refused.
        format: a name in `data.formats.FORMATS`.
        jpeg_quality: of the files, 1..100.
        images_per_shard: unit of commit and of resume.
        jpeg_encoder: `simplejpeg` (fast), or `pillow`, which writes the published scripts' bytes.
        extend: a finished set lies at `out` and gets more people (`pipeline.extension`).

    Raises:
        ConfigError: a format that does not exist, or numbers out of range.
    """

    out: Path = Path("faces")
    format: str = "imagefolder"
    jpeg_quality: int = 95
    images_per_shard: int | None = None
    jpeg_encoder: str = "simplejpeg"
    extend: bool = False

    def __post_init__(self) -> None:
        one_of("jpeg_encoder", self.jpeg_encoder, LIBRARIES["jpeg"])
        get_format(self.format)
        object.__setattr__(self, "jpeg_quality", whole_number("jpeg_quality", self.jpeg_quality))
        _ = self.encoder
        if self.images_per_shard is not None:
            object.__setattr__(
                self, "images_per_shard", whole_number("images_per_shard", self.images_per_shard, 1)
            )

    @property
    def encoder(self) -> Encoder:
        """What turns an image into a file."""
        return Encoder(quality=self.jpeg_quality, library=self.jpeg_encoder)


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
            object.__setattr__(self, "workers", whole_number("workers", self.workers, 1))
        if self.executor == "inline" and (self.workers or 1) > 1:
            raise ConfigError(
                f"The executor 'inline' is one process, found workers {self.workers}. Use 'local'."
            )
        if self.executor == "inline" and self.options:
            raise ConfigError(
                f"The executor 'inline' has no options, found {', '.join(self.options)} (--executor-option). Name the "
                "executor they are for (--executor)."
            )

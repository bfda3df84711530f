"""Generation: identities in, an iterable of finished image batches out; writing them is someone else's job.

    identities -> perturb (vectors) -> mask (models) -> decode (runtime) -> ImageBatch -> shards (data)

Every random number is keyed by (seed, purpose, identity, image), and every decoding call has the same
number of rows, so an image's bytes depend neither on the batch size asked for, nor on the order, nor on
what a resumed run had already written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.config import at_least, one_of
from v2f_engine.errors import ConfigError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, MaskSchedule
from v2f_engine.vectors.gate import check_vectors
from v2f_engine.vectors.npy import open_vectors
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.sampling import Identities, sample_identities

if TYPE_CHECKING:
    from v2f_engine.models.weights import LoadedModel
    from v2f_engine.runtime import Runner

COMPUTE_BATCH = {"cpu": 16, "cuda": 256}
"""Rows of every decoding call. CPU: 16 images of 112x112x128 fp32 activations are 103 MB, past any cache
already. GPU: 256 fills 132 SMs 47 times over at the last level (12,544 rows an image, 128x128 tiles)."""


@dataclass(frozen=True)
class GenerateReport:
    """What a run of `generate` made.

    Args:
        out: folder of the dataset.
        identities, images: how many of each it holds.
        written: images made by this call (fewer than `images` after a resume).
        seconds: wall time of this call.
        images_per_second: `written / seconds`, encoding and writing included.
        contact_sheet: PNG with identities by rows; None for the null format.
        manifest: JSON with every setting and every shard's sha256; None for the null format.
    """

    out: Path
    identities: int
    images: int
    written: int
    seconds: float
    images_per_second: float
    contact_sheet: Path | None
    manifest: Path | None


class Engine:
    """A frozen generator on one device, with its kernels chosen once.

    Build it with `Engine.load`. `engine.choice` says which backend runs each op and why.
    """

    def __init__(self, loaded: LoadedModel, runner: Runner, masks: MaskSchedule) -> None:
        self.loaded = loaded
        self.runner = runner
        self.masks = masks

    @classmethod
    def load(
        cls,
        model: str | Path = "mini",
        *,
        device: str = "auto",
        precision: str = "auto",
        masks: str | MaskSchedule = "generate",
        compute_batch: int | None = None,
        fetch: bool = False,
    ) -> Engine:
        """Loads, freezes and binds a model.

        Args:
            model: `"mini"` (embedded), `"vec2face"`, `"vec2face-plus"`, or a path to weights.
            device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`.
            precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
            masks: a name in `MASK_SCHEDULES` or a schedule.
            compute_batch: rows of every decoding call; recorded, since it decides the last bits.
            fetch: allow huggingface_hub to download published weights that are not here.

        Raises:
            ModelNotFound: an unknown name, or weights that are not here.
            CheckpointError: weights that are broken or do not fit.
            ConfigError: a device, precision or schedule that does not exist.
        """
        from v2f_engine import backends
        from v2f_engine.models import bind_ops
        from v2f_engine.models.fold import freeze
        from v2f_engine.models.weights import load_generator
        from v2f_engine.runtime.eager import EagerRunner

        schedule = _schedule(masks)
        choice = backends.choose(device, precision)
        loaded = load_generator(model, fetch=fetch)
        frozen = freeze(loaded.model, device=choice.device, dtype=choice.dtype)
        bind_ops(frozen, choice)
        batch = compute_batch or COMPUTE_BATCH[choice.device.split(":")[0]]
        at_least("compute_batch", batch, 1)
        return cls(
            loaded, EagerRunner(frozen, choice, n_dropped=schedule.n_dropped, batch_size=batch), schedule
        )

    def images(
        self,
        identities: Identities | NDArray[np.float32],
        images_per_id: int,
        *,
        seed: int = 0,
        perturbation: Perturbation | None = None,
        batch_size: int = 64,
        select: range | None = None,
    ) -> Iterator[ImageBatch]:
        """Images of identities, in order of (identity, image).

        Args:
            identities: a table from `sample_identities`, or float32 vectors `[N, 512]`.
            images_per_id: how many of each.
            seed: 64-bit seed of perturbation and masks.
            perturbation: noise around the identity's vector; default sigma 0.3/0.5/0.7 at 40/40/20 %.
            batch_size: images a batch that is yielded; changes nothing else.
            select: identities to make, e.g. one shard's; all by default.

        Yields:
            `ImageBatch` with attributes `sigma`, `cosine_to_centre` and `n_masked`.

        Raises:
            VectorError: vectors of another shape, not finite, or of zero norm.
        """
        vectors = identities.vectors if isinstance(identities, Identities) else check_vectors(identities)
        at_least("images_per_id", images_per_id, 1)
        at_least("batch_size", batch_size, 1)
        chosen = range(len(vectors)) if select is None else select
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < len(vectors):
            raise ConfigError(f"select {chosen} reaches outside the {len(vectors)} identities given.")
        computed = self._computed(vectors, chosen, images_per_id, seed, perturbation or Perturbation())
        return _rebatched(computed, batch_size)

    def _computed(
        self,
        vectors: NDArray[np.float32],
        chosen: range,
        images_per_id: int,
        seed: int,
        perturbation: Perturbation,
    ) -> Iterator[ImageBatch]:
        total = len(chosen) * images_per_id
        for start in range(0, total, self.runner.batch_size):
            position = np.arange(start, min(total, start + self.runner.batch_size), dtype=np.int64)
            identity = position // images_per_id * chosen.step + chosen.start
            image = position % images_per_id
            perturbed = perturbation.draw(vectors[identity], identity, image, seed=seed)
            noise, n_masked = self.masks.draw(seed, identity, image)
            images = self.runner(perturbed.vectors, noise, n_masked)
            yield ImageBatch(
                images,
                identity,
                image,
                {
                    "sigma": perturbed.sigma,
                    "cosine_to_centre": perturbed.cosine,
                    "n_masked": n_masked.astype(np.float32),
                },
            )

    def describe(self) -> dict[str, Any]:
        """Everything about this engine that decides an image's bytes, for manifests."""
        masks = self.masks
        return {
            "model": {"name": self.loaded.name, "sha256": self.loaded.sha256},
            "masks": {"min": masks.minimum, "mean": masks.mean, "std": masks.std, "max": masks.maximum},
            "runner": self.runner.describe(),
        }


def generate(
    n_ids: int | None = None,
    images_per_id: int = 50,
    out: str | Path = "faces",
    *,
    model: str | Path = "mini",
    format: str = "imagefolder",
    identities: Identities | NDArray[np.float32] | None = None,
    source: str | Path = "auto",
    max_cosine: float | None = None,
    exclude: str | Path | None = None,
    perturbation: Perturbation | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    masks: str | MaskSchedule = "generate",
    quality: int = 95,
    images_per_shard: int | None = None,
    compute_batch: int | None = None,
    fetch: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> GenerateReport:
    """Makes a dataset of `n_ids` people who do not exist; called again, it resumes.

    Args:
        n_ids: identities to sample; `None` when `identities` are given.
        images_per_id: images of each identity.
        out: folder of the dataset. Made if missing; resumed if it holds the same run; otherwise refused.
        model: see `Engine.load`.
        format: `imagefolder`, `webdataset`, `lmdb`, `recordio`, `parquet` or `null`.
        identities: vectors to use instead of sampling.
        source: where vectors are sampled from: `auto` (the model's own statistics), `gaussian`, or a file
            written by `v2f ids fit`.
        max_cosine: no two identities' vectors are as similar as this; by default the model's own limit: 0.3
            for published models, for `mini` where its extractor has a false-match rate of 1e-4.
        exclude: `.npy` of real centres `[M, 512]`; no identity is within `max_cosine` of one.
        perturbation: noise around an identity's vector.
        seed: one number decides every vector, mask and image.
        quality: JPEG quality.
        images_per_shard: unit of commit and of resume.
        progress: called with (images done, images in all).

    Raises:
        SaturationError: the sampler cannot keep that many identities apart.
        OutputFolderError, DiskFull, ModelNotFound, CheckpointError, VectorError, ConfigError: as named.
    """
    from v2f_engine.data.encode import Encoder
    from v2f_engine.data.formats import get_format
    from v2f_engine.data.plan import Plan
    from v2f_engine.data.write import write_dataset

    started = time.perf_counter()
    # Every option is looked at before a model is loaded.
    get_format(format)
    encoder = Encoder(quality=quality)
    at_least("images_per_id", images_per_id, 1)
    perturbation = perturbation or Perturbation()
    engine = Engine.load(
        model, device=device, precision=precision, masks=masks, compute_batch=compute_batch, fetch=fetch
    )
    table = _identity_table(n_ids, identities, engine, source, max_cosine, exclude, seed)
    plan = Plan.of(len(table.vectors), images_per_id, images_per_shard)
    settings = {
        "seed": seed,
        "identities": table.describe(),
        "perturbation": perturbation.describe(),
        **engine.describe(),
    }
    written = write_dataset(
        Path(out),
        settings,
        plan,
        lambda ids: engine.images(
            table,
            images_per_id,
            seed=seed,
            perturbation=perturbation,
            batch_size=engine.runner.batch_size,
            select=ids,
        ),
        format=format,
        encoder=encoder,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    return GenerateReport(
        out=Path(out),
        identities=plan.identities,
        images=plan.images,
        written=written.images_written,
        seconds=seconds,
        images_per_second=written.images_written / seconds,
        contact_sheet=written.contact_sheet,
        manifest=written.manifest,
    )


def identities_from(
    vectors: str | Path | None = None, references: str | Path | None = None, recogniser: str | Path = "mini"
) -> Identities | None:
    """Identities of the user's own: vectors from a file, or features of reference faces.

    Args:
        vectors: `.npy` `[N, 512]`, or a table written by `Identities.save`.
        references: a dataset of aligned 112x112 faces; an identity is the mean feature of its images.
        recogniser: what extracts those features: a name or a path.

    Returns:
        The table, or None when neither is given.

    Raises:
        ConfigError: both are given.
        VectorError, DatasetError, ModelNotFound, CheckpointError: as named.
    """
    if vectors is not None and references is not None:
        raise ConfigError("Give either vectors or reference images, not both.")
    if vectors is not None:
        if Path(vectors).suffix == ".safetensors":
            return Identities.load(vectors)
        return Identities.from_vectors(np.asarray(open_vectors(vectors), dtype=np.float32), str(vectors))
    if references is None:
        return None
    from v2f_engine.data.reader import open_dataset
    from v2f_engine.models.features import extract_features
    from v2f_engine.models.weights import load_recogniser

    loaded = load_recogniser(recogniser)
    faces = open_dataset(Path(references))
    centres: dict[int, list[NDArray[np.float32]]] = {}
    for batch in faces.batches(COMPUTE_BATCH["cpu"] * 8):
        features = extract_features(loaded.model, batch.images)
        for identity, feature in zip(batch.identity.tolist(), features, strict=True):
            centres.setdefault(identity, []).append(feature)
    means = np.stack([np.mean(centres[identity], axis=0) for identity in sorted(centres)]).astype(np.float32)
    name = f"references {references} through {loaded.name} {loaded.sha256[:12]}"
    return Identities.from_vectors(means, name)


def _identity_table(
    n_ids: int | None,
    identities: Identities | NDArray[np.float32] | None,
    engine: Engine,
    source: str | Path,
    max_cosine: float | None,
    exclude: str | Path | None,
    seed: int,
) -> Identities:
    if identities is None:
        if n_ids is None:
            raise ConfigError(
                "Give either n_ids, to sample identities, or identities, to use your own vectors."
            )
        at_least("n_ids", n_ids, 1)
        chosen = _source(engine, source)
        limit = engine.loaded.max_cosine if max_cosine is None else max_cosine
        return sample_identities(n_ids, max_cosine=limit, seed=seed, source=chosen, exclude=exclude)
    table = (
        identities
        if isinstance(identities, Identities)
        else Identities.from_vectors(check_vectors(identities))
    )
    if n_ids is not None and n_ids != len(table.vectors):
        raise ConfigError(
            f"n_ids is {n_ids} but {len(table.vectors)} identities were given; leave n_ids out."
        )
    return table


def _source(engine: Engine, source: str | Path) -> str | Path:
    if source != "auto":
        return source
    return engine.loaded.statistics


def _schedule(masks: str | MaskSchedule) -> MaskSchedule:
    return (
        masks if isinstance(masks, MaskSchedule) else MASK_SCHEDULES[one_of("masks", masks, MASK_SCHEDULES)]
    )


def _rebatched(batches: Iterator[ImageBatch], size: int) -> Iterator[ImageBatch]:
    """The same images in batches of `size`, the last one shorter."""
    held: ImageBatch | None = None
    for batch in batches:
        held = batch if held is None else _joined(held, batch)
        while len(held) >= size:
            yield _sliced(held, 0, size)
            held = _sliced(held, size, len(held))
    if held is not None and len(held):
        yield held


def _joined(a: ImageBatch, b: ImageBatch) -> ImageBatch:
    return ImageBatch(
        np.concatenate([a.images, b.images]),
        np.concatenate([a.identity, b.identity]),
        np.concatenate([a.image, b.image]),
        {name: np.concatenate([a.attributes[name], b.attributes[name]]) for name in a.attributes},
    )


def _sliced(batch: ImageBatch, start: int, stop: int) -> ImageBatch:
    part = slice(start, stop)
    return ImageBatch(
        batch.images[part],
        batch.identity[part],
        batch.image[part],
        {name: values[part] for name, values in batch.attributes.items()},
    )


__all__ = ["Engine", "GenerateReport", "generate", "identities_from"]

"""What looks at the images that are chosen among: a recogniser, an estimator of quality, as far as a rule asks.

Every call has the same number of rows, filled up at the end, because libraries pick other kernels for other row
counts: which images are kept depends neither on the size of a batch nor on where a run went on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.models.feature_health import judge_features
from v2f_engine.selection.rule import Rule

if TYPE_CHECKING:
    from v2f_engine.models.embedder import Embedder

ROWS = 64
"""Images a call; the last one of a shard is filled up."""
OUTPUT = "quality"
"""Of an estimator: the name of what it says."""


@dataclass(frozen=True)
class Judged:
    """What is known of some images.

    Args:
        features: float32 `[B, D]`, or None where nobody asked.
        qualities: float32 `[B]`, or None.
        pixels: a hash of each image, bytes `[B]`.
    """

    features: NDArray[np.float32] | None
    qualities: NDArray[np.float32] | None
    pixels: NDArray[np.bytes_]

    def part(self, rows: slice) -> dict[str, NDArray[Any]]:
        """Some of them, as `Rule.person` takes them."""
        given = {"features": self.features, "qualities": self.qualities, "pixels": self.pixels}
        return {name: values[rows] for name, values in given.items() if values is not None}


@dataclass(frozen=True)
class Judges:
    """The networks that a rule needs.

    Args:
        recogniser: reads features; None where the rule needs none.
        quality: uint8 images `[B, 112, 112, 3]` to float32 `[B]`; None where the rule asks for none.
        told: what `quality` is, for manifests.
    """

    recogniser: Embedder | None = None
    quality: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None
    told: dict[str, Any] | None = None

    @classmethod
    def open(
        cls,
        rule: Rule,
        recogniser: str | Path = "mini",
        quality_model: str | Path = "quality",
        *,
        channels: str | None = None,
        mean: float | None = None,
        std: float | None = None,
        device: str = "cpu",
        bf16: bool = False,
    ) -> Judges:
        """Loads what a rule needs.

        Args:
            rule: says what is needed.
            recogniser, channels, mean, std, device, bf16: see `models.embedder.open_embedder`.
            quality_model: `quality` (embedded), an estimator's file, or a recogniser by the length of its feature
                (MagFace), as steering takes it.

        Raises:
            ModelNotFound, CheckpointError, ConfigError, MissingDependency, BackendUnavailable: as named.
        """
        from v2f_engine.models.embedder import open_embedder

        reads = None
        if "features" in rule.reads:
            reads = open_embedder(recogniser, channels=channels, mean=mean, std=std, device=device, bf16=bf16)
        if "quality" not in rule.reads:
            return cls(reads)
        quality, told = _quality(quality_model, device)
        return cls(reads, quality, told)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the recogniser's file has a user know."""
        return () if self.recogniser is None else self.recogniser.notes

    def describe(self) -> dict[str, Any]:
        """JSON values: everything about the networks that decides what they say."""
        reads = {} if self.recogniser is None else {"recogniser": self.recogniser.describe()}
        return {**reads, **({} if self.told is None else {"quality": self.told}), "rows": ROWS}

    def __call__(self, images: NDArray[np.uint8]) -> Judged:
        """What these say of uint8 `[B, 112, 112, 3]`, B at most `ROWS`.

        Raises:
            VectorError: a recogniser that gives features of another shape than it says.
        """
        filled = images
        if len(images) < ROWS:
            filled = np.zeros((ROWS, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
            filled[: len(images)] = images
        features = qualities = None
        if self.recogniser is not None:
            features = np.array(self.recogniser(filled), np.float32)
            if features.shape != (ROWS, self.recogniser.dim):
                raise VectorError(
                    f"the recogniser gave {list(features.shape)} numbers for {ROWS} images, expected "
                    f"[{ROWS}, {self.recogniser.dim}], as it says of itself."
                )
            features = features[: len(images)]
        if self.quality is not None:
            qualities = self.quality(filled)[: len(images)]
        return Judged(features, qualities, hashes(images))


def hashes(images: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """A hash of each image's pixels, bytes `[B]` of 32 hexadecimal digits: raw bytes lose the zeros at their end."""
    import hashlib

    digests = [hashlib.sha256(np.ascontiguousarray(one).data).hexdigest()[:32].encode() for one in images]
    return np.array(digests, "S32")


def joined(parts: list[Judged]) -> Judged:
    """One after the other."""

    def column(values: list[Any]) -> Any:
        return None if values[0] is None else np.concatenate(values)

    features = [part.features for part in parts]
    qualities = [part.qualities for part in parts]
    return Judged(column(features), column(qualities), np.concatenate([part.pixels for part in parts]))


def refuse_dead(features: NDArray[np.float32] | None, pixels: NDArray[np.bytes_], what: str) -> None:
    """Raises VectorError where pictures that differ all have one feature: they would be chosen by their numbers alone.

    Args:
        features: `[N, D]` of the images of one person or of many.
        pixels: `[N]`, as `hashes` gives them.
        what: for the message.
    """
    if features is None:
        return
    first = np.unique(pixels, return_index=True)[1]
    health = judge_features(features[first])
    if health.collapsed:
        raise VectorError(
            f"{what}: {health.faults()[0]} (they are not). Nothing can be chosen by such features."
        )


def _quality(
    model: str | Path, device: str
) -> tuple[Callable[[NDArray[np.uint8]], NDArray[np.float32]], dict[str, Any]]:
    """What scores images, and what it is."""
    import torch

    from v2f_engine.attributes.estimators import KIND, load_estimator
    from v2f_engine.machine import Machine, device_of
    from v2f_engine.models.checkpoint_file import read_checkpoint
    from v2f_engine.models.embedder import open_embedder
    from v2f_engine.models.features import to_network

    path, device = Path(model), device_of(device, Machine.look())[1]
    if str(model) == "quality" or (
        path.is_file() and path.suffix != ".onnx" and read_checkpoint(path).head.get("kind") == KIND
    ):
        loaded = load_estimator(model)
        outputs = loaded.model.config.outputs
        if OUTPUT not in outputs:
            raise ConfigError(
                f"{model}: an estimator of {', '.join(outputs)}; expected one of {OUTPUT} (v2f train estimator)."
            )
        network, column = loaded.model.to(device), outputs.index(OUTPUT)

        @torch.inference_mode()
        def estimated(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            x = to_network(torch.from_numpy(images).to(device)).contiguous(memory_format=torch.channels_last)
            return np.asarray(network(x)[:, column].float().cpu().numpy(), np.float32)

        return estimated, {"name": loaded.name, "sha256": loaded.sha256, "by": "estimator"}
    embedder = open_embedder(model, device=device)

    def length(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = np.asarray(embedder(images), np.float64)
        return np.asarray(np.sqrt((features * features).sum(axis=1)), np.float32)

    return length, {**embedder.describe(), "by": "length of a feature"}

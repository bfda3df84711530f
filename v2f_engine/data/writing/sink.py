"""The sink of one shard: checks order and completeness, makes everything durable, then gives it its names."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.data.formats.protocol import Format, Place, Sample
from v2f_engine.data.records.pieces import Piece
from v2f_engine.data.records.plan import PlannedShard
from v2f_engine.data.records.shard_record import ShardRecord
from v2f_engine.data.records.sidecar import SidecarWriter
from v2f_engine.errors import DatasetError


class ShardSink:
    """Takes one shard's samples in order and commits them.

    Use: `write` each sample, `add_attributes` each batch, then `prepare` and `publish` (or `abort`).
    """

    def __init__(self, place: Place, format: Format, shard: PlannedShard) -> None:
        self.shard = shard
        self._plan = place.plan
        self._count = 0
        self._image_bytes = 0
        self._expected = (shard.identities.start, 0)
        self._sidecar = SidecarWriter(place.root, shard.number, place.writer) if format.stores else None
        self._writer = format.shard_writer(place, shard)

    def write(self, sample: Sample) -> None:
        """Adds a sample.

        Raises:
            DatasetError: not the next image of this shard; order and completeness are part of the contract.
        """
        if (sample.identity, sample.image) != self._expected or sample.identity >= self.shard.identities.stop:
            self._check_order(sample)
        self._writer.write(sample)
        self._count += 1
        self._image_bytes += len(sample.data)
        image = sample.image + 1
        full = image == self._plan.images_per_id
        self._expected = (sample.identity + 1, 0) if full else (sample.identity, image)

    def write_all(
        self, identities: NDArray[np.int64], images: NDArray[np.int64], encoded: list[bytes]
    ) -> None:
        """Adds samples, as `write` does one by one, with the order looked at once where it is plain.

        Args:
            identities, images: `[B]`.
            encoded: B finished images.

        Raises:
            DatasetError: not the next images of this shard.
        """
        samples = map(Sample, identities.tolist(), images.tolist(), encoded)
        per_id, (identity, image) = self._plan.images_per_id, self._expected
        first = identity * per_id + image
        places = np.arange(first, first + len(encoded))
        in_order = np.array_equal(identities, places // per_id) and np.array_equal(images, places % per_id)
        if not (
            self._plan.uniform and in_order and first + len(encoded) <= self.shard.identities.stop * per_id
        ):
            for sample in samples:
                self.write(sample)
            return
        for sample in samples:
            self._writer.write(sample)
        self._count += len(encoded)
        self._image_bytes += sum(map(len, encoded))
        self._expected = divmod(first + len(encoded), per_id)

    def _check_order(self, sample: Sample) -> None:
        identity, image = self._expected
        next_identity = (
            not self._plan.uniform and image > 0 and (sample.identity, sample.image) == (identity + 1, 0)
        )
        if not next_identity or sample.identity not in self.shard.identities:
            raise DatasetError(
                f"Shard {self.shard.number}: expected image (identity {identity}, image {image}) next, found "
                f"(identity {sample.identity}, image {sample.image}). Batches must come in order of identity "
                "and image, without gaps."
            )

    def add_attributes(self, batch: ImageBatch) -> None:
        if self._sidecar is not None:
            self._sidecar.add(batch)

    def prepare(self) -> ShardRecord:
        """Makes the shard durable under temporary names; returns its record."""
        identities = self.shard.identities
        identity, image = self._expected
        done = identity - identities.start + (image > 0 and not self._plan.uniform)
        if done != len(identities) or (self._plan.uniform and image):
            raise DatasetError(
                f"Shard {self.shard.number}: expected {len(identities)} identities with "
                f"{self._plan.images_per_id} images each, and the batches ended before (identity {identity}, "
                f"image {image})."
            )
        images = self._writer.prepare()
        attributes = self._sidecar.prepare() if self._sidecar is not None else ()
        return ShardRecord(
            self.shard.number,
            identities.start,
            len(identities),
            self._count,
            self._image_bytes,
            content_of(images),
            images + attributes,
        )

    def publish(self) -> None:
        """Gives the shard's files their final names, durably."""
        self._writer.publish()
        if self._sidecar is not None:
            self._sidecar.publish()

    def abort(self) -> None:
        """Drops the temporary files; safe to call at any point, more than once."""
        self._writer.abort()
        if self._sidecar is not None:
            self._sidecar.abort()


def content_of(pieces: tuple[Piece, ...]) -> str:
    """What `ShardRecord.content` says for a shard that was written as `pieces`."""
    return pieces[0].sha256 if pieces else hashlib.sha256().hexdigest()

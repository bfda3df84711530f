"""Datasets from one format to another; encoded images pass through byte for byte."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.arguments import COUNT, FUNCTION, PATH, SWITCH, WORD, takes
from v2f_engine.atomic import aborted_on_error
from v2f_engine.batch import ImageBatch
from v2f_engine.data.formats import get_format, open_dataset
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.protocol import Sample
from v2f_engine.data.gate.decode import codec_of, size_of
from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import MAX_IMAGES_PER_SHARD, Plan
from v2f_engine.data.writing.contact_sheet import COLUMNS, ROWS
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.face_bytes import FACE, Survey, face_bytes
from v2f_engine.data.writing.forecast import WRITING, Forecast, Probe, forecast
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.set_report import SetReport
from v2f_engine.data.writing.signals import stop_request
from v2f_engine.data.writing.sink import ShardSink
from v2f_engine.data.writing.write import OnProgress, complete, manifest_for
from v2f_engine.errors import ConfigError, DatasetError, OutputFolderError

LOOKED_AT = 512
"""Pictures that a forecast reads, from all over the source."""
PROBED = 64
"""Pictures whose sizes are looked at before anything is written; each other is when its turn comes."""


@dataclass(frozen=True)
class ConvertReport(SetReport):
    """What `convert_dataset` did: images and identities in the new set, images written by this call.

    `manifest` is None where a signal stopped it and its handler let us go on."""

    path: Path
    format: str
    images: int
    images_written: int
    identities: int
    manifest: Path | None
    told: tuple[str, ...] = ()
    """What a user should know of how the source was read."""

    @property
    def complete(self) -> bool:
        """False where a signal stopped it."""
        return self.manifest is not None


@takes(
    src=PATH, dst=PATH, format=WORD, split=WORD, resize=SWITCH, images_per_shard=COUNT, progress=FUNCTION
)  # fmt: skip
def convert_dataset(
    src: str | Path,
    dst: str | Path,
    format: str,
    *,
    encoder: Encoder | None = None,
    split: str | None = None,
    resize: bool = False,
    images_per_shard: int = MAX_IMAGES_PER_SHARD,
    progress: OnProgress | None = None,
) -> ConvertReport:
    """Writes the dataset `src` into the folder `dst` in another format.

    Images come ordered by label, then as in the source; labels that are not 0, 1, 2, ... without gaps are
    numbered anew and the manifest keeps the old ones. Attributes come along. Resumes like any run.

    Args:
        src: a dataset in any format, this engine's or a stranger's.
        dst: new or empty folder, or that of the same conversion interrupted.
        format: name in `formats.FORMATS`.
        encoder: re-encodes every image; by default the encoded bytes pass through.
        split: which of several sets at `src` (`train`, `test`); None where there is one.
        resize: encodes pictures anew that are not 112x112, or not of the codec of most; by default they are refused.
        images_per_shard: about how many images make a shard.
        progress: called with (images done, images in all).

    Raises:
        DatasetError: the source is broken, empty, or mixes JPEG and PNG without an encoder; or, with counts, holds
            pictures that are not 112x112 without `resize`, or not square with it.
        ConfigError, OutputFolderError, DiskFull: as in `write_dataset`.
    """
    job, manifest, told = _opened(src, dst, format, encoder, split, resize, images_per_shard)

    def make(run: DatasetRun) -> float:
        make_missing(run, job, progress)
        return 0.0

    written = complete(Path(dst), manifest, make, lambda _: job.fill)
    return ConvertReport(
        path=written.path,
        format=format,
        images=len(job.source),
        images_written=written.images_written,
        identities=manifest.plan.identities,
        told=(*told, *job.told),
        manifest=written.manifest,
    )


def foresee_conversion(
    src: str | Path, dst: str | Path, format: str, *, split: str | None = None, resize: bool = False
) -> tuple[Forecast, tuple[str, ...]]:
    """What `convert_dataset` would do, and what the source tells; raises what it would. Writes nothing."""
    job, manifest, told = _opened(src, dst, format, None, split, resize, MAX_IMAGES_PER_SHARD)
    rows = np.unique(np.linspace(0, len(job.source) - 1, num=min(len(job.source), LOOKED_AT), dtype=np.int64))

    def probe() -> Probe:
        started = time.perf_counter()
        sizes = tuple(len(job.data(row)) for row in rows.tolist())
        each = (time.perf_counter() - started) / len(rows) + 1 / WRITING
        how = f"reading measured here on {len(rows)} images, writing taken as {WRITING:,} images/s"
        faces = tuple(job.source.image(row) for row in range(min(len(job.source), ROWS * COLUMNS)))
        faces = tuple(face for face in faces if face.shape[:2] == (112, 112))
        names = 0 if job.attributes is None else len(job.attributes.dtype.names or ()) - 2
        return Probe(sizes, 1 / each, how, names, faces)

    return forecast(Path(dst), manifest, probe, images=len(job.source)), (*told, *job.told)


def _opened(
    src: str | Path,
    dst: str | Path,
    format: str,
    encoder: Encoder | None,
    split: str | None,
    resize: bool,
    images_per_shard: int,
) -> tuple[Conversion, Manifest, tuple[str, ...]]:
    """Everything of a conversion before its first byte: the job, the new set's manifest, what the source tells."""
    source = open_dataset(src, split=split)
    refuse_inside(src, dst)
    if not get_format(format).stores:
        raise ConfigError(f"Format {format!r} stores nothing; convert to one that does.")
    if not len(source):
        raise DatasetError(f"{src}: no images to convert.")
    told = source.told()
    job = Conversion(source, encoder, resize)
    manifest = manifest_for(
        format, job.plan(images_per_shard), job.encoder, {"converted_from": job.describe()}
    )
    return job, manifest, tuple(told)


def refuse_inside(src: str | Path, dst: str | Path) -> None:
    """Raises OutputFolderError where a new set would lie in the folder of the one that it is made from.

    That is the source, if it is a folder, and the set of ours that a file or folder is a part of, as its `train.rec`.
    """
    source, within = Path(src).resolve(), Path(dst).resolve().parents
    homes = [source] if source.is_dir() else []
    homes += [folder for folder in source.parents if (folder / MANIFEST).is_file()]
    for home in homes:
        if home in within:
            named = src if home == source else home
            raise OutputFolderError(
                f"{dst} lies inside {named}, which would no longer be the set it is; expected a folder beside it."
            )


def make_missing(run: DatasetRun, job: Conversion, progress: OnProgress | None) -> None:
    """Fills and commits the missing shards of a run, one after the other, until a signal asks to stop."""
    done, total = sum(record.count for record in run.records.values()), int(job.counts.sum())
    with stop_request(grace_s=0.0) as stop:
        for number in run.missing():
            with disk.named_errors(run.root, run.bytes_needed):
                run.check_room()
                sink = run.sink(number)
                with aborted_on_error(sink):
                    job.fill(sink)
                    done += run.commit(sink).count
            if progress is not None:
                progress(done, total)
            if stop.requested:
                break


class Conversion:
    """One conversion: the source's records in the order of the new set. `anew` is what encodes pictures anew.

    Args:
        source: what is converted.
        encoder, resize: as `convert_dataset`.

    Raises:
        DatasetError: pictures that may not pass.
    """

    anew: ClassVar[str] = "--resize"

    def __init__(self, source: Dataset, encoder: Encoder | None, resize: bool) -> None:
        self.source = source
        self._encoder = encoder
        self._survey: Survey | None = None
        if resize:
            self._survey = self._surveyed()
            self._survey.check_square(str(source.path))
        else:
            self._check_sizes(np.linspace(0, len(source) - 1, num=min(len(source), PROBED), dtype=np.int64))
        if encoder is not None:
            self._codec = encoder.codec
        elif self._survey is not None:
            self._codec = self._survey.codec
        else:
            self._codec = codec_of(source.record(0)[0], source.where(0))
        self._anew = encoder or Encoder(self._codec)
        self._values, ranks, counts = np.unique(source.labels, return_inverse=True, return_counts=True)
        self.counts = counts
        """int64 `[identities]`: images of each in the new set."""
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._order = np.argsort(ranks, kind="stable")
        self.attributes = source.attributes()
        if encoder is not None:
            self.encoder: dict[str, Any] = encoder.describe()
        elif source.manifest is not None:
            self.encoder = dict(source.manifest.encoder)
        else:
            self.encoder = {"codec": self._codec, "library": "unknown"}

    def _surveyed(self) -> Survey:
        """Of all pictures of the source."""
        return Survey.of((self.source.data(row), self.source.where(row)) for row in range(len(self.source)))

    def _check_sizes(self, rows: NDArray[np.int64]) -> None:
        """Whether these pictures may pass.

        Raises:
            DatasetError: one may not; all pictures are then counted, which costs a pass over them.
        """
        found = Survey.of((self.source.data(row), self.source.where(row)) for row in rows.tolist())
        if found.sizes or (self._encoder is None and found.foreign()):
            self._surveyed().check(str(self.source.path), self.anew)

    @property
    def told(self) -> list[str]:
        """What is encoded anew, for people."""
        return [] if self._survey is None else self._survey.lines((self._codec,))

    def plan(self, images_per_shard: int) -> Plan:
        """Shape of the new set."""
        identities, most = len(self.counts), int(self.counts.max())
        mean = max(1, int(self.counts.sum()) // identities)
        per_shard = min(identities, max(1, images_per_shard // mean))
        return Plan(identities, most, per_shard, uniform=bool((self.counts == most).all()))

    def label(self, identity: int) -> int:
        """What the source labels an identity of the new set by."""
        return int(self._values[identity])

    def source_rows(self, identity: int) -> NDArray[np.int64]:
        """All rows of the source that show an identity of the new set, in order."""
        return self._order[self._starts[identity] : self._starts[identity + 1]]

    def rows(self, identity: int) -> NDArray[np.int64]:
        """Those of them that the new set holds."""
        return self.source_rows(identity)

    def attributes_of(self, identity: int, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Attributes of an identity's images in the new set, name -> `[B]`; none where the source has none."""
        if self.attributes is None:
            return {}
        names = [name for name in self.attributes.dtype.names or () if name not in ("identity", "image")]
        return {name: self.attributes[name][rows] for name in names}

    def describe(self) -> dict[str, Any]:
        """What the new manifest says about the source."""
        source = self.source
        record: dict[str, Any] = {"format": source.format, "images": len(source)}
        if source.split is not None:
            record["split"] = source.split
        if source.manifest is not None:
            text = source.manifest.to_bytes()
            record |= {
                "manifest_sha256": hashlib.sha256(text).hexdigest(),
                "settings": source.manifest.settings,
            }
        else:
            record["files_sha256"] = _fingerprint(source.path)
        if not np.array_equal(self._values, np.arange(len(self._values))):
            record["labels"] = self._values.tolist()
        if source.class_names is not None and source.manifest is None:
            record["class_names"] = source.class_names
        anew = {} if self._survey is None else self._survey.record((self._codec,))
        if anew:
            record |= {**anew, "encoder": self._anew.describe()}
        return record

    def fill(self, sink: ShardSink) -> None:
        """Writes a shard of the new set."""
        for identity in sink.shard.identities:
            rows = self.rows(identity)
            for image, row in enumerate(rows.tolist()):
                sink.write(Sample(identity, image, self.data(row)))
            if attributes := self.attributes_of(identity, rows):
                sink.add_attributes(_without_pixels(identity, len(rows), attributes))

    def data(self, row: int) -> bytes:
        """The encoded picture of a row of the source, as it passes into the new set."""
        data, where = self.source.record(row)[0], self.source.where(row)
        if self._survey is not None:
            return face_bytes(data, where, self._anew, () if self._encoder is not None else (self._codec,))
        if size_of(data, where) != FACE:
            self._surveyed().check(str(self.source.path), self.anew)
        if self._encoder is not None:
            return self._encoder.encode(self.source.image(row))
        codec = codec_of(data, where)
        if codec != self._codec:
            raise DatasetError(
                f"{where}: {codec}, the first image is {self._codec}. Give an encoder ({self.anew}: {self._codec} for "
                "those of another codec) to encode images anew."
            )
        return data


def _without_pixels(identity: int, count: int, attributes: dict[str, NDArray[Any]]) -> ImageBatch:
    """The attributes of one identity's images, as a batch."""
    return ImageBatch(
        np.empty((count, 0, 0, 3), np.uint8),
        np.full(count, identity, np.int64),
        np.arange(count, dtype=np.int64),
        attributes,
    )


def _fingerprint(path: Path) -> str:
    """sha256 over names and sizes of a stranger's files: shows a source that changed between two attempts."""
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    lines = (f"{file.relative_to(path.parent).as_posix()} {file.stat().st_size}\n" for file in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

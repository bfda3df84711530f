"""`v2f select`: a new set of the best images of each person of another set; encoded images pass byte for byte.

Images are read a shard of the new set at a time, in calls of `judges.ROWS`; what is said of them is committed to
`.v2f/scores/`, a file a shard, and outlives a kill. Once all are judged, `__about__/selection.csv` says of every image
whether it was kept and why, and the shards are written as a conversion writes them, from the kept images alone.
"""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.arguments import COUNT, FUNCTION, PATH, WORD, takes
from v2f_engine.atomic import write_file
from v2f_engine.data.formats import get_format, open_dataset
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.layout import IDENTITIES, SCORES, SELECTION, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import MAX_IMAGES_PER_SHARD
from v2f_engine.data.writing.contact_sheet import COLUMNS
from v2f_engine.data.writing.contact_sheet import ROWS as SHEET_ROWS
from v2f_engine.data.writing.convert import Conversion, ConvertReport, make_missing, refuse_inside
from v2f_engine.data.writing.forecast import WRITING, Forecast, Probe, forecast
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.write import OnProgress, complete, manifest_for
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.selection.csv_table import csv_of
from v2f_engine.selection.judges import ROWS, Judges, joined, refuse_dead
from v2f_engine.selection.rule import Rule, Tally

SOURCE_IMAGE = "source_image"
"""Attribute: the number of an image among those that were first made of its person, by which it is made again alone."""
SHOWN = 5
CSV_BYTES = 90
"""Of a row of `selection.csv`, about, by one criterion."""


@dataclass(frozen=True)
class SelectReport(ConvertReport):
    """What `select_dataset` did: as `ConvertReport`, and what became of the images chosen among.

    `tally` is None where the set was whole already."""

    tally: Tally | None = None


@takes(src=PATH, dst=PATH, format=WORD, split=WORD, images_per_shard=COUNT, progress=FUNCTION)
def select_dataset(
    src: str | Path,
    dst: str | Path,
    rule: Rule,
    format: str = "webdataset",
    *,
    judges: Judges | None = None,
    split: str | None = None,
    images_per_shard: int = MAX_IMAGES_PER_SHARD,
    progress: OnProgress | None = None,
) -> SelectReport:
    """Writes the images of `src` that a rule keeps into the folder `dst`. Resumes like any run.

    People keep their order and are numbered 0, 1, 2, ...; the kept images of each keep theirs. Their attributes come
    along, with `source_image` (the number in the set they were first made in) and `score_NAME` of each criterion.

    Args:
        src: a dataset in any format, this engine's or a stranger's, of pictures of 112x112.
        dst: new or empty folder, or that of the same selection interrupted.
        rule: which images are kept.
        format: name in `formats.FORMATS`.
        judges: what reads the images; by default the embedded networks that the rule needs.
        split: which of several sets at `src`; None where there is one.
        images_per_shard: about how many images make a shard.
        progress: called with (images done, images in all), of those judged and those written.

    Raises:
        DatasetError: the source is broken or empty, has pictures of another size, or people with fewer images than the
            rule needs (they are named).
        VectorError: features that cannot be chosen by: not finite, zero, all one, or of another width than the vectors.
        ConfigError, OutputFolderError, DiskFull: as in `write_dataset`.
    """
    job, manifest, told = opened(src, dst, format, rule, judges or Judges.open(rule), split, images_per_shard)
    job.settle(Path(dst), manifest, progress)

    def make(run: DatasetRun) -> float:
        make_missing(run, job, job.writing(progress))
        return 0.0

    written = complete(Path(dst), manifest, make, lambda _: job.fill, {SELECTION: job.csv})
    return SelectReport(
        path=written.path,
        format=format,
        images=int(job.counts.sum()),
        images_written=written.images_written,
        identities=manifest.plan.identities,
        told=tuple(told),
        manifest=written.manifest,
        tally=job.tally,
    )


def foresee_selection(
    src: str | Path,
    dst: str | Path,
    rule: Rule,
    format: str = "webdataset",
    *,
    judges: Judges | None = None,
    split: str | None = None,
) -> tuple[Forecast, list[str]]:
    """What `select_dataset` would do, and what the source tells; raises what it would. Writes nothing."""
    judges = judges or Judges.open(rule)
    job, manifest, told = opened(src, dst, format, rule, judges, split)
    kept, among = int(job.counts.sum()), len(job.source)

    def probe() -> Probe:
        some = np.arange(min(among, ROWS), dtype=np.int64)
        judges(job.source.images(some))  # warms up
        started = time.perf_counter()
        judges(job.source.images(some))
        each = (time.perf_counter() - started) / ROWS * among / kept + 1 / WRITING
        sizes = tuple(len(job.data(row)) for row in some.tolist())
        how = (
            f"{among:,} judged at a rate measured here on {len(some)}, writing taken as {WRITING:,} images/s"
        )
        names = 0 if job.attributes is None else len(job.attributes.dtype.names or ()) - 2
        faces = tuple(job.source.image(row) for row in some[: SHEET_ROWS * COLUMNS].tolist())
        return Probe(sizes, 1 / each, how, names + 1 + len(rule.by), faces)

    return forecast(Path(dst), manifest, probe, images=kept, attached=CSV_BYTES * among), told


def opened(
    src: str | Path,
    dst: str | Path,
    format: str,
    rule: Rule,
    judges: Judges,
    split: str | None = None,
    images_per_shard: int = MAX_IMAGES_PER_SHARD,
) -> tuple[Selection, Manifest, list[str]]:
    """Everything of a selection before its first byte: the job, the new set's manifest, what the source tells.

    Raises:
        As `select_dataset`.
    """
    source = open_dataset(src, split=split)
    refuse_inside(src, dst)
    if not get_format(format).stores:
        raise ConfigError(f"Format {format!r} stores nothing; select into one that does.")
    if not len(source):
        raise DatasetError(f"{src}: no images to choose among.")
    told = source.told()
    job = Selection(source, rule, judges)
    settings = {
        "converted_from": job.describe(),
        "selection": {**rule.describe(), **judges.describe()},
    }
    manifest = manifest_for(format, job.plan(images_per_shard), job.encoder, settings)
    return job, manifest, told


class Selection(Conversion):
    """One selection: the source's records that a rule keeps, in the order of the new set.

    Args:
        source: what is chosen from.
        rule: which images are kept.
        judges: what reads them.

    Raises:
        DatasetError: people with too few images, or pictures that may not pass.
        ConfigError, VectorError: own vectors are asked for that the source does not have, or of another recogniser.
    """

    def __init__(self, source: Dataset, rule: Rule, judges: Judges) -> None:
        super().__init__(source, None, False)
        self.rule, self.judges = rule, judges
        self._all = self.counts
        self._refuse_few()
        self.counts = np.minimum(self._all, rule.keep)
        self._vectors = _vectors_of(source, judges) if "vector" in rule.reads else None
        self._choices: dict[int, NDArray[np.void]] = {}
        self._root: Path | None = None
        self._manifest: Manifest | None = None
        self._progress: OnProgress | None = None
        self._judged = 0

    def settle(self, root: Path, manifest: Manifest, progress: OnProgress | None) -> None:
        """Where what is known of the images is kept until the set is whole, by which shards, and who hears of it."""
        self._root, self._manifest, self._progress = root, manifest, progress

    def _refuse_few(self) -> None:
        fewest = self.rule.fewest
        few = np.flatnonzero(self._all < fewest)
        if not len(few):
            return
        names = self.source.class_names

        def called(identity: int) -> str:
            label = self.label(identity)
            name = names[label] if names is not None and label < len(names) else f"label {label}"
            return f"{name} ({self._all[identity]})"

        shown = ", ".join(map(called, few[:SHOWN].tolist())) + (", ..." if len(few) > SHOWN else "")
        raise DatasetError(
            f"{self.source.path}: {len(few):,} of {len(self._all):,} people have fewer than {fewest} images: {shown}. "
            f"Keep fewer (--keep), or say how few may stay as they are: --at-least {int(self._all.min())}."
        )

    @property
    def tally(self) -> Tally | None:
        """What became of all images; None while they are not all judged."""
        if len(self._choices) < len(self.counts):
            return None
        return Tally.of([self._choices[identity] for identity in range(len(self.counts))], self.rule.keep)

    def writing(self, progress: OnProgress | None) -> OnProgress | None:
        """`progress` of the images that are written, after all that were judged."""
        if progress is None:
            return None
        judged = int(self._all.sum())
        return lambda done, total: progress(judged + done, judged + total)

    def choice(self, identity: int) -> NDArray[np.void]:
        """What `Rule.choose` says of an identity of the new set."""
        if identity not in self._choices:
            assert self._manifest is not None
            self.judge(identity // self._manifest.plan.identities_per_shard)
        return self._choices[identity]

    def judge(self, number: int) -> None:
        """Judges all images that shard `number` is chosen from, or reads what was said of them before."""
        assert self._root is not None, "settled before the first image is asked for"
        assert self._manifest is not None
        people = self._manifest.plan.shard(number).identities
        place = self._root / WORK / SCORES / f"shard-{number:06d}.npy"
        table = self._read(place, people)
        if table is None:
            table = np.concatenate(self._chosen(people))
            disk.make_folder(place.parent)
            write_file(place, _stamped(table), "main")
        ends = np.cumsum(self._all[people.start : people.stop])
        self._choices |= dict(zip(people, np.split(table, ends[:-1]), strict=True))
        self._judged += int(ends[-1])
        if self._progress is not None:
            self._progress(self._judged, int(self._all.sum() + self.counts.sum()))

    def _read(self, place: Path, people: range) -> NDArray[np.void] | None:
        """What an interrupted run left, if it is whole: it was made of the same settings, or the folder is refused."""
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            return None
        if data[:64] != hashlib.sha256(data[64:]).hexdigest().encode():
            return None
        table = np.load(io.BytesIO(data[64:]), allow_pickle=False)
        images = int(self._all[people.start : people.stop].sum())
        return table if table.dtype == self.rule.kinds and len(table) == images else None

    def _chosen(self, people: range) -> list[NDArray[np.void]]:
        """The choices of some people. Pixels of `ROWS` images and the features of these people are in memory."""
        rows = np.concatenate([self.source_rows(identity) for identity in people])
        parts = [self.judges(self.source.images(rows[i : i + ROWS])) for i in range(0, len(rows), ROWS)]
        whole = joined(parts)
        where = f"{self.source.path}: label {self.label(people[0])} and on"
        refuse_dead(whole.features, whole.pixels, where)
        failed = self._failed(rows)
        choices, start = [], 0
        for identity in people:
            part = slice(start, start + int(self._all[identity]))
            start = part.stop
            known: dict[str, Any] = whole.part(part)
            if self._vectors is not None:
                known["vector"] = self._vectors[self.label(identity)]
            name = f"{self.source.path}: label {self.label(identity)}"
            images = np.arange(self._all[identity])
            person = self.rule.person(name, images, failed=None if failed is None else failed[part], **known)
            choices.append(self.rule.choose(person))
        return choices

    def _failed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """bool `[B]`: images of which the source itself says that they failed."""
        if self.attributes is None or "failed" not in (self.attributes.dtype.names or ()):
            return None
        return np.asarray(self.attributes["failed"][rows] > 0)

    def rows(self, identity: int) -> NDArray[np.int64]:
        choice = self.choice(identity)
        kept: NDArray[np.int64] = self.source_rows(identity)[choice["image"][choice["kept"]]]
        return kept

    def attributes_of(self, identity: int, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        choice = self.choice(identity)
        kept = choice[choice["kept"]]
        before = super().attributes_of(identity, rows)
        scores = {f"score_{name}": kept[name].astype(np.float32) for name in self.rule.by}
        return {SOURCE_IMAGE: kept["image"].astype(np.float32), **before, **scores}

    def csv(self) -> bytes:
        """What was kept and dropped of all images, and why."""
        people = range(len(self.counts))
        return csv_of(
            ((identity, self.label(identity), self.choice(identity)) for identity in people), self.rule
        )


def _stamped(table: NDArray[np.void]) -> bytes:
    """An array's file with the sha256 of its bytes before it."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, table, version=(1, 0), allow_pickle=False)
    return hashlib.sha256(buffer.getvalue()).hexdigest().encode() + buffer.getvalue()


def _vectors_of(source: Dataset, judges: Judges) -> NDArray[np.float32]:
    """The vectors that a generated set was made from, float32 `[identities, D]`.

    Raises:
        ConfigError: no generated set, or judged by another recogniser than the one whose features its vectors are.
    """
    from v2f_engine.attributes.control import JUDGES
    from v2f_engine.vectors.identities import Identities

    path = source.path / IDENTITIES
    model = None if source.manifest is None else source.manifest.settings.get("model")
    if not path.is_file() or not isinstance(model, dict):
        raise ConfigError(
            f"{source.path}: criterion 'vector' needs the vectors that its people were made from, {IDENTITIES}, which "
            "sets of `v2f generate` have and this one has not. 'centre' needs none."
        )
    usual = JUDGES.get(str(model.get("name")))
    reads = "" if judges.recogniser is None else str(judges.recogniser.describe()["name"])
    if usual is not None and reads != usual.recogniser:
        raise ConfigError(
            f"{source.path}: its vectors are features of {usual.recogniser!r}, and the images are read by {reads!r}: "
            f"cosines between the two mean nothing. Give --recogniser {usual.recogniser}, or choose by 'centre'."
        )
    return Identities.load(path).vectors

"""`v2f select`: a new set of the best images of each person of another set; encoded images pass byte for byte.

Images are read a shard of the new set at a time, in calls of `judges.ROWS`; what is said of them is committed to
`.v2f/scores/`, a file a shard, and outlives a kill. Once all are judged, `__about__/selection.csv` says of every image
whether it was kept and why, and the shards are written as a conversion writes them, from the kept images alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from v2f_engine.arguments import COUNT, FUNCTION, PATH, RULE, WORD, takes
from v2f_engine.data.formats import get_format, open_dataset
from v2f_engine.data.layout import SELECTION
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import MAX_IMAGES_PER_SHARD
from v2f_engine.data.writing.contact_sheet import COLUMNS
from v2f_engine.data.writing.contact_sheet import ROWS as SHEET_ROWS
from v2f_engine.data.writing.convert import ConvertReport, make_missing, refuse_inside
from v2f_engine.data.writing.forecast import WRITING, Forecast, Probe, forecast
from v2f_engine.data.writing.run import DatasetRun
from v2f_engine.data.writing.write import OnProgress, complete, manifest_for
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.selection.judges import ROWS, Judges
from v2f_engine.selection.rule import Rule, Tally
from v2f_engine.selection.selection_job import Selection

CSV_BYTES = 90
"""Of a row of `selection.csv`, about, by one criterion."""


@dataclass(frozen=True)
class SelectReport(ConvertReport):
    """What `select_dataset` did: as `ConvertReport`, and what became of the images chosen among.

    `tally` is None where the set was whole already."""

    tally: Tally | None = None


@takes(src=PATH, dst=PATH, rule=RULE, format=WORD, split=WORD, images_per_shard=COUNT, progress=FUNCTION)
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

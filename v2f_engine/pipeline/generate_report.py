"""What a run of `generate` made, for a program, for people and for a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from v2f_engine import notebook
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.records.sidecar import read_attributes
from v2f_engine.data.writing.set_report import SetReport
from v2f_engine.data.writing.write import WriteReport
from v2f_engine.pipeline.start_up import StartUp
from v2f_engine.selection.rule import Tally


@dataclass(frozen=True)
class GenerateReport(SetReport):
    """What a run of `generate` made.

    Args:
        out: folder of the dataset.
        identities, images: how many of each it holds when it is complete.
        written: images made by this call (fewer than `images` after a resume).
        seconds: wall time of this call.
        images_per_second: `written / seconds`, encoding and writing included.
        contact_sheet: PNG with identities by rows; None for the null format.
        manifest: JSON with every setting and every shard's sha256; None for the null format.
        failed: images that came out constant twice; the attribute `failed` says which.
        self_test: whether the kernels are batch-invariant, for runs long enough to be worth measuring it.
        start_up: where the first seconds went, the rate after them, and kernels compiled.
        people: where the identities come from: the source, with its hash.
        script, departures: the published script that does the same, and how this run differs from it.
        complete: False where a signal stopped the run and its handler let us go on.
        chosen: what became of the images that this process made and chose among; None where none were, as where
            workers made them.
    """

    out: Path
    identities: int
    images: int
    written: int
    seconds: float
    images_per_second: float
    contact_sheet: Path | None
    manifest: Path | None
    failed: int = 0
    self_test: str = "not measured"
    start_up: StartUp = field(default_factory=StartUp)
    people: str = ""
    script: str = ""
    departures: tuple[str, ...] = ()
    complete: bool = True
    chosen: Tally | None = None

    _place: ClassVar[str] = "out"

    def _repr_html_(self) -> str:
        values = {
            "status": self.status,
            "made now": f"{self.written:,} images, {self.images_per_second:,.0f} a second",
            "people from": self.people,
            "constant images": self.failed or None,
            "chosen among": "; ".join([] if self.chosen is None else self.chosen.lines()),
            "differs from the published script": "; ".join(self.departures),
        }
        sheet = self.contact_sheet
        shown = (
            ""
            if sheet is None or not sheet.is_file()
            else notebook.img(sheet.read_bytes(), "contact sheet", "max-height:70vh;width:auto;")
        )
        return notebook.facts(
            f"{self.out}: {self.images:,} images of {self.identities:,} people"
            + ("" if self.complete else ", not finished"),
            values,
            shown,
        )


def report_of(
    out: Path,
    plan: Plan,
    written: WriteReport,
    seconds: float,
    self_test: str,
    start_up: StartUp,
    people: str,
) -> GenerateReport:
    """The report of a run that wrote `written`."""
    return GenerateReport(
        out=out,
        identities=plan.identities,
        images=plan.images,
        written=written.images_written,
        seconds=seconds,
        images_per_second=written.images_written / seconds,
        contact_sheet=written.contact_sheet,
        manifest=written.manifest,
        failed=_failed(written),
        self_test=self_test,
        start_up=start_up,
        people=people,
        complete=written.complete,
    )


def _failed(written: WriteReport) -> int:
    """How many images of a finished dataset are recorded as failed."""
    if written.manifest is None or not written.complete:
        return 0
    columns = read_attributes(written.path, Manifest.load(written.manifest))
    if columns is None or "failed" not in (columns.dtype.names or ()):
        return 0
    return int(np.count_nonzero(columns["failed"] == 1))

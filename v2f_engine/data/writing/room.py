"""Whether a dataset has room and time at all, before anything is loaded or begun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from v2f_engine import disk
from v2f_engine.data.layout import MANIFEST, RUN, WORK
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.contact_sheet import COLUMNS, ROWS
from v2f_engine.errors import ConfigError, DiskFull

JPEG_BYTES = ((90, 7_000), (70, 3_500), (0, 2_000))
"""(quality from, bytes of a face of 112x112): `mini` and rendered people at 95, 80 and 50, 4:2:0."""
PNG_BYTES = 25_000
SHEET_BYTES = 15_300
"""Of a face on a contact sheet: 765,255 bytes for 50 of them, 1,504,310 for 100."""
SURE = 0.5
"""Share of the estimate that is refused where it does not fit: faces are smoother or rougher by as much."""
SLOW, FAST = 50, 10_000
"""Images/s: `mini` on two cores, and a large GPU."""
YEAR_S = 365 * 86_400
VECTOR_BYTES = 512 * 4


def bytes_per_image(encoder: Mapping[str, Any]) -> int:
    """About how many bytes an image takes that `encoder` (as a manifest describes it) wrote."""
    if encoder.get("codec") == "png":
        return PNG_BYTES
    quality = encoder.get("quality", 95)
    return next(size for least, size in JPEG_BYTES if quality >= least)


def sheet_bytes(plan: Plan) -> int:
    """About how many bytes the contact sheet takes, which is drawn last."""
    return min(ROWS, plan.identities) * min(COLUMNS, plan.images_per_id) * SHEET_BYTES


def refuse_beyond(
    root: Path, identities: int, images_per_id: int, encoder: Mapping[str, Any], *, stored: bool = True
) -> None:
    """Refuses a dataset that cannot be: too large for the disk, the memory, or a year of a large GPU.

    Args:
        root: where it is to be; one that was begun there has its own account and passes.
        identities, images_per_id: its size.
        encoder: as a manifest describes it.
        stored: whether it is written at all.

    Raises:
        OutputFolderError: nothing can be written there.
        DiskFull: its images need more than is free; the message gives both, and the time.
        ConfigError: its identities need more memory than this machine has, or its images more than a year.
    """
    if stored:
        disk.refuse_unwritable(root)
    if (root / MANIFEST).exists() or (root / WORK / RUN).exists():
        return
    images = identities * images_per_id
    each = bytes_per_image(encoder)
    asked = (
        f"{identities:,} identities of {images_per_id:,} images are {images:,} images, about "
        f"{disk.in_words(images * each)} at {disk.in_words(each)} an image; making them takes {span(images / SLOW)} "
        f"at {SLOW} images/s (two cores) and {span(images / FAST)} at {FAST:,} images/s (a large GPU)"
    )
    free = disk.free_bytes(root.absolute())
    if stored and images * each * SURE > free:
        raise DiskFull(
            f"{root}: {asked}. {disk.in_words(free)} ({free:,} bytes) are free there. Ask for fewer, or choose a "
            "folder on a larger disk; nothing was begun."
        )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if identities * VECTOR_BYTES > memory:
        raise ConfigError(
            f"{identities:,} identity vectors take {disk.in_words(identities * VECTOR_BYTES)} of memory, this machine "
            f"has {disk.in_words(memory)}. Ask for fewer; {asked}."
        )
    if images / FAST > YEAR_S:
        raise ConfigError(f"{root}: {asked}. Ask for fewer.")


def span(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, size in (("years", YEAR_S), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    if seconds < 1.5:
        return "a second" if seconds >= 0.5 else "less than a second"
    return f"{seconds:.0f} seconds"

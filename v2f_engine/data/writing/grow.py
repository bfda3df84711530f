"""A finished set that gets more people: not a byte of what is there changes, and a kill at any instant loses nothing.

A set that grows becomes an unfinished run of the larger set, whose ledger begins with the shards that are there:

1. `.v2f/` gets the ledger, the note of the command and, last, the manifest of the larger set (`run.json`). Until here
   the set is the finished one that it was, and opening it clears those away.
2. The manifest moves into `.v2f/`. By this one rename the set is unfinished: it is continued as any interrupted run is,
   by the same command or `v2f resume`.
3. The missing shards are made and the set is finished as always, the new manifest last. From then on it is the larger.

Shards keep names, bytes and records. Formats that keep all in one file (lmdb, recordio) have it written anew: a shard
is a region of it that stays where it was, with the bytes that it had; what follows the last region (index, ranges) is
another.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from v2f_engine import disk
from v2f_engine.asked import RUNNING
from v2f_engine.atomic import write_file
from v2f_engine.data.formats import get_format
from v2f_engine.data.layout import (
    CARD,
    COMMAND,
    GROWN_FROM,
    LEDGER,
    MANIFEST,
    QUEUE,
    RUN,
    STAGING,
    WORK,
    former_card,
)
from v2f_engine.data.records.card import card_text
from v2f_engine.data.records.grown import Grown
from v2f_engine.data.records.ledger import Ledger
from v2f_engine.data.records.manifest import OPTIONS, Manifest, flat
from v2f_engine.data.records.plan import MIN_IMAGES_PER_SHARD, Plan
from v2f_engine.data.writing.room import sheet_bytes
from v2f_engine.errors import DiskFull, OutputFolderError

SIZE = frozenset({"plan.identities", "plan.identities_per_shard", "plan.before"})
"""What differs between a set and the larger one."""
SHOWN = 5
OWN = 0.9
"""Share of an estimate from the set's own images that is refused where it does not fit: a set that runs out of room
while it grows cannot be read until there is some."""


def more_images(there: int, asked: int | str, root: str | Path = "SET") -> str:
    """Why a set does not get more images of its people, and what to do instead."""
    return (
        f"plan.images_per_id is {there} there, {asked} now (--images). A set grows by people: one person's images are "
        "whole in one shard (a folder, a range of keys, rows beside one another), so more of them would be other bytes "
        f"of what is there. `v2f generate --config {root}/manifest.json --images {asked} --out NEW` makes a set of its "
        "own; each image of the first one is made again in it, under its number, but where shares of noise or masks "
        "are dealt out over a run (--sigma-shares exact, --mask-batch) or images are chosen (--make)."
    )


def now() -> str:
    """UTC, to the second; of `SOURCE_DATE_EPOCH` where that is set, as reproducible-builds.org has it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = float(epoch) if epoch.isdecimal() else time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def grown(
    old: Manifest,
    asked: Manifest,
    per_shard: int | None = None,
    may_differ: Callable[[str], bool] = lambda name: False,
) -> Manifest:
    """The manifest, without records, of `old` made as large as `asked`.

    Args:
        old: of the finished set.
        asked: what is wanted: the same settings, more identities; its shards are not looked at.
        per_shard: identities of each new shard; by default as many as `old` has in one, or, where that is a single
            small shard, as many as a new set would have.
        may_differ: whether a setting may have another value, by its flat name (`settings.identities.count`).

    Raises:
        ConfigError: not more identities, or a set whose names or containers cannot take as many.
        OutputFolderError: other settings, each named with both values.
    """
    left, right = flat(old.decisive()), flat(asked.decisive())
    names = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    other = [name for name in names if name not in SIZE and not may_differ(name)]
    images = asked.plan.images_per_id
    if other == ["plan.images_per_id"]:
        raise OutputFolderError(more_images(old.plan.images_per_id, images))
    if other:
        told = "; ".join(
            f"{name} is {left.get(name, 'absent')} there, {right.get(name, 'absent')} now"
            + (f" ({OPTIONS[name]})" if name in OPTIONS else "")
            for name in other[:SHOWN]
        )
        raise OutputFolderError(
            f"A set grows by more people of the same kind, and what was asked differs in more than their number: {told}"
            f"{f'; and {len(other) - SHOWN} more' if len(other) > SHOWN else ''}. Give --extend and --ids alone: all "
            "else is as the set itself says. A set of other images needs a folder of its own."
        )
    form = get_format(old.format)
    if per_shard is None and old.plan.shards == 1 and old.images < MIN_IMAGES_PER_SHARD:
        per_shard = Plan.of(asked.plan.identities, old.plan.images_per_id).identities_per_shard
    plan = old.plan.extended(asked.plan.identities, per_shard, remembered=form.counts_shards)
    form.refuse_growth(old.plan, plan)
    was = Grown(old.plan.identities, old.images, old.plan.shards, digest(old), now(), dict(old.versions))
    return replace(asked, plan=plan, shards=(), files=(), grown=(*old.grown, was))


def digest(manifest: Manifest) -> str:
    """sha256 of the file that a manifest is written as."""
    return hashlib.sha256(manifest.to_bytes()).hexdigest()


def base_of(root: Path, manifest: Manifest) -> Manifest | None:
    """The finished set at `root` that `manifest` is to grow from; None where there is another, or none."""
    if not manifest.grown or not (root / MANIFEST).is_file():
        return None
    found = Manifest.load(root / MANIFEST)
    return found if digest(found) == manifest.grown[-1].manifest else None


def begin(root: Path, base: Manifest, manifest: Manifest, writer: str) -> None:
    """Makes the finished set `base` an unfinished run of `manifest`; whoever calls it holds the lock.

    Raises:
        DiskFull: the new images will not fit; nothing was changed.
    """
    work = root / WORK
    with disk.named_errors(root):
        _refuse_beyond(root, base, manifest)
        for name in (
            QUEUE,
            LEDGER,
            STAGING,
            COMMAND,
            RUN,
            GROWN_FROM,
        ):  # of whoever finished it and died then
            disk.remove(work / name)
        _keep_card(root, base, writer)
        if (command := RUNNING.get()) is not None:
            write_file(work / COMMAND, command.to_bytes(), writer)
        disk.make_folder(work / LEDGER)
        Ledger(work / LEDGER, writer, list(base.shards)).close()
        manifest.save(work / RUN, writer)
        disk.rename(root / MANIFEST, work / GROWN_FROM)
        disk.fsync_folder(work)
        disk.fsync_folder(root)


def _keep_card(root: Path, base: Manifest, writer: str) -> None:
    """The card is written anew for the larger set; what people wrote or measured in the present one is kept aside."""
    path = root / CARD
    if not path.is_file() or (text := path.read_bytes()) == card_text(base).encode():
        return
    aside = root / former_card(base.plan.identities)
    disk.make_folder(aside.parent)
    write_file(aside, text, writer)


def _refuse_beyond(root: Path, base: Manifest, manifest: Manifest) -> None:
    """Refuses what cannot fit, by what an image of the set takes, and what is written anew beside the images."""
    staged, new = get_format(base.format).staged, manifest.plan.images - base.images
    held = sum(piece.bytes for shard in base.shards for piece in shard.pieces)
    beside = sum(piece.bytes for piece in base.files) * manifest.plan.images / max(1, base.images)
    need = int(held / max(1, base.images) * new * (1 + staged) + held * staged + beside)
    need += sheet_bytes(manifest.plan)
    free = disk.free_bytes(root)
    if need * OWN > free:
        full = DiskFull(
            f"{root}: {new:,} more images need about {disk.in_words(need)}"
            f"{', the file that all of them are in being written anew' if staged else ''}; {disk.in_words(free)} are "
            "free. Make room, or ask for fewer; nothing was changed."
        )
        full.errno = errno.ENOSPC
        raise full

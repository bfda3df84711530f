"""Every file and folder name of a dataset, finished or being written."""

from __future__ import annotations

MANIFEST = "manifest.json"
"""Written last: a folder with it is a finished dataset."""
CARD = "README.md"
"""Where the Hugging Face Hub and its loaders look for it."""
OLD_CARD = "DATASET_CARD.md"
"""The card's name in sets made before; still read, and moved to `CARD` when it is brought up to date."""
CROISSANT = "croissant.json"
"""The card for machines: Croissant metadata, which mlcroissant reads."""
ABOUT = "__about__"
"""Folder of pictures about the set. Loaders of Hugging Face pass over names with two underscores; in the root the sheet
was a 101st image to them, and since it lay less deep than the others, none had a label."""
SHEET = f"{ABOUT}/contact_sheet.png"
OLD_SHEET = "contact_sheet.png"
SHEETS = frozenset({SHEET, OLD_SHEET})
"""Where a set made now, or before, has its contact sheet."""
FORMER_CARDS = f"{ABOUT}/README-of-*.md"
"""Cards that a set had before it was made larger, where somebody had written or measured in them."""
IDENTITIES = "identities.safetensors"
"""The attachment that holds the identity vectors of a generated dataset."""
PERTURBATION = "perturbation.safetensors"
"""The attachment of what its images depend on beside settings and identities (`vectors.perturbation_contract`)."""
SELECTION = f"{ABOUT}/selection.csv"
"""The attachment of a set that was chosen from another: what was kept and dropped of it, and why."""
ATTACHED = frozenset({IDENTITIES, PERTURBATION, SELECTION})
"""Names of attachments: no image depends on them, and no format writes them."""
ATTRIBUTES = "attributes"
"""Folder of the sidecars, one per shard."""

# While it is written
WORK = ".v2f"
"""Everything a run needs until it is finished; gone afterwards."""
RUN = "run.json"
"""In `WORK`: the manifest without records."""
COMMAND = "command.json"
"""In `WORK`: the command line that began or last continued it (`v2f_engine.asked`); absent where Python did."""
LEDGER = "ledger"
"""In `WORK`: one line per committed shard, a file per writer."""
STAGING = "staging"
"""In `WORK`: shards of formats that keep everything in one file."""
SCORES = "scores"
"""In `WORK`: what is known of the images that are chosen among (`selection.selection_job`), a file a shard."""
QUEUE = "queue"
"""In `WORK`: what several workers share (`scale.queue`); gone as soon as another run opens the folder, so that workers
of a coordinator that died stop."""
GROWN_FROM = "grown_from.json"
"""In `WORK`: the manifest of a finished set while it is made larger."""
LOCK = "lock"

# What trainers look for, by format
IMAGES = "images"
"""imagefolder: apart from everything else, since ImageFolder takes every folder it sees for a class."""
LMDB = "train.lmdb"
REC, IDX, PROPERTY = "train.rec", "train.idx", "property"
"""recordio"""
WIDS_INDEX = "datasets_webdataset.json"
PARQUET = "data"
"""parquet: folder of its files, as Hugging Face has it."""


def sidecar_name(shard: int) -> str:
    """The attributes of a shard."""
    return f"{ATTRIBUTES}/shard-{shard:06d}.npy"


def pack_name(shard: int) -> str:
    """A staged shard."""
    return f"{WORK}/{STAGING}/shard-{shard:06d}.pack"


def tar_name(shard: int) -> str:
    """A webdataset shard."""
    return f"shard-{shard:06d}.tar"


def former_card(identities: int) -> str:
    """The card of a set as it was with so many identities."""
    return FORMER_CARDS.replace("*", str(identities))


def parquet_name(shard: int, shards: int) -> str:
    """A parquet shard."""
    return f"{PARQUET}/train-{shard:05d}-of-{shards:05d}.parquet"

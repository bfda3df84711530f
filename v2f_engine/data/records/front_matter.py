"""What the Hugging Face Hub and its `load_dataset` read of a card: YAML between two lines of dashes.

`configs` says which files are images: without it the loaders take every file of the folder for one, or guess from
their endings. Fields: https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from v2f_engine.data.layout import IMAGES, LMDB, PARQUET, REC
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.markdown import yaml_string

DATA_FILES: Mapping[str, str] = {
    "imagefolder": f"{IMAGES}/**",
    "webdataset": "shard-*.tar",
    "parquet": f"{PARQUET}/train-*.parquet",
    "lmdb": LMDB,
    "recordio": REC,
}
"""Format -> the files with its images. No loader of the Hub reads the last two; naming them keeps it from reading
something else instead."""
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9, 10**10, 10**11, 10**12)
_NAMES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")


def size_category(images: int) -> str:
    """The Hub's name for a number of images: `n<1K`, `1K<n<10K`, ..., `n>1T`."""
    place = sum(images >= size for size in SIZES)
    if place == 0:
        return f"n<{_NAMES[0]}"
    return f"n>{_NAMES[-1]}" if place == len(SIZES) else f"{_NAMES[place - 1]}<n<{_NAMES[place]}"


def hub_licence(licences: Iterable[str]) -> str:
    """The Hub's name of the licence of a set: its own where every part is in the public domain, else `other`.

    Weights under MIT that were trained on photographs do not make their images MIT; the card's chain says it all.
    """
    return "cc0-1.0" if all(licence.startswith("CC0-1.0") for licence in licences) else "other"


def front_matter(manifest: Manifest, licences: Iterable[str]) -> list[str]:
    """The lines of the YAML block, with both lines of dashes.

    Args:
        manifest: of the finished set.
        licences: of every part that went into it.
    """
    licence = hub_licence(licences)
    made_by = manifest.settings.get("model")
    of = f" of {made_by.get('name', 'unknown')}" if isinstance(made_by, Mapping) else ""
    lines = ["---", f"license: {licence}"]
    if licence == "other":
        lines.append("license_name: see-licence-chain")
    lines += [
        f"pretty_name: {yaml_string(f'{manifest.plan.identities:,} identities{of}, {manifest.images:,} faces')}",
        "task_categories:",
        "- image-classification",
        "- image-feature-extraction",
        "size_categories:",
        f"- {yaml_string(size_category(manifest.images))}",
        "tags:",
        "- face-recognition",
    ]
    if manifest.format in DATA_FILES:
        lines += [
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            f"    path: {yaml_string(DATA_FILES[manifest.format])}",
        ]
    return [*lines, "---"]

"""What the Hugging Face Hub and its `load_dataset` read of a card: YAML between two lines of dashes.

`configs` says which files are images: without it the loaders take every file of the folder for one, or guess from
their endings. `dataset_info` gives them the people's names and how many rows there must be; a loader that finds fewer
says so. Fields: https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from v2f_engine.data.layout import ATTRIBUTES, IMAGES, LMDB, PARQUET, REC
from v2f_engine.data.records.licences import (
    PUBLIC_DOMAIN,
    licence_chain,
    nobody_exists,
    published_at,
    strictest,
)
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
something else instead, such as the manifest as a table of one row."""
COLUMNS: Mapping[str, tuple[str, str]] = {
    "imagefolder": ("image", "label"),
    "webdataset": ("jpg", "cls"),
    "parquet": ("image", "label"),
}
"""Format -> the columns of image and identity that `load_dataset` gives. A shard's image is `png` where it is one."""
MOST_NAMES = 1_000
"""Class names that a head lists, a line each; 300,000 of them were 6 MB that the Hub reads for every visitor."""
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9, 10**10, 10**11, 10**12)
_NAMES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")


def size_category(images: int) -> str:
    """The Hub's name for a number of images: `n<1K`, `1K<n<10K`, ..., `n>1T`."""
    place = sum(images >= size for size in SIZES)
    if place == 0:
        return f"n<{_NAMES[0]}"
    return f"n>{_NAMES[-1]}" if place == len(SIZES) else f"{_NAMES[place - 1]}<n<{_NAMES[place]}"


def pretty_name(manifest: Manifest) -> str:
    """`20 identities of mini, 100 faces`."""
    made_by = manifest.settings.get("model")
    of = f" of {made_by.get('name', 'unknown')}" if isinstance(made_by, Mapping) else ""
    return f"{manifest.plan.identities:,} identities{of}, {manifest.images:,} faces"


def front_matter(manifest: Manifest) -> list[str]:
    """The lines of the YAML block of a finished set, with both lines of dashes."""
    made = nobody_exists(manifest.settings)
    return [
        "---",
        *_licence(manifest),
        f"pretty_name: {yaml_string(pretty_name(manifest))}",
        "task_categories:",
        "- image-classification",
        "- image-feature-extraction",
        "size_categories:",
        f"- {yaml_string(size_category(manifest.images))}",
        "annotations_creators:",
        f"- {'machine-generated' if made else 'other'}",
        "tags:",
        *(["- synthetic"] if made else []),
        "- face-recognition",
        *_configs(manifest.format),
        *_info(manifest),
        *_provenance(manifest),
        "---",
    ]


def _licence(manifest: Manifest) -> Iterator[str]:
    chain = licence_chain(manifest.settings)
    name = strictest(link["licence"] for link in chain)
    if name == PUBLIC_DOMAIN:
        yield f"license: {name}"
        return
    yield "license: other"
    yield f"license_name: {name}"
    if link := published_at(chain):
        yield f"license_link: {link}"


def _configs(format: str) -> list[str]:
    if format not in DATA_FILES:
        return []
    return [
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {yaml_string(DATA_FILES[format])}",
    ]


def _info(manifest: Manifest) -> Iterator[str]:
    """Columns, class names and sizes; only for formats that `load_dataset` reads."""
    if manifest.format not in COLUMNS:
        return
    held = sum(shard.image_bytes for shard in manifest.shards)
    pieces = (piece for shard in manifest.shards for piece in shard.pieces)
    yield "dataset_info:"
    yield from _features(manifest)
    yield "  splits:"
    yield "  - name: train"
    yield f"    num_bytes: {held}"
    yield f"    num_examples: {manifest.images}"
    yield f"  download_size: {sum(p.bytes for p in pieces if not p.name.startswith(f'{ATTRIBUTES}/'))}"
    yield f"  dataset_size: {held}"


def _features(manifest: Manifest) -> Iterator[str]:
    image, label = COLUMNS[manifest.format]
    if manifest.encoder.get("codec") == "png" and manifest.format == "webdataset":
        image = "png"
    few = manifest.plan.identities <= MOST_NAMES
    if manifest.format == "imagefolder" and not few:  # the loader takes the names from the folders
        return
    yield "  features:"
    yield f"  - name: {image}"
    yield "    dtype: image"
    yield f"  - name: {label}"
    if few:
        yield "    dtype:"
        yield "      class_label:"
        yield "        names:"
        for identity in range(manifest.plan.identities):
            yield f"          '{identity}': '{manifest.plan.identity_name(identity)}'"
    else:
        yield "    dtype: int64"
    if manifest.format == "webdataset":
        for column in ("__key__", "__url__"):
            yield f"  - name: {column}"
            yield "    dtype: string"


def _provenance(manifest: Manifest) -> Iterator[str]:
    """What made it, by hash: enough to tell whether two sets are one."""
    model = manifest.settings.get("model")
    identities = manifest.settings.get("identities")
    yield "provenance:"
    yield f"  made_by: {yaml_string('v2f-engine ' + manifest.versions.get('v2f-engine', 'unknown'))}"
    yield f"  manifest_sha256: {hashlib.sha256(manifest.to_bytes()).hexdigest()}"
    if isinstance(model, Mapping):
        yield f"  generator: {yaml_string(model.get('name', 'unknown'))}"
        yield f"  generator_sha256: {yaml_string(model.get('sha256', 'unknown'))}"
    if isinstance(identities, Mapping) and "table_hash" in identities:
        yield f"  identities_hash: {yaml_string(identities['table_hash'])}"
    if "converted_from" in manifest.settings:
        source = manifest.settings["converted_from"]
        known = isinstance(source, Mapping)
        yield f"  converted_from: {yaml_string(source.get('format', 'unknown') if known else 'unknown')}"

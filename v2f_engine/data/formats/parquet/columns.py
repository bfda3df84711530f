"""Which columns of a Parquet file are picture and person, and how their values become bytes and whole numbers.

Pictures: `struct<bytes, path>` (Hugging Face's Image), or binary of any width. Persons: whole numbers of any width,
floats that are whole, texts, and dictionaries of them; a field of the struct `json` of converted WebDataset shards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from v2f_engine.data.formats.lists.label_values import (
    LABEL_NAMES,
    LAST_RESORT,
    SPLIT_NAMES,
    of_floats,
    of_texts,
)
from v2f_engine.errors import DatasetError

IMAGE_NAMES = (
    "image", "jpg", "jpeg", "png", "img", "image_bytes", "img_bytes", "image_data", "bytes", "picture", "photo", "face",
)  # fmt: skip
"""What columns of pictures are called; compared in lower case. `image` wins over the others."""


@dataclass(frozen=True)
class Columns:
    """The columns that are read.

    Args:
        image: path of the column of encoded bytes: `("image", "bytes")`, `("jpg",)`.
        names: path of the column of file names beside the bytes, or None.
        label: path of the column of labels.
        kind: of the labels: "whole", "float" or "text".
        class_names: name of each label as Hugging Face's ClassLabel keeps them, or None.
        unread: other columns that might have been meant.
        split: the column that says of which of several sets a row is, or None.
    """

    image: tuple[str, ...]
    names: tuple[str, ...] | None
    label: tuple[str, ...]
    kind: str
    class_names: tuple[str, ...] | None
    unread: tuple[str, ...] = ()
    split: str | None = None


def columns_of(schema: Any, where: str) -> Columns:
    """The columns of a file.

    Raises:
        DatasetError: none, or several that may be meant; the message gives all columns with their types.
    """
    types = {name: schema.field(name).type for name in schema.names}
    found = f"found { ({name: str(kind) for name, kind in types.items()}) }"
    pictures = [name for name, kind in types.items() if _is_picture(kind)]
    named = [name for name in pictures if name.lower() in IMAGE_NAMES]
    image = _one(named or pictures, "image")
    persons = _persons(types)
    label = _one(list(persons), "label")
    if image is None or label is None or _kind(persons[label]) is None:
        several = (
            f"{len(named or pictures)} columns may be the picture and {len(persons)} the person; "
            if pictures and persons
            else ""
        )
        raise DatasetError(
            f"{where}: {several}expected columns image (bytes, or a struct with bytes) and label (whole numbers or "
            "texts; also called "
            f"{', '.join(LABEL_NAMES[1:])}), {found}. Name the right ones image and label."
        )
    struct = pa.types.is_struct(types[image])
    with_names = struct and types[image].get_field_index("path") >= 0
    unread = [name for name in (named if len(named) > 1 else []) if name != image] + [
        name for name in persons if name != label
    ]
    return Columns(
        (image, "bytes") if struct else (image,),
        (image, "path") if with_names else None,
        ("json", label.removeprefix("json.")) if label not in types else (label,),
        str(_kind(persons[label])),
        _class_names(schema, label),
        tuple(unread),
        next(
            (
                name
                for name, kind in types.items()
                if name.lower() in SPLIT_NAMES and _kind(kind) in ("text", "whole")
            ),
            None,
        ),
    )


def _persons(types: dict[str, Any]) -> dict[str, Any]:
    """Path -> type of the columns that may be the person; a field of `json` only where no column is."""
    found = {name: kind for name, kind in types.items() if name.lower() in LABEL_NAMES}
    if not found and pa.types.is_struct(types.get("json", pa.null())):
        inside = types["json"]
        fields = [inside.field(place) for place in range(inside.num_fields)]
        found = {f"json.{field.name}": field.type for field in fields if field.name.lower() in LABEL_NAMES}
    return found


def _one(names: list[str], standard: str) -> str | None:
    """The only name, or the standard one."""
    if len(names) == 1:
        return names[0]
    usual = [name for name in names if name.lower().rpartition(".")[2] == standard]
    return usual[0] if len(usual) == 1 else None


def _is_picture(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _kind(kind: Any) -> str | None:
    """What labels of an Arrow type are; None for types that are no labels."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    return None


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """The names of a ClassLabel in the metadata that `datasets` writes."""
    try:
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]
        names = feature["names"]
        return (
            tuple(map(str, names)) if feature["_type"] == "ClassLabel" and isinstance(names, list) else None
        )
    except (TypeError, KeyError, ValueError):
        return None


def labels_of(values: list[Any], columns: Columns, where: str) -> tuple[NDArray[np.int64], list[str] | None]:
    """(int64 `[N]`, name of each label or None) of the label columns of all row groups, as Arrow arrays.

    Raises:
        DatasetError: missing ones, or numbers that are no labels.
    """
    missing, count = sum(value.null_count for value in values), sum(len(value) for value in values)
    if missing:
        raise DatasetError(
            f"{where}: {missing} of {count} labels are missing (null); expected one for every picture."
        )
    plain = [value.dictionary_decode() if pa.types.is_dictionary(value.type) else value for value in values]
    if columns.label[-1].lower() in LAST_RESORT and count > 1:
        different = len(pc.unique(pa.chunked_array(plain)))
        if different == count:
            raise DatasetError(
                f"{where}: the column {'.'.join(columns.label)} differs in all {count} rows: it numbers the rows and "
                "names no people. Write who is on each picture into a column label."
            )
    if columns.kind == "text":
        texts = [text.strip() for value in plain for text in value.to_pylist()]
        if "" in texts:
            raise DatasetError(
                f"{where}: {texts.count('')} of {count} labels are empty texts; expected one for every picture."
            )
        return of_texts(texts, where)
    if columns.kind == "float":
        return of_floats(
            np.concatenate([value.to_numpy(zero_copy_only=False) for value in plain]), where
        ), None
    numbers = [value.to_numpy(zero_copy_only=False) for value in plain]
    for part in numbers:
        if len(part) and (part.min() < 0 or part.max() > np.iinfo(np.int64).max):
            bad = int(((part < 0) | (part > np.iinfo(np.int64).max)).sum())
            raise DatasetError(
                f"{where}: labels {part.min()} to {part.max()}; expected 0 or more ({bad} are not; -1 often means: not "
                "known)."
            )
    labels = np.concatenate([np.zeros(0, np.int64), *numbers]).astype(np.int64)
    names = columns.class_names
    if names is not None and len(labels) and int(labels.max()) >= len(names):
        raise DatasetError(f"{where}: label {int(labels.max())}; its metadata names {len(names)} classes.")
    return labels, None if names is None else list(names)

"""A contact sheet: identities by rows, their images by columns, on white."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from v2f_engine.atomic import write_file
from v2f_engine.batch import IMAGE_SIZE
from v2f_engine.data.formats.protocol import Sample
from v2f_engine.data.gate.decode import decode
from v2f_engine.data.records.plan import Plan
from v2f_engine.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from v2f_engine.data.formats.dataset import Dataset

ROWS, COLUMNS = 10, 10
GAP = 4
MARGIN = 12
TEXT_SIZE = 14
LONGEST = 24
"""Characters of a person's name; strangers' folders may have hundreds."""
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(
    images: NDArray[np.uint8],
    path: str | Path,
    *,
    title: str = "",
    captions: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Writes a contact sheet as PNG.

    Args:
        images: uint8 `[R, C, H, W, 3]`, RGB: R identities with C images each.
        path: of the PNG; replaced atomically.
        title: a line above the images.
        captions: R row labels, e.g. identity names.
        columns: C column labels, e.g. `"+30°"`.

    Raises:
        ConfigError: another shape or dtype, or labels that do not match it.
    """
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[-1] != 3 or 0 in images.shape:
        raise ConfigError(
            f"A contact sheet takes uint8 [R, C, H, W, 3], found {images.dtype} {images.shape}."
        )
    for what, labels, count in (
        ("captions", captions, images.shape[0]),
        ("columns", columns, images.shape[1]),
    ):
        if labels is not None and len(labels) != count:
            raise ConfigError(f"A contact sheet with {count} {what} places got {len(labels)} {what}.")
    rows = [list(row) for row in images]
    write_file(Path(path), draw(rows, title=title, captions=captions, columns=columns), "sheet")


def draw(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    *,
    title: str = "",
    captions: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> bytes:
    """The PNG of rows of images of one size; rows may differ in length."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(TEXT_SIZE)
    height, width = rows[0][0].shape[:2]
    line = TEXT_SIZE + 8
    left = MARGIN + int(max((font.getlength(text) for text in captions or ()), default=-8)) + 8
    top = MARGIN + line * bool(title) + line * bool(columns)
    most = max(len(row) for row in rows)
    size = (left + most * (width + GAP) - GAP + MARGIN, top + len(rows) * (height + GAP) - GAP + MARGIN)
    title_width = int(font.getlength(title)) + 2 * MARGIN
    sheet = Image.new("RGB", (max(size[0], title_width), size[1]), _PAPER)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((MARGIN, MARGIN), title, _INK, font)
    for index, text in enumerate(columns or ()):
        pen.text((left + index * (width + GAP) + width // 2, top - 4), text, _INK, font, anchor="ms")
    for number, row in enumerate(rows):
        y = top + number * (height + GAP)
        if captions:
            pen.text((left - 8, y + height // 2), captions[number], _INK, font, anchor="rm")
        for index, image in enumerate(row):
            sheet.paste(Image.fromarray(image), (left + index * (width + GAP), y))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=1)  # 0.1 s instead of 0.4 s for a file a few percent larger
    return buffer.getvalue()


def sheet_of_samples(read: Callable[[int], Iterable[Sample]], plan: Plan) -> bytes:
    """The sheet of a dataset's first 10 identities with their first 10 images each.

    Args:
        read: yields the samples of a shard, in order.
    """
    rows: list[list[NDArray[np.uint8]]] = []
    captions: list[str] = []
    for sample in _first(read, plan):
        if sample.image == 0:
            if len(rows) == ROWS:
                break
            rows.append([])
            captions.append(plan.identity_name(sample.identity))
        if sample.image < COLUMNS:
            where = f"identity {sample.identity}, image {sample.image}"
            rows[-1].append(_face(decode(sample.data, where)))
    return draw(rows, captions=captions)


def sheet_of_dataset(data: Dataset) -> bytes:
    """The same of any dataset, ours or a stranger's: people in order of appearance, pictures of any size and shape.

    Raises:
        DatasetError: it holds no picture, or one of those drawn is broken.
    """
    if not len(data):
        raise DatasetError(f"{data.path}: holds no picture. Expected at least one to draw.")
    labels = data.labels
    people, first = np.unique(labels, return_index=True)
    shown = [int(people[place]) for place in np.argsort(first)[:ROWS]]
    rows = [
        [_fitted(data.image(int(row))) for row in np.flatnonzero(labels == label)[:COLUMNS]]
        for label in shown
    ]
    return draw(rows, captions=[_caption(data, label) for label in shown])


def _caption(data: Dataset, label: int) -> str:
    names = data.class_names
    if names is not None and 0 <= label < len(names):
        name = names[label]
        return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return str(label) if data.manifest is None else data.manifest.plan.identity_name(label)


def _first(read: Callable[[int], Iterable[Sample]], plan: Plan) -> Iterator[Sample]:
    for number in range(plan.shards):
        yield from read(number)


def _face(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`image` at 112x112; converted sets may hold other sizes."""
    if image.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE)))


def _fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`image` within 112x112 in its own shape, on white."""
    height, width = image.shape[:2]
    if height == width:
        return _face(image)
    from PIL import Image

    scale = IMAGE_SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    paper = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), _PAPER)
    place = (IMAGE_SIZE - size[0]) // 2, (IMAGE_SIZE - size[1]) // 2
    paper.paste(Image.fromarray(image).resize(size), place)
    return np.asarray(paper)

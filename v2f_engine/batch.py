"""The one currency between rooms: a batch of finished images and what is known about each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from v2f_engine import notebook
from v2f_engine.indexing import Rows, chosen

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

IMAGE_SIZE = 112
"""Height and width in pixels of every aligned face in the field (ArcFace five-point template)."""


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Finished images, in order of (identity, image).

    A sequence of its images: `batch[3]`, `for image in batch` and `np.asarray(batch)` give pixels; `batch[10:20]`, a
    mask or row numbers a smaller batch with all that is known of them. A notebook shows the faces, a person a row.
    Equal are batches of equal images, numbers and attributes.

    Args:
        images: uint8 `[B, 112, 112, 3]`, RGB.
        identity: int64 `[B]`, index of the identity in its table.
        image: int64 `[B]`, index of the image within its identity.
        attributes: name -> float32 `[B]`, e.g. `"yaw"` in degrees, `"sigma"`, `"cosine_to_centre"`.
    """

    images: NDArray[np.uint8]
    identity: NDArray[np.int64]
    image: NDArray[np.int64]
    attributes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, rows: Rows) -> ImageBatch: ...
    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> NDArray[np.uint8] | ImageBatch:
        """One image, uint8 `[112, 112, 3]`, or several as a batch, in the order asked for.

        Raises:
            RowError: an image that is not there, or no index.
        """
        place = chosen("batch", rows, len(self))
        if isinstance(place, int):
            image: NDArray[np.uint8] = self.images[place]
            return image
        attributes = {name: values[place] for name, values in self.attributes.items()}
        return ImageBatch(self.images[place], self.identity[place], self.image[place], attributes)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return iter(self.images)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.images, dtype=dtype, copy=copy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImageBatch):
            return NotImplemented
        return (
            np.array_equal(self.identity, other.identity)
            and np.array_equal(self.image, other.image)
            and np.array_equal(self.images, other.images)
            and self.attributes.keys() == other.attributes.keys()
            and all(
                np.array_equal(self.attributes[k], other.attributes[k], equal_nan=True)
                for k in self.attributes
            )
        )

    __hash__ = None  # type: ignore[assignment]  # its arrays can change

    def to_pil(self) -> list[Image]:
        """The images as Pillow has them."""
        from PIL import Image

        return [Image.fromarray(image) for image in self.images]

    def to_torch(self) -> torch.Tensor:
        """uint8 `[B, 3, 112, 112]` on the CPU, a copy: `/ 127.5 - 1` is what recognisers are given."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(self.images.transpose(0, 3, 1, 2)))

    def __repr__(self) -> str:
        return f"ImageBatch({self._said}{', attributes ' + ', '.join(self.attributes) if self.attributes else ''})"

    @property
    def _said(self) -> str:
        size = "x".join(map(str, self.images.shape[1:3]))
        return f"{len(self):,} images {size} of {len(np.unique(self.identity)):,} people"

    def _repr_png_(self) -> bytes | None:
        rows = [self.images[places[: notebook.IMAGES]] for _, places in notebook.by_person(self.identity)]
        return notebook.png(notebook.grid(rows)) if rows else None

    def _repr_html_(self) -> str:
        rows = [
            (
                f"identity {label}",
                self.images[places[: notebook.IMAGES]],
                len(places) - len(places[: notebook.IMAGES]),
            )
            for label, places in notebook.by_person(self.identity)
        ]
        more = len(np.unique(self.identity)) - len(rows)
        return notebook.faces(self._said, rows, f"and {more:,} more people" if more else "")

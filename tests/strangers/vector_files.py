"""Files of identity vectors as people keep them; every maker writes one layout of the same rows.

The rows are float32 `[N, D]`. Written with NumPy, torch and safetensors themselves, never with code of the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

Rows = NDArray[np.float32]
Maker = Callable[[Path, Rows], Path]


def npy_of(dtype: str) -> Maker:
    """`numpy.save` in a dtype."""

    def make(folder: Path, rows: Rows) -> Path:
        np.save(folder / "v.npy", rows.astype(dtype))
        return folder / "v.npy"

    return make


def fortran(folder: Path, rows: Rows) -> Path:
    """`numpy.save` of an array whose columns lie together, as of a transposed matrix product."""
    np.save(folder / "v.npy", np.asfortranarray(rows))
    return folder / "v.npy"


def fortran_half_big_endian(folder: Path, rows: Rows) -> Path:
    np.save(folder / "v.npy", np.asfortranarray(rows.astype(">f2")))
    return folder / "v.npy"


def shaped(*axes: int) -> Maker:
    """`numpy.save` with axes of length 1 in these places, as models that pool or batch one by one give them."""

    def make(folder: Path, rows: Rows) -> Path:
        np.save(folder / "v.npy", np.expand_dims(rows, axes))
        return folder / "v.npy"

    return make


def npz(folder: Path, rows: Rows) -> Path:
    np.savez(folder / "v.npz", rows)
    return folder / "v.npz"


def npz_compressed(folder: Path, rows: Rows) -> Path:
    np.savez_compressed(folder / "v.npz", embeddings=rows)
    return folder / "v.npz"


def npz_called_npy(folder: Path, rows: Rows) -> Path:
    """A name that says something else than the bytes."""
    npz(folder, rows).rename(folder / "v.npy")
    return folder / "v.npy"


def tensor(folder: Path, rows: Rows) -> Path:
    torch.save(torch.tensor(rows), folder / "v.pt")
    return folder / "v.pt"


def tensor_bfloat16(folder: Path, rows: Rows) -> Path:
    torch.save(torch.tensor(rows).bfloat16(), folder / "v.pth")
    return folder / "v.pth"


def parameter(folder: Path, rows: Rows) -> Path:
    """A tensor that still asks for gradients: the head of a classifier."""
    torch.save(torch.nn.Parameter(torch.tensor(rows)), folder / "v.pt")
    return folder / "v.pt"


def tensor_strided(folder: Path, rows: Rows) -> Path:
    """A view of a transposed tensor: torch.save keeps its strides."""
    torch.save(torch.tensor(np.ascontiguousarray(rows.T)).T, folder / "v.pt")
    return folder / "v.pt"


def tensor_in_dict(folder: Path, rows: Rows) -> Path:
    torch.save({"embeddings": torch.tensor(rows), "epoch": 3}, folder / "v.pt")
    return folder / "v.pt"


def list_of_tensors(folder: Path, rows: Rows) -> Path:
    torch.save([torch.tensor(row) for row in rows], folder / "v.pt")
    return folder / "v.pt"


def safetensors(folder: Path, rows: Rows) -> Path:
    save_file({"features": torch.tensor(rows)}, folder / "v.safetensors")
    return folder / "v.safetensors"


def safetensors_half(folder: Path, rows: Rows) -> Path:
    save_file({"features": torch.tensor(rows).bfloat16()}, folder / "v.safetensors")
    return folder / "v.safetensors"


LAYOUTS: tuple[tuple[str, Maker, float], ...] = (
    ("npy float32", npy_of("<f4"), 0),
    ("npy float64", npy_of("<f8"), 0),
    ("npy float16", npy_of("<f2"), 2**-11),
    ("npy float32 big-endian", npy_of(">f4"), 0),
    ("npy float64 big-endian", npy_of(">f8"), 0),
    ("npy fortran", fortran, 0),
    ("npy fortran float16 big-endian", fortran_half_big_endian, 2**-11),
    ("npy [N, 1, D]", shaped(1), 0),
    ("npy [1, N, D]", shaped(0), 0),
    ("npy [N, D, 1, 1]", shaped(2, 3), 0),
    ("npz", npz, 0),
    ("npz compressed", npz_compressed, 0),
    ("npz called npy", npz_called_npy, 0),
    ("pt", tensor, 0),
    ("pth bfloat16", tensor_bfloat16, 2**-8),
    ("pt parameter", parameter, 0),
    ("pt strided", tensor_strided, 0),
    ("pt in a dict", tensor_in_dict, 0),
    ("pt list", list_of_tensors, 0),
    ("safetensors", safetensors, 0),
    ("safetensors bfloat16", safetensors_half, 2**-8),
)
"""(name, maker, relative rounding of its dtype)."""

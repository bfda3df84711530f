"""The one array of vectors in a file, whatever people keep arrays in: `.npy`, `.npz`, `.pt`, `.safetensors`.

Told apart by content, not by name. Nothing is unpickled: a `.pt` goes through the reader of weights. Where a file holds
several arrays, nobody but its owner knows which are the vectors (labels lie beside features more often than not): they
are named and none is taken.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from v2f_engine import npy
from v2f_engine.errors import CheckpointError, VectorError
from v2f_engine.outside import admit

READ = "a .npy or .npz of NumPy, a .pt or .pth of torch.save, or a .safetensors"
PACKED = 200
"""Times that a member of an `.npz` may grow when unpacked: features halve at best; a bomb grows 1,000 times."""
TABLES = {
    "v2f-statistics/1": "statistics of `v2f ids fit`, from which vectors are sampled: give it as source (--source)",
    "v2f-statistics/2": "statistics of groups of `v2f ids fit --groups`: give it as source (--source)",
    "v2f-proof-features/1": "a piece of an unfinished `v2f ids prove`",
}
"""Files of ours that hold no vectors of identities, and what they are."""


def read_array(path: str | Path) -> NDArray[Any]:
    """The floats in a file, in their own dtype and shape; a `.npy` memory-mapped, bfloat16 as float32.

    Raises:
        VectorError: no such file, none of `READ`, several arrays or none in it, entries that are no floats, or a
            damaged or unsafe file.
    """
    admit(path, VectorError)
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise VectorError(f"{path}: cannot be read ({error.strerror}). Give {READ}.") from error
    if start.startswith(b"PK\x03\x04"):
        return _zipped(Path(path))
    if start[8:9] == b"{" and not start.startswith(b"\x93NUMPY"):
        return _safetensors(Path(path))
    return npy.map_file(path, floats_only=True)


def as_rows(array: NDArray[Any], what: str, dimension: int | None) -> NDArray[Any]:
    """Vectors `[N, D]`: axes of length 1 dropped (`[N, 1, 512]`, `[N, 512, 1, 1]`), and one vector `[512]` as one row.

    Raises:
        VectorError: another shape, another number of entries a row than `dimension`, or no row.
    """
    shape = list(array.shape)
    if array.ndim != 2:
        long = [extent for extent in shape if extent != 1]
        if array.ndim and len(long) <= 2:
            array = array.reshape((1, *long) if len(long) < 2 else tuple(long))
    wrong = array.ndim != 2 or (dimension is not None and array.shape[1] != dimension)
    if wrong:
        turned = array.ndim == 2 and array.shape[0] == dimension
        advice = "It looks transposed: save array.T." if turned else (
            "Vectors of another length come from another extractor than the model's and mean nothing to it."
            if array.ndim == 2 else "Save one row a vector."
        )  # fmt: skip
        raise VectorError(f"{what}: expected shape [N, {dimension or 'D'}], found {shape}. {advice}")
    if not array.size:
        raise VectorError(f"{what}: expected at least one row, found shape {shape}.")
    return array


def from_tensor(value: Any) -> NDArray[Any]:
    """A torch tensor, on any device and of any float type, as an array; those that NumPy lacks as float32.

    Raises:
        VectorError: one that is not dense, or has no entries.
    """
    import torch

    numpys = (torch.float16, torch.float32, torch.float64)
    if not isinstance(value, torch.Tensor) or value.is_meta or value.is_quantized or value.is_nested:
        kind = str(getattr(value, "dtype", type(value).__name__))
        kind += "".join(f", {name}" for name in ("meta", "nested") if getattr(value, f"is_{name}", False))
        cure = ".dequantize()" if getattr(value, "is_quantized", False) else " as an ordinary float tensor"
        raise VectorError(f"tensor: expected a dense one with entries, found {kind}. Give it{cure}.")
    if value.layout != torch.strided:
        raise VectorError(
            f"tensor: expected a dense one with entries, found {value.layout}. Give tensor.to_dense()."
        )
    try:
        held = value.detach().cpu()
        if held.is_conj() or held.is_neg():
            held = held.resolve_conj().resolve_neg()
        unknown = held.dtype.is_floating_point and held.dtype not in numpys
        return np.asarray((held.float() if unknown else held).numpy())
    except (RuntimeError, TypeError) as error:  # FakeTensor and other subclasses without entries
        said = str(error).splitlines()[0][:120]
        raise VectorError(
            f"tensor: expected one with entries, found {type(value).__name__} ({said})."
        ) from error


def _one(path: Path, found: Mapping[str, Any]) -> Any:
    """The only array of several by name."""
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise VectorError(f"{path}: expected an array of vectors, found none. Give {READ} that holds one.")
    names = ", ".join(f"{name} {shape_of(value)}" for name, value in list(found.items())[:8])
    raise VectorError(
        f"{path}: holds {len(found)} arrays ({names}{', ...' if len(found) > 8 else ''}); expected one, the "
        "vectors. Save that one alone, e.g. numpy.save('vectors.npy', array)."
    )


def shape_of(value: Any) -> list[int]:
    """The extents of an array, a tensor or a header."""
    return [int(extent) for extent in value.shape]


def _floats(path: Path, array: NDArray[Any], name: str = "") -> NDArray[Any]:
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        where = f"{path}: {name}" if name else f"{path}"
        raise VectorError(f"{where}: expected float16, float32 or float64 entries, found {array.dtype}.")
    return array


def _zipped(path: Path) -> NDArray[Any]:
    """The array in an `.npz`, or in what `torch.save` wrote; both are zips."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.filename.endswith("data.pkl") for member in members):
                return _torch(path)
            if len({member.filename for member in members}) < len(members):
                _refuse_zip(path, "its directory names a member twice")
            arrays = {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
            if len(arrays) < len(members) or not arrays:
                _refuse_zip(path, f"it holds {[member.filename for member in members][:5]}")
            _one(path, {name: _header(path, archive, member) for name, member in arrays.items()})
            name, member = next(iter(arrays.items()))
            with archive.open(member) as file:
                data = file.read(member.file_size)
            if len(data) != member.file_size:
                _refuse_zip(path, f"{name} is cut")
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, VectorError):
            raise
        raise VectorError(f"{path}: is truncated or damaged ({error}). Copy it again.") from error
    except Exception as error:  # zlib.error, lzma.LZMAError: no common root
        if isinstance(error, VectorError | CheckpointError):
            raise
        raise VectorError(f"{path}: is damaged ({error}). Copy it again.") from error
    return _floats(path, npy.from_bytes(data, f"{path}: {name}"), name)


def _refuse_zip(path: Path, what: str) -> NoReturn:
    raise VectorError(f"{path}: a zip, but not of one .npy array: {what}. Give {READ}.")


def _header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npy.Header | _Shape:
    """What a member says of itself, from its first bytes alone; no extents where it holds no numbers."""
    if member.file_size > PACKED * max(member.compress_size, 1):
        _refuse_zip(
            path, f"{member.filename} would grow {member.file_size // max(member.compress_size, 1):,} times"
        )
    with archive.open(member) as file:
        start = file.read(npy.HEADER_LIMIT + 12)
    try:
        return npy.parse_header(start, member.file_size, f"{path}: {member.filename}")
    except VectorError:
        if len(archive.infolist()) == 1:
            raise
        return _Shape(())


def _torch(path: Path) -> NDArray[Any]:
    import torch

    from v2f_engine.models.pth import safe_content

    try:
        content = safe_content(path, path.stat().st_size)
    except CheckpointError as error:
        raise VectorError(str(error)) from error
    if isinstance(content, Mapping):
        content = _one(path, {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)})
    if isinstance(content, list | tuple) and content and all(isinstance(v, torch.Tensor) for v in content):
        if len({tuple(tensor.shape) for tensor in content}) > 1:
            shapes = sorted({str(shape_of(tensor)) for tensor in content})
            raise VectorError(
                f"{path}: a list of {len(content)} tensors of shapes {', '.join(shapes)}; expected equal ones."
            )
        content = torch.stack([tensor.detach() for tensor in content])
    if not isinstance(content, torch.Tensor):
        raise VectorError(f"{path}: holds a {type(content).__name__}; expected a tensor of vectors.")
    return _floats(path, _plain(path, content))


def _plain(path: Path, tensor: Any) -> NDArray[Any]:
    """A stranger's tensor as an array: dense, and inside its storage."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or not tensor.is_floating_point():
        raise VectorError(f"{path}: expected a dense tensor of floats, found {tensor.dtype} {tensor.layout}.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise VectorError(
            f"{path}: a tensor of shape {shape_of(tensor)} on {tensor.untyped_storage().nbytes():,} bytes: "
            "a view that repeats itself. Save a contiguous copy."
        )
    return from_tensor(tensor)


def _safetensors(path: Path) -> NDArray[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            kind = (file.metadata() or {}).get("format", "")
            if kind in TABLES:
                raise VectorError(f"{path}: holds {TABLES[kind]}.")
            if kind == "v2f-identities/1":
                from v2f_engine.vectors.identities import Identities

                return Identities.load(path).vectors
            slices = {name: _Shape(tuple(file.get_slice(name).get_shape())) for name in [*file.keys()]}
            _one(path, slices)
            (name,) = slices
            return _floats(path, _plain(path, file.get_tensor(name)), name)
    except (SafetensorError, OSError) as error:
        raise VectorError(
            f"{path}: not a readable safetensors file ({error}). Write or copy it again."
        ) from error


class _Shape:
    """The extents of a tensor that is not read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

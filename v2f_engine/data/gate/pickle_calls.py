"""The names that data in a pickle may call, and what each is here: a function of ours that makes data and runs nothing.

NumPy writes an array as `_reconstruct(ndarray, (0,), b"b")` whose state is (version, shape, dtype, Fortran order, bytes
or a list of objects), a number as `scalar(dtype, bytes)`, and under protocol 5 an array as `_frombuffer(bytes, dtype,
shape, order)`; a dtype as `dtype(code, align, copy)` whose state holds its byte order (numpy/core/src/multiarray).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

ELEMENTS = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,6}")
"""Codes of element types that are plain bytes: booleans, numbers, short texts. Objects are `O8` (or `O4`)."""
OBJECTS = ("O8", "O4", "O")
MAX_DIMENSIONS = 4
LAST_CHARACTER = 0x10FFFF


class Call:
    """A name that stands for a function of ours; a value of its own kind, so that no data can pass for it."""

    def __init__(self, name: str) -> None:
        self.name = name


class Kind:
    """A NumPy dtype under construction: its element code and its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def take_state(self, state: Any) -> bool:
        """The state (version, order, no subarray, no names, no fields, sizes ...); False where it is another."""
        if (
            not isinstance(state, tuple)
            or not 5 <= len(state) <= 9
            or any(each is not None for each in state[2:5])
        ):
            return False
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            return False
        self.order = "<" if order in ("|", "=") else order
        return True

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class Array:
    """A NumPy array under construction: later its `values`, a NumPy array of plain numbers, or a list of objects."""

    def __init__(self) -> None:
        self.values: NDArray[Any] | list[Any] | None = None

    def take_state(self, state: Any) -> bool:
        """The state (version, shape, dtype, Fortran order, data); False where it is another."""
        if not isinstance(state, tuple) or len(state) != 5:
            return False
        return self.fill(state[4], state[2], state[1], bool(state[3]))

    def fill(self, data: Any, kind: Any, shape: Any, fortran: bool) -> bool:
        """`data` as an array of `kind` and `shape`; False where they do not fit."""
        if not isinstance(kind, Kind) or not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
            return False
        if not all(type(size) is int and 0 <= size < 1 << 40 for size in shape):
            return False
        count = math.prod(shape)
        if kind.code in OBJECTS:
            if not isinstance(data, list) or len(data) != count:
                return False
            self.values = _nested(data, shape) if not fortran or len(shape) < 2 else None
            return self.values is not None
        if not isinstance(data, bytes) or len(data) != count * kind.numpy.itemsize:
            return False
        if kind.code.startswith("U") and (np.frombuffer(data, kind.order + "u4") > LAST_CHARACTER).any():
            return False  # NumPy would take it, and raise SystemError when it is read
        self.values = np.frombuffer(data, kind.numpy).reshape(shape, order="F" if fortran else "C")
        return True


def _nested(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Objects in C order as lists in lists."""
    if len(shape) < 2:
        return flat
    step = math.prod(shape[1:])
    return [_nested(flat[at * step : (at + 1) * step], shape[1:]) for at in range(shape[0])]


def plain(value: Any) -> Any:
    """An array as what it holds (None while it is unfinished); anything else as it is."""
    return value.values if isinstance(value, Array) else value


def _text(value: Any) -> Any:
    """Python 2 wrote the names of NumPy's types as byte strings."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _encode(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in ("latin1", "latin-1"):
        return None
    try:
        return arguments[0].encode("latin1")
    except UnicodeEncodeError:
        return None


def _bytes(arguments: tuple[Any, ...]) -> Any:
    """`bytes()`, `bytearray()`, `bytearray(bytes)`, and Python 2's `bytearray(text, "latin-1")`."""
    if not arguments:
        return b""
    if len(arguments) == 1 and isinstance(arguments[0], bytes):
        return arguments[0]
    return _encode(arguments)


def _dtype(arguments: tuple[Any, ...]) -> Any:
    code = _text(arguments[0]) if arguments else None
    if not isinstance(code, str):
        return None
    order, code = ("<", code) if code[:1] not in ("<", ">", "|", "=") else (code[0], code[1:])
    if ELEMENTS.fullmatch(code) is None and code not in OBJECTS:
        return None
    made = Kind(code)
    made.order = ">" if order == ">" else "<"
    return made


def _scalar(arguments: tuple[Any, ...]) -> Any:
    """One number, as a boolean, int, float or text of Python's."""
    if len(arguments) != 2 or not isinstance(arguments[0], Kind) or not isinstance(arguments[1], bytes):
        return None
    made = Array()
    if not made.fill(arguments[1], arguments[0], (), False) or not isinstance(made.values, np.ndarray):
        return None
    return made.values.item()


def _reconstruct(arguments: tuple[Any, ...]) -> Any:
    first = arguments[0] if arguments else None
    return Array() if isinstance(first, Call) and first.name.endswith("ndarray") else None


def _frombuffer(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 4 or _text(arguments[3]) not in ("C", "F"):
        return None
    made = Array()
    data, kind, shape, order = arguments
    return made if isinstance(data, bytes) and made.fill(data, kind, shape, _text(order) == "F") else None


def _never(arguments: tuple[Any, ...]) -> Any:
    return None


CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "_codecs encode": _encode,
    **{
        f"{module} {name}": _bytes
        for module in ("__builtin__", "builtins")
        for name in ("bytes", "bytearray")
    },
    "numpy dtype": _dtype,
    "numpy ndarray": _never,
    **{f"numpy.{core}.multiarray scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray _reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _frombuffer for core in ("core", "_core")},
}
"""What a name may be, and what we make of it: bytes, a number, an array. None means refused."""

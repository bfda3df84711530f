"""The names that data in a pickle may call, and what each is here: a function of ours that makes bytes or booleans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Call:
    """A name that stands for a function of ours; a value of its own kind, so that no data can pass for it."""

    def __init__(self, name: str) -> None:
        self.name = name


class Array:
    """A NumPy array or dtype under construction: its element code and, later, its bytes."""

    def __init__(self, code: str = "") -> None:
        self.code = code
        self.data: bytes | None = None


def value_of(value: Any) -> Any:
    """An array as the bytes or booleans it stands for; anything else as it is."""
    if not isinstance(value, Array):
        return value
    if value.data is None:
        return None
    return value.data if value.code == "u1" else [bool(item) for item in value.data]


def _encode(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        return None
    try:
        return arguments[0].encode("latin1")
    except UnicodeEncodeError:
        return None


def _empty_bytes(arguments: tuple[Any, ...]) -> Any:
    return None if arguments else b""


def _dtype(arguments: tuple[Any, ...]) -> Any:
    code = arguments[0] if arguments else None
    code = code.decode("ascii", "replace") if isinstance(code, bytes) else code
    return Array(code) if code in ("b1", "u1") else None


def _scalar(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or not isinstance(arguments[0], Array) or not isinstance(arguments[1], bytes):
        return None
    if arguments[0].code != "b1" or len(arguments[1]) != 1:
        return None
    return arguments[1] != b"\0"


def _reconstruct(arguments: tuple[Any, ...]) -> Any:
    first = arguments[0] if arguments else None
    return Array() if isinstance(first, Call) and first.name.endswith("ndarray") else None


def _frombuffer(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 4 or not isinstance(arguments[0], bytes) or not isinstance(arguments[1], Array):
        return None
    made = Array(arguments[1].code)
    made.data = arguments[0]
    return made


def _never(arguments: tuple[Any, ...]) -> Any:
    return None


CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "_codecs encode": _encode,
    "__builtin__ bytes": _empty_bytes,
    "builtins bytes": _empty_bytes,
    "numpy dtype": _dtype,
    "numpy ndarray": _never,
    **{f"numpy.{core}.multiarray scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray _reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _frombuffer for core in ("core", "_core")},
}
"""What a name may be, and what we make of it: bytes, a boolean, an array's bytes. None means refused."""

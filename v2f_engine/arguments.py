"""Types of a public function's arguments, looked at before it does anything: a wrong one is an error that names it.

    @takes(path=PATH, fetch=SWITCH, progress=FUNCTION)
    def open_it(path, *, fetch=False, progress=None): ...

Where an argument's default is None, None passes. What a value means, and whether it is in range, is the function's.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Real
from os import PathLike
from typing import Any, ParamSpec, TypeVar

import numpy as np

from v2f_engine.config import a_function, a_path, whole_number, yes_or_no
from v2f_engine.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[str, Any], object]
"""Raises ConfigError for a value of a wrong type; given the argument's name and the value."""

PATH: Check = a_path
SWITCH: Check = yes_or_no
FUNCTION: Check = a_function
COUNT: Check = whole_number


def _wrong(what: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"{what} must be {expected}, found {value!r:.60} ({type(value).__name__}).")


def WORD(what: str, value: Any) -> None:
    """Text."""
    if not isinstance(value, str):
        raise _wrong(what, "text", value)


def NUMBER(what: str, value: Any) -> None:
    """A real number, NumPy's too, but no bool."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _wrong(what, "a number", value)


def NUMBER_OR_WORD(what: str, value: Any) -> None:
    """A number, a name that stands for one, or None."""
    if value is not None and not isinstance(value, str):
        NUMBER(what, value)


def MASKS(what: str, value: Any) -> None:
    """A mask schedule, its name or a ratio."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not (number or isinstance(value, str) or hasattr(value, "n_dropped")):
        raise _wrong(what, "a MaskSchedule, its name or a ratio", value)


def CONDITION(what: str, value: Any) -> None:
    """What images are made to show."""
    if isinstance(value, type) or not hasattr(value, "goals"):
        raise _wrong(what, "an AttributeControl or a PoseCondition", value)


def RULE(what: str, value: Any) -> None:
    """Which images of a person are kept."""
    if isinstance(value, type) or not hasattr(value, "fewest"):
        raise _wrong(what, "a Rule", value)


def CHOICE(what: str, value: Any) -> None:
    """How many images are made of a person, and which are kept."""
    if isinstance(value, type) or not hasattr(value, "make"):
        raise _wrong(what, "a ChoiceOptions", value)


def MAPPING(what: str, value: Any) -> None:
    """Names and their values."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _wrong(what, "a dict of names", value)


def NUMBERS(what: str, value: Any) -> tuple[float, ...]:
    """Several real numbers: a tuple, a list, an array; as a tuple."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "fiu":
        value = value.tolist()
    if not isinstance(value, (tuple, list)):
        raise _wrong(what, "several numbers", value)
    for one in value:
        NUMBER(what, one)
    return tuple(one.item() if isinstance(one, np.generic) else one for one in value)


def RANGE(what: str, value: Any) -> None:
    """A `range`."""
    if not isinstance(value, range):
        raise _wrong(what, "a range", value)


def VECTORS(what: str, value: Any) -> None:
    """Something that holds rows of numbers; the rows are the gate's business."""
    if not _holds_rows(value):
        raise _wrong(what, "vectors [N, 512]", value)


def VECTORS_OR_PATH(what: str, value: Any) -> None:
    """Vectors, or a file of them."""
    if isinstance(value, (str, PathLike)):
        a_path(what, value)
    elif not (hasattr(value, "fmr") or _holds_rows(value)):  # a finished `Calibration` has a rate
        raise _wrong(what, "vectors [N, 512] or a file of them", value)


def ARRAY_OR_PATH(what: str, value: Any) -> None:
    """An array of numbers on the host, rows of them as lists, or a file."""
    if isinstance(value, (str, PathLike)):
        a_path(what, value)
    elif not _array(value):
        raise _wrong(what, "an array or a file of one", value)


def _array(value: Any) -> bool:
    if isinstance(value, (np.generic, type)) or not (
        hasattr(value, "__array__") or isinstance(value, (list, tuple))
    ):
        return False
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return array.ndim > 0 and array.dtype.kind in "fiub"


def GALLERY(what: str, value: Any) -> None:
    """Vectors or a file of them, or several of either."""
    several = value if isinstance(value, (list, tuple)) and not _rows_of_numbers(value) else [value]
    if not several:
        raise _wrong(what, "vectors [M, 512] or a file of them, or several", value)
    for one in several:
        VECTORS_OR_PATH(what, one)


def _rows_of_numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], (list, tuple))


def _holds_rows(value: Any) -> bool:
    if isinstance(value, (np.generic, type)):
        return False
    speaks = ("__array__", "__dlpack__", "__cuda_array_interface__")
    if any(hasattr(value, name) for name in speaks):
        try:
            return getattr(value, "shape", (0,)) != ()
        except RuntimeError:  # a nested tensor has none
            return False
    return isinstance(value, (list, tuple)) and (not value or hasattr(value[0], "__len__"))


def takes(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: each argument named here passes its check, or is None where that is its default.

    Raises:
        ConfigError: from the decorated function, for an argument of a wrong type; the message names it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        if unknown := checks.keys() - signature.parameters.keys():
            raise TypeError(f"{function.__qualname__} has no arguments {sorted(unknown)}")
        optional = {name for name, parameter in signature.parameters.items() if parameter.default is None}

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            given: Mapping[str, Any] = {}
            with contextlib.suppress(TypeError):  # the call below says it better: Python names the function
                given = signature.bind(*args, **kwargs).arguments
            for name, check in checks.items():
                if name in given and not (given[name] is None and name in optional):
                    check(name, given[name])
            return function(*args, **kwargs)

        return checked

    return decorate

"""Spies on named functions: what each was called with, wherever in the engine it had been imported to."""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import pytest


class Reached(BaseException):
    """Ends a command where nothing further is of interest; no `except Exception` swallows it."""


def through(call: Callable[[], Any], arguments: Mapping[str, Any]) -> Any:
    """The spied function runs as always."""
    return call()


def stop(call: Callable[[], Any], arguments: Mapping[str, Any]) -> Any:
    """The command ends here."""
    raise Reached


def give(value: Any) -> Callable[..., Any]:
    """The spied function is replaced by a value."""
    return lambda call, arguments: value


Answer = Callable[[Callable[[], Any], Mapping[str, Any]], Any]
Calls = dict[str, list[dict[str, Any]]]
"""Target -> the arguments of each call by name, defaults filled in."""


@functools.cache
def import_everything() -> None:
    """All our modules: one that is first imported while a spy is in place would keep it for ever."""
    import v2f_engine

    for found in pkgutil.walk_packages(v2f_engine.__path__, "v2f_engine."):
        if not found.name.endswith("__main__"):
            import_module(found.name)


def spy(patch: pytest.MonkeyPatch, target: str, answer: Answer, calls: Calls) -> None:
    """Records the calls of `module:function`, `module:Class` or `module:Class.method`.

    A function is replaced at its home and at every module of ours that imported it by name. Of a class its
    `__init__` is watched; `self` is among the arguments, complete once the command is over.

    Raises:
        AssertionError: there is no such function (any more): say in the table where the value ends now.
    """
    import_everything()
    home, _, path = target.partition(":")
    holder: Any = import_module(home)
    *outer, name = path.split(".")
    try:
        for part in outer:
            holder = getattr(holder, part)
        found = inspect.getattr_static(holder, name)
    except AttributeError as error:
        raise AssertionError(
            f"{target} is no longer there ({error}): say in the table where the value ends now."
        ) from error
    if inspect.isclass(found):
        holder, name, found = found, "__init__", found.__init__
    bound = isinstance(found, classmethod | staticmethod)
    plain = found.__func__ if bound else found
    signature = inspect.signature(plain)
    record = calls.setdefault(target, [])

    @functools.wraps(plain)
    def watched(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs)
        arguments.apply_defaults()
        record.append(dict(arguments.arguments))
        return answer(lambda: plain(*args, **kwargs), arguments.arguments)

    wrapped: Any = type(found)(watched) if bound else watched
    patch.setattr(holder, name, wrapped)
    if inspect.ismodule(holder):
        for module in [m for key, m in sys.modules.items() if key.startswith("v2f_")]:
            for other, value in list(vars(module).items()):
                if value is found:
                    patch.setattr(module, other, wrapped)


def value_at(arguments: Mapping[str, Any], path: str) -> Any:
    """`settings.budget.steps`: an argument, then attributes, keys or numbers of it."""
    value: Any = arguments
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdigit():
            value = value[int(part)]
        else:
            value = getattr(value, part)
    return value


def same(found: Any, expected: Any) -> bool:
    """Equality as a reader means it: arrays whole, floats to single precision, paths by their text."""
    if callable(expected):
        return bool(expected(found))
    if isinstance(found, np.ndarray) or isinstance(expected, np.ndarray):
        return np.shape(found) == np.shape(expected) and bool(np.allclose(found, expected, rtol=1e-6))
    if isinstance(expected, float) and isinstance(found, int | float):
        return bool(np.isclose(found, expected, rtol=1e-6))
    if isinstance(expected, tuple | list) and isinstance(found, tuple | list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, str):
        return str(found) == expected
    return type(found) is type(expected) and bool(found == expected)

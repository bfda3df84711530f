"""Attributes of the user's own: `file.py:Name`, an `Attribute` or a function that makes one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from v2f_engine.attributes.targets import Attribute
from v2f_engine.errors import ConfigError


def attribute_from_file(place: str) -> Attribute:
    """Loads `file.py:Name`, where Name is an `Attribute`, or a function without arguments that returns one.

    The file is run: give only files you trust. See `examples/brightness_attribute.py`.

    Raises:
        ConfigError: no such file or name, or something that is no attribute.
    """
    path, _, name = place.rpartition(":")
    file = Path(path)
    if not path or not name.isidentifier() or file.suffix != ".py" or not file.is_file():
        raise ConfigError(f"attribute {place!r}: expected file.py:Name of a file that is there.")
    spec = importlib.util.spec_from_file_location(f"v2f_attribute_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"attribute {place!r}: {file} could not be run ({error!r}).") from error
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(f"attribute {place!r}: {file} has no {name}; it has {known}.")
    found = getattr(module, name)
    if callable(found) and not isinstance(found, Attribute):
        found = found()
    if not isinstance(found, Attribute):
        raise ConfigError(f"attribute {place!r}: expected an Attribute, found {type(found).__name__}.")
    return found

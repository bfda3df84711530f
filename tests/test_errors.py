"""One root of all errors: whoever catches `V2FError` misses none that either package raises on purpose."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
import v2f_kernels

import v2f_engine
from v2f_engine import errors
from v2f_engine.errors import V2FError

NO_IMPORT = ("v2f_engine.__main__",)
"""Modules that run something when they are imported."""
SIGNALS = ("Stopped", "Superseded")
"""Ends by a signal, or of work that nobody waits for any more: no errors."""


def modules() -> Iterator[ModuleType]:
    for package in (v2f_engine, v2f_kernels):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name in NO_IMPORT:
                continue
            try:
                yield importlib.import_module(found.name)
            except (ImportError, V2FError):  # Triton, CUDA, TensorRT: not on every machine
                continue


def test_every_exception_class_derives_from_the_one_root() -> None:
    found = {
        (kind.__module__, kind.__name__): kind
        for module in modules()
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseException)
        and kind.__module__.partition(".")[0] in ("v2f_engine", "v2f_kernels")
    }
    assert len(found) > 20
    stray = [
        name for name, kind in found.items() if not issubclass(kind, V2FError) and name[1] not in SIGNALS
    ]
    assert not stray
    print(len(found), "classes")


def test_the_sources_define_none_that_importing_would_not_show() -> None:
    """Modules that cannot be imported here (Triton, CUDA) are read: a base of Python's own is not enough."""
    import ast
    import builtins
    from pathlib import Path

    own = {
        name
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    stray = []
    for package in (v2f_engine, v2f_kernels):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
                if bases and set(bases) <= own and node.name not in ("V2FError", *SIGNALS):
                    stray.append(f"{path.name}: {node.name}({', '.join(bases)})")
    assert not stray


def test_the_root_has_one_public_name() -> None:
    assert v2f_kernels.V2FError is errors.V2FError
    assert errors.V2FError.__module__ == "v2f_engine.errors"
    assert set(errors.__all__) >= {"BackendUnavailable", "UnknownBackend", "V2FError"}
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), V2FError)
    assert issubclass(errors.BackendUnavailable, RuntimeError)
    assert issubclass(errors.UnknownBackend, LookupError)


def test_a_device_that_is_not_there_is_caught_by_the_root() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(V2FError, match="cuda"):
        v2f_engine.Engine.load("mini", device="cuda")

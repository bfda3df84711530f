"""Kernel tests: which gates can run in this process, poisoned memory, and the judge.

The interpreter and the compiler cannot share a process (Triton replaces its own builtins when interpreting),
so each has a marker and a command of its own:

    TRITON_INTERPRET=1 pytest -m interpreter
    pytest -m aot

Kernel modules are imported inside tests of these markers, never at the top of a test file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from v2f_kernels._judge import judge


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("markexpr", "")
    interpreting = os.environ.get("TRITON_INTERPRET") == "1"
    reasons = {
        "interpreter": None if interpreting else "own process: TRITON_INTERPRET=1 pytest -m interpreter",
        "aot": None if chosen == "aot" and not interpreting else "own process: pytest -m aot",
    }
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker) and reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills every uninitialised floating tensor with NaN, so that an element nobody writes is seen."""

    def poison(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def wrapped(*args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return wrapped

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


@pytest.fixture
def assert_judged() -> Callable[..., None]:
    """`assert_judged({name: (candidate, oracle, native)})`: every tensor by name."""

    def check(named: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> None:
        verdicts = {name: judge(*tensors) for name, tensors in named.items()}
        failed = [f"{name}: {verdict}" for name, verdict in verdicts.items() if not verdict.passed]
        assert not failed, "; ".join(failed)

    return check

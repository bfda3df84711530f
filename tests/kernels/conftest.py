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
from v2f_kernels._op import Op

from bench.candidates import enlist
from bench.kernels.interpreting import with_run_time_bounds

enlist()  # they meet the gates that the kernels meet


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("markexpr", "")
    interpreting = os.environ.get("TRITON_INTERPRET") == "1"
    reasons = {
        "interpreter": None if interpreting else "own process: TRITON_INTERPRET=1 pytest -m interpreter",
        "aot": None if chosen.startswith("aot") and not interpreting else "own process: pytest -m aot",
    }
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker) and reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def scalar_loop_bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets interpreted loops have run-time bounds."""
    if not request.node.get_closest_marker("interpreter"):
        return
    from triton.runtime import interpreter

    monkeypatch.setattr(
        interpreter, "_patch_lang_tensor", with_run_time_bounds(interpreter._patch_lang_tensor)
    )


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


Tensors = dict[str, torch.Tensor]


def run_op(function: Callable[..., Any], tensors: Tensors, fixed: dict[str, Any]) -> Tensors:
    """Outputs and every gradient by name, for seeded random gradients of the outputs."""
    leaves = {k: v.detach().clone().requires_grad_(v.is_floating_point()) for k, v in tensors.items()}
    result = function(**leaves, **fixed)
    outputs = result if isinstance(result, tuple) else (result,)
    random = torch.Generator().manual_seed(7)
    named, pairs = {}, []
    for index, output in enumerate(outputs):
        named[f"output {index}"] = output.detach()
        seed = torch.randn(output.shape, generator=random, dtype=torch.float64)
        pairs.append((output, seed.to(output.device, torch.float16).to(output.dtype)))
    torch.autograd.backward(*zip(*pairs, strict=True))
    for name, leaf in leaves.items():
        if leaf.requires_grad:
            assert leaf.grad is not None, f"no gradient of {name}"
            named[f"gradient of {name}"] = leaf.grad
    return named


@pytest.fixture
def judge_op(assert_judged: Callable[..., None]) -> Callable[..., None]:
    """`judge_op(OP, tensors, **fixed)`: `triton` against the reference in fp64, allowed what `torch` errs."""

    def check(op: Op, tensors: Tensors, **fixed: Any) -> None:
        exact = {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
        mine = run_op(op.backend("triton"), tensors, fixed)
        oracle = run_op(op.backend("reference"), exact, fixed)
        native = run_op(op.backend("torch"), tensors, fixed)
        assert_judged({name: (mine[name], oracle[name], native[name]) for name in oracle})

    return check

"""A training in bf16 on a CPU without it says so, once, on rank 0; elsewhere it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from v2f_engine.machine import Machine
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.emulated import bf16_here, say_if_emulated
from v2f_engine.train.loop import Budget, Loop


@pytest.mark.parametrize("flags", [(), ("avx2",), ("avx512_bf16",), ("amx_bf16", "avx2")], ids=str)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("bf16", [True, False])
def test_what_is_emulated_is_said(
    flags: tuple[str, ...],
    rank: int,
    device: str,
    bf16: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(0, frozenset(flags), has_triton=True)
    monkeypatch.setattr(Machine, "look", classmethod(lambda cls: machine))
    slow = device == "cpu" and not any("bf16" in flag for flag in flags)
    assert bf16_here(device) is not slow
    said: list[str] = []
    loop = Loop(Budget(steps=1), tmp_path, batch=1, group=Ranks(rank, 2, device))
    loop.say = said.append
    say_if_emulated(bf16, device, loop)
    assert len(said) == (slow and rank == 0 and bf16)
    assert all("emulated" in line and "--fp32" in line for line in said)

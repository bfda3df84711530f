"""The choice of backends is a pure function of the device and the machine, with a reason for each op."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from v2f_engine.backends import OPS, Choice, Machine, choose, op_named
from v2f_engine.errors import BackendUnavailable, ConfigError

ZEN4 = Machine(cuda_devices=0, cpu_flags=frozenset({"avx512f", "avx512_bf16"}), has_triton=True)
SAPPHIRE = Machine(cuda_devices=0, cpu_flags=frozenset({"amx_bf16"}), has_triton=False)
OLD = Machine(cuda_devices=0, cpu_flags=frozenset({"avx2"}), has_triton=False)
GPU = Machine(cuda_devices=2, cpu_flags=frozenset(), has_triton=True)


@pytest.mark.parametrize(("machine", "precision"), [(ZEN4, "bf16"), (SAPPHIRE, "bf16"), (OLD, "fp32")])
def test_cpu_precision(machine: Machine, precision: str) -> None:
    choice = choose(machine=machine)
    assert (choice.device, choice.precision) == ("cpu", precision)
    assert set(choice.backends.values()) == {"torch"}


def test_gpu() -> None:
    choice = choose(machine=GPU)
    assert (choice.device, choice.precision) == ("cuda:0", "fp16")
    assert choice.dtype == torch.float16
    assert choice.backends["attention"] == "triton"
    assert choice.backends["conv3x3"] == "torch"  # cuDNN until a measurement says otherwise
    assert choose("cuda:1", "bf16", machine=GPU).device == "cuda:1"
    assert choose("cuda", "fp32", machine=GPU).precision == "fp32"


@pytest.mark.parametrize("machine", [ZEN4, GPU])
def test_every_choice_has_a_reason_and_exists(machine: Machine) -> None:
    choice = choose(machine=machine)
    assert set(choice.backends) == set(OPS)
    assert set(choice.reasons) == {*OPS, "device", "precision", "table"}
    for name, backend in choice.backends.items():
        assert backend in op_named(name).backends


def test_pure() -> None:
    assert choose("cpu", "fp32", machine=OLD) == choose("cpu", "fp32", machine=OLD)
    assert isinstance(choose(), Choice)


def test_describe_is_json() -> None:
    told = json.loads(json.dumps(choose(machine=GPU).describe()))
    assert told["device"] == "cuda:0"
    assert set(told["backends"]) == set(OPS)


@pytest.mark.parametrize(
    ("device", "precision", "match"),
    [
        ("tpu", "auto", "Known: auto, cpu, cuda, cuda:N"),
        ("cpu:1", "auto", "device 'cpu:1'"),
        ("cuda:x", "auto", "device 'cuda:x'"),
        ("cpu", "fp8", "fp8"),
        ("cpu", "fp16", "emulated"),
    ],
)
def test_unknown_settings(device: str, precision: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        choose(device, precision, machine=ZEN4)


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(BackendUnavailable, match="torch sees 0 GPUs"):
        choose("cuda", machine=ZEN4)
    with pytest.raises(BackendUnavailable, match="torch sees 2 GPUs"):
        choose("cuda:2", machine=GPU)
    with pytest.raises(BackendUnavailable, match="kernels need triton"):
        choose(machine=Machine(1, frozenset(), has_triton=False))


def test_importing_costs_no_torch() -> None:
    code = "import sys, v2f_engine.backends, v2f_engine.models; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""Where a training step's device time goes, kernel by kernel, as torch's profiler saw it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

WARM_UP, STEPS = 3, 3


@dataclass(frozen=True)
class Kernel:
    """One kernel of a step, or on a CPU one operator.

    Args:
        name: as the profiler has it.
        launches: in one step.
        us: microseconds in one step, of this kernel alone.
        share: of all kernels' time, 0..1.
    """

    name: str
    launches: float
    us: float
    share: float


def kernels_of(
    step: Callable[[], object], device: str, *, warm_up: int = WARM_UP, steps: int = STEPS
) -> list[Kernel]:
    """The kernels of one step, the longest first; on a CPU the operators, each without what it calls.

    Args:
        step: what is profiled; run `warm_up` times before, so that nothing compiles under the profiler.
        device: `cpu` or a CUDA device.

    Raises:
        RuntimeError: the profiler saw no kernel (on a GPU: CUPTI is missing or held by another tool).
    """
    on_gpu = device != "cpu"

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize(torch.device(device))

    for _ in range(warm_up):
        step()
    wait()
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            step()
        wait()
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    launches: dict[str, int] = defaultdict(int)
    spent: dict[str, float] = defaultdict(float)
    for event in seen.events() or ():
        if event.device_type != kind or event.is_user_annotation:
            continue
        launches[event.name] += 1
        spent[event.name] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(spent.values())
    if total <= 0:
        raise RuntimeError(
            f"The profiler saw no kernel on {device}: expected those of {steps} steps. On a GPU that means CUPTI"
            " is missing or another profiler holds it."
        )
    rows = [Kernel(name, launches[name] / steps, us / steps, us / total) for name, us in spent.items()]
    return sorted(rows, key=lambda row: row.us, reverse=True)

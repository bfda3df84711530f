"""The GPU-free gate: compiles what the launchers launch, for any NVIDIA target, and reads the machine code.

A case calls a launcher with meta tensors (shapes and dtypes, no memory). Inside `compiling(target)` every
`kernel[grid](...)` goes through Triton's own specialisation and compiler for that target, and is recorded
instead of launched. So the gate compiles exactly what a GPU would: the same constants, alignment hints and
tuned configurations, picked by the same code.

To put an op under the gate, add `aot_cases.py` to its folder with

    CASES = {"forward 50x48 bf16": lambda: launch_forward(torch.empty(..., device="meta"), ...)}

`bench/kernels/aot.py` finds it, writes the committed table, and `pytest -m aot` compares. Cannot run in a process
whose kernels were imported under TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from v2f_kernels._op import PACKAGES
from v2f_kernels._triton.inspection import Compiled, Row, inspect
from v2f_kernels._triton.launch import ASSUMED_SECTION, DEFAULT, sections
from v2f_kernels._triton.table_cases import table_cases


class _AnyDevice:
    """Stands where Triton's driver would: it names a target and nothing else."""

    def __init__(self, target: int) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.target, 32)

    def get_current_device(self) -> str:
        return f"sm_{self.target}"  # the key of Triton's per-device kernel cache

    def get_current_stream(self, device: str) -> int:
        return 0


@contextmanager
def compiling(target: int) -> Iterator[list[Compiled]]:
    """Turns kernel launches into compilations for `target` (80, 90, 120, ...); yields their record.

    Raises:
        RuntimeError: the kernels of this process are interpreted.
    """
    from triton import knobs
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    if knobs.runtime.interpret:
        raise RuntimeError("ahead-of-time compilation needs a new process, without TRITON_INTERPRET")
    record: list[Compiled] = []
    launch = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        binary = launch(self, *args, grid=grid, warmup=True, **kwargs)
        record.append(Compiled(self.__name__, tuple(grid) if not callable(grid) else (), binary))
        return binary

    previous, driver._active = driver._active, _AnyDevice(target)
    JITFunction.run = compile_only
    try:
        yield record
    finally:
        JITFunction.run = launch
        driver._active = previous


def compile_cases(
    op: str, cases: Mapping[str, Callable[[], object]], targets: Iterable[int], *, newer: bool = True
) -> tuple[list[Row], list[str]]:
    """Compiles every case of `op` for every target, with the default launch configurations and with those of
    every tuned device of that capability.

    Args:
        newer: whether the newest ptxas that Triton brings along is asked about each kernel as well.

    Returns:
        the rows of the distinct kernels (one that an earlier case compiled already is listed once), and all
        complaints.
    """
    rows, found = [], []
    for target in targets:
        seen: set[str] = set()
        for section in _sections_for(op, target):
            token = ASSUMED_SECTION.set(section)
            try:
                for case, call in cases.items():
                    label = case if section == DEFAULT else f"{case} [{section}]"
                    for compiled in _compile(op, label, call, target):
                        if compiled.binary.hash not in seen:
                            seen.add(compiled.binary.hash)
                            row, wrong = inspect(op, label, target, compiled, newer=newer)
                            rows.append(row)
                            found += wrong
            finally:
                ASSUMED_SECTION.reset(token)
    return rows, found


def _compile(op: str, case: str, call: Callable[[], object], target: int) -> list[Compiled]:
    with compiling(target) as record:
        call()
    if not record:
        raise RuntimeError(f"{op}, case {case!r}: nothing was launched, so nothing was checked")
    return record


def _sections_for(op: str, target: int) -> list[str]:
    table = sections(op)
    return [DEFAULT, *(name for name in table if table[name].get("capability") == target)]


def modules_of_cases() -> dict[str, Any]:
    """op's folder -> its module `aot_cases`, for every folder of `PACKAGES` that has one."""
    found: dict[str, Any] = {}
    for package in PACKAGES:
        for root in import_module(package).__path__:
            for path in Path(root).glob("*/aot_cases.py"):
                found[path.parent.name] = import_module(f"{package}.{path.parent.name}.aot_cases")
    return dict(sorted(found.items()))


def ops_under_gate() -> dict[str, Mapping[str, Callable[[], object]]]:
    """op -> its `CASES` and what the devices' tables choose."""
    return {name: {**cases.CASES, **table_cases(cases)} for name, cases in modules_of_cases().items()}


def targets_of(op: str, targets: Iterable[int]) -> tuple[int, ...]:
    """Those of `targets` that the op is for: all, unless its `aot_cases` says `TARGETS`."""
    own = getattr(modules_of_cases()[op], "TARGETS", None)
    return tuple(target for target in targets if own is None or target in own)

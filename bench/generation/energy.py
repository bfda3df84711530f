"""Energy of a GPU while something runs, as its driver's NVML library counts it.

    with measured("cuda:0") as used:
        ...
    used.joules, used.watts, used.method      or used.reason where there is nothing to read

Cards since Volta have a counter of millijoules; on others the power is sampled every `PERIOD_S` and integrated.
NVML reads the whole board, so another process on the card counts as well. Without NVML the reason is given and no
number is made up.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

PERIOD_S = 0.02
LIBRARY = "libnvidia-ml.so.1"


@dataclass
class Used:
    """What was used between entering and leaving `measured`.

    Args:
        joules, watts: energy and mean power; None where `reason` says why.
        seconds: wall time.
        method: `counter` or `samples`.
        reason: why there is no number; empty where there is one.
    """

    joules: float | None = None
    watts: float | None = None
    seconds: float = 0.0
    method: str = ""
    reason: str = ""

    def per(self, items: int) -> str:
        """In words, for `items` images."""
        if self.joules is None or not items:
            return f"energy not measured: {self.reason or 'nothing was made'}"
        return f"{self.joules / items:.4g} J an image ({self.watts:.0f} W, NVML {self.method})"


class Board:
    """One GPU as NVML sees it.

    Raises:
        OSError: the library says no; the message has its words.
    """

    def __init__(self, uuid: str, library: Any = None) -> None:
        self.nvml = ctypes.CDLL(LIBRARY) if library is None else library
        self._must("nvmlInit_v2")
        self.handle = ctypes.c_void_p()
        self._must("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self.handle))

    def _must(self, name: str, *arguments: Any) -> None:
        code = getattr(self.nvml, name)(*arguments)
        if code:
            raise OSError(code, f"{name} returned {code}")

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        value = ctypes.c_ulonglong()
        self._must("nvmlDeviceGetTotalEnergyConsumption", self.handle, ctypes.byref(value))
        return value.value / 1e3

    def watts(self) -> float:
        """Power of the board, averaged by the driver over at most a second."""
        value = ctypes.c_uint()
        self._must("nvmlDeviceGetPowerUsage", self.handle, ctypes.byref(value))
        return value.value / 1e3


def board_of(device: str) -> tuple[Board | None, str]:
    """The board of a torch device, or None and the reason."""
    where = torch.device(device)
    if where.type != "cuda":
        return None, f"{device} has no NVML"
    try:
        return Board(f"GPU-{torch.cuda.get_device_properties(where).uuid}"), ""
    except (OSError, AttributeError) as error:
        return None, f"NVML: {error}"


@contextmanager
def measured(device: str, board: Board | None = None) -> Iterator[Used]:
    """Energy used inside the block; the block must wait for the device itself before it ends."""
    used, found = Used(), board
    if found is None:
        found, used.reason = board_of(device)
    start = time.perf_counter()
    if found is None:
        yield used
        used.seconds = time.perf_counter() - start
        return
    with _meter(found, used):
        yield used


@contextmanager
def _meter(board: Board, used: Used) -> Iterator[None]:
    try:
        before: float | None = board.joules()
    except OSError:
        before = None
    samples: list[tuple[float, float]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.is_set():
            samples.append((time.perf_counter(), board.watts()))
            done.wait(PERIOD_S)

    thread = threading.Thread(target=sample, daemon=True)
    start = time.perf_counter()
    if before is None:
        thread.start()
    yield
    used.seconds = time.perf_counter() - start
    if before is not None:
        used.joules, used.method = board.joules() - before, "counter"
    else:
        done.set()
        thread.join()
        used.joules, used.method = _integral(samples, start, start + used.seconds), "samples"
    if used.joules is not None:
        used.watts = used.joules / used.seconds
    else:
        used.reason = "NVML gave no samples"


def _integral(samples: list[tuple[float, float]], start: float, end: float) -> float | None:
    """Joules between two times, by trapezoids; the first and last power are taken to hold to the ends."""
    if not samples:
        return None
    points = [(start, samples[0][1]), *samples, (end, samples[-1][1])]
    return sum(max(0.0, b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))

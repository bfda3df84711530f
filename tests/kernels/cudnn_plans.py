"""The plans of cuDNN's graphs for a card that is not there: what `test_cudnn_plans.py` runs in a process of its own.

    python -m tests.kernels.cudnn_plans      needs libcudnn and a libcuda.so.1 in LD_LIBRARY_PATH

Prints a JSON line a plan: what, engine with its knobs, bytes of workspace, notes. Last, two graphs that the backend
does not build, and what cuDNN makes of them.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from v2f_kernels import BackendUnavailable
from v2f_kernels._cudnn.library import cudnn
from v2f_kernels._cudnn.plans import Plan, build
from v2f_kernels.conv3x3.cudnn_graph import Convolution

from bench.candidates.gelu_linear.cudnn_graph import GeluLinear

BATCH = 256
DECODER = [
    (512, 512, 7),
    (512, 256, 14),
    (256, 256, 14),
    (256, 256, 28),
    (256, 128, 56),
    (128, 128, 56),
    (128, 128, 112),
]
"""(channels, channels out, side) of every 3x3 convolution in base size's residual blocks."""
H200 = {
    "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0x2335, "deviceName": "NVIDIA H200",
    "multiProcessorCount": 132, "smCountOrigin": 0, "warpSize": 32, "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
    "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "l2CacheSize": 62914560, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024, "oversizedSharedMemoryPerBlock": 0,
    "isTccDriver": 0, "supportCoopLaunch": 1, "totalGlobalMem": 150754820096, "smClockRateKHz": 1980000,
    "memClockRateKHz": 3201000, "memoryBusWidth": 6144,
}  # fmt: skip
"""cuDNN's own description of a device; it names what is missing."""


class OutOfOrder(Convolution):
    """The same with the bias before the residual; `compiled` says whether that may be compiled at run time."""

    compiled = True

    @property
    def precompiled(self) -> bool:
        return not self.compiled

    def describe(self, graph: Any, library: Any) -> dict[str, Any]:
        return super().describe(_Swapped(graph), library)


class ResidualAlone(OutOfOrder):
    compiled = False

    def describe(self, graph: Any, library: Any) -> dict[str, Any]:
        return Convolution.describe(self, graph, library)


class _Swapped:
    """A graph that adds its second addend first."""

    def __init__(self, graph: Any) -> None:
        self.graph, self.first = graph, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.graph, name)

    def add(self, *, a: Any, b: Any) -> Any:
        if self.first is None:
            self.first, self.product = b, a
            return a
        return self.graph.add(a=self.graph.add(a=self.product, b=b), b=self.first)


def main() -> None:
    library = cudnn()
    device = library.create_device_properties(json.dumps(H200))
    print(json.dumps({"cudnn": library.backend_version(), "frontend": library.__version__}))
    for dtype in (torch.float16, torch.bfloat16):
        for channels, out, side in DECODER:
            for bias, residual in ((False, False), (True, False), (True, True)):
                what = Convolution(BATCH, channels, out, side, side, dtype, bias, residual)
                told = f"{channels}->{out}@{side} {dtype} bias={bias} residual={residual}"
                show("conv3x3", told, build(what, device_property=device))
        for rows in (45 * BATCH, 50 * BATCH):
            show(
                "gelu_linear",
                f"{rows} {dtype}",
                build(GeluLinear(rows, 768, 3072, dtype), device_property=device),
            )
    for kind in (ResidualAlone, OutOfOrder):
        what = kind(BATCH, 128, 128, 112, 112, torch.float16, kind is OutOfOrder, True)
        try:
            show(kind.__name__, "128->128@112", build(what, device_property=device))
        except BackendUnavailable as error:
            print(json.dumps({"op": kind.__name__, "refused": str(error)[:300]}))


def show(op: str, what: str, plan: Plan) -> None:
    print(
        json.dumps(
            {"op": op, "what": what, "engine": plan.engine, "workspace": plan.workspace, "notes": plan.notes}
        )
    )


if __name__ == "__main__":
    main()

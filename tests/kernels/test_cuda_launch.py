"""CuPy launches on torch's stream: which call CuPy of either age gets, and that nothing warns.

The module `cupy` is imitated, as no GPU is needed to see what it is asked for. Its streams do what those of CuPy 13.6
and 14.2 do: `from_external` takes an object that speaks the CUDA stream protocol and refuses everything else, and
`ExternalStream` of 14 warns.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from v2f_kernels._cuda import launch
from v2f_kernels._cuda.launch import CupyLauncher, adopt

HANDLE, DEVICE = 0x5EED, 1


class Imitation:
    """Stands where the module `cupy` would, and notes what happens to it."""

    def __init__(self, version: int) -> None:
        self.log: list[tuple[Any, ...]] = []
        log = self.log

        class Entered:
            def __init__(self, *what: Any) -> None:
                self.what = what

            def __enter__(self) -> None:
                log.append(("enter", *self.what))

            def __exit__(self, *_: object) -> None:
                log.append(("exit", *self.what))

        class ExternalStream(Entered):
            def __init__(self, pointer: int, device_id: int = -1) -> None:
                if version >= 14:
                    warnings.warn("ExternalStream is deprecated.", DeprecationWarning, stacklevel=2)
                super().__init__("ExternalStream", pointer, device_id)

        class Stream(Entered):
            pass

        if version >= 14:

            def from_external(cls: type[Stream], stream: Any) -> Stream:
                try:
                    protocol, pointer = stream.__cuda_stream__()
                except AttributeError as error:
                    raise TypeError("does not implement the CUDA stream protocol") from error
                assert (type(protocol), type(pointer), protocol) == (int, int, 0)
                return cls("from_external", pointer)

            Stream.from_external = classmethod(from_external)  # type: ignore[attr-defined]

        self.cuda = SimpleNamespace(
            Stream=Stream,
            ExternalStream=ExternalStream,
            Device=lambda index: Entered("Device", index),
        )


EXPECTED = {13: ("ExternalStream", HANDLE, DEVICE), 14: ("from_external", HANDLE)}


@pytest.fixture(params=EXPECTED)
def imitated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Imitation]:
    module = Imitation(request.param)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return request.param, module


class TorchStream:
    """What is read of a `torch.cuda.Stream`."""

    cuda_stream = HANDLE

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.cuda_stream


@pytest.mark.filterwarnings("error")
def test_a_launch_runs_on_torchs_stream_and_nothing_warns(
    imitated: tuple[int, Imitation], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, module = imitated
    launched: list[tuple[Any, ...]] = []

    class Function:
        def __call__(self, *arguments: Any, shared_mem: int) -> None:
            launched.append((tuple(module.log), *arguments, shared_mem))

    kernels = SimpleNamespace(get_function=lambda name: Function())
    monkeypatch.setattr(launch, "load", lambda source, shape, index: kernels)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: TorchStream())
    run = CupyLauncher(Path("none.cu"), None, torch.device("cuda", DEVICE), 1, frozenset())  # type: ignore[arg-type]
    for _ in range(3):
        run("kernel", (2, 1), 32, np.uint32(7), None)

    inside = [("enter", "Device", DEVICE), ("enter", *EXPECTED[version])]
    outside = [("exit", *EXPECTED[version]), ("exit", "Device", DEVICE)]
    assert module.log == 3 * (inside + outside)
    assert launched[0] == (tuple(inside), (2, 1), (32,), (np.uint32(7), np.uint64(0)), 0)


def test_the_imitation_of_cupy_14_warns_where_the_old_call_is_made() -> None:
    """So that the test above can fail."""
    with pytest.warns(DeprecationWarning, match="deprecated"):
        Imitation(14).cuda.ExternalStream(HANDLE, DEVICE)
    with pytest.raises(TypeError, match="protocol"):
        Imitation(14).cuda.Stream.from_external(HANDLE)


@pytest.mark.filterwarnings("error")
def test_the_installed_cupy_takes_it_and_leaves_the_stream_to_torch() -> None:
    """Creating a view calls no driver. A view that owned the stream would destroy it when it is dropped, which says so
    on a machine without a driver: 'Exception ignored in __del__' is a warning that pytest turns into an error."""
    cupy = pytest.importorskip("cupy")
    if not hasattr(cupy.cuda.Stream, "from_external"):
        pytest.skip("CuPy before 14")
    stream: Any = TorchStream()
    view: Any = adopt(stream, DEVICE)
    assert type(view) is cupy.cuda.Stream
    assert view.ptr == HANDLE
    assert view._foreign_stream_ref is stream  # torch's stream lives as long as the view
    del view


def test_torchs_streams_speak_the_protocol() -> None:
    """No GPU is needed to see that the class has the method; torch 2.10, the oldest allowed, has it."""
    assert torch.cuda.Stream.__cuda_stream__(TorchStream()) == (0, HANDLE)  # type: ignore[no-untyped-call]

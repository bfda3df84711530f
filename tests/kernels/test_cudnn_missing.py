"""Without cuDNN's frontend, or with something else by its name, the ops that want it say so and what to do."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from v2f_kernels import BackendUnavailable
from v2f_kernels.conv3x3 import OP as CONV
from v2f_kernels.gelu_linear import OP as GELU

from bench.candidates import enlist
from tests.kernels.imagined_cudnn import forget

enlist()


@pytest.mark.parametrize("op", [CONV, GELU])
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, r"pip install -e '.+\[cudnn\]'"),
        (
            {"__version__": "9.0"},
            "expected nvidia-cudnn-frontend 1.32 or later as the package `cudnn`, found 9.0",
        ),
        ({"__version__": "1.31.0", "pygraph": 1}, "found 1.31.0"),
        ({"__version__": "1.32.0", "pygraph": 1, "backend_version": "lost"}, "found no libcudnn.so.9"),
    ],
)
def test_without_the_library_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, op: Any, module: dict[str, Any] | None, reason: str
) -> None:
    def lost() -> int:
        raise RuntimeError("Unable to find symbol cudnnGetVersion")

    made = None if module is None else type(sys)("cudnn")
    for name, value in (module or {}).items():
        setattr(made, name, lost if value == "lost" else value)
    monkeypatch.setitem(sys.modules, "cudnn", made)  # type: ignore[arg-type]  # None: cannot be imported
    forget()
    with pytest.raises(BackendUnavailable, match=f"{op.name}/cudnn cannot run here: .*{reason}"):
        op.backend("cudnn")
    forget()

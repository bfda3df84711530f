"""Coverage-guided fuzzing of the readers with atheris: `python guided.py -max_total_time=600` (`make fuzz-guided`).

Bytes go to the parsers that work on bytes, chosen by the first byte; anything but a named error ends the run with the
input that caused it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import atheris

with atheris.instrument_imports(include=["v2f_engine"]):
    from v2f_engine.data.gate.decode import decode
    from v2f_engine.data.records.ledger import record_of
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.data.records.plan import Plan
    from v2f_engine.data.verification.sets import parse_bin
    from v2f_engine.errors import V2FError
    from v2f_engine.npy import from_bytes
    from v2f_engine.scale.identity import Worker

TARGETS: tuple[Callable[[bytes], Any], ...] = (
    lambda data: Manifest.from_bytes(data, "fuzz"),
    lambda data: from_bytes(data, "fuzz"),
    lambda data: parse_bin(data, "fuzz", "fuzz"),
    lambda data: decode(data, "fuzz"),
    lambda data: record_of(data, Plan(3, 2, 1), "fuzz"),
    lambda data: Worker.from_bytes(data, "fuzz"),
)


def one_input(data: bytes) -> None:
    if data:
        with contextlib.suppress(V2FError):
            TARGETS[data[0] % len(TARGETS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

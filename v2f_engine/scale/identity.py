"""Who a worker is: a name that no other process ever has, and whether its process is still there."""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from v2f_engine.data.gate.strict_json import canonical, fields, parse
from v2f_engine.errors import DatasetError


@cache
def _machine() -> str:
    """Equal for two processes only if one can look the other up by process id."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {socket.gethostname()} {secrets.token_hex(8)}"  # never taken for a process here


def _started(process: int) -> int | None:
    """Start time of a live process in clock ticks since boot; None when there is none (or only its corpse)."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return None
    state, *rest = stat[stat.rindex(b")") + 2 :].split()
    return None if state in (b"Z", b"X") else int(rest[18])


@dataclass(frozen=True)
class Worker:
    """One worker process.

    Args:
        name: unique over all hosts and times; safe in file names.
        machine: boot and process-id namespace, so that a process id means something.
        process, started: process id and start time; a reused id has another start time.
    """

    name: str
    machine: str
    process: int
    started: int

    @classmethod
    def here(cls, name: str = "") -> Worker:
        """This process; `name` by default from host, process and chance."""
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        process = os.getpid()
        name = name or f"{host}-{process}-{secrets.token_hex(4)}"
        return cls(name, _machine(), process, _started(process) or 0)

    def to_bytes(self) -> bytes:
        return canonical(self.__dict__).encode() + b"\n"

    @classmethod
    def from_bytes(cls, text: bytes, where: str) -> Worker | None:
        """The worker in `text`; None when it is not one."""
        try:
            kinds: dict[str, type] = {"name": str, "machine": str, "process": int, "started": int}
            worker = cls(**fields(parse(text, where), kinds, where))
        except DatasetError:
            return None
        return worker if re.fullmatch(r"[A-Za-z0-9-]{1,100}", worker.name) else None

    def known_dead(self) -> bool:
        """True when its process was here and is gone; False when it lives, or lives elsewhere."""
        return self.machine == _machine() and _started(self.process) != self.started

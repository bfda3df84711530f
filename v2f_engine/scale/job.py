"""What a worker is told: where the dataset is, how images are made, on which device, and its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from v2f_engine.data.gate.strict_json import canonical, plain
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing.repair import MakeBatches


@dataclass(frozen=True)
class Limits:
    """When a worker counts as lost, and a shard as poison.

    Args:
        lease_s: seconds without a heartbeat after which a worker's shard goes to another. Above the attribute
            cache of a network file system (60 s on NFS) where workers are on several hosts.
            Importing torch on a busy machine keeps a process silent for 5 s and more.
        beat_s: seconds between heartbeats.
        stopped_s: seconds for which a worker on this machine may be stopped (SIGSTOP) before it is ended.
        stall_s: seconds without a new image after which a live worker is taken for stuck and ended.
        crashes: deaths over one shard after which it is set aside.
        false_starts: deaths in a row over no shard, with nothing committed in between, after which the run ends.
        poll_s: seconds between looks at the queue.
    """

    lease_s: float = 30.0
    beat_s: float = 0.5
    stopped_s: float = 3.0
    stall_s: float = 1800.0
    crashes: int = 3
    false_starts: int = 4
    poll_s: float = 0.2


SHARED = Limits(lease_s=120.0, beat_s=10.0, poll_s=2.0)
"""For workers on several hosts over a network file system."""


class OpenSource(Protocol):
    """Makes a dataset's images available in this process; called once per worker.

    `manifest` and `root` say what to make, `device` where. What is returned depends on the manifest only, and
    raises a named error where this machine would make other bytes.
    """

    def __call__(self, manifest: Manifest, root: Path, device: str, **arguments: Any) -> MakeBatches: ...


@dataclass(frozen=True)
class Source:
    """A source of images by name, so that it can go to another process or host.

    Args:
        factory: `"module:function"`, an `OpenSource`.
        arguments: JSON values, handed to it.
    """

    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", plain(self.arguments, "arguments"))

    def open(self, manifest: Manifest, root: Path, device: str) -> MakeBatches:
        """Imports and calls the factory."""
        module, name = self.factory.split(":")
        factory = cast(OpenSource, getattr(import_module(module), name))
        return factory(manifest, root, device, **self.arguments)


@dataclass(frozen=True)
class Job:
    """One worker's orders.

    Args:
        root: the dataset's folder, absolute.
        source: where images come from.
        device: `"cpu"`, `"cuda:1"`, ...
        limits: see `Limits`.
        threads: encoding threads.
        grace_s: seconds after SIGTERM in which the shard in hand is finished.
        name: of the worker, as the coordinator knows it; made up when empty.
    """

    root: Path
    source: Source
    device: str
    limits: Limits
    threads: int = 1
    grace_s: float = 20.0
    name: str = ""

    def to_json(self) -> str:
        return canonical(plain(asdict(self), "job"))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`; the text comes from our own coordinator."""
        value = json.loads(text)
        return cls(
            **{
                **value,
                "root": Path(value["root"]),
                "source": Source(**value["source"]),
                "limits": Limits(**value["limits"]),
            }
        )

"""When a worker counts as lost, and a shard as poison."""

from __future__ import annotations

from dataclasses import dataclass


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

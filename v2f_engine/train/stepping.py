"""Whether a training can step as it is asked to: known before data are read and a folder is made."""

from __future__ import annotations

from v2f_engine.train.distributed import Ranks


def require_stepping(stepping: str, group: Ranks) -> None:
    """Raises where this process cannot step so.

    Raises:
        BackendUnavailable: a CUDA graph without a GPU.
        ConfigError: a CUDA graph on several ranks.
    """
    if stepping == "graph":
        from v2f_engine.train.graphed import recorder_of  # what steps otherwise does not pay for it

        recorder_of(group)

"""The ranges live below every room: `v2f_engine.ranges`."""

from v2f_engine.ranges import stage

__all__ = ["stage"]

"""The command line that is running, for what is begun by it: an interrupted folder tells how it is gone on with.

Below every room, since sets, trainings and files note it alike. Where nobody typed a command nothing is noted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

SCHEMA = "v2f-command/1"
NAME = "command.json"
"""Where a folder has it."""


@dataclass(frozen=True)
class Asked:
    """A command with what was typed or configured.

    Args:
        command: its words, `train generator`.
        folder: the current folder when it began: what relative paths are relative to.
        options: parameter's name -> value as JSON has it; a flag true or false, what may be repeated a list.
        ranks: processes that train together (torchrun).
    """

    command: str
    folder: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ranks: int = 1

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {"schema": SCHEMA, **vars(self), "options": dict(self.options)}

    def to_bytes(self) -> bytes:
        """A file of it."""
        return (json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, value: Any) -> Asked | None:
        """None where it is nothing that `to_json` gave."""
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            return None
        kinds = {"command": str, "folder": str, "options": dict, "ranks": int}
        if any(not isinstance(value.get(name), kind) for name, kind in kinds.items()):
            return None
        return cls(**{name: value[name] for name in kinds})


RUNNING: ContextVar[Asked | None] = ContextVar("v2f_asked", default=None)
"""Set by the command line for the time of a command."""

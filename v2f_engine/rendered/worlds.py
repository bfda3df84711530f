"""The versions of the rendered world, and the check of one that was asked for."""

from __future__ import annotations

from v2f_engine.errors import ConfigError

WORLDS = (1, 2)
"""Every world that can be rendered; a world never changes once a model was trained on it."""
WORLD_VERSION = WORLDS[-1]
"""The newest world. Rises whenever a person may look different from before."""


def known_world(world: object) -> int:
    """`world` as a number of `WORLDS`.

    Raises:
        ConfigError: no such world.
    """
    if isinstance(world, bool) or world not in WORLDS:
        listed = " or ".join(str(number) for number in WORLDS)
        raise ConfigError(f"world: expected {listed}, found {world!r}")
    return int(str(world))

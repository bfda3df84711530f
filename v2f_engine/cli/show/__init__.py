"""`v2f show`: what a set, a training or a file is, from what it says of itself; nothing is hashed."""

from v2f_engine.cli.show.command import as_toml, looked_at, show

__all__ = ["as_toml", "looked_at", "show"]

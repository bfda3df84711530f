"""The command line, `v2f`: one file per group of commands, each importing what it runs only when it runs."""

from v2f_engine.cli.main import main

__all__ = ["main"]

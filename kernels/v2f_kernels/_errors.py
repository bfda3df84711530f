"""The root of every error that this package and the engine above it raise on purpose."""

from __future__ import annotations


class V2FError(Exception):
    """Root of all errors raised on purpose: `except v2f_engine.errors.V2FError` catches them and nothing else."""

    exit_code = 1
    hint = ""
    """What to do where the message does not say; printed below it by the command line."""


V2FError.__module__ = (
    "v2f_engine.errors"  # its public name; the class lives here since kernels import no engine
)

"""`v2f` called within the test's own process: quick, and what it raises is raised here."""

from __future__ import annotations

from typer.testing import CliRunner

from v2f_engine.cli.main import app


def v2f(*words: object) -> str:
    """What the command prints; an error of the engine is raised, another exit code than 0 fails the test."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output

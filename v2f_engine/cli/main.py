"""The root of the command line: groups its commands and turns named errors into one clear line."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from v2f_engine import stopping
from v2f_engine.cli import (
    advice,
    align,
    bench,
    dataset,
    evaluate,
    evaluate_recognisers,
    evaluate_report,
    evaluate_table,
    export,
    generate,
    hub,
    ids,
    machine,
    pack,
    prove,
    render,
    resume,
    saying,
    select,
    show,
    stopped,
    train,
    train_attributes,
    train_generator,
    ui,
    within,
)
from v2f_engine.cli.dependent import Refusing
from v2f_engine.errors import V2FError
from v2f_engine.version import VERSION

app = typer.Typer(
    name="v2f",
    cls=Refusing,
    help="Face-recognition training sets of people who do not exist.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"v2f {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say the version and end")
    ] = False,
) -> None:
    """Face-recognition training sets of people who do not exist."""


app.command("generate")(generate.generate)
ids.app.command("prove")(prove.prove)
ids.app.command("pack")(pack.pack)
ids.app.command("within")(within.within)
app.add_typer(ids.app, name="ids")
app.add_typer(train.app, name="train")
train.app.command("generator")(train_generator.generator)
train.app.command("estimator")(train_attributes.estimator)
train.app.command("pose")(train_attributes.pose)
evaluate.app.command("verification")(evaluate_recognisers.verification)
evaluate.app.command("ijb")(evaluate_recognisers.ijb)
evaluate.app.command("report")(evaluate_report.report)
evaluate.app.command("table")(evaluate_table.table)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(export.app, name="export")
app.command("render")(render.render)
app.command("align")(align.align)
app.command("features")(dataset.features)
app.command("convert")(dataset.convert)
app.command("select")(select.select)
app.command("verify")(dataset.verify)
app.command("repair")(dataset.repair)
app.command("resume")(resume.resume)
app.command("show")(show.show)
app.command("inspect")(dataset.inspect)
app.command("push")(hub.push)
app.command("pull")(hub.pull)
app.command("ui")(ui.ui)
app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench.bench)
app.command("env")(machine.env)


def main() -> None:
    """Entry point: every error becomes its message on stderr, what to do about it, and an exit code.

    With `--json` the command's object, or the error's, is the only thing on stdout.
    """
    argv = sys.argv[1:]
    saying.begin(argv)
    try:
        try:
            with stopping.as_exceptions():
                code = app(standalone_mode=False) or 0
                _ended(code)
        finally:
            advice.close_stdout()
    except V2FError as error:
        code = error.exit_code
        _failed(type(error).__name__, str(error), advice.advice(error, argv))
    except (OSError, MemoryError) as error:
        code = 1
        _failed(*advice.named(error))
    except _USAGE as error:
        code = _mistyped(error)
    except (stopping.Stopped, KeyboardInterrupt) as error:
        code = getattr(error, "exit_code", 130)
        words = stopped.words(error, argv, saying.now().asked)
        print(words, file=sys.stderr)
        saying.end("stopped", message=words)
    except Exception as error:  # a fault of ours: its traceback is for us, its object for the script
        saying.end("error", error=type(error).__name__, message=str(error))
        raise
    if code:
        sys.exit(code)


_USAGE: type[Exception] = typer.BadParameter.__mro__[2]
"""Whatever click finds wrong with a command line, of the click that typer has."""


def _mistyped(error: Any) -> int:
    """A command line that click does not understand, and as much of the command as it did; its exit code."""
    if getattr(error, "ctx", None) is not None:
        saying.now().command = error.ctx.command_path.partition(" ")[2]
    error.show()
    saying.end("error", error="UsageError", message=error.format_message())
    return int(error.exit_code)


def _ended(code: int) -> None:
    """A command that was carried out; `--help` and `--version` began none."""
    if code:
        saying.end(
            "error", **{"error": "ExitStatus", "message": f"exit status {code}", **saying.now().values}
        )
    elif saying.now().begun:
        saying.end("complete")


def _failed(name: str, message: str, hint: str = "") -> None:
    print(f"error ({name}): {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    saying.end("error", error=name, message=message, advice=hint or None)

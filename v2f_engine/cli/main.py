"""The root of the command line: groups its commands and turns named errors into one clear line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from v2f_engine.cli import (
    bench,
    dataset,
    evaluate,
    evaluate_recognisers,
    evaluate_report,
    evaluate_table,
    export,
    generate,
    ids,
    machine,
    prove,
    render,
    train,
    train_attributes,
    train_generator,
)
from v2f_engine.cli.dependent import Refusing
from v2f_engine.version import VERSION

app = typer.Typer(
    name="v2f",
    cls=Refusing,
    help="Face-recognition training sets of people who do not exist.",
    no_args_is_help=True,
    add_completion=False,
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
app.command("features")(dataset.features)
app.command("convert")(dataset.convert)
app.command("verify")(dataset.verify)
app.command("repair")(dataset.repair)
app.command("inspect")(dataset.inspect)
app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench.bench)
app.command("env")(machine.env)


def main() -> None:
    """Entry point: every error becomes its message on stderr, what to do about it, and an exit code."""
    from v2f_engine import stopping
    from v2f_engine.cli import advice
    from v2f_engine.errors import V2FError

    argv, code = sys.argv[1:], 0
    try:
        try:
            with stopping.as_exceptions():
                app(standalone_mode=True)
        finally:
            advice.close_stdout()
    except V2FError as error:
        print(f"error ({type(error).__name__}): {error}", file=sys.stderr)
        if hint := advice.advice(error, argv):
            print(f"  {hint}", file=sys.stderr)
        code = error.exit_code
    except (OSError, MemoryError) as error:
        print(advice.named(error), file=sys.stderr)
        code = 1
    except (stopping.Stopped, KeyboardInterrupt) as error:
        print(advice.stopped(error, argv), file=sys.stderr)
        code = getattr(error, "exit_code", 130)
    if code:
        sys.exit(code)

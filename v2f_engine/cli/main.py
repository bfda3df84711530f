"""The root of the command line: groups its commands and turns named errors into one clear line."""

from __future__ import annotations

import sys

import typer

from v2f_engine.cli import (
    bench,
    dataset,
    evaluate,
    evaluate_recognisers,
    evaluate_report,
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

app = typer.Typer(
    name="v2f",
    help="Face-recognition training sets of people who do not exist.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
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
    """Entry point: named errors become their message on stderr and their exit code."""
    from v2f_engine.errors import BackendUnavailable, UnknownBackend, V2FError

    try:
        app(standalone_mode=True)
    except V2FError as error:
        print(f"error ({type(error).__name__}): {error}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (BackendUnavailable, UnknownBackend) as error:
        print(f"error ({type(error).__name__}): {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; what was committed is intact, the same command resumes.", file=sys.stderr)
        sys.exit(130)

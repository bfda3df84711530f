"""`v2f env`: what this machine has, which backends would run, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from v2f_engine.cli.flags import Device, Model, Precision


def env(
    device: Device = "auto",
    precision: Precision = "auto",
    self_test: Annotated[
        bool, typer.Option("--self-test", help="also measure whether the kernels are batch-invariant")
    ] = False,
    model: Model = "mini",
) -> None:
    """Show what this machine has and which backend runs each op, with the reason."""
    import platform
    from importlib import metadata

    import torch
    from v2f_kernels._triton import ptxas

    from v2f_engine import backends
    from v2f_engine.machine import no_extension
    from v2f_engine.runtime import RUNNERS, runner_for
    from v2f_engine.threads import settled

    typer.echo(f"python {platform.python_version()}  {platform.platform()}")
    for package in (
        "torch",
        "triton",
        "cupy-cuda13x",
        "tensorrt",
        "tensorrt-rtx-cu13",
        "onnxruntime",
        "numpy",
        "safetensors",
        "simplejpeg",
    ):
        try:
            typer.echo(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package} not installed")
    try:
        typer.echo(f"ptxas {ptxas.versions()}")
    except ptxas.PtxasMissing as error:
        typer.echo(f"ptxas: {error}")
    missing = no_extension()
    if missing:
        typer.echo(f"compiled extension: missing; {missing}")
    else:
        from v2f_kernels._native import EXTENSION

        typer.echo(f"compiled extension: {', '.join(EXTENSION.instruction_sets())}")
    threads = settled()
    quota = "none" if threads.cores.quota is None else f"{threads.cores.quota:g}"
    typer.echo(
        f"threads {torch.get_num_threads()}: {threads.count}; affinity {threads.cores.affinity}, quota {quota}"
    )
    typer.echo(f"threads wait {threads.waiting}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        typer.echo(f"cuda:{index} {torch.cuda.get_device_name(index)}")
    choice = backends.choose(device, precision)
    training = backends.choose(device, precision, gradients=True)
    typer.echo(f"device {choice.device}: {choice.reasons['device']}")
    typer.echo(f"precision {choice.precision}: {choice.reasons['precision']}")
    typer.echo(f"runner {runner_for('auto', choice.device)} (known: {', '.join(RUNNERS)})")
    typer.echo(f"table {choice.reasons['table']}")
    if choice.chunk:
        typer.echo(f"upper levels {choice.chunk} images at a time: {choice.reasons['chunk']}")
    typer.echo(f"rule: {backends.RULE}")
    for op in sorted(backends.OPS):
        _show(op, "*", choice.backends[op], choice.reasons[op])
        for shape, pick in choice.shapes.get(op, {}).items():
            _show("", shape, pick.use, pick.why)
        if training.backends[op] != choice.backends[op]:
            _show("", "*, gradients", training.backends[op], training.reasons[op])
        for shape, pick in training.shapes.get(op, {}).items():
            _show("", f"{shape}, gradients", pick.use, pick.why)
    if self_test:
        from v2f_engine.pipeline import Engine

        typer.echo(f"self-test: {Engine.load(model, device=device, precision=precision).self_test()}")


def _show(op: str, shape: str, use: str, why: str) -> None:
    typer.echo(f"{op:24} {shape:24} {use:15} {why}")

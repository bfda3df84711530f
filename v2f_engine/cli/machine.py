"""`v2f env`: what this machine has, which backends would run, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from v2f_engine.cli.flags import Device, Model, Precision
from v2f_engine.cli.saying import result, say

if TYPE_CHECKING:
    from v2f_engine.backends import Choice


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

    say(f"python {platform.python_version()}  {platform.platform()}")
    versions: dict[str, str | None] = {}
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
            versions[package] = metadata.version(package)
            say(f"{package} {versions[package]}")
        except metadata.PackageNotFoundError:
            versions[package] = None
            say(f"{package} not installed")
    result(python=platform.python_version(), platform=platform.platform(), packages=versions)
    try:
        say(f"ptxas {ptxas.versions()}")
    except ptxas.PtxasMissing as error:
        say(f"ptxas: {error}")
    missing = no_extension()
    if missing:
        say(f"compiled extension: missing; {missing}")
        result(extension=None, extension_missing=missing)
    else:
        from v2f_kernels._native import EXTENSION

        say(f"compiled extension: {', '.join(EXTENSION.instruction_sets())}")
        result(extension=list(EXTENSION.instruction_sets()))
    threads = settled()
    quota = "none" if threads.cores.quota is None else f"{threads.cores.quota:g}"
    say(
        f"threads {torch.get_num_threads()}: {threads.count}; affinity {threads.cores.affinity}, quota {quota}"
    )
    say(f"threads wait {threads.waiting}")
    result(threads=torch.get_num_threads(), affinity=threads.cores.affinity, quota=threads.cores.quota)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        say(f"cuda:{index} {torch.cuda.get_device_name(index)}")
    result(gpus=[torch.cuda.get_device_name(index) for index in range(count)])
    choice = backends.choose(device, precision)
    training = backends.choose(device, precision, gradients=True)
    say(f"device {choice.device}: {choice.reasons['device']}")
    say(f"precision {choice.precision}: {choice.reasons['precision']}")
    say(f"runner {runner_for('auto', choice.device)} (known: {', '.join(RUNNERS)})")
    result(
        device=choice.device, precision=choice.precision, runner=runner_for("auto", choice.device),
        runners=list(RUNNERS), chunk=choice.chunk, reasons=choice.reasons,
        backends=_chosen(choice), backends_with_gradients=_chosen(training),
    )  # fmt: skip
    say(f"table {choice.reasons['table']}")
    if choice.chunk:
        say(f"upper levels {choice.chunk} images at a time: {choice.reasons['chunk']}")
    say(f"rule: {backends.RULE}")
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

        measured = Engine.load(model, device=device, precision=precision).self_test()
        result(self_test=measured)
        say(f"self-test: {measured}")


def _chosen(choice: Choice) -> dict[str, dict[str, str]]:
    """Op -> shape class -> backend; `*` stands for every other shape."""
    return {
        op: {"*": use} | {shape: pick.use for shape, pick in choice.shapes.get(op, {}).items()}
        for op, use in sorted(choice.backends.items())
    }


def _show(op: str, shape: str, use: str, why: str) -> None:
    say(f"{op:24} {shape:24} {use:15} {why}")

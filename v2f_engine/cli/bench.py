"""`v2f bench`: how fast this machine is; and the benchmarks of a source checkout, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from v2f_engine.cli.flags import Device, Model, Precision, Runner
from v2f_engine.cli.saying import result, say

if TYPE_CHECKING:
    from v2f_engine.options import EngineOptions

SCRIPTS = {
    "ops": "bench.kernels.ops",  # every op: each backend judged, then timed
    "ladder": "bench.generation.ladder",  # from the published way to the CUDA graph, one change a rung
    "compare": "bench.generation.compare",  # ours against the published way on the same weights
    "writers": "bench.cpu.writers",  # the five dataset formats
    "reject": "bench.cpu.reject",  # rejection of similar identities on the CPU
    "train": "bench.training",  # the training step by rungs
    "gpu": "bench.gpu",  # all checks and measurements of a GPU
    "tune": "bench.kernels.tune",  # launch configurations of a GPU by time
}
"""Name -> module of the folder `bench/`, whose options follow the name."""


def bench(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(help="machine (default), or a script: " + ", ".join(SCRIPTS))
    ] = "machine",
    model: Model = "mini",
    device: Device = "auto",
    precision: Precision = "auto",
    runner: Runner = "auto",
    images: Annotated[int, typer.Option(help="images a round")] = 256,
    rounds: Annotated[int, typer.Option(help="rounds; the median is told")] = 3,
) -> None:
    """Measure generation on this machine, or run a benchmark script: `v2f bench ops --size tiny`."""
    from v2f_engine.config import at_least, one_of
    from v2f_engine.options import EngineOptions

    one_of("benchmark", what, ["machine", *SCRIPTS])
    if what == "machine":
        if context.args:
            raise typer.BadParameter(f"unexpected: {' '.join(context.args)}")
        at_least("images", images, 1)
        at_least("rounds", rounds, 1)
        _machine(EngineOptions(model, device, precision, runner=runner), images, rounds)
    else:
        code = _script(SCRIPTS[what], _passed_on(context))
        result(benchmark=what, script=SCRIPTS[what], exit_status=code)
        raise typer.Exit(code)


def _passed_on(context: typer.Context) -> list[str]:
    """What the user typed after the script's name: our own options of that name belong to the script, too."""
    named = []
    for name in ("model", "device", "precision", "rounds"):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            named += [f"--{name}", str(context.params[name])]
    return [*named, *context.args]


def _script(module: str, arguments: list[str]) -> int:
    import os
    import subprocess
    import sys
    from pathlib import Path

    from v2f_engine.errors import MissingDependency

    root = Path(__file__).parents[2]
    if not (root / "bench").is_dir():
        raise MissingDependency(
            "The benchmark scripts are in the source checkout, not in the installed package"
            f" ({root / 'bench'} is not there). Clone the repository and run `python -m {module}` in it."
        )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(root), os.environ.get("PYTHONPATH", "")))}
    return subprocess.run([sys.executable, "-m", module, *arguments], check=False, env=environment).returncode


def _machine(asked: EngineOptions, images: int, rounds: int) -> None:
    import statistics
    import tempfile
    import time
    from collections.abc import Callable
    from pathlib import Path

    from v2f_engine.data.records.plan import Plan
    from v2f_engine.data.writing.encode import Encoder
    from v2f_engine.data.writing.write import write_dataset
    from v2f_engine.pipeline import Engine
    from v2f_engine.vectors.sampling import sample_identities

    engine = Engine.open(asked)
    batch, choice = engine.runner.batch_size, engine.describe()["runner"]
    table = sample_identities(images, max_cosine=0.9, seed=0, source=engine.people.source)
    for _ in engine.images(table, 1, select=range(min(images, batch))):
        pass  # one call to warm up

    def host() -> None:
        for _ in engine.images(table, 1, batch_size=batch):
            pass

    def null(folder: str) -> None:
        write_dataset(
            Path(folder) / "null", {"bench": "machine"}, Plan.of(images, 1, None),
            lambda ids: engine.images(table, 1, batch_size=batch, select=ids), format="null", encoder=Encoder(),
        )  # fmt: skip

    def rate(name: str, call: Callable[[], None]) -> str:
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        middle = statistics.median(seconds)
        spread = f"{images / max(seconds):.1f} to {images / min(seconds):.1f}"
        rates = sorted(images / one for one in seconds)
        result(**{name: {"median": images / middle, "lowest": rates[0], "highest": rates[-1]}})
        return f"{images / middle:9.1f} images/s ({spread})"

    choices = ", ".join(f"{name} {choice[name]}" for name in ("runner", "device", "precision", "batch_size"))
    say(f"{engine.loaded.name}, {images} images, median of {rounds} rounds; {choices}")
    result(benchmark="machine", model=engine.loaded.name, images=images, rounds=rounds, runner=choice)
    say(f"bytes on the host      {rate('images_per_second', host)}")
    with tempfile.TemporaryDirectory() as folder:
        say(f"and JPEG, null writer  {rate('images_per_second_encoded', lambda: null(folder))}")

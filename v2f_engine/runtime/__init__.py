"""Runners: a whole frozen generator as one call, `(vectors, noise, n_masked) -> uint8 images`.

A runner is a name in a table, opened once by `Engine.load`. Nothing falls back: a runner that cannot run here
raises with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import at_least, one_of
from v2f_engine.errors import ConfigError, OutOfMemory

if TYPE_CHECKING:
    from v2f_engine.backends import Choice
    from v2f_engine.models.vec2face import Vec2Face
    from v2f_engine.models.weights import LoadedModel
    from v2f_engine.runtime.artefact import ServedModel

Inputs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""vectors `[B, 512]`, noise `[B, 49]`, n_masked `[B]`."""


class Runner(Protocol):
    """A frozen generator on one device.

    A runner always computes `batch_size` rows, padding the last call: which GEMM kernel a library picks
    depends on the number of rows, so a fixed number is what makes an image's bytes independent of how
    many others were asked for (a 768 -> 3072 Linear on a CPU gives other bits at batch 1 than at 64).
    """

    batch_size: int
    n_dropped: int

    def __call__(
        self, vectors: NDArray[np.float32], noise: NDArray[np.float32], n_masked: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """uint8 `[B, 112, 112, 3]` of vectors `[B, 512]`, noise `[B, 49]`, counts `[B]`; B <= batch_size."""
        ...

    def stream(self, batches: Iterable[Inputs]) -> Generator[NDArray[np.uint8]]:
        """Images of each batch, in order; a runner may take inputs ahead of the images it has yielded."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides the bytes of an image: runner, device, precision, backends, batch size."""
        ...


@runtime_checkable
class NetworkRunner(Runner, Protocol):
    """A runner that holds the network itself: what gradients, poses and other numbers of rows need.

    The engines of other libraries (ONNX, TensorRT) are not of this kind.
    """

    model: Vec2Face
    choice: Choice


def network_runner(runner: Runner, what: str) -> NetworkRunner:
    """`runner`, if it holds the network.

    Args:
        what: that cannot be done without: the start of the message.

    Raises:
        ConfigError: it is the engine of another library.
    """
    if isinstance(runner, NetworkRunner):
        return runner
    raise ConfigError(
        f"{what} needs the network itself, which runner {runner.describe().get('runner')!r} does not have."
        " Use runner='eager' or 'cuda_graph'."
    )


def with_rows(runner: Runner, rows: int) -> Runner:
    """The same network and kernels with `rows` rows a call, called op by op.

    Raises:
        OutOfMemory: the runner is a fixed engine (TensorRT, ONNX), whose rows cannot be changed.
    """
    from v2f_engine.runtime.eager import EagerRunner

    if not isinstance(runner, NetworkRunner):
        raise OutOfMemory(
            f"Out of memory, and the runner {runner.describe().get('runner')} computes {runner.batch_size} rows a "
            "call, no fewer. Free memory on the device, or build it with a smaller batch."
        )
    return EagerRunner(runner.model, runner.choice, n_dropped=runner.n_dropped, batch_size=rows)


def rows_of(inputs: Inputs, rows: slice | NDArray[np.int64]) -> Inputs:
    """Some rows of a batch's inputs."""
    vectors, noise, n_masked = inputs
    return vectors[rows], noise[rows], n_masked[rows]


RUNNERS = {
    "cuda_graph": "v2f_engine.runtime.cuda_graph:open_cuda_graph",
    "eager": "v2f_engine.runtime.eager:open_eager",
    "onnx": "v2f_engine.runtime.onnx:open_onnx",
    "tensorrt": "v2f_engine.runtime.tensorrt:open_tensorrt",
    "tensorrt-rtx": "v2f_engine.runtime.tensorrt:open_tensorrt",
}
"""Name -> `"module:function"`, imported when asked for. The function takes `(loaded, choice, n_dropped,
batch_size)` and gives a Runner."""

OpenRunner = Callable[["LoadedModel | ServedModel", "Choice", int, int], Runner]


def runner_for(name: str, device: str) -> str:
    """The runner's name: `auto` becomes `cuda_graph` on a GPU and `eager` on a CPU.

    Raises:
        ConfigError: a name that is not in `RUNNERS`.
    """
    if one_of("runner", name, ["auto", *RUNNERS]) != "auto":
        return name
    return "cuda_graph" if device.startswith("cuda") else "eager"


def open_runner(
    name: str, loaded: LoadedModel | ServedModel, choice: Choice, schedule_n_dropped: int, batch_size: int
) -> Runner:
    """Opens a runner of `RUNNERS` for a model.

    Args:
        name: in `RUNNERS`, or `auto`.
        loaded: the generator, or what is known of one inside an exported file.
        choice: device, precision and backends.
        schedule_n_dropped: rows that never enter the encoder, fixed by the mask schedule.
        batch_size: rows of every call.

    Raises:
        ConfigError: a name that does not exist, or a batch size below 1.
        BackendUnavailable: the runner cannot run on this machine or for this choice.
    """
    at_least("batch_size", batch_size, 1)
    module, _, function = RUNNERS[runner_for(name, choice.device)].partition(":")
    opened = cast(OpenRunner, getattr(import_module(module), function))
    return opened(loaded, choice, schedule_n_dropped, batch_size)

"""One steering iteration as a CUDA graph: forward, judges, input gradient and update in one launch."""

from __future__ import annotations

from collections.abc import Callable

import torch

from v2f_engine.errors import BackendUnavailable

WARM_UP = 3


def captured(iterate: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """A call that replays `iterate`, which works in place on tensors of fixed address and shape.

    Warm-up iterations run on idle slots, which an iteration leaves as they are.

    Raises:
        BackendUnavailable: not a GPU.
    """
    if device.type != "cuda":
        raise BackendUnavailable(f"A CUDA graph needs a GPU; the generator is on {device}. Use graph=False.")
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                iterate()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # as runtime.cuda_graph
            iterate()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay

"""cuDNN's graphs on a card: right at the decoder's sizes and odd ones, the same bits again, on any stream, captured.

The plans themselves (engines, workspaces) are held without a card: `tests/kernels/test_cudnn_plans.py`.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from v2f_kernels import BackendUnavailable, Op
from v2f_kernels._judge import judge
from v2f_kernels.conv3x3 import OP as CONV
from v2f_kernels.gelu_linear import OP as GELU

pytestmark = pytest.mark.gpu

HALVES = (torch.float16, torch.bfloat16)
SIZES = [  # B, C, O, H, W
    (4, 512, 512, 7, 7),
    (4, 512, 256, 14, 14),
    (4, 256, 256, 28, 28),
    (4, 256, 128, 56, 56),
    (3, 128, 128, 112, 112),
    (5, 48, 24, 9, 23),
]


def backend(op: Op, name: str) -> Any:
    try:
        return op.backend(name)
    except BackendUnavailable as error:
        pytest.skip(str(error))


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float16, scale: float = 1.0) -> torch.Tensor:
    x = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to("cuda", dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def convolution(dtype: torch.dtype, size: tuple[int, ...]) -> dict[str, torch.Tensor]:
    b, c, o, h, w = size
    return {
        "x": noise(b, c, h, w, dtype=dtype),
        "weight": noise(o, c, 3, 3, seed=1, dtype=dtype, scale=(9 * c) ** -0.5),
        "bias": noise(o, seed=2, dtype=dtype),
        "residual": noise(b, o, h, w, seed=3, dtype=dtype),
    }


def compare(op: Op, name: str, named: dict[str, torch.Tensor]) -> None:
    """y and every gradient against fp64, and the same bits on three runs."""
    functions = {name: backend(op, name), "reference": op.backend("reference"), "torch": op.backend("torch")}
    results: dict[str, dict[str, torch.Tensor]] = {}
    for which, function in functions.items():
        wide = torch.float64 if which == "reference" else None
        inputs = {k: t.detach().to(wide or t.dtype).requires_grad_() for k, t in named.items()}
        y = function(**inputs)
        gradients = torch.autograd.grad(
            y, list(inputs.values()), noise(*y.shape, seed=9, dtype=torch.bfloat16).to(y)
        )
        results[which] = {"y": y, **{f"d{k}": g for k, g in zip(inputs, gradients, strict=True)}}
    failed = {
        part: str(verdict)
        for part, mine in results[name].items()
        if not (verdict := judge(mine, results["reference"][part], results["torch"][part])).passed
    }
    assert not failed
    with torch.no_grad():
        assert all(torch.equal(functions[name](**named), results[name]["y"]) for _ in range(3))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("without", [(), ("bias",), ("residual",), ("bias", "residual")])
@pytest.mark.parametrize("size", SIZES)
def test_convolution(size: tuple[int, ...], without: tuple[str, ...], dtype: torch.dtype) -> None:
    compare(CONV, "cudnn", {k: t for k, t in convolution(dtype, size).items() if k not in without})


@pytest.mark.parametrize("name", ["cudnn", "quack"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("rows", "inner"), [((16, 45), 768), ((16, 50), 768), ((3, 7), 192), ((1,), 768)])
def test_gelu_linear(rows: tuple[int, ...], inner: int, dtype: torch.dtype, name: str) -> None:
    named = {
        "x": noise(*rows, inner, dtype=dtype),
        "weight": noise(4 * inner, inner, seed=1, dtype=dtype, scale=2 * inner**-0.5),
        "bias": noise(4 * inner, seed=2, dtype=dtype),
    }
    compare(GELU, name, named)


def test_a_captured_graph_replays_what_it_would_compute() -> None:
    """On the capture's own stream, twice, with new numbers in the same memory; a new plan in a capture is refused."""
    conv, given = backend(CONV, "cudnn"), convolution(torch.float16, SIZES[2])
    del given["bias"]
    with torch.no_grad():
        conv(**given)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            y = conv(**given)
            with pytest.raises(BackendUnavailable, match="run the network once"):
                conv(given["x"][:3], given["weight"])
        for seed in (20, 30):
            given["x"].copy_(noise(*given["x"].shape, seed=seed))
            y.fill_(float("nan"))
            graph.replay()
            torch.cuda.synchronize()
            assert torch.equal(y, conv(**given))


def test_two_threads_on_streams_of_their_own() -> None:
    conv, size = backend(CONV, "cudnn"), SIZES[2]
    inputs = [{**convolution(torch.float16, size), "bias": noise(size[2], seed=n)} for n in (40, 50)]
    expected = [conv(**given) for given in inputs]
    torch.cuda.synchronize()
    wrong: list[int] = []

    def work(number: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()), torch.no_grad():
            made = [conv(**inputs[number]) for _ in range(100)]
            torch.cuda.current_stream().synchronize()
            wrong.append(sum(not torch.equal(y, expected[number]) for y in made))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0, 0]


def test_compiles_in_one_graph() -> None:
    conv, gelu = backend(CONV, "cudnn"), backend(GELU, "cudnn")
    given = convolution(torch.float16, (2, 64, 64, 14, 14))
    weight, bias = noise(256, 64, seed=5, scale=0.1), noise(256, seed=6)

    def block(x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = gelu(conv(x, w, residual=residual).permute(0, 2, 3, 1), weight, bias)
        return y

    with torch.no_grad():
        inputs = given["x"], given["weight"], given["residual"]
        assert torch.equal(torch.compile(block, fullgraph=True)(*inputs), block(*inputs))

"""Ops as graphs of cuDNN, run by an imagined library: operands, layouts, order, plans kept, streams, gradients."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from v2f_kernels import BackendUnavailable
from v2f_kernels._cudnn import plans
from v2f_kernels._judge import judge
from v2f_kernels.conv3x3 import OP as CONV
from v2f_kernels.gelu_linear import OP as GELU

from bench.candidates import enlist
from tests.kernels.imagined_cudnn import MODULES, Imagined, forget

enlist()
HALVES = (torch.float16, torch.bfloat16)


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> Iterator[Imagined]:
    """The library in place of the real one; nothing of it stays behind."""
    made = Imagined()
    monkeypatch.setitem(sys.modules, "cudnn", made)  # type: ignore[arg-type]
    monkeypatch.setattr(plans, "PLACES", ("cpu", "cuda", "meta"))
    forget()
    yield made
    forget()


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float16, scale: float = 1.0) -> torch.Tensor:
    x = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def convolution(
    dtype: torch.dtype, *, b: int = 2, c: int = 8, o: int = 16, h: int = 5, w: int = 7
) -> dict[str, Any]:
    return {
        "x": noise(b, c, h, w, dtype=dtype),
        "weight": noise(o, c, 3, 3, seed=1, dtype=dtype, scale=(9 * c) ** -0.5),
        "bias": noise(o, seed=2, dtype=dtype),
        "residual": noise(b, o, h, w, seed=3, dtype=dtype),
    }


def compare(op: Any, call: Callable[..., Any], named: dict[str, Any], cotangent: torch.Tensor) -> None:
    """y and every gradient by name against fp64, allowed twice plain torch's error."""
    results = {}
    for backend, dtype in (("cudnn", None), ("reference", torch.float64), ("torch", None)):
        inputs = {k: t.detach().to(dtype or t.dtype).requires_grad_() for k, t in named.items()}
        y = call(op.backend(backend), **inputs)
        gradients = torch.autograd.grad(y, list(inputs.values()), cotangent.to(y.dtype))
        results[backend] = {"y": y, **{f"d{k}": g for k, g in zip(inputs, gradients, strict=True)}}
    for name, mine in results["cudnn"].items():
        verdict = judge(mine, results["reference"][name], results["torch"][name])
        assert verdict.passed, f"{name}: {verdict}"


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("without", [(), ("bias",), ("residual",), ("bias", "residual")])
@pytest.mark.parametrize("channels_last", [True, False])
def test_convolution(
    imagined: Imagined, dtype: torch.dtype, without: tuple[str, ...], channels_last: bool
) -> None:
    named = {k: t for k, t in convolution(dtype).items() if k not in without}
    if not channels_last:
        named = {k: t.contiguous() for k, t in named.items()}
    y = CONV.backend("cudnn")(**named)
    assert y.is_contiguous(memory_format=torch.channels_last)
    compare(CONV, lambda f, **given: f(**given), named, noise(*y.shape, seed=9, dtype=dtype))
    steps = {
        (): ["conv", "residual", "bias"],
        ("residual",): ["conv", "bias"],
        ("bias", "residual"): ["conv"],
    }
    # a residual without a bias gets one of zeros: the library has no precompiled kernel for it alone
    assert imagined.built[0].steps == steps.get(without, ["conv", "residual", "bias"])
    assert len(imagined.built) == 1, "once a shape, dtype and operands"


def test_sums_are_rounded_once(imagined: Imagined) -> None:
    """bf16 with a residual of 256 and a bias of -256: adding in bf16 would leave nothing of what the product says."""
    x, weight = torch.ones(1, 8, 3, 3, dtype=torch.bfloat16), torch.zeros(8, 8, 3, 3, dtype=torch.bfloat16)
    weight[:, 0, 1, 1] = 0.25
    bias, residual = torch.full((8,), -256.0).bfloat16(), torch.full((1, 8, 3, 3), 256.0).bfloat16()
    assert torch.equal(CONV.backend("cudnn")(x, weight, bias, residual), torch.full_like(residual, 0.25))


def test_norm_and_statistics_are_those_of_the_contract(imagined: Imagined) -> None:
    named = convolution(torch.float16)
    norm = noise(8, seed=5), noise(8, seed=6), 2, 1e-6
    results = {b: CONV.backend(b)(**named, norm=norm, out_groups=4) for b in ("cudnn", "torch", "reference")}
    for part in range(2):
        mine, native, exact = (results[b][part] for b in ("cudnn", "torch", "reference"))
        assert judge(mine, exact, native).passed


def test_plans_are_kept_and_never_mixed(imagined: Imagined) -> None:
    conv = CONV.backend("cudnn")
    for _ in range(3):
        for dtype in HALVES:
            for sizes in ({}, {"b": 3}, {"h": 7, "w": 5}, {"c": 16, "o": 8}):
                named = convolution(dtype, **sizes)
                mine, exact = conv(**named), CONV.backend("reference")(**named)
                assert judge(mine, exact, CONV.backend("torch")(**named)).passed
    assert len(imagined.built) == 8
    assert {graph.executed for graph in imagined.built} == {3}
    assert len(imagined.handles) == 1, "one a device"


def test_each_device_has_its_own_plans_and_handle(
    imagined: Imagined, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = _convolution_plan()
    monkeypatch.setattr(plans, "_current", lambda device: torch.cuda.device(-1))
    monkeypatch.setattr(plans, "capturing", lambda device: False)
    found = [plans.plan_for(what, torch.device(name)) for name in ("cuda:0", "cuda:1", "cuda:0")]
    assert found[0] is found[2]
    assert found[0] is not found[1]
    assert len(imagined.handles) == 2
    assert [graph.told["handle"] for graph in imagined.built] == imagined.handles


def test_descriptions_of_two_kinds_are_never_one_plan(imagined: Imagined) -> None:
    """Named tuples of equal values are equal, whatever they are called."""
    conv = _convolution_plan()
    other = importlib.import_module(MODULES[0]).Convolution
    twin = type("Twin", (other,), {"precompiled": True})(*conv)
    assert twin == conv
    cpu = torch.device("cpu")
    assert plans.plan_for(conv, cpu) is not plans.plan_for(twin, cpu)


def test_the_stream_is_the_current_one_at_each_call(
    imagined: Imagined, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = iter([7, 8, 7])
    monkeypatch.setattr(plans, "stream_of", lambda device: next(streams))
    for _ in range(3):
        CONV.backend("cudnn")(**convolution(torch.float16))
    assert imagined.streams == [7, 8, 7]


def test_a_capture_replays_known_plans_and_refuses_new_ones(
    imagined: Imagined, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = CONV.backend("cudnn")
    known = convolution(torch.float16)
    expected = conv(**known)
    module = importlib.import_module(MODULES[0])
    for place in (plans, module):
        monkeypatch.setattr(place, "capturing", lambda device: True)
    assert torch.equal(conv(**known), expected)
    del known["bias"]  # the same plan, with zeros; they are the graph's own and nobody keeps them
    conv(**known)
    assert not module._no_bias
    with pytest.raises(BackendUnavailable, match="run the network once on the same shapes before"):
        conv(**convolution(torch.float16, b=5))
    assert len(imagined.built) == 1


def test_a_view_that_begins_between_is_copied(imagined: Imagined) -> None:
    named = convolution(torch.float16)
    memory = torch.zeros(named["bias"].numel() + 1, dtype=torch.float16)
    memory[1:] = named["bias"]
    assert memory[1:].data_ptr() % plans.ALIGNMENT
    assert torch.equal(CONV.backend("cudnn")(**{**named, "bias": memory[1:]}), CONV.backend("cudnn")(**named))


def test_only_what_the_library_ships_is_taken(imagined: Imagined) -> None:
    """Not a Python engine of the frontend's, not one compiled at run time, not one that does not build."""
    compiled = ("behavior_note.RUNTIME_COMPILATION",)
    imagined.first = [("frost_conv", 0, ()), ("eng4_k24=3", 0, compiled), ("eng0", 0, ())]
    plan = plans.build(_convolution_plan(), handle=imagined.create_handle())
    assert (plan.engine, plan.workspace) == ("eng41_k2=0", 131)
    assert "NONDETERMINISTIC" in imagined.built[0].refused_notes
    with pytest.raises(
        BackendUnavailable, match=r"frost_conv \(not cuDNN's\), eng4_k24=3 \(compiled at run time\)"
    ):
        plans.build(_convolution_plan()._replace(bias=False), handle=imagined.create_handle())


def _convolution_plan() -> Any:
    return importlib.import_module(MODULES[0]).Convolution(2, 8, 16, 5, 7, torch.float16, True, True)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [(3, 5, 8), (7, 8), (2, 2, 2, 24)])
def test_gelu_linear(imagined: Imagined, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    inner = shape[-1]
    named = {
        "x": noise(*shape, dtype=dtype).contiguous(),
        "weight": noise(4 * inner, inner, seed=1, dtype=dtype, scale=2 * inner**-0.5),
        "bias": noise(4 * inner, seed=2, dtype=dtype),
    }
    compare(
        GELU,
        lambda f, **given: f(**given),
        named,
        noise(*shape[:-1], 4 * inner, seed=3, dtype=dtype).contiguous(),
    )
    assert imagined.built[0].steps == ["matmul", "bias", "gelu"]
    assert len(imagined.built) == 1


def test_gelu_linear_without_rows_plans_nothing(imagined: Imagined) -> None:
    y = GELU.backend("cudnn")(torch.empty(0, 8).half(), torch.empty(16, 8).half(), torch.empty(16).half())
    assert y.shape == (0, 16)
    assert not imagined.built


def test_a_product_without_cuda_bindings_says_what_to_install(imagined: Imagined) -> None:
    imagined.missing = "No module named 'cuda.bindings'"
    with pytest.raises(BackendUnavailable, match="pip install cuda-bindings"):
        GELU.backend("cudnn")(noise(4, 8), noise(16, 8), noise(16))


def test_the_registered_ops_are_as_torch_wants_them(imagined: Imagined) -> None:
    named = convolution(torch.float16)
    x, weight, bias, residual = (t.requires_grad_() for t in named.values())
    conv = importlib.import_module(MODULES[0] if CONV.backend("cudnn") else "").forward_op
    for inputs in ((x, weight, bias, residual), (x, weight, None, None), (x, weight, None, residual)):
        torch.library.opcheck(conv, inputs)
    gelu = importlib.import_module(MODULES[1] if GELU.backend("cudnn") else "").forward_op
    torch.library.opcheck(gelu, (noise(3, 8).requires_grad_(), noise(16, 8, seed=1), noise(16, seed=2)))


def test_they_compile_in_one_graph(imagined: Imagined) -> None:
    conv, gelu = CONV.backend("cudnn"), GELU.backend("cudnn")
    weight, bias = noise(32, 16, seed=5, scale=0.3), noise(32, seed=6)

    def block(x: torch.Tensor, w: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = gelu(conv(x, w, residual=residual).permute(0, 2, 3, 1), weight, bias)
        return y

    given = convolution(torch.float16)
    inputs = given["x"], given["weight"], given["residual"]
    with torch.no_grad():
        assert torch.equal(torch.compile(block, fullgraph=True, backend="aot_eager")(*inputs), block(*inputs))


@pytest.mark.parametrize("op", [CONV, GELU])
def test_other_dtypes_and_places_are_refused(
    imagined: Imagined, op: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = noise(1, 8, 3, 3, dtype=torch.float32) if op is CONV else noise(4, 8, dtype=torch.float32)
    given = (
        (x, noise(16, 8, 3, 3, dtype=torch.float32)) if op is CONV else (x, x, noise(4, dtype=torch.float32))
    )
    with pytest.raises(ValueError, match="expected float16 or bfloat16, found torch.float32"):
        op.backend("cudnn")(*given)
    function = op.backend("cudnn")
    monkeypatch.undo()
    with pytest.raises(BackendUnavailable, match="needs CUDA tensors, found one on cpu"):
        function(*(t.half() for t in given))

"""Operator of ATen -> the kernels of torch's CUDA code for it; others are one kernel over their tensors each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch

from bench.training.trace import norms
from bench.training.trace.kernels import (
    Kernel,
    chunks,
    elementwise,
    flat,
    product,
    size,
)

Tensor = torch.Tensor
Call = norms.Call

NO_KERNEL = {
    "prim.device", "aten.detach", "aten._unsafe_view", "aten.empty", "aten.empty_like", "aten.new_empty",
    "aten.empty_strided", "aten.new_empty_strided", "aten.lift_fresh", "aten.resize_", "aten.set_",
    "aten.is_same_size", "aten._reshape_alias", "aten.record_stream", "aten.sym_size", "aten._version",
    "aten.broadcast_tensors", "aten.unfold", "aten._nested_tensor_size",
}  # fmt: skip


def depthwise(x: Tensor, weight: Tensor, groups: int) -> bool:
    return groups > 1 and groups == x.shape[1]


def _narrow(weight: Tensor, kind: str) -> str:
    return "narrow convolution" if min(weight.shape[:2]) < 16 else kind


def _channels_last(x: Tensor, weight: Tensor) -> bool:
    """cuDNN's choice: channels-last where either operand suggests it."""
    return torch.channels_last in (suggested(x), suggested(weight))


def suggested(tensor: Tensor) -> torch.memory_format:
    """As `Tensor::suggest_memory_format`."""
    found = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if found and not tensor.is_contiguous() else torch.contiguous_format


def _laid(name: str, tensor: Tensor, form: torch.memory_format) -> list[Kernel]:
    """The copy that cuDNN's binding makes of an operand of another layout."""
    if tensor.is_contiguous(memory_format=form):
        return []
    copy = torch.empty_like(tensor, memory_format=form)
    return [elementwise(f"{name}: operand copied", [tensor], [copy])]


def _work(x: Tensor, weight: Tensor, y: Tensor, transposed: bool) -> float:
    """FLOP of a convolution; the same for each of its gradients."""
    spread = x if transposed else y
    return 2.0 * spread.numel() / spread.shape[1] * prod(weight.shape)


def convolution(call: Call) -> list[Kernel]:
    x, weight, bias, _, _, _, transposed, _, groups = call[0]
    y = call[2]
    form = torch.channels_last if _channels_last(x, weight) else torch.contiguous_format
    made = [*_laid("convolution", x, form), *_laid("convolution", weight, form)]
    if depthwise(x, weight, groups):
        made.append(
            Kernel(
                "depthwise",
                "depthwise",
                y.numel() * weight.shape[2] * weight.shape[3] / 11,
                size(x) + size(y),
            )
        )
    else:
        made.append(
            product(
                "convolution", _work(x, weight, y, transposed), [x, weight, y], _narrow(weight, "convolution")
            )
        )
    if bias is not None:
        made.append(elementwise("bias of a convolution", [y, bias], [y], "broadcast"))
    return made


def convolution_backward(call: Call) -> list[Kernel]:
    grad, x, weight, _, _, _, _, transposed, _, groups, mask = call[0]
    dx, dw, db = call[2]
    form = torch.channels_last if _channels_last(x, weight) else torch.contiguous_format
    made = _laid("convolution backward", grad, form) if mask[0] or mask[1] else []
    work = _work(x, weight, grad, transposed)
    for wanted, other, result, kind in (
        (mask[0], weight, dx, "input gradient"),
        (mask[1], x, dw, "weight gradient"),
    ):
        if not wanted:
            continue
        made += _laid("convolution backward", other, form)
        if depthwise(x, weight, groups):
            taps = weight.shape[2] * weight.shape[3] / 11
            made.append(Kernel(f"depthwise, {kind}", "depthwise", grad.numel() * taps, size(grad) + size(x)))
        else:
            made.append(product(kind, work, [grad, other, result], _narrow(weight, kind)))
    if mask[2]:
        made.append(elementwise("bias gradient", [grad], [db], "reduction"))
    return made


def addmm(call: Call) -> list[Kernel]:
    bias, a, b = call[0][:3]
    made = [product("addmm", 2.0 * a.shape[0] * a.shape[1] * b.shape[1], [a, b, call[2]])]
    return made if bias.ndim == 1 else [elementwise("addmm: copy", [bias], [call[2]]), *made]


def mm(call: Call) -> list[Kernel]:
    a, b = call[0][:2]
    return [product("mm", 2.0 * a.shape[0] * a.shape[1] * b.shape[1], [a, b, call[2]])]


def bmm(call: Call) -> list[Kernel]:
    a, b = call[0][-2:]
    return [product("bmm", 2.0 * prod(a.shape) * b.shape[2], [a, b, call[2]])]


def reduction(call: Call) -> list[Kernel]:
    reads = list(flat(call[0]))
    return [elementwise("reduction", reads, list(flat(call[2])), "reduction")]


def mean_loss(call: Call) -> list[Kernel]:
    """The difference is written, then reduced."""
    a, b = call[0][:2]
    difference = torch.empty_like(a)
    return [
        elementwise("loss", [a, b], [difference]),
        elementwise("loss: mean", [difference], [], "reduction"),
    ]


def nearest(call: Call) -> list[Kernel]:
    tensors = [*flat(call[0]), *flat(call[2])]
    return [elementwise("nearest", tensors, [], "nearest")]


def zeros_then_copy(call: Call) -> list[Kernel]:
    made = call[2]
    grad = call[0][0]
    return [elementwise("fill", [], [made]), elementwise("gradient of a slice", [grad], [grad])]


def sort(call: Call) -> list[Kernel]:
    return [elementwise("sort", list(flat(call[0])), list(flat(call[2])), launches=4)]


def two(call: Call) -> list[Kernel]:
    x = next(iter(flat(call[0])))
    rest = list(flat(call[0]))[1:]
    return [elementwise("copy", [x], [x]), elementwise("scatter or gather", rest, [])]


def fused_adamw(call: Call) -> list[Kernel]:
    parameters, grads, first, second = call[0][:4]
    lists = [parameters, grads, first, second]
    every = [t for one in lists for t in one]
    moved = sum(map(size, every)) + sum(size(t) for one in (parameters, first, second) for t in one)
    count = sum(t.numel() for t in parameters)
    return [Kernel("fused AdamW", "memory", count, moved, wide=moved, launches=chunks(lists, 4))]


def fused_sgd(call: Call) -> list[Kernel]:
    lists = [one for one in call[0][:3] if one]
    moved = sum(size(t) for one in lists for t in one) + sum(
        size(t) for one in (lists[0], lists[-1]) for t in one
    )
    count = sum(t.numel() for t in lists[0])
    return [Kernel("fused SGD", "memory", count, moved, wide=moved, launches=chunks(lists, len(lists)))]


def foreach(name: str, call: Call) -> list[Kernel]:
    """One pass over lists of tensors; a kernel a tensor where their shapes differ, which the fast way refuses."""
    values = [*call[0], *call[1].values()]
    lists = [v for v in values if isinstance(v, (list, tuple)) and v and isinstance(v[0], torch.Tensor)]
    if not lists:
        return []
    first = lists[0]
    every = [t for one in lists for t in one]
    result = [t for t in flat(call[2]) if t is not None]
    inplace = name.endswith("_")
    writes = list(first) if inplace or not result else result
    moved = sum(map(size, every)) + sum(map(size, writes))
    count = sum(t.numel() for t in first)
    casts = name == "_foreach_copy_"  # whose fast way reads one dtype and writes another
    unlike = any(
        t.shape != f.shape or (t.dtype != f.dtype and not casts) or t.stride() != f.stride()
        for one in lists[1:]
        for t, f in zip(one, first, strict=False)
    )
    launches = len(first) if unlike else chunks(lists, len(lists) + (0 if inplace else 1))
    if name == "_foreach_norm":
        launches = 2 * chunks(lists, 1)
    return [Kernel(name, "memory", count, moved, wide=moved, launches=max(1, launches))]


REDUCTIONS = (
    "sum",
    "mean",
    "linalg_vector_norm",
    "norm",
    "amax",
    "amin",
    "max",
    "min",
    "any",
    "all",
    "std",
    "var",
    "argmax",
)
KNOWN: Mapping[str, Callable[[Call], list[Kernel]]] = {
    "convolution": convolution,
    "convolution_backward": convolution_backward,
    "addmm": addmm,
    "mm": mm,
    "bmm": bmm,
    "baddbmm": bmm,
    "native_batch_norm": norms.batch_norm,
    "native_batch_norm_backward": norms.batch_norm_backward,
    "native_group_norm": norms.group_norm,
    "native_group_norm_backward": norms.group_norm_backward,
    "native_layer_norm_backward": norms.layer_norm_backward,
    "mse_loss": mean_loss,
    "upsample_nearest2d": nearest,
    "upsample_nearest2d_backward": nearest,
    "slice_backward": zeros_then_copy,
    "select_backward": zeros_then_copy,
    "sort": sort,
    "topk": sort,
    "scatter": two,
    "index_put": two,
    "_index_put_impl": two,
    "_fused_adamw_": fused_adamw,
    "_fused_sgd_": fused_sgd,
    **dict.fromkeys(REDUCTIONS, reduction),
}  # fmt: skip


def kernels_of(operator: torch._ops.OpOverload, call: Call) -> list[Kernel]:
    """What a call of `operator` launches."""
    name = operator._schema.name.replace("::", ".")
    short = name.partition(".")[2]
    if name in NO_KERNEL or any(
        r.alias_info is not None and not r.alias_info.is_write for r in operator._schema.returns
    ):
        return []
    if short.startswith("_foreach"):
        return foreach(short, call)
    if short in KNOWN:
        return KNOWN[short](call)
    reads = [t for t in flat([*call[0], *call[1].values()]) if t.device.type != "cpu"]
    writes = [t for t in flat(call[2]) if t.device.type != "cpu"]
    if not reads and not writes:
        return []
    if short.rstrip("_") in ("copy",) and call[0][0].device.type != "cpu":
        reads = reads[1:]
    if short in ("zero_", "fill_") or short.endswith("_like"):
        reads = []
    if not any(t.numel() for t in (*reads, *writes)):
        return []
    return [elementwise(short, reads, writes)]

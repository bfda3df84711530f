"""A linear layer whose weight a CPU's library reads in its own order, laid out once instead of in every call.

The bits are those of `F.linear`, on which the tests insist, so no manifest speaks of it. One Zen 4 core, bf16, ms,
`F.linear` first: [720, 768] x [768, 3072] 18.4 and 16.3, [720, 3072] x [3072, 768] 16.6 and 15.7; the 80 products of a
base batch of 16 take 1,139 and 1,029. A weight is held twice, which is 285 MB at base size.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from v2f_kernels._prepared import Prepared


def _laid_out(weight: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return made


laid_out = Prepared(_laid_out)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear(x, weight, bias)`, bit for bit."""
    if not (_quicker(x, weight) and _fits(x, weight, bias)):
        return F.linear(x, weight, bias)
    y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, laid_out(weight), bias, "none", [], "")
    return y


def _fits(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether the library takes these arguments with torch's bits: of a transposed x it makes others, a bias in fp32 it
    accepts, and wrong sizes it refuses without naming them."""
    return (
        x.is_contiguous()
        and weight.ndim == 2
        and x.ndim > 0
        and x.shape[-1] == weight.shape[1]
        and (bias is None or (bias.dtype == x.dtype and bias.shape == weight.shape[:1]))
    )


def _quicker(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.bfloat16
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not weight.is_inference()
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0  # fake tensors, make_fx, counters of operations
        and _library()
    )


@cache
def _library() -> bool:
    """Whether oneDNN is there, multiplies bf16 and lends the two functions, which torch made for its own compiler."""
    ops = torch.ops.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return (
        bool(torch._C._has_mkldnn)
        and all(hasattr(ops, name) for name in names)
        and bool(ops._is_mkldnn_bf16_supported())
    )

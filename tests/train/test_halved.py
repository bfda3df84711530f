"""Half-precision copies of weights: the roundings and gradients of autocast, in two calls instead of one a weight."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train_harness import TINY

from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.train.halved import cast_where_used, halved


class Casts(TorchDispatchMode):
    """Counts single casts between fp32 and bf16 of tensors that are weights by shape, and calls that cast many."""

    def __init__(self, shapes: set[torch.Size]) -> None:
        super().__init__()
        self.shapes, self.single, self.many = shapes, 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default:
            self.single += args[0].shape in self.shapes and args[0].dtype != out.dtype
        self.many += function is torch.ops.aten._foreach_copy_.default
        return out


def made() -> tuple[Vec2Face, tuple[Any, ...]]:
    torch.manual_seed(0)
    model = Vec2Face(TINY)
    model.initialise(torch.Generator().manual_seed(1))
    draw = torch.Generator().manual_seed(2)
    vectors, noise = torch.randn(2, 512, generator=draw), torch.rand(2, 49, generator=draw)
    return model, (vectors, noise, torch.tensor([20, 30]), 5)


def gradients(
    model: Vec2Face, inputs: tuple[Any, ...], names: list[str]
) -> tuple[dict[str, torch.Tensor], Casts]:
    weights = dict(model.named_parameters())
    with Casts({weights[name].shape for name in cast_where_used(model)}) as seen:
        with torch.autocast("cpu", torch.bfloat16):
            copies = halved(model, names, torch.bfloat16) if names else {}
            output = torch.func.functional_call(model, copies, inputs)
        (output.images.float().square().mean() + output.tokens.float().sum() / 1e3).backward()
    return {name: weight.grad for name, weight in weights.items() if weight.grad is not None}, seen


def test_the_bits_of_autocast_in_two_calls() -> None:
    model, inputs = made()
    names = cast_where_used(model)
    plain, before = gradients(model, inputs, [])
    model.zero_grad()
    found, after = gradients(model, inputs, names)
    assert plain.keys() <= found.keys()
    assert all(torch.equal(value, found[name]) for name, value in plain.items())
    assert all(value.dtype == torch.float32 for value in found.values())
    assert (before.many, after.many) == (0, 2)
    used = [name for name in names if name in plain]
    assert len(used) > 35
    assert before.single - after.single == 2 * len(used)  # what is left: norms and activations of such shapes


def test_what_is_read_elsewhere_and_what_is_not_trained_stays() -> None:
    model, _ = made()
    model.patch_embed.requires_grad_(False)
    names = cast_where_used(model)
    assert {"blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias", "im_decoder.conv_in.weight"} <= set(names)
    left = (
        "latent_prior_proj_f",
        "feature_token",
        "im_decoder.conv_out",
        "patch_embed",
        "norm",
        "im_decoder.norm_out",
    )
    assert not [name for name in names if name.startswith(left)]
    assert "im_decoder.conv_in.bias" not in names

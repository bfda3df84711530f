"""Perturbation on the device: launcher, registered op with gradients, public functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from numpy.typing import ArrayLike
from torch import Tensor
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.philox.reference import check_integer

from bench.candidates.perturb.triton_perturb import perturb_kernel
from bench.candidates.philox.triton_op import key_of, signed, words


def launch_perturb(
    vectors: Tensor,
    sigma: Tensor,
    noise: Tensor | None,
    drawn: tuple[int, int, Tensor, Tensor] | None,
    out: Tensor,
) -> None:
    """out [B, D] <- perturbed vectors, with `noise` [B, D] or `drawn` = (seed, purpose, identity, image)."""
    require_cuda("perturb", vectors, sigma, out)
    seed, purpose, identity, image = drawn if drawn is not None else (0, 0, None, None)
    block = max(4, triton.next_power_of_2(vectors.shape[1]))
    config = launch_config("perturb", "perturb", out.device)
    perturb_kernel[(vectors.shape[0],)](
        vectors, sigma, noise, identity, image, out, signed(purpose), *key_of(seed), D=vectors.shape[1],
        DRAWN=drawn is not None, BLOCK=block, LOG2_BLOCK=block.bit_length() - 1, enable_fp_fusion=False,
        **config.arguments,
    )  # fmt: skip


class Perturb(NamedTuple):
    """[B, D] with given noise; all contiguous float32."""

    vectors: Tensor  # [B, D]
    sigma: Tensor  # [B]
    noise: Tensor  # [B, D]

    def outputs(self) -> Tensor:
        return torch.empty_like(self.vectors)

    def launch(self, out: Tensor) -> None:
        launch_perturb(*self, None, out)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y = m |x| / |m| with m = x + sigma n: dm = (dy - m (dy.m) / |m|^2) |x| / |m|.

    |x| itself adds x (dy.m) / (|x| |m|) to the gradient of x.
    """
    x, sigma, noise = ctx.saved_tensors
    m = x + sigma[:, None] * noise
    own, moved = x.norm(dim=1, keepdim=True), m.norm(dim=1, keepdim=True)
    along = (dy * m).sum(1, keepdim=True)
    dm = (dy - m * along / moved.square()) * (own / moved)
    return dm + x * along / (own * moved), (dm * noise).sum(1), dm * sigma[:, None]


perturb_op = registered("v2f::perturb", Perturb, setup_context=_setup_context, backward=_backward)


def perturb(vectors: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """See the contract in `v2f_kernels.perturb`; torch tensors on a GPU."""
    _check(vectors, sigma)
    if noise.shape != vectors.shape or noise.dtype != torch.float32:
        raise ValueError(
            f"perturb expects noise float32 {list(vectors.shape)}, found {noise.dtype} {list(noise.shape)}"
        )
    out: Tensor = perturb_op(vectors.contiguous(), sigma.contiguous(), noise.contiguous())
    return out


@torch.no_grad()
def perturb_drawn(
    vectors: Tensor,
    sigma: Tensor,
    seed: int,
    purpose: int,
    identity: Tensor | ArrayLike,
    image: Tensor | ArrayLike,
) -> Tensor:
    """See the contract in `v2f_kernels.perturb`; identity, image: uint32 tensors or integers on the host."""
    _check(vectors, sigma)
    check_integer("purpose", purpose, 32)
    places = [words("identity", identity, vectors.device), words("image", image, vectors.device)]
    if any(len(place) != len(vectors) for place in places):
        raise ValueError(
            f"perturb_drawn expects identity and image [B = {len(vectors)}], found lengths "
            f"{[len(place) for place in places]}"
        )
    vectors = vectors.contiguous()
    out = torch.empty_like(vectors)
    if out.numel():
        launch_perturb(vectors, sigma.contiguous(), None, (seed, purpose, places[0], places[1]), out)
    return out


def _check(vectors: Tensor, sigma: Tensor) -> None:
    fits = vectors.ndim == 2 and sigma.shape == vectors.shape[:1]
    if not fits or vectors.dtype != torch.float32 or sigma.dtype != torch.float32:
        raise ValueError(
            f"perturb expects float32 vectors [B, D] and sigma [B], found {vectors.dtype} "
            f"{list(vectors.shape)} and {sigma.dtype} {list(sigma.shape)}"
        )

"""Random numbers drawn on the device: launcher and public function."""

from __future__ import annotations

import numpy as np
import torch
import triton
from numpy.typing import ArrayLike
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels.philox.reference import check_integer, check_words

from bench.candidates.philox.triton_philox import draw_kernel

DTYPES = {"bits": torch.uint32, "uniform": torch.float32, "normal": torch.float32}


def words(what: str, values: ArrayLike | torch.Tensor, device: torch.device) -> torch.Tensor:
    """uint32 [B] on `device`.

    Host integers are checked. A uint32 tensor's type is its range: the device need not wait for a check.
    """
    if not isinstance(values, torch.Tensor):
        return torch.from_numpy(check_words(what, values).astype(np.uint32)).to(device)
    if values.ndim != 1 or values.dtype != torch.uint32:
        raise ValueError(
            f"{what} must be a uint32 tensor [B] or integers on the host, found {values.dtype} "
            f"{list(values.shape)}; convert with .to(torch.uint32) where the range is known"
        )
    return values


def signed(word: int) -> int:
    """The int32 with the bits of a uint32: one compiled kernel for all keys."""
    return word - (1 << 32) if word >= 1 << 31 else word


def key_of(seed: int) -> tuple[int, int]:
    """(k0, k1) of a seed below 2**64, as int32."""
    check_integer("seed", seed, 64)
    return signed(seed & 0xFFFFFFFF), signed(seed >> 32)


def launch_draw(
    kind: str, seed: int, purpose: int, identity: torch.Tensor, image: torch.Tensor, out: torch.Tensor
) -> None:
    """out [B, n] <- numbers of `kind`; identity, image uint32 [B]."""
    require_cuda("philox", identity, image, out)
    rows, n = out.shape
    config = launch_config("philox", "draw", out.device)
    draw_kernel[(rows, triton.cdiv(n, 4 * config.blocks["BLOCKS"]))](
        identity, image, out, n, signed(purpose), *key_of(seed), KIND=kind, enable_fp_fusion=False,
        **config.arguments,
    )  # fmt: skip


def draw(
    kind: str,
    seed: int,
    purpose: int,
    identity: torch.Tensor,
    image: torch.Tensor,
    n: int,
) -> torch.Tensor:
    """[B, n] on the device of `identity`; see the contract in `v2f_kernels.philox`.

    identity, image: uint32 tensors [B] on one device.
    """
    if kind not in DTYPES:
        raise ValueError(f"kind must be one of {sorted(DTYPES)}, found {kind!r}")
    check_integer("purpose", purpose, 32)
    check_integer("n", n, 31)
    device = identity.device
    identity, image = words("identity", identity, device), words("image", image, device)
    if identity.shape != image.shape:
        raise ValueError(f"identity and image must have one length, found {len(identity)} and {len(image)}")
    out = torch.empty((len(identity), n), dtype=DTYPES[kind], device=device)
    if out.numel():
        launch_draw(kind, seed, purpose, identity, image, out)
    return out

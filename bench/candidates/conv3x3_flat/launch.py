"""Launches of the convolution over rows with shared zero borders; the 8-bit one has the same, with a scale."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor
from v2f_kernels import BackendUnavailable
from v2f_kernels._triton.implicit_gemm import blocks_for
from v2f_kernels._triton.launch import launch_config

from bench.candidates.conv3x3_flat.triton_border import border_kernel
from bench.candidates.conv3x3_flat.triton_flat import conv3x3_flat_kernel
from bench.candidates.conv3x3_flat.triton_merge import merge_flat_kernel


def require_accelerator(backend: str, instead: str, device: torch.device) -> None:
    """Raises BackendUnavailable on a GPU other than those of compute capability 9.0.

    Older ones have no tensor memory accelerator; what the compiler makes for newer ones is not under the gate.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) != (9, 0):
        found = ".".join(map(str, torch.cuda.get_device_capability(device)))
        raise BackendUnavailable(
            f"{backend} is for compute capability 9.0 (H100, H200), found {found}; {instead}"
        )


def laid_flat(op: str, x: Tensor, terms: Tensor | None, scale: int = 0, multiple: int = 1) -> Tensor:
    """[B (H+1) (W+1), C or more]: x [B, C, H, W] in channels-last memory with its borders.

    Args:
        op: whose launch configurations are used.
        terms: float32 [B, 2, C], scale and shift of the norm; None: no norm.
        scale: 0, or what SiLU of the normalised x is multiplied by and rounded to e4m3; wants `terms`.
        multiple: of channels; x's are followed by zeros.
    """
    batch, channels, height, width = x.shape
    wide = -(-channels // multiple) * multiple
    dtype = torch.float8_e4m3fn if scale else x.dtype
    flat = torch.empty((batch * (height + 1) * (width + 1), wide), dtype=dtype, device=x.device)
    config = launch_config(op, "border", x.device, f"C={channels}").arguments
    block_c = triton.next_power_of_2(wide)
    block_p = max(1, config.pop("TILE") // block_c)
    border_kernel[(triton.cdiv((height + 1) * (width + 1), block_p), batch)](
        x, terms, flat, H=height, W=width, C=channels, WIDTH=wide, X_SCALE=scale, HAS_NORM=terms is not None,
        BLOCK_P=block_p, BLOCK_C=block_c, **config,
    )  # fmt: skip
    return flat


def convolved(
    op: str,
    kernel: str,
    flat: Tensor,
    matrix: Tensor,
    y: Tensor,
    moments: Tensor,
    *,
    bias: Tensor | None,
    residual: Tensor | None,
    scale: Tensor | None = None,
    x_scale: int = 0,
) -> None:
    """Writes y [B, O, H, W], and where it has groups, moments [B, groups, 2] of y.

    Args:
        op, kernel: whose launch configuration is used.
        flat: from `laid_flat`.
        matrix: [O, 9 C], a weight [O, 3, 3, C] as it lies, as wide as `flat`.
        scale, x_scale: of e4m3 values: float32 [O] of the matrix, and what x was multiplied by.
    """
    batch, out_channels, height, width = y.shape
    channels = flat.shape[1]
    rows = flat.view(batch, height + 1, width + 1, channels)
    blocks = blocks_for(op, kernel, rows[:, :height, :width].permute(0, 3, 1, 2), out_channels)
    # The last position of an image is a border, and no tile is made for it alone.
    tiles = triton.cdiv(height * (width + 1) - 1, blocks["BLOCK_M"])
    partial = None
    if moments.shape[1]:
        partial = torch.empty((batch, tiles, 2, out_channels), dtype=torch.float32, device=y.device)
    conv3x3_flat_kernel[(triton.cdiv(out_channels, blocks["BLOCK_N"]), tiles, batch)](
        TensorDescriptor.from_tensor(flat, [blocks["BLOCK_M"], blocks["BLOCK_K"]]),
        TensorDescriptor.from_tensor(matrix, [blocks["BLOCK_N"], blocks["BLOCK_K"]]),
        scale, bias, residual, y, partial, H=height, W=width, C=channels, O=out_channels, X_SCALE=x_scale,
        HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, HAS_MOMENTS=partial is not None, **blocks,
    )  # fmt: skip
    if partial is not None:
        _merge(op, partial, moments, height, width, blocks["BLOCK_M"])


def _merge(op: str, partial: Tensor, moments: Tensor, height: int, width: int, tile: int) -> None:
    batch, tiles, _, channels = partial.shape
    groups = moments.shape[1]
    merge_flat_kernel[(groups, batch)](
        partial, moments, H=height, W=width, TILE=tile, TILES=tiles, C=channels, CPG=channels // groups,
        BLOCK_T=triton.next_power_of_2(tiles), BLOCK_G=triton.next_power_of_2(channels // groups),
        **launch_config(op, "merge", partial.device).arguments,
    )  # fmt: skip

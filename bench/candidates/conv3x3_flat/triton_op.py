"""The 3x3 convolution over rows with shared zero borders on a GPU: launches, registered op, public function.

Three launches, or five: with a norm its scale and shift; the pass that lays the rows flat; the convolution; with
`out_groups` the merge of its tiles' moments. Gradients are those of the implicit product beside it: cuDNN's.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor
from v2f_kernels import BackendUnavailable
from v2f_kernels._contract import NORM, STATISTICS, joins, takes
from v2f_kernels._triton.implicit_gemm import blocks_for
from v2f_kernels._triton.launch import launch_config, require_cuda
from v2f_kernels._triton.register import registered
from v2f_kernels.conv3x3.checks import Arguments

from bench.candidates.conv3x3 import triton_op as implicit
from bench.candidates.conv3x3_flat.triton_border import border_kernel
from bench.candidates.conv3x3_flat.triton_flat import conv3x3_flat_kernel
from bench.candidates.conv3x3_flat.triton_merge import merge_flat_kernel

OP = "conv3x3_flat"


class Forward(implicit.Forward):
    """(y, statistics of y) <- conv(SiLU(GroupNorm(x))) + bias + residual; all in channels-last memory."""

    __slots__ = ()

    def launch(self, y: Tensor, moments: Tensor) -> None:
        x, weight = self.x, self.weight.contiguous(memory_format=torch.channels_last)
        require_cuda(OP, x)
        require_accelerator(x.device)
        batch, channels, height, width = x.shape
        out_channels, pitch = weight.shape[0], width + 1
        blocks = blocks_for(OP, "float32" if x.dtype == torch.float32 else "product", x, out_channels)
        flat = self._flat()
        # The last position of an image is a border, and no tile is made for it alone.
        tiles = triton.cdiv(height * pitch - 1, blocks["BLOCK_M"])
        partial = None
        if self.out_groups:
            partial = torch.empty((batch, tiles, 2, out_channels), dtype=torch.float32, device=x.device)
        matrix = weight.permute(0, 2, 3, 1).view(out_channels, 9 * channels)
        conv3x3_flat_kernel[(triton.cdiv(out_channels, blocks["BLOCK_N"]), tiles, batch)](
            TensorDescriptor.from_tensor(flat, [blocks["BLOCK_M"], blocks["BLOCK_K"]]),
            TensorDescriptor.from_tensor(matrix, [blocks["BLOCK_N"], blocks["BLOCK_K"]]),
            self.bias, self.residual, y, partial, H=height, W=width, C=channels, O=out_channels,
            HAS_BIAS=self.bias is not None, HAS_RESIDUAL=self.residual is not None,
            HAS_MOMENTS=partial is not None, **blocks,
        )  # fmt: skip
        if partial is not None:
            self._merge(partial, moments, blocks["BLOCK_M"])

    def _flat(self) -> Tensor:
        """[B (H+1) (W+1), C]: x, normalised if asked, with its borders."""
        x, terms = self.x, self._terms()
        batch, channels, height, width = x.shape
        flat = x.new_empty((batch * (height + 1) * (width + 1), channels))
        config = launch_config(OP, "border", x.device, f"C={channels}").arguments
        block_c = triton.next_power_of_2(channels)
        block_p = max(1, config.pop("TILE") // block_c)
        border_kernel[(triton.cdiv((height + 1) * (width + 1), block_p), batch)](
            x, terms, flat, H=height, W=width, C=channels, HAS_NORM=terms is not None, BLOCK_P=block_p,
            BLOCK_C=block_c, **config,
        )  # fmt: skip
        return flat

    def _merge(self, partial: Tensor, moments: Tensor, tile: int) -> None:
        batch, tiles, _, channels = partial.shape
        groups = moments.shape[1]
        merge_flat_kernel[(groups, batch)](
            partial, moments, H=self.x.shape[2], W=self.x.shape[3], TILE=tile, TILES=tiles, C=channels,
            CPG=channels // groups, BLOCK_T=triton.next_power_of_2(tiles),
            BLOCK_G=triton.next_power_of_2(channels // groups),
            **launch_config(OP, "merge", partial.device).arguments,
        )  # fmt: skip


def require_accelerator(device: torch.device) -> None:
    """Raises BackendUnavailable on a GPU other than those of compute capability 9.0.

    Older ones have no tensor memory accelerator; what the compiler makes for newer ones is not under the gate.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) != (9, 0):
        found = ".".join(map(str, torch.cuda.get_device_capability(device)))
        raise BackendUnavailable(
            f"conv3x3/triton_flat is for compute capability 9.0 (H100, H200), found {found}; choose the backend "
            "'torch' or 'triton'"
        )


flat_op = registered(
    "v2f::conv3x3_flat", Forward, setup_context=implicit.keep_for_backward, backward=implicit.backward
)


@joins(NORM, STATISTICS)
@takes(Arguments)
def conv3x3(given: Arguments) -> Tensor | tuple[Tensor, Tensor]:
    """See the contract in `v2f_kernels.conv3x3`; x and residual in channels-last memory, C a multiple of 16."""
    return implicit.called(flat_op, given)

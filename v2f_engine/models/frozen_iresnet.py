"""A recogniser that only judges: every norm in a convolution, so that a pass is convolutions and what one kernel
between two of them can do. For losses on a GPU, whose backward pass reaches the images and no weight.

Exact in real arithmetic, computed in fp64 and rounded once. What `models.fold` folds is folded, and also a block's
`bn1`: it stands before a zero-padded convolution, so its scale goes into the weights, and its shift is a bias that
differs at the image's edges (`v2f_kernels.bias_prelu`). So a block is

    h = bias_prelu(conv1(s));  s = bias_residual(conv2(h), shortcut(s))

Everything lies channels-last, both ways: the last Linear's columns are in that order, too, and pixels left out by a
shortcut come back through a pooling of one pixel, where the gradient of a slice would be NCHW.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.models.fold import scale_shift
from v2f_engine.models.iresnet import Block, IResNet, SqueezeExcitation
from v2f_engine.models.iresnet_block import blurred
from v2f_engine.models.ops import Bound

TAPS = ((1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0))
"""Which of a 3x3 kernel's lines lie in the image: inside of it, at its first line, at its last, at its only one."""


class FrozenGate(nn.Module):
    """Squeeze-excitation with constant weights."""

    down: torch.Tensor
    up: torch.Tensor

    def __init__(self, gate: SqueezeExcitation, dtype: torch.dtype) -> None:
        super().__init__()
        _hold(self, "down", gate.fc1.weight, dtype)
        _hold(self, "up", gate.fc2.weight, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.conv2d(F.conv2d(x.mean((2, 3), keepdim=True), self.down).relu(), self.up).sigmoid()
        out: torch.Tensor = x * gate
        return out


class FrozenBlock(Bound):
    """A block of an `IResNet`, folded.

    Args:
        block: in eval mode is what this computes.
        dtype: of convolution weights.
        side: of its input in pixels.
    """

    uses = ("bias_prelu", "bias_residual")
    weight1: torch.Tensor
    bias1: torch.Tensor
    slope: torch.Tensor
    weight2: torch.Tensor
    projection: torch.Tensor
    at_gate: torch.Tensor
    at_sum: torch.Tensor

    def __init__(self, block: Block, dtype: torch.dtype, side: int) -> None:
        super().__init__()
        self.side, self.stride, self.step = side, block.conv2.stride[0], block.step
        self.blurs = block.blurs
        self.gate = None if block.attn is None else FrozenGate(block.attn, dtype)
        self.on_branch = block.gate == "branch"
        wide = _wide(block.conv1.weight.dtype)
        scale, shift = scale_shift(block.bn1)
        weight, own = block.conv1.weight.double(), shift.new_zeros(block.conv1.out_channels)
        if block.normed:
            outer, own = scale_shift(block.bn2)
            weight = weight * outer[:, None, None, None]
        seen = torch.tensor(TAPS, dtype=torch.float64, device=weight.device)
        _hold(self, "bias1", torch.einsum("ri,qj,ocij,c->rqo", seen, seen, weight, shift) + own, wide)
        _hold(self, "weight1", weight * scale[:, None, None], dtype)
        _hold(self, "slope", block.prelu.weight, wide)
        scale, of_branch = scale_shift(block.bn3)
        _hold(self, "weight2", block.conv2.weight.double() * scale[:, None, None, None], dtype)
        of_shortcut = torch.zeros_like(of_branch)
        self.projects = isinstance(block.downsample, nn.Sequential)
        if isinstance(block.downsample, nn.Sequential):
            conv, norm = block.downsample
            assert isinstance(conv, nn.Conv2d)
            scale, of_shortcut = scale_shift(norm)
            _hold(self, "projection", conv.weight.double() * scale[:, None, None, None], dtype)
        # A bias waits for the sum of branch and shortcut, unless a gate has to see it.
        at_gate, at_sum = (of_branch, of_shortcut) if self.on_branch else (of_shortcut, of_branch)
        if self.gate is None:
            at_gate, at_sum = torch.zeros_like(at_gate), at_gate + at_sum
        _hold(self, "at_gate", at_gate, dtype)
        _hold(self, "at_sum", at_sum, wide)

    def shapes(self) -> tuple[str, ...]:
        inner, channels = self.weight1.shape[0], self.weight2.shape[0]
        out = -(-self.side // self.stride)
        return shape_class("bias_prelu", C=inner, HW=self.side), shape_class(
            "bias_residual", C=channels, HW=out
        )

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        bias_prelu, bias_residual = self.ops
        h = blurred(bias_prelu(F.conv2d(s, self.weight1, padding=1), self.bias1, self.slope), self.blurs)
        if self.gate is not None and self.on_branch:
            branch = self.gate(F.conv2d(h, self.weight2, self.at_gate, self.stride, 1))
        else:
            branch = F.conv2d(h, self.weight2, None, self.stride, 1)
        out: torch.Tensor = bias_residual(branch, self.at_sum, self._shortcut(s))
        return out

    def _shortcut(self, s: torch.Tensor) -> torch.Tensor:
        gated = self.gate is not None and not self.on_branch
        if self.projects or self.step > 1:
            s = blurred(s, self.blurs)
        if self.projects:
            s = F.conv2d(s, self.projection, self.at_gate if gated else None, self.stride)
        elif self.step > 1:
            s = F.avg_pool2d(s, 1, self.step)
        return self.gate(s) if self.gate is not None and gated else s


class FrozenIResNet(Bound):
    """An `IResNet` in eval mode with its norms folded and without parameters: all it holds are constants.

    Args:
        model: is not changed; RGB, as whoever feeds tensors has them.
        dtype: of convolution weights and maps; those of biases, slopes and the last Linear stay as they are.

    Raises:
        TypeError: its norms are folded already.
    """

    uses = ("bias_prelu",)
    weight: torch.Tensor
    bias: torch.Tensor
    slope: torch.Tensor
    head_weight: torch.Tensor
    head_bias: torch.Tensor

    def __init__(self, model: IResNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = config = model.config
        wide = _wide(model.conv1.weight.dtype)
        scale, bias = scale_shift(model.bn1)
        _hold(self, "weight", model.conv1.weight.double() * scale[:, None, None, None], dtype)
        _hold(self, "bias", bias, wide)
        _hold(self, "slope", model.prelu.weight, wide)
        side = self.side = -(-config.input_size // config.stem_stride)
        self.blocks = nn.ModuleList()
        for stage in (1, 2, 3, 4):
            chain = nn.ModuleList()
            for block in model.get_submodule(f"layer{stage}").children():
                assert isinstance(block, Block)
                chain.append(FrozenBlock(block, dtype, side))
                side = -(-side // block.conv2.stride[0])
            self.blocks.append(chain)
        self._hold_head(model)
        self.eval()

    def _hold_head(self, model: IResNet) -> None:
        """`bn2`, `fc` and `features` as one Linear, whose columns follow channels-last memory."""
        scale, shift = scale_shift(model.bn2)
        outer, own = scale_shift(model.features)
        weight = model.fc.weight.double().view(len(outer), len(scale), -1)  # [D, C, H * W]
        bias = outer * (model.fc.bias.double() + torch.einsum("dcp,c->d", weight, shift)) + own
        folded = (weight * scale[:, None] * outer[:, None, None]).transpose(1, 2).flatten(1)
        _hold(self, "head_weight", folded, model.fc.weight.dtype)
        _hold(self, "head_bias", bias, model.fc.weight.dtype)

    def shapes(self) -> tuple[str, ...]:
        return (shape_class("bias_prelu", C=self.config.widths[0], HW=self.side),)

    def stages(self, images: torch.Tensor, last: int = 4) -> list[torch.Tensor]:
        """As `IResNet.stages`."""
        (bias_prelu,) = self.ops
        x = images.to(self.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = blurred(x, self.config.stem_stride if self.config.blur else 1)
        s = bias_prelu(F.conv2d(x, self.weight, None, self.config.stem_stride, 1), self.bias, self.slope)
        maps = []
        for chain in list(self.blocks)[:last]:
            for block in chain.children():
                s = block(s)
            maps.append(s)
        return maps

    def head(self, last_map: torch.Tensor) -> torch.Tensor:
        """As `IResNet.head`: the last Linear in its own precision."""
        flat = last_map.permute(0, 2, 3, 1).flatten(1)
        with torch.autocast(flat.device.type, enabled=False):
            return F.linear(flat.to(self.head_weight.dtype), self.head_weight, self.head_bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features `[B, feature_dim]`, un-normalised, of images `[B, 3, input_size, input_size]`."""
        return self.head(self.stages(images)[-1])


def _hold(module: nn.Module, name: str, value: torch.Tensor, dtype: torch.dtype) -> None:
    """A constant of a module: cast once, channels-last, saved nowhere."""
    held = value.detach().to(dtype, copy=True)
    if held.ndim == 4:
        held = held.contiguous(memory_format=torch.channels_last)
    module.register_buffer(name, held, persistent=False)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Of biases and slopes: fp32, or fp64 of a recogniser in fp64."""
    return torch.float64 if dtype is torch.float64 else torch.float32

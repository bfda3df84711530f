"""A block of an `IResNet`: `bn1 conv1 bn2 prelu conv2 bn3`, its shortcut and the gate of squeeze-excitation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from v2f_kernels._shapes import shape_class

from v2f_engine.models.batch_norm import NORM, branched, mean_of_pixels, normed
from v2f_engine.models.ops import Bound

if TYPE_CHECKING:
    from v2f_engine.models.iresnet import IResNetConfig

BN_EPS = 1e-5


class _Blur(torch.autograd.Function):
    """The filter is its own adjoint.

    On a CPU the backward of a convolution of single channels takes 60 times the time of a pass.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return _binomial(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _Blur.apply(gradient)  # type: ignore[no-untyped-call]
        return out


def _binomial(x: torch.Tensor) -> torch.Tensor:
    # Made where x is: a tensor of Python numbers would be a copy to the GPU, which no CUDA graph can hold.
    outer = x.new_full((1,), 0.25)
    line = torch.cat([outer, x.new_full((1,), 0.5), outer])
    channels = int(x.shape[1])  # a constant to ONNX's tracer, too, which wants a kernel's shape
    return F.conv2d(x, (line[:, None] * line).expand(channels, 1, 3, 3), padding=1, groups=channels)


def blurred(x: torch.Tensor, stride: int) -> torch.Tensor:
    """`x` `[B, C, H, W]` through the binomial filter (1 2 1) / 4 both ways where a stride follows, else as it is.

    What a grid of half the side cannot hold folds back as another frequency: a stripe of six grey levels turned a
    feature to a cosine of 0.78 (Zhang 2019, arXiv 1904.11486, has the remedy). Beyond the edge lies 0, as in the
    convolution behind it.
    """
    if stride == 1:
        return x
    if not torch.is_grad_enabled():
        return _binomial(x)
    out: torch.Tensor = _Blur.apply(x)  # type: ignore[no-untyped-call]
    return out


class SqueezeExcitation(nn.Module):
    """Channel gate: global mean, 1x1 down, ReLU, 1x1 up, sigmoid (keys `fc1.weight`, `fc2.weight`)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.fc2(self.fc1(mean_of_pixels(x)).relu()).sigmoid()
        out: torch.Tensor = x * gate
        return out


class Block(Bound):
    """`bn1 conv1 bn2 prelu conv2 bn3` added to the (projected, gated) input.

    Args:
        side: of its input in pixels; `stride` is that of its output's pixels.
    """

    uses = (NORM, NORM, NORM)
    """`bn1`, `bn2` with PReLU, and `bn3` or the norm of `downsample`, in training."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, se: bool, config: IResNetConfig, side: int
    ) -> None:
        super().__init__()
        self.side = side
        self.normed, self.gate = config.inner_norm, config.gate
        self.blurs = stride if config.blur else 1
        self.bn1 = nn.BatchNorm2d(in_channels, eps=BN_EPS)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(channels, eps=BN_EPS) if self.normed else nn.Identity()
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn3: nn.Module = nn.BatchNorm2d(channels, eps=BN_EPS)
        self.downsample: nn.Module | None = None
        self.step = 1  # of the shortcut's pixels, where nothing projects them
        if in_channels == channels and config.shortcut == "subsampled":
            self.step = stride
        elif stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels, eps=BN_EPS))
        self.attn = SqueezeExcitation(channels) if se else None

    def shapes(self) -> tuple[str, ...]:
        channels, out = self.conv2.in_channels, -(-self.side // self.conv2.stride[0])
        return (
            shape_class(NORM, C=self.conv1.in_channels, HW=self.side),
            shape_class(NORM, C=channels, HW=self.side),
            shape_class(NORM, C=channels, HW=out),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, bent, last = self.ops
        h, x = branched(first, x, self.bn1)
        shortcut = x
        if isinstance(self.downsample, nn.Sequential):
            shortcut = normed(last, self.downsample[0](blurred(x, self.blurs)), self.downsample[1])
        elif self.downsample is not None:  # folded
            shortcut = self.downsample(blurred(x, self.blurs))
        if self.step > 1:
            shortcut = blurred(x, self.blurs)[:, :, :: self.step, :: self.step]
        if self.attn is not None and self.gate == "shortcut":
            shortcut = self.attn(shortcut)
        h = self.conv2(blurred(normed(bent, self.conv1(h), self.bn2, self.prelu), self.blurs))
        if self.attn is not None and self.gate == "branch":
            branch: torch.Tensor = self.attn(normed(last, h, self.bn3))
            return branch + shortcut
        return normed(last, h, self.bn3, residual=shortcut)

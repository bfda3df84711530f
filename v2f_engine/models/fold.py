"""A model made ready for inference: no gradients, exact folds, channels-last, one precision.

Three folds, exact in real arithmetic, computed in fp64 and rounded once:

- the 1x1 shortcut that the published network applies to a block's *output* goes into conv2:
  `h + S h = (I + S) conv2(.)`;
- nearest upsampling and the 3x3 convolution behind it become one transposed convolution (4/9 of the FLOPs);
- a LoRA update goes into its Linear: `W + alpha / r * B A`.

Together 49.2 -> 44.0 GFLOP an image at base size. For recognisers, BatchNorm behind a convolution or a
Linear goes into it (a block's bn2 and bn3, the stem's, the shortcut's, the feature's), and so does the one
before the last Linear. A block's bn1 stands before a zero-padded convolution: its shift is not seen in the
padding, so it stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import TypeVar

import torch
from torch import nn
from v2f_kernels.upsample_conv3x3.fold import fold_weights

from v2f_engine.models.fmae import LoRALinear
from v2f_engine.models.image_decoder import ResidualBlock, Upsample
from v2f_engine.models.iresnet import Block, IResNet

Model = TypeVar("Model", bound=nn.Module)


def freeze(
    model: Model,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    channels_last: bool = True,
    unfolded: tuple[type[nn.Module], ...] = (),
) -> Model:
    """A frozen copy of `model`; the original is untouched, and tensors that do not change are shared with it.

    Args:
        model: a `Vec2Face`, `IResNet` or any module; folds are made where there is something to fold.
        device: where the copy lives.
        dtype: of parameters and buffers; as they are where None.
        channels_last: memory order of convolution weights.
        unfolded: kinds of module that are left as they are, e.g. `Upsample`.

    Returns:
        the copy, in eval mode, its parameters without gradients. It computes what `model.eval()` does up to
        rounding, from inputs of any float dtype.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    frozen = copy.deepcopy(model, shared).eval()
    for module in frozen.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, _constant(parameter))
    for module in list(frozen.modules()):
        for kind, fold in _FOLDS.items():
            if isinstance(module, kind) and not isinstance(module, unfolded):
                fold(module)
    if channels_last:
        frozen.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        frozen.to(device=device, dtype=dtype)
    return frozen


def fold_shortcut(conv: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    """Weight `[O,C,3,3]` of `h + shortcut(h)`, `h = conv(x)`; shortcut `[O,O,1,1]`. Sums in fp64."""
    mix = shortcut.double()[:, :, 0, 0] + torch.eye(
        len(shortcut), dtype=torch.float64, device=shortcut.device
    )
    return torch.einsum("po,ocij->pcij", mix, conv.double()).to(conv.dtype)


def fold_norm(
    weight: torch.Tensor, bias: torch.Tensor | None, norm: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, bias) of a convolution or Linear followed by a BatchNorm in eval mode. Arithmetic in fp64."""
    scale, shift = scale_shift(norm)
    folded = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
    if bias is not None:
        shift = shift + bias.double() * scale
    return folded.to(weight.dtype), shift.to(weight.dtype)


def scale_shift(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 `[C]`, `[C]`: what a BatchNorm in eval mode multiplies by and adds."""
    if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
        raise TypeError(
            f"norm: expected a BatchNorm, found {type(norm).__name__}; was the model folded before?"
        )
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise TypeError("norm: expected running statistics, found none")
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - mean.double() * scale


def _constant(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


def _residual_block(block: ResidualBlock) -> None:
    if block.nin_shortcut is not None:
        block.conv2.weight = _constant(fold_shortcut(block.conv2.weight, block.nin_shortcut.weight))
        block.nin_shortcut = None


def _upsample(upsample: Upsample) -> None:
    upsample.folded = fold_weights(upsample.conv.weight.detach())
    upsample.conv.register_parameter("weight", None)  # the folded form replaces it; the bias stays


def _lora(parent: nn.Module) -> None:
    for name, child in parent.named_children():
        if isinstance(child, LoRALinear):
            setattr(parent, name, child.merged())


def _recogniser_norm(conv: nn.Conv2d | nn.Linear, norm: nn.Module) -> nn.Identity:
    weight, bias = fold_norm(conv.weight, conv.bias, norm)
    conv.weight, conv.bias = _constant(weight), _constant(bias)
    return nn.Identity()


def _recogniser(model: IResNet) -> None:
    model.bn1 = _recogniser_norm(model.conv1, model.bn1)
    model.features = _recogniser_norm(model.fc, model.features)
    scale, shift = scale_shift(model.bn2)
    weight, bias = model.fc.weight.double(), model.fc.bias.double()
    pixels = weight.shape[1] // len(scale)
    model.fc.weight = _constant((weight * scale.repeat_interleave(pixels)).to(model.fc.weight.dtype))
    model.fc.bias = _constant((bias + weight @ shift.repeat_interleave(pixels)).to(model.fc.bias.dtype))
    model.bn2 = nn.Identity()


def _recogniser_block(block: Block) -> None:
    if block.normed:
        block.bn2 = _recogniser_norm(block.conv1, block.bn2)
    block.bn3 = _recogniser_norm(block.conv2, block.bn3)
    if isinstance(block.downsample, nn.Sequential):
        conv, norm = block.downsample
        if isinstance(conv, nn.Conv2d):
            _recogniser_norm(conv, norm)
            block.downsample = conv


_FOLDS: dict[type[nn.Module], Callable[..., None]] = {
    ResidualBlock: _residual_block,
    Upsample: _upsample,
    IResNet: _recogniser,
    Block: _recogniser_block,
    nn.Module: _lora,
}

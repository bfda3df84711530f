"""The contract's arguments and their checks, shared by every backend of the stem."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

KERNELS = (3, 7, 15)


class Arguments(NamedTuple):
    """What `v2f_kernels.multi_scale_stem` describes."""

    x: Tensor  # [B, C, H, W]
    weight3: Tensor  # [O, C, 3, 3]
    bias3: Tensor  # [O]
    weight7: Tensor  # [O, C, 7, 7]
    bias7: Tensor  # [O]
    weight15: Tensor  # [O, C, 15, 15]
    bias15: Tensor  # [O]

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.weight3, self.weight7, self.weight15

    @property
    def biases(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.bias3, self.bias7, self.bias15

    def check(self) -> None:
        """Raises ValueError unless the arguments fit the contract in `v2f_kernels.multi_scale_stem`."""
        x = self.x
        if x.ndim != 4 or x.numel() == 0 or not x.is_floating_point():
            raise ValueError(
                f"x: expected a non-empty floating [B, C, H, W], found {x.dtype} {tuple(x.shape)}"
            )
        for kernel, weight, bias in zip(KERNELS, self.weights, self.biases, strict=True):
            if weight.ndim != 4 or tuple(weight.shape[1:]) != (x.shape[1], kernel, kernel):
                raise ValueError(
                    f"weight{kernel}: expected [O, {x.shape[1]}, {kernel}, {kernel}], found {tuple(weight.shape)}"
                )
            if tuple(bias.shape) != (weight.shape[0],):
                raise ValueError(f"bias{kernel}: expected [{weight.shape[0]}], found {tuple(bias.shape)}")

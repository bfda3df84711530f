"""How exact are sums of e4m3 products in Hopper's tensor cores, and is it worth taking them out more often?

    python -m bench.candidates.conv3x3_fp8.accumulation

A model of the instruction, from what others found by probing it: 32 products and the accumulator are aligned to the
largest exponent among them, cut off after 13 bits of fraction, and added. Taking sums out to fp32 every so many
products (`max_num_imprecise_acc`) needs a second accumulator in registers. What it says is a simulation, not a
measurement: `tests/gpu/test_gpu_fp8.py` holds the card's result to the specification.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.candidates.conv3x3_fp8.quantise import ACTIVATION_SCALE, quantise_weight, to_e4m3

GROUP, BITS = 32, 13


def summed(a: Tensor, b: Tensor, promote: int = 0) -> Tensor:
    """a [M, K] times b [N, K] transposed, as the tensor cores add; to fp32 every `promote` products, 0 for never."""
    total = torch.zeros(len(a), len(b))
    held = torch.zeros_like(total)
    for k in range(0, a.shape[1], GROUP):
        products = a[:, None, k : k + GROUP] * b[None, :, k : k + GROUP]
        largest = torch.maximum(products.abs().amax(2), held.abs()).clamp_min(1e-30)
        unit = torch.exp2(torch.floor(torch.log2(largest)) - BITS)
        held = _cut(products, unit[:, :, None]).sum(2) + _cut(held, unit)
        if promote and (k + GROUP) % promote == 0:
            total, held = total + held, torch.zeros_like(held)
    return total + held


def _cut(x: Tensor, unit: Tensor) -> Tensor:
    return torch.trunc(x / unit) * unit


def errors(channels: int, promote: int, rows: int = 96, out: int = 64) -> tuple[float, float]:
    """(of rounding to e4m3, of the sums): rms, as shares of the result's, for SiLU of normal values."""
    g = torch.Generator().manual_seed(0)
    z = F.silu(torch.randn(rows, 9 * channels, generator=g))
    weight = torch.randn(out, 9 * channels, generator=g) * (9 * channels) ** -0.5
    packed, scale = quantise_weight(weight[:, :, None, None])
    a, b = to_e4m3(z * ACTIVATION_SCALE).float(), packed[:, :, 0, 0].float()
    wanted, exact = z @ weight.T, (a.double() @ b.double().T).float()
    factor, size = scale / ACTIVATION_SCALE, wanted.square().mean().sqrt()
    rounding = (exact * factor - wanted).square().mean().sqrt() / size
    summing = ((summed(a, b, promote) - exact) * factor).square().mean().sqrt() / size
    return float(rounding), float(summing)


def main() -> None:
    for channels in (128, 256):
        for promote in (0, 128):
            rounding, summing = errors(channels, promote)
            words = f"to fp32 every {promote} products" if promote else "never taken out"
            print(f"{channels} channels, {words}: sums {summing:.5f}, rounding to e4m3 {rounding:.4f}")


if __name__ == "__main__":
    main()

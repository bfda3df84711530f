"""Which image tokens are dropped and masked, from noise: integers of static shape, without a sort.

Ranks by counting are three element-wise operations on 49 x 49 booleans an image, where two stable argsorts are
a dozen launches on a GPU and an operator (`aten.sort.stable`) that ONNX does not have.
"""

from __future__ import annotations

import torch


def row_ranks(noise: torch.Tensor) -> torch.Tensor:
    """int64 `[B, N]`: place of each row in ascending order of noise `[B, N]`; ties go by index. No NaN."""
    place = torch.arange(noise.shape[1], device=noise.device)
    mine, other = noise[:, :, None], noise[:, None, :]
    earlier = (other == mine) & (place[None, :] < place[:, None])
    return ((other < mine) | earlier).sum(dim=2)


def kept_rows(rank: torch.Tensor, n_dropped: int) -> torch.Tensor:
    """int64 `[B, N - n_dropped]`: rows of rank `n_dropped` and above, ascending."""
    rows = rank.shape[1]
    place = torch.arange(rows, device=rank.device)
    key = torch.where(rank < n_dropped, rows + place, place)
    return key.topk(rows - n_dropped, dim=1, largest=False, sorted=True).values

"""Margins against closed forms; a head divided among ranks against one that is not; sampled classes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from v2f_engine.errors import CheckpointError, ConfigError
from v2f_engine.train.checkpoint import write_tensors
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.head import ShardedHead, shard_of
from v2f_engine.train.head_checkpoint import read_head
from v2f_engine.train.margin import make_margin

ANGLES = torch.tensor([0.4, 1.3, 2.9], dtype=torch.float64)
NORMS = torch.tensor([10.0, 20.0, 30.0])


def test_arcface_and_cosface_closed_forms() -> None:
    found = make_margin("arcface", 0.5)(ANGLES.cos(), NORMS)
    assert found.tolist() == pytest.approx([math.cos(0.9), math.cos(1.8), -1.0], abs=1e-6)  # 3.4 is past pi
    found = make_margin("cosface", 0.35)(ANGLES.cos(), NORMS, share=0.5)
    assert found.tolist() == pytest.approx([math.cos(a) - 0.175 for a in ANGLES.tolist()])


def test_adaface_closed_form() -> None:
    margin = make_margin("adaface", 0.4)
    margin.mean.fill_(20.0), margin.std.fill_(5.0)
    found = margin(ANGLES.cos(), torch.tensor([17.0, 20.0, 1000.0])).tolist()
    for angle, norm, value in zip(ANGLES.tolist(), (17.0, 20.0, 100.0), found, strict=True):
        z = max(-1.0, min(1.0, 0.333 * (norm - 20.0) / 5.001))
        moved = min(math.pi - 1e-3, max(1e-3, angle - 0.4 * z))
        assert value == pytest.approx(math.cos(moved) - (0.4 + 0.4 * z), abs=1e-6)
    # good images (z = 1): a margin that is larger for easy samples; bad ones (z = -1): ArcFace's
    margin.observe(torch.tensor([10.0, 30.0]))
    assert margin.mean.item() == pytest.approx(20.0)
    assert margin.std.item() == pytest.approx(0.99 * 5 + 0.01 * math.sqrt(200.0))
    margin.eval().observe(torch.tensor([90.0, 99.0]))
    assert margin.mean.item() == pytest.approx(20.0)


@pytest.mark.parametrize(("name", "m"), [("arcface", 0.5), ("cosface", 0.4), ("adaface", 0.4)])
def test_gradients_exact_and_straight(name: str, m: float) -> None:
    cosine = torch.tensor([math.cos(0.4), math.cos(1.3)], dtype=torch.float64, requires_grad=True)
    margin = make_margin(name, m)
    assert torch.autograd.gradcheck(lambda c: margin(c, NORMS[:2]), (cosine,))
    (slope,) = torch.autograd.grad(make_margin(name, m, straight=True)(cosine, NORMS[:2]).sum(), cosine)
    assert slope.tolist() == [1.0, 1.0]
    if name == "arcface":
        (slope,) = torch.autograd.grad(margin(cosine, NORMS[:2]).sum(), cosine)
        assert slope.tolist() == pytest.approx([math.sin(0.9) / math.sin(0.4), math.sin(1.8) / math.sin(1.3)])


def test_unknown_margins() -> None:
    with pytest.raises(ConfigError, match="arcface"):
        make_margin("arcfaec", 0.5)
    with pytest.raises(ConfigError, match="margin"):
        make_margin("arcface", -1.0)


def test_head_is_the_softmax_of_scaled_cosines() -> None:
    head = ShardedHead(7, 16, make_margin("cosface", 0.2), scale=8.0)
    features = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 6, 3, 3, 1])
    logits = F.normalize(features) @ F.normalize(head.weight).T
    logits = 8.0 * (logits - 0.2 * F.one_hot(labels, 7))
    wanted = torch.autograd.grad(F.cross_entropy(logits, labels), (features, head.weight))
    found = torch.autograd.grad(head(features, labels, 0), (features, head.weight))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)


def test_a_step_samples_its_own_classes_and_a_share_of_the_others() -> None:
    head = ShardedHead(20_000, 2, make_margin("cosface", 0.2), sample_rate=0.1, seed=3)
    labels = torch.tensor([5, 19_999, 5, 7777])
    chosen = head.sample(4, labels)
    assert {5, 7777, 19_999} <= set(chosen.tolist())
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == pytest.approx(2000, abs=150)
    assert not np.array_equal(head._drawn(5), head._drawn(4))
    parts = []
    for rank in range(3):
        part = ShardedHead(20_000, 2, make_margin("cosface", 0.2), 64.0, Ranks(rank, 3), 0.1, 3)
        assert (part.first, part.last) == shard_of(20_000, rank, 3)
        parts.append(part._drawn(4))
        assert torch.equal(part.weight, head.weight[part.first : part.last])
    assert np.array_equal(np.concatenate(parts), head._drawn(4))
    loss = head(torch.randn(4, 2), labels, 4)
    loss.backward()
    assert set(head.weight.grad.abs().sum(1).nonzero()[:, 0].tolist()) <= set(chosen.tolist())
    with pytest.raises(ConfigError, match="sample_rate"):
        ShardedHead(10, 2, make_margin("cosface", 0.2), sample_rate=0.0)


CASES = [("arcface", 0.5, 1.0), ("cosface", 0.4, 0.4), ("adaface", 0.4, 0.3)]
CLASSES, DIM, BATCH, STEPS = 23, 12, 8, 6


def some_steps(name: str, m: float, rate: float, group: Ranks) -> dict[str, torch.Tensor]:
    """A linear network and the head, SGD with momentum; gradients averaged over ranks as DDP does."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(STEPS, BATCH, 10, generator=generator)
    labels = torch.randint(0, CLASSES, (STEPS, BATCH), generator=generator)
    network = torch.randn(DIM, 10, generator=generator).requires_grad_()
    head = ShardedHead(CLASSES, DIM, make_margin(name, m), 16.0, group, rate, seed=2)
    optimizer = torch.optim.SGD([network, head.weight], lr=0.2, momentum=0.9, weight_decay=5e-4)
    part = BATCH // group.world
    mine = slice(group.rank * part, (group.rank + 1) * part)
    losses = []
    for step in range(STEPS):
        loss = head(5 * inputs[step, mine] @ network.T, labels[step, mine], step)
        optimizer.zero_grad()
        loss.backward()
        network.grad.copy_(group.mean(network.grad))
        optimizer.step()
        losses.append(loss.detach())
    state = {"network": network.detach(), "loss": torch.stack(losses), "weight": head.weight.detach()}
    return state | {f"margin {k}": v for k, v in head.margin.named_buffers()}


def rank_main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = [some_steps(*case, Ranks(rank, 2)) for case in CASES]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()  # gloo aborts a rank whose peer ends first
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    """Losses, the network's and the head's weights after six steps, sampled classes included."""
    mp.spawn(rank_main, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for number, case in enumerate(CASES):
        whole = some_steps(*case, Ranks())
        parts = [rank[number] for rank in ranks]
        assert torch.equal(parts[0]["network"], parts[1]["network"])
        assert torch.equal(parts[0]["loss"], parts[1]["loss"])
        joined = parts[0] | {"weight": torch.cat([part["weight"] for part in parts])}
        for name, value in whole.items():
            torch.testing.assert_close(
                joined[name], value, rtol=1e-4, atol=2e-6, msg=lambda t, n=name: f"{n}: {t}"
            )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_part_of_the_classes_from_any_division(tmp_path: Path, world: int) -> None:
    whole = torch.arange(CLASSES * 2.0).view(CLASSES, 2)
    for rank in range(4):
        first, last = shard_of(CLASSES, rank, 4)
        path = tmp_path / "heads" / f"{rank}-of-4" / "00000005.safetensors"
        state = {"head/weight": whole[first:last], "head_optimizer/0/step": torch.tensor(5.0)}
        write_tensors(path, state, {"classes": CLASSES})
    parts = [read_head(tmp_path, 5, 4, CLASSES, shard_of(CLASSES, rank, world)) for rank in range(world)]
    assert torch.equal(torch.cat([part["head/weight"] for part in parts]), whole)
    assert parts[0]["head_optimizer/0/step"].item() == 5.0
    with pytest.raises(CheckpointError, match="23 classes, the data 24"):
        read_head(tmp_path, 5, 4, 24, (0, 24))

"""The decoder's upper levels a few images at a time: the same images, where a card's table asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from v2f_kernels import _tuned
from v2f_kernels._tuned import TunedTableError

from bench.generation import chunks
from bench.kernels.device_table import DeviceTable, spelled
from tests.small_networks import generator
from tests.test_backends import CARD
from v2f_engine.backends import Choice, choose
from v2f_engine.models import bind_ops
from v2f_engine.models.fold import freeze
from v2f_engine.models.image_decoder import Level

MEASURED = {
    "capability": 90, "ptxas": "12", "triton": "3", "torch": "2", "date": "2027-01-01", "commit": "abc",
    "source": "made up",
}  # fmt: skip


def card(chunked: Any) -> _tuned.Table:
    root = {"device": "A Card", "measured": MEASURED, "ops": {}, "chunks": chunked}
    return _tuned.parse(json.dumps(root), "a-card.json", _tuned.tables()["default"])


def chosen(chunked: Any, **options: Any) -> Choice:
    known = {"default": _tuned.tables()["default"], "A Card": card(chunked)}
    return choose("cuda:1", machine=CARD, known=known, **options)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_the_images_are_those_of_the_whole_batch(chunk: int, rounding: str) -> None:
    frozen = freeze(generator())
    decoder = frozen.im_decoder
    decoder.rounding = rounding
    grid = torch.randn(5, frozen.config.z_channels, 7, 7, generator=torch.Generator().manual_seed(1))
    top = decoder.up[0]
    assert isinstance(top, Level)
    carry, seen = top.carry, list[int]()

    def counted(known: Any, *others: Any) -> Any:
        seen.append(known.x.shape[0])
        return carry(known, *others)

    top.carry = counted  # type: ignore[method-assign]
    with torch.inference_mode():
        whole = decoder.bytes(grid)
        assert seen == [5]
        decoder.chunk = chunk
        made = decoder.bytes(grid)
    assert seen[1:] == ([5] if chunk >= 5 else [min(chunk, 5 - i) for i in range(0, 5, chunk)])
    assert made.shape == whole.shape
    assert made.dtype == torch.uint8
    # Another number of rows may take another kernel of the library: a value at the edge of a level may fall elsewhere.
    assert (made.int() - whole.int()).abs().max() <= 1
    assert whole.float().std() > 5


def test_a_table_decides_by_dtype_and_never_for_training() -> None:
    table = {"fp16": {"images": 16, "why": "faster"}}
    choice = chosen(table, precision="fp16")
    assert (choice.chunk, choice.reasons["chunk"], choice.describe()["chunk"]) == (16, "faster", 16)
    for other in (
        chosen(table, precision="bf16"),
        chosen(table, precision="fp16", gradients=True),
        chosen({}),
    ):
        assert other.chunk == 0
        assert "chunk" not in other.describe()


def test_binding_carries_it_to_the_decoder() -> None:
    choice = chosen({"fp16": {"images": 3, "why": "faster"}}, precision="fp16")
    cpu = choose("cpu", "fp32")
    frozen = freeze(generator())
    bind_ops(frozen, Choice("cpu", "fp32", cpu.backends, cpu.reasons, chunk=choice.chunk))
    assert frozen.im_decoder.chunk == 3
    bind_ops(frozen, cpu)
    assert frozen.im_decoder.chunk == 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"fp16": {"images": 0, "why": "x"}}, "at least 1"),
        ({"fp16": {"images": True, "why": "x"}}, "at least 1"),
        ({"fp16": {"images": 4}}, "why"),
        ({"fp64": {"images": 4, "why": "x"}}, "fp64"),
        ({"fp16": {"images": 4, "why": "x", "more": 1}}, "more"),
    ],
)  # fmt: skip
def test_other_entries_are_refused(entry: Any, words: str) -> None:
    with pytest.raises(TunedTableError, match=words):
        card(entry)


def test_measured_chunks_are_written_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "default.json").write_text((_tuned.TUNED / "default.json").read_text())
    table = DeviceTable("A Card", MEASURED, tmp_path)
    table.backend("conv3x3", "*, fp16", "torch", "faster")
    table.chunk("fp16", *chunks.decide({0: 2.0, 8: 1.5, 4: 1.8}, 256))
    again = DeviceTable("A Card", MEASURED, tmp_path)
    assert again.chunks["fp16"]["images"] == 8
    assert "8: 171" in again.chunks["fp16"]["why"]
    assert table.path.read_text() == spelled("A Card", MEASURED, again.ops, again.chunks)
    again.chunk("fp16", *chunks.decide({0: 2.0, 8: 1.99}, 256))  # too little to change anything
    assert "chunks" not in json.loads(table.path.read_text())


def test_the_arithmetic_counts_what_the_network_does() -> None:
    lines = chunks.arithmetic()
    assert "22 passes and 9 products" in lines
    base = chunks.passes(chunks.Vec2FaceConfig.base())
    # Nine norms in two levels of two blocks and the tail; all but the blocks whose channels change add their input.
    assert sum(one.name.startswith("moments") for one in base) == 9
    assert sum(one.name.startswith("residual") for one in base) == 3
    slow = chunks.Card("slow", 1e12, 1e12, 50e6)
    assert chunks.predicted_us(slow, base, 4, 256, 9) > chunks.predicted_us(slow, base, 256, 256, 9)

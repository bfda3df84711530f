"""Tables of `tuned/`: shape classes, what a file may hold, what the H200's holds, and which entry is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from v2f_kernels import _tuned
from v2f_kernels._shapes import SHAPES, parse_shape, shape_class
from v2f_kernels._tuned import Table, TunedTableError, parse, read, tables

from bench.kernels.device_table import spelled

DEFAULT = read(_tuned.TUNED / "default.json", None)
H200 = "NVIDIA H200"


def test_a_shape_class_has_one_spelling() -> None:
    assert shape_class("group_norm_silu", C=512, HW=7) == "C=512 HW=7"
    assert shape_class("conv3x3", HW=14, O=256, C=512) == "C=512 O=256 HW=14"
    assert [shape_class("attention", N=n, d=64) for n in (1, 32, 33, 50)] == [
        "N<=32 d=64", "N<=32 d=64", "N<=64 d=64", "N<=64 d=64",
    ]  # fmt: skip
    assert parse_shape("attention", "N<=64 d=48") == {"N": 64, "d": 48}


@pytest.mark.parametrize(
    ("op", "text"),
    [
        ("group_norm_silu", "HW=7 C=512"),
        ("group_norm_silu", "C=512"),
        ("group_norm_silu", "C=0512 HW=7"),
        ("group_norm_silu", "C=512  HW=7"),
        ("attention", "N<=50 d=48"),  # a tile that does not exist
        ("attention", "N<=512 d=48"),
        ("layer_norm", "*"),
    ],
)
def test_other_spellings_are_refused(op: str, text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_shape(op, text)


def test_sizes_that_do_not_fit_an_op_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the sizes C=, HW=, found"):
        shape_class("group_norm_silu", C=512)
    with pytest.raises(ValueError, match="at least 1"):
        shape_class("layer_norm", D=0)
    with pytest.raises(ValueError, match="no shape classes are known for the op 'philox'"):
        shape_class("philox", D=1)


def test_committed_tables_are_sound_and_in_their_one_spelling() -> None:
    assert next(iter(tables())) == "default"
    for table in tables().values():
        text = (_tuned.TUNED / table.file).read_text()
        assert text == spelled(table.device, table.measured, json.loads(text)["ops"]), table.file
    assert set(DEFAULT.backends) == set(SHAPES)


RECORDED: dict[str, dict[str, dict[str, float]]] = {
    # bench/results/nvidia-h200: us, batch 256, fp16; `layers` of the first run
    "attention": {
        "N<=64 d=64": {"triton": 21.9, "torch": 41.2},
        "N<=64 d=48": {"triton": 27.4, "torch": 53.1},
        "N<=32 d=64": {"triton": 13.4, "torch": 36.4},
    },
    "conv3x3": {
        "C=512 O=512 HW=7": {"torch": 0.33, "triton": 0.77},
        "C=512 O=256 HW=14": {"torch": 0.63, "triton": 1.27},
        "C=256 O=256 HW=14": {"torch": 0.34, "triton": 0.78},
        "C=256 O=256 HW=28": {"torch": 1.24, "triton": 2.17},
        "C=256 O=128 HW=56": {"torch": 2.57, "triton": 4.15},
        "C=128 O=128 HW=56": {"torch": 1.36, "triton": 1.90},
        "C=128 O=128 HW=112": {"torch": 5.24, "triton": 7.68},
    },
    "group_norm_silu": {
        "C=512 HW=7": {"triton": 0.65, "torch": 0.45},
        "C=512 HW=14": {"triton": 0.60, "torch": 1.34},
        "C=256 HW=28": {"triton": 0.90, "torch": 2.61},
        "C=128 HW=56": {"triton": 1.17, "torch": 4.96},
        "C=128 HW=112": {"triton": 3.27, "torch": 19.09},
    },
    "upsample_conv3x3_folded": {
        "C=512 HW=7": {"triton": 1.24, "torch": 0.88},
        "C=256 HW=14": {"triton": 1.16, "torch": 1.24},
        "C=256 HW=28": {"triton": 3.78, "torch": 4.65},
        "C=128 HW=56": {"triton": 4.40, "torch": 7.33},
    },
    # images/s of the whole network, rungs 7 and 8, 5 and 6 of the ladder: negative, since more is better
    "gelu_linear": {"K=768 M=3072": {"triton": -8294, "torch": -8443}},
    "to_uint8": {"C=128 HW=112": {"triton": -8086, "torch": -6716}},
}


@pytest.mark.skipif(
    tables()[H200].measured["date"] != "2026-11-27",
    reason="the H200 was measured anew: no longer the first run's",
)
def test_the_h200s_table_is_what_its_first_run_recorded() -> None:
    table = tables()[H200]
    assert set(table.backends) == set(RECORDED)
    for op, rows in RECORDED.items():
        assert set(table.backends[op]) == {f"{shape}, fp16" for shape in rows}
        for shape, numbers in rows.items():
            pick = table.pick(op, shape, "fp16", False)
            assert pick is not None
            assert pick.use == min(numbers, key=lambda name: numbers[name]), (op, shape)
            for number in numbers.values():
                assert f"{number:.2f}" in pick.why or f"{abs(number):,.10g}" in pick.why, (op, shape, number)
    assert not table.launch  # nothing but the default launches was timed
    told = (table.measured[name] for name in ("capability", "ptxas", "triton", "torch"))
    assert tuple(told) == (90, "12.8.93", "3.6.0", "2.11.0+cu130")


def made(**changes: Any) -> dict[str, Any]:
    measured = {
        "capability": 90,
        "ptxas": "12",
        "triton": "3",
        "torch": "2",
        "date": "d",
        "commit": "c",
        "source": "s",
    }
    norm = {
        "backend": {"C=512 HW=7, fp16": {"use": "torch", "why": "faster"}},
        "launch": {"apply/C=512": {"num_warps": 4, "num_stages": 1, "TILE": 4096}},
    }
    return {"device": "A Card", "measured": measured, "ops": {"group_norm_silu": norm}} | changes


def changed(path: str, value: Any) -> Callable[[], dict[str, Any]]:
    def change() -> dict[str, Any]:
        root = made()
        *way, last = path.split("|")
        place = root
        for name in way:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return root

    return change


BACKEND, LAUNCH = "ops|group_norm_silu|backend", "ops|group_norm_silu|launch"
ENTRY = {"use": "torch", "why": "faster"}
CONFIG = {"num_warps": 4, "num_stages": 1, "TILE": 4096}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed("colour", 1), r"the file: 'colour': expected one of \['chunks', 'device', 'measured', 'ops'\]"),
        (changed("device", "Another"), "device: expected a name whose file is a-card.json"),
        (changed("measured|ptxas", None), "measured.ptxas: expected a str that is not empty, found None"),
        (changed("measured|capability", "90"), "measured.capability: expected a int"),
        (changed("measured|mood", "good"), "measured: 'mood': expected one of"),
        (changed("ops|group_norm", {"backend": {"*": ENTRY}}), "ops.group_norm.backend: expected an op"),
        (changed("ops|philox", {"backend": {"*": ENTRY}}), "an op that is chosen by shape"),
        (changed(f"{BACKEND}|HW=7 C=512, fp16", ENTRY), "expected a shape class of group_norm_silu such as"),
        (changed(f"{BACKEND}|C=512 HW=7", ENTRY), "expected '<shape>, <dtype>'"),
        (changed(f"{BACKEND}|C=512 HW=7, fp8", ENTRY), "expected '<shape>, <dtype>'"),
        (changed(f"{BACKEND}|C=512 HW=7, fp16, training", ENTRY), "expected '<shape>, <dtype>'"),
        (changed(f"{BACKEND}|*, fp16", {"use": "cuda", "why": "x"}), r"\.use: expected a backend of group_norm_silu"),
        (changed(f"{BACKEND}|*, fp16", {"use": "torch"}), r"\.why: expected the numbers or the reason"),
        (changed(f"{BACKEND}|*, fp16", {**ENTRY, "us": 3}), "'us': expected one of"),
        (changed(f"{LAUNCH}|aply", CONFIG), "expected a kernel that default.json launches for group_norm_silu"),
        (changed(f"{LAUNCH}|apply", {**CONFIG, "BLOCK": 2}), r"expected values for \['TILE', 'num_st"),
        (changed(f"{LAUNCH}|apply", {"num_warps": 4, "num_stages": 1}), "expected values for"),
        (changed(f"{LAUNCH}|apply", {**CONFIG, "num_warps": 3}), r"num_warps: expected one of \(1, 2, 4"),
        (changed(f"{LAUNCH}|apply", {**CONFIG, "TILE": 0}), "TILE: expected a whole number of at least 1, found 0"),
        (changed(f"{LAUNCH}|apply", {**CONFIG, "TILE": True}), "TILE: expected a whole number"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_named_with_its_file(
    change: Callable[[], dict[str, Any]], words: str
) -> None:
    parse(json.dumps(made()), "a-card.json", DEFAULT)
    with pytest.raises(TunedTableError, match=words) as error:
        parse(json.dumps(change()), "a-card.json", DEFAULT)
    assert str(error.value).startswith("tuned/a-card.json: ")


def test_repeated_keys_and_broken_json_are_refused() -> None:
    with pytest.raises(TunedTableError, match="repeated.*'device'"):
        parse('{"device": "A Card", "device": "A Card"}', "a-card.json", DEFAULT)
    with pytest.raises(TunedTableError, match="expected JSON"):
        parse("{", "a-card.json", DEFAULT)


def test_the_default_needs_an_entry_for_any_shape_of_every_op(tmp_path: Path) -> None:
    root = json.loads((_tuned.TUNED / "default.json").read_text())
    del root["ops"]["layer_norm"]["backend"]
    with pytest.raises(
        TunedTableError, match=r"default.json: ops.layer_norm.backend: expected an entry '\*'"
    ):
        parse(json.dumps(root), "default.json", None)


def test_an_entry_without_gradients_says_nothing_about_training() -> None:
    table: Table = parse(json.dumps(made()), "a-card.json", DEFAULT)
    assert table.pick("group_norm_silu", "C=512 HW=7", "fp16", False) is not None
    for dtype, gradients in (("fp16", True), ("bf16", False)):
        assert table.pick("group_norm_silu", "C=512 HW=7", dtype, gradients) is None

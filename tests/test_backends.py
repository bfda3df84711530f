"""The choice of backends is a pure function of the device and the machine, with a reason for each op."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import v2f_kernels
from v2f_kernels import Op, UnknownBackend, _tuned
from v2f_kernels._shapes import SHAPES, TRAINED, parse_shape

from v2f_engine.backends import HOST, OPS, TABLE, TUNED, Choice, choose, function, op_named
from v2f_engine.errors import BackendUnavailable, ConfigError, DatasetError
from v2f_engine.machine import Machine
from v2f_engine.models import bind_ops
from v2f_engine.models.image_decoder import ResidualBlock, Upsample
from v2f_engine.models.ops import Bound
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.randomness import Purpose, normals

ZEN4 = Machine(cuda_devices=0, cpu_flags=frozenset({"avx512f", "avx512_bf16"}), has_triton=True)
SAPPHIRE = Machine(cuda_devices=0, cpu_flags=frozenset({"amx_bf16"}), has_triton=False)
OLD = Machine(cuda_devices=0, cpu_flags=frozenset({"avx2"}), has_triton=False)
GPU = Machine(cuda_devices=2, cpu_flags=frozenset(), has_triton=True)
CARD = Machine(cuda_devices=2, cpu_flags=frozenset(), has_triton=True, gpus=("Unheard Of", "A Card"))


@pytest.mark.parametrize(("machine", "precision"), [(ZEN4, "bf16"), (SAPPHIRE, "bf16"), (OLD, "fp32")])
def test_cpu_precision(machine: Machine, precision: str) -> None:
    choice = choose(machine=machine)
    assert (choice.device, choice.precision) == ("cpu", precision)
    assert {choice.backends[op] for op in SHAPES} == {"torch"}


def test_cpu_with_gradients() -> None:
    """What goes back quickly on a CPU serves training and steering; the rest is as without gradients."""
    plain, training = choose("cpu", machine=ZEN4), choose("cpu", gradients=True, machine=ZEN4)
    other = {op: use for op, use in training.backends.items() if use != plain.backends[op]}
    assert other == {"attention": "torch_products", "group_norm_silu": "torch_rows"}
    network = base_network()
    bind_ops(network, training)
    assert runs(network.blocks[0].attn) == ["torch_products"]  # type: ignore[arg-type, union-attr]
    assert runs(network.im_decoder.mid.block_1) == ["torch_rows", "torch", "torch_rows", "torch"]


def every_op() -> dict[str, Op]:
    """Each op of `v2f_kernels` by its name."""
    folders = [m.name for m in pkgutil.iter_modules(v2f_kernels.__path__) if m.ispkg and m.name[0] != "_"]
    homes = [vars(importlib.import_module(f"v2f_kernels.{folder}")) for folder in folders]
    return {value.name: value for home in homes for value in home.values() if isinstance(value, Op)}


def test_every_op_there_is_has_a_line() -> None:
    assert set(OPS) == set(every_op())
    assert set(SHAPES) == {op for op, (_, _, cuda) in TABLE.items() if cuda == TUNED}
    for name, op in every_op().items():
        assert op_named(name) is op
        assert {use for use in TABLE[name] if use not in (HOST, TUNED)} <= set(op.backends)


def test_the_host_has_one_answer_wherever_the_network_runs() -> None:
    host = [op for op, row in TABLE.items() if HOST in row]
    for machine in (ZEN4, GPU):
        assert {choose(machine=machine).backends[op] for op in host} == {"native"}
        without = replace(machine, no_extension="it is missing; build it")
        assert {choose(machine=without).backends[op] for op in host} == {"reference"}
        assert {choose(machine=without).reasons[op] for op in host} == {"NumPy: it is missing; build it"}
    with pytest.raises(ValueError, match="chosen by device: `choose`"):
        function("attention")


def test_backends_by_name() -> None:
    assert function("reject_similar", "reference") is op_named("reject_similar").backend("reference")
    assert function("reject_similar") is op_named("reject_similar").backend("native")
    with pytest.raises(UnknownBackend, match="did you mean 'reference'"):
        function("reject_similar", "referense")


def test_a_missing_extension_is_told_with_the_way_out() -> None:
    """Drawing goes on in NumPy, with one warning a process; asking for the extension by name is an error."""
    code = """
import sys
sys.modules["v2f_kernels._C"] = None
from v2f_engine import backends, errors
from v2f_engine.randomness import Purpose, normals
for _ in range(2):
    print(normals(1, Purpose.SIGMA, 0, 0, 1)[0, 0], backends.told_on_host().split()[0])
try:
    backends.function("reject_similar", "native")
except errors.BackendUnavailable as error:
    print(error)
from typer.testing import CliRunner
from v2f_engine.cli.main import app
print(CliRunner().invoke(app, ["env"]).output)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("RuntimeWarning: nearest_cosine, perturb_measured, philox_draw") == 1, (
        done.stderr
    )
    assert "pip install -e ." in done.stderr
    assert done.stdout.startswith(f"{normals(1, Purpose.SIGMA, 0, 0, 1)[0, 0]!s} reference\n")
    assert "reject_similar/native cannot run here: the compiled extension" in done.stdout
    assert "compiled extension: missing; the compiled extension v2f_kernels._C is missing" in done.stdout
    assert "reference       NumPy: the compiled extension v2f_kernels._C is missing" in done.stdout


def test_gpu() -> None:
    choice = choose(machine=GPU)
    assert (choice.device, choice.precision) == ("cuda:0", "fp16")
    assert choice.dtype == torch.float16
    assert choice.backends["attention"] == "triton"
    assert choice.backends["conv3x3"] == "torch"  # cuDNN until a measurement says otherwise
    assert choose("cuda:1", "bf16", machine=GPU).device == "cuda:1"
    assert choose("cuda", "fp32", machine=GPU).precision == "fp32"


@pytest.mark.parametrize("machine", [ZEN4, GPU])
def test_every_choice_has_a_reason_and_exists(machine: Machine) -> None:
    choice = choose(machine=machine)
    assert set(choice.backends) == set(OPS)
    assert set(choice.reasons) == {*OPS, "device", "precision", "table"}
    for name, backend in choice.backends.items():
        assert backend in op_named(name).backends


def test_pure() -> None:
    assert choose("cpu", "fp32", machine=OLD) == choose("cpu", "fp32", machine=OLD)
    assert isinstance(choose(), Choice)


def test_describe_is_json() -> None:
    told = json.loads(json.dumps(choose(machine=GPU).describe()))
    assert told["device"] == "cuda:0"
    assert set(told["backends"]) == SHAPES.keys() - TRAINED  # the others decide no byte


@pytest.mark.parametrize(
    ("device", "precision", "match"),
    [
        ("tpu", "auto", "Known: auto, cpu, cuda, cuda:N"),
        ("cpu:1", "auto", "device 'cpu:1'"),
        ("cuda:x", "auto", "device 'cuda:x'"),
        ("cpu", "fp8", "fp8"),
        ("cpu", "fp16", "emulated"),
    ],
)
def test_unknown_settings(device: str, precision: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        choose(device, precision, machine=ZEN4)


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(BackendUnavailable, match="torch sees 0 GPUs"):
        choose("cuda", machine=ZEN4)
    with pytest.raises(BackendUnavailable, match="torch sees 2 GPUs"):
        choose("cuda:2", machine=GPU)
    with pytest.raises(BackendUnavailable, match="kernels need triton"):
        choose(machine=Machine(1, frozenset(), has_triton=False))


def test_a_table_that_names_cudnn_is_followed_where_it_is_and_said_where_it_is_not() -> None:
    small = "C=128 O=128 HW=56"
    for key, named in ((f"{small}, fp16", small), ("*, fp16", "C=8 O=8 HW=8")):
        backends = {"conv3x3": {key: _tuned.Pick("cudnn", "cudnn 0.70 us an image, torch 0.90")}}
        measured = dict.fromkeys(_tuned.MEASURED, "made up")
        table = _tuned.Table("A Card", "a-card.json", measured, backends, {})
        known = {"default": _tuned.tables()["default"], "A Card": table}
        for missing, use in (("", "cudnn"), ("nobody installed it", "torch")):
            machine = Machine(1, frozenset(), True, ("A Card",), no_cudnn=missing)
            choice = choose(machine=machine, known=known)
            assert choice.backend_of("conv3x3", named) == use
            assert ("cudnn" in str(choice.describe())) == (use == "cudnn")
            pick = choice.shapes.get("conv3x3", {}).get(named)
            why = pick.why if pick else choice.reasons["conv3x3"]
            assert "cudnn 0.70 us an image" in why
            assert why.endswith(missing)


def test_importing_costs_no_torch() -> None:
    code = "import sys, v2f_engine.backends, v2f_engine.models; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def table(**entries: dict[str, str]) -> _tuned.Table:
    """A card's table, op -> key -> backend."""
    measured = {
        "capability": 90,
        "ptxas": "12",
        "triton": "3",
        "torch": "2",
        "date": "2027-01-01",
        "commit": "abc",
    }
    ops = {
        op: {"backend": {k: {"use": v, "why": f"{v} wins"} for k, v in e.items()}}
        for op, e in entries.items()
    }
    root = {"device": "A Card", "measured": {**measured, "source": "made up"}, "ops": ops}
    return _tuned.parse(json.dumps(root), "a-card.json", _tuned.tables()["default"])


def on_card(card: _tuned.Table, device: str = "cuda:1", **options: Any) -> Choice:
    return choose(
        device, machine=CARD, known={"default": _tuned.tables()["default"], "A Card": card}, **options
    )


def base_network() -> Vec2Face:
    with torch.device("meta"):
        return Vec2Face(Vec2FaceConfig.base())


def runs(module: Bound) -> list[str]:
    """The backend behind each op of a bound module."""
    names = {
        "torch_native": "torch",
        "torch_products": "torch_products",
        "torch_rows": "torch_rows",
        "triton_op": "triton",
        "reference": "reference",
    }
    return [names[function.__module__.rpartition(".")[2]] for function in module.ops]


def test_a_cards_table_decides_level_by_level() -> None:
    choice = on_card(
        table(
            upsample_conv3x3_folded={"C=128 HW=56, fp16": "triton", "C=512 HW=7, fp16": "torch"},
            group_norm_silu={"C=512 HW=7, fp16": "torch", "C=256 HW=56, fp16": "reference"},
            attention={"N<=64 d=48, fp16": "torch"},
        )
    )
    network = base_network()
    bind_ops(network, choice)
    decoder = network.im_decoder
    up = [(m.side, runs(m)[1]) for m in decoder.modules() if isinstance(m, Upsample)]
    assert sorted(up) == [(7, "torch"), (14, "torch"), (28, "torch"), (56, "triton")]
    blocks = {name: runs(m) for name, m in decoder.named_modules() if isinstance(m, ResidualBlock)}
    assert blocks["mid.block_1"] == ["torch", "torch", "torch", "torch"]
    assert blocks["up.4.block.1"] == ["torch", "torch", "torch", "torch"]
    assert blocks["up.1.block.0"] == ["reference", "torch", "triton", "torch"]  # 256 channels, then 128
    assert blocks["up.0.block.0"] == ["triton", "torch", "triton", "torch"]
    assert runs(network.blocks[0].attn) == ["triton"]  # type: ignore[arg-type, union-attr]
    assert runs(network.decoder_blocks[0].attn) == ["torch"]  # type: ignore[arg-type, union-attr]


def test_another_table_binds_other_functions() -> None:
    """The same layer, three tables: what is bound follows the table and nothing else."""
    layer = Upsample(128, 56)
    for use in ("torch", "triton", "reference"):
        layer.bind(on_card(table(upsample_conv3x3_folded={"C=128 HW=56, fp16": use})))
        assert runs(layer)[1] == use


def test_shapes_reported_are_those_the_network_is_called_with() -> None:
    """Every bound op of base size meets tensors of the class it reported, encoder attention's tokens rounded up."""
    from bench.kernels.network_calls import calls

    seen = calls(Vec2FaceConfig.base(), torch.float16, gradients=False)
    met = {
        "attention": lambda s: {"d": s[0][4]},
        "conv3x3": lambda s: {"C": s[1][1], "O": s[1][0], "HW": s[0][2]},
        "expand_tokens": lambda s: {"D": s[0][1]},
        "gelu_linear": lambda s: {"K": s[1][1], "M": s[1][0]},
        "group_norm_silu": lambda s: {"C": s[0][1], "HW": s[0][2]},
        "layer_norm": lambda s: {"D": s[0][-1]},
        "to_uint8": lambda s: {"C": s[0][1], "HW": s[0][2]},
        "upsample_conv3x3_folded": lambda s: {"C": s[0][1], "HW": s[0][2]},
    }
    assert {call.op for call in seen} == set(met)
    for call in seen:
        reported = parse_shape(call.op, call.shape)
        assert met[call.op](call.sizes).items() <= reported.items(), call
        if call.op == "attention":
            assert reported["N"] == 64 >= call.sizes[0][1]


def test_a_shape_that_no_entry_names_takes_the_cards_any_shape_then_the_defaults() -> None:
    card = table(
        upsample_conv3x3_folded={"*, fp16": "triton", "C=512 HW=7, fp16": "torch"}, layer_norm={"*": "torch"}
    )
    half, brain = on_card(card), on_card(card, precision="bf16")
    op = "upsample_conv3x3_folded"
    assert half.backend_of(op, "C=512 HW=7") == "torch"
    assert half.backend_of(op, "C=1 HW=1") == "triton"  # the card's, for any shape
    assert brain.backend_of(op, "C=512 HW=7") == "torch"  # the default's: nothing said of bf16
    assert brain.backends[op] == "torch"
    assert half.backends["layer_norm"] == brain.backends["layer_norm"] == "torch"
    assert half.backend_of("attention", "N<=64 d=64") == "triton"  # the default's


def test_training_has_entries_of_its_own() -> None:
    card = table(group_norm_silu={"C=512 HW=7, bf16": "torch", "C=512 HW=14, bf16, gradients": "torch"})
    inference, training = on_card(card, precision="bf16"), on_card(card, precision="bf16", gradients=True)
    assert inference.backend_of("group_norm_silu", "C=512 HW=7") == "torch"
    assert training.backend_of("group_norm_silu", "C=512 HW=7") == "triton"
    assert training.backend_of("group_norm_silu", "C=512 HW=14") == "torch"
    assert (inference.gradients, training.gradients) == (False, True)


def test_an_unknown_card_takes_the_default_and_is_described_as_before_there_were_tables() -> None:
    card = table(group_norm_silu={"C=512 HW=7, fp16": "torch"})
    unknown = on_card(card, "cuda:0")
    assert unknown.reasons["table"] == "tuned/default.json: no table was measured on 'Unheard Of'"
    assert unknown.describe() == {
        "device": "cuda:0",
        "precision": "fp16",
        "backends": {
            "attention": "triton", "conv3x3": "torch", "expand_tokens": "triton", "gelu_linear": "torch",
            "group_norm_silu": "triton", "layer_norm": "triton", "to_uint8": "triton", "upsample_conv3x3": "torch",
            "upsample_conv3x3_folded": "torch",
        },
    }  # fmt: skip
    known = on_card(card)
    assert known.describe() == {
        **unknown.describe(),
        "device": "cuda:1",
        "shapes": {"group_norm_silu": {"C=512 HW=7": "torch"}},
    }
    assert "tuned/a-card.json: measured 2027-01-01 at abc" in known.reasons["table"]


def test_a_cpu_is_described_as_before_there_were_tables() -> None:
    told = choose("cpu", "fp32", machine=ZEN4).describe()
    calls = sorted(SHAPES.keys() - TRAINED)  # what only trainings call came later, and is not told
    assert told == {"device": "cpu", "precision": "fp32", "backends": dict.fromkeys(calls, "torch")}


def test_a_dataset_of_an_earlier_commit_goes_on_where_its_bytes_do() -> None:
    """Its manifest knows no shapes: fine on a CPU and on a card without a table; on one with a table the backends, and
    so the bytes, are others, and the refusal says which."""
    from v2f_engine.pipeline.shard_source import _refuse_other

    def runner(choice: Choice) -> dict[str, Any]:
        return {"runner": {"runner": "cuda_graph", "batch_size": 256, **choice.describe()}}

    card = table(group_norm_silu={"C=512 HW=7, fp16": "torch", "C=512 HW=14, fp16": "triton"})
    earlier = runner(on_card(card, "cuda:0"))
    assert "shapes" not in earlier["runner"]
    _refuse_other(Path("set"), earlier, runner(choose("cuda:1", machine=GPU)))
    with pytest.raises(
        DatasetError, match="would make other bytes: runner.shapes.group_norm_silu.C=512 HW=7 is absent"
    ):
        _refuse_other(Path("set"), earlier, runner(on_card(card)))


def test_launches_of_a_cards_own_are_part_of_the_description() -> None:
    entry = {"num_warps": 8, "num_stages": 1, "TILE": 4096}
    described = []
    for changed in (entry, {**entry, "num_warps": 4}):
        card = table()
        launched = _tuned.Table(
            card.device, card.file, card.measured, {}, {"group_norm_silu": {"apply": changed}}
        )
        described.append(on_card(launched).describe()["launch"])
    assert len(set(described)) == 2
    assert all(len(digest) == 12 for digest in described)


def test_the_tables_are_read_once(tmp_path: Path) -> None:
    shutil.copytree(_tuned.TUNED, tmp_path, dirs_exist_ok=True)
    first = _tuned.tables(tmp_path)
    (tmp_path / "default.json").unlink()
    assert _tuned.tables(tmp_path) is first


def test_env_shows_table_rule_and_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from v2f_engine import backends
    from v2f_engine.cli.main import app

    card = table(group_norm_silu={"C=512 HW=7, fp16": "torch"})
    monkeypatch.setattr(Machine, "look", classmethod(lambda cls: CARD))
    monkeypatch.setattr(backends, "tables", lambda: {"default": _tuned.tables()["default"], "A Card": card})
    said = CliRunner().invoke(app, ["env", "--device", "cuda:1"]).output
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert any(line.startswith("table tuned/a-card.json: measured 2027-01-01 at abc") for line in lines), said
    assert f"rule: {backends.RULE}" in lines
    assert "C=512 HW=7 torch torch wins" in lines
    assert any(line.startswith("group_norm_silu * triton fused") for line in lines)

"""Weight files: what is read, and what a stranger's file gets instead of running or exploding."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from v2f_engine.errors import CheckpointError, DiskFull, ModelNotFound, OutputFolderError
from v2f_engine.models import layouts
from v2f_engine.models.checkpoint_file import read_checkpoint
from v2f_engine.models.discriminator import PatchDiscriminator
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import (
    convert,
    load_discriminator,
    load_generator,
    load_recogniser,
    save_weights,
)

SMALL = IResNetConfig((1, 2, 1, 1), (8, 8, 16, 16), feature_dim=24)
TINY = Vec2FaceConfig(
    width=32,
    encoder_blocks=2,
    encoder_heads=2,
    decoder_blocks=1,
    decoder_heads=4,
    z_channels=8,
    base_channels=8,
    norm_groups=4,
)


@pytest.fixture
def recogniser() -> IResNet:
    torch.manual_seed(1)
    return IResNet(SMALL).eval()


@pytest.fixture
def tiny_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layouts.PUBLISHED_SIZES, (32, 2, 1), TINY)


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- what is read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}]
)
def test_recogniser_pth(recogniser: IResNet, tmp_path: Path, wrap: Callable[[object], object]) -> None:
    torch.save(wrap(recogniser.state_dict()), tmp_path / "r.pth")
    loaded = load_recogniser(tmp_path / "r.pth")
    assert loaded.config == SMALL
    assert same(loaded.model, recogniser)
    assert not loaded.model.training


def test_module_prefix_is_stripped(recogniser: IResNet, tmp_path: Path) -> None:
    state = OrderedDict((f"module.{key}", value) for key, value in recogniser.state_dict().items())
    torch.save(state, tmp_path / "r.pth")
    assert same(load_recogniser(tmp_path / "r.pth").model, recogniser)


def test_counters_may_be_missing_and_channels_last_is_dense(recogniser: IResNet, tmp_path: Path) -> None:
    state = recogniser.to(memory_format=torch.channels_last).state_dict()
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "r.pth")
    assert same(load_recogniser(tmp_path / "r.pth").model, recogniser)


@pytest.mark.parametrize("se", [True, False])
def test_squeeze_excitation_is_detected(tmp_path: Path, se: bool) -> None:
    model = IResNet(IResNetConfig((1, 1, 1, 1), (16,) * 4, se=se, feature_dim=8))
    torch.save(model.state_dict(), tmp_path / "r.pth")
    assert load_recogniser(tmp_path / "r.pth").config.se is se


@pytest.mark.usefixtures("tiny_is_published")
def test_locally_trained_checkpoint(tmp_path: Path) -> None:
    """Everything a published training script saves: optimisers, scaler, an empty EMA slot, its arguments."""
    generator, critic = Vec2Face(TINY), PatchDiscriminator(16)
    optimiser = torch.optim.AdamW(critic.parameters())
    critic(torch.zeros(1, 3, 112, 112)).sum().backward()
    optimiser.step()
    content = {
        "model_vec2face": generator.state_dict(),
        "model_disc": critic.state_dict(),
        "model_ema": None,
        "optimizer_disc": optimiser.state_dict(),
        "scaler": torch.amp.GradScaler("cpu", enabled=False).state_dict(),
        "epoch": 7,
        "args": argparse.Namespace(batch_size=8, blr=4e-5, mask=None),
    }
    torch.save(content, tmp_path / "c.pth")
    assert same(load_generator(tmp_path / "c.pth").model, generator)
    assert same(load_discriminator(tmp_path / "c.pth"), critic)
    seeing = PatchDiscriminator(16, 12)  # the identity vector, too
    torch.save({**content, "model_disc": seeing.state_dict()}, tmp_path / "v.pth")
    assert same(load_discriminator(tmp_path / "v.pth"), seeing)


@pytest.mark.usefixtures("tiny_is_published")
def test_plus_with_pose_round_trips_through_convert(tmp_path: Path) -> None:
    generator = Vec2Face(Vec2FaceConfig(**{**TINY.to_json(), "lora_rank": 4}))
    pose = PoseModel(32)
    nn.init.normal_(pose.linear.weight)
    torch.save(
        {"model_vec2face": generator.state_dict(), "pose_model": pose.state_dict()}, tmp_path / "p.pth"
    )
    digest = convert(tmp_path / "p.pth", tmp_path / "p.safetensors")
    for path in (tmp_path / "p.pth", tmp_path / "p.safetensors"):
        loaded = load_generator(path)
        assert loaded.config.lora_rank == 4
        assert same(loaded.model, generator)
        assert loaded.pose is not None
        assert same(loaded.pose, pose)
    assert loaded.sha256 == digest
    assert loaded.head["source"] == "p.pth"
    assert loaded.head["source_sha256"] == load_generator(tmp_path / "p.pth").sha256


def test_configuration_travels_in_our_own_files(tmp_path: Path) -> None:
    generator = Vec2Face(TINY)
    head = {"kind": "vec2face", "config": TINY.to_json(), "training": {"steps": 5}}
    save_weights(tmp_path / "g.safetensors", {"model": generator}, head, precision="fp16")
    loaded = load_generator(tmp_path / "g.safetensors")
    assert loaded.config == TINY
    assert loaded.head["training"] == {"steps": 5}
    assert loaded.statistics == "gaussian"
    weight = generator.norm.weight
    assert loaded.model.norm.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.model.norm.weight, weight, rtol=1e-3, atol=0)
    assert all(p.requires_grad for p in loaded.model.parameters())


def test_recogniser_with_stem_stride_converts(tmp_path: Path) -> None:
    config = IResNetConfig((1, 1, 1, 1), (8, 8, 8, 8), stem_stride=2, feature_dim=8)
    model = IResNet(config)
    head = {"kind": "iresnet", "config": config.to_json()}
    save_weights(tmp_path / "r.safetensors", {"model": model}, head)
    convert(tmp_path / "r.safetensors", tmp_path / "again.safetensors")
    again = load_recogniser(tmp_path / "again.safetensors")
    assert again.config == config
    assert same(again.model, model)


# --- what is refused ------------------------------------------------------------------------------------


def refused(path: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        load_recogniser(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs pointer"),
        (pickle.dumps({"a": 1}), "bare pickle"),
        (b"hello world, these are no weights", "expected safetensors or a torch .pth"),
        (b"PK\x03\x04" + b"\0" * 200, "truncated or damaged"),
        (struct.pack("<Q", 5000) + b'{"a":', "truncated"),
        (struct.pack("<Q", 2) + b"{}", "no network of this engine"),
    ],
)
def test_not_weights_at_all(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    refused(tmp_path / "x.pth", match)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_checkpoint(tmp_path / "nothing.pth")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated(recogniser: IResNet, tmp_path: Path, keep: float, suffix: str) -> None:
    path = tmp_path / f"r{suffix}"
    if suffix == ".pth":
        torch.save(recogniser.state_dict(), path)
    else:
        save_file(recogniser.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path, "truncated")


class Runs:
    """A pickle that would create a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["beside", "in the arguments"])
def test_code_is_not_run(recogniser: IResNet, tmp_path: Path, place: str) -> None:
    trap = Runs(tmp_path / "ran")
    extra = {"x": trap} if place == "beside" else {"args": argparse.Namespace(x=trap)}
    torch.save({"state_dict": recogniser.state_dict(), **extra}, tmp_path / "r.pth")
    refused(tmp_path / "r.pth", "holds more than weights .*mkdir")
    assert not (tmp_path / "ran").exists()


def test_other_python_objects_are_named(recogniser: IResNet, tmp_path: Path) -> None:
    arguments = argparse.Namespace(output_dir=pathlib.PurePosixPath("/tmp"), best=np.float64(0.5))
    torch.save({"state_dict": recogniser.state_dict(), "args": arguments}, tmp_path / "r.pth")
    assert same(load_recogniser(tmp_path / "r.pth").model, recogniser)  # values are read past, never made
    torch.save(recogniser, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "IResNet")


def test_numpy_arrays_are_refused(tmp_path: Path) -> None:
    torch.save({"w": np.zeros(3)}, tmp_path / "r.pth")
    refused(tmp_path / "r.pth", "no tensors but 1 NumPy values")


def rezip(source: Path, target: Path, change: Callable[[str, bytes], tuple[str, bytes, int]]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            name, content, method = change(record.filename, old.read(record))
            new.writestr(name, content, compress_type=method)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda n, c: (n, c, zipfile.ZIP_DEFLATED), "compressed"),
        (lambda n, c: (n.replace("data/0", "../evil"), c, 0), "does not belong"),
        (lambda n, c: (n.replace("data/0", "code/a.py"), c, 0), "does not belong"),
        (lambda n, c: (n, c + b"\0" * (9 << 20) if n.endswith(".pkl") else c, 0), "at most 8,388,608"),
        (lambda n, c: (n.replace("data.pkl", "constants.pkl"), c, 0), "does not belong"),
    ],
)
def test_strange_zips(recogniser: IResNet, tmp_path: Path, change: Callable[..., object], match: str) -> None:
    torch.save(recogniser.state_dict(), tmp_path / "good.pth")
    rezip(tmp_path / "good.pth", tmp_path / "bad.pth", change)
    refused(tmp_path / "bad.pth", match)


def test_overlapping_records(recogniser: IResNet, tmp_path: Path) -> None:
    """Two directory entries for one record: more bytes than the file has."""
    path = tmp_path / "r.pth"
    torch.save({"a": torch.zeros(1 << 16)}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
        record = next(r for r in archive.infolist() if r.filename.endswith("data/0"))
    entry_start = content.index(record.filename.encode(), start) - 46
    name_length, extra, comment = struct.unpack_from("<HHH", content, entry_start + 28)
    entry = content[entry_start : entry_start + 46 + name_length + extra + comment]
    copies = b"".join(entry.replace(b"data/0", b"data/%d" % i) for i in range(1, 9))
    directory = content[start : content.index(b"PK\x05\x06", start)]
    directory = directory[: directory.find(b"PK\x06\x06")] if b"PK\x06\x06" in directory else directory
    count = directory.count(b"PK\x01\x02") + 8
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory + copies), start, 0)
    path.write_bytes(content[:start] + directory + copies + tail)
    refused(path, "overlap")


def test_stride_bomb(recogniser: IResNet, tmp_path: Path) -> None:
    """One stored element seen as 2**40: plain torch loads it and dies at the first copy."""
    state = recogniser.state_dict()
    state["fc.weight"] = torch.zeros(1).expand(1 << 20, 1 << 20)
    torch.save(state, tmp_path / "r.pth")
    refused(tmp_path / "r.pth", "fc.weight .* view that its storage does not hold")


def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    """A file of zeros that inflates to 1 GiB is refused from its directory."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "good.pth")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with zipfile.ZipFile(tmp_path / "bad.pth", "w", zipfile.ZIP_DEFLATED) as bad:
        with zipfile.ZipFile(tmp_path / "good.pth") as good:
            bad.writestr("archive/data.pkl", good.read("good/data.pkl"))
        with bad.open("archive/data/0", "w") as record:
            for _ in range(256):
                record.write(bytes(4 << 20))
    assert (tmp_path / "bad.pth").stat().st_size < 4 << 20
    refused(tmp_path / "bad.pth", "compressed")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


def test_sparse_and_strange_dtypes(recogniser: IResNet, tmp_path: Path) -> None:
    state = recogniser.state_dict()
    torch.save({**state, "fc.weight": torch.eye(4).to_sparse()}, tmp_path / "s.pth")
    refused(tmp_path / "s.pth", "fc.weight is torch.sparse_coo")
    torch.save({**state, "fc.weight": torch.zeros(4, dtype=torch.complex64)}, tmp_path / "c.pth")
    refused(tmp_path / "c.pth", "complex64")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_not_finite(recogniser: IResNet, tmp_path: Path, value: float, suffix: str) -> None:
    state = recogniser.state_dict()
    state["layer2.1.conv1.weight"][3, 2] = value
    path = tmp_path / f"r{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    refused(path, r"layer2\.1\.conv1\.weight has 9 values of 576 that are NaN or infinite")


def test_missing_unexpected_and_misshapen_keys(recogniser: IResNet, tmp_path: Path) -> None:
    state = recogniser.state_dict()
    state["layer1.0.conv9.weight"] = state.pop("layer1.0.conv2.weight")
    state["fc.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "r.pth")
    with pytest.raises(CheckpointError) as caught:
        load_recogniser(tmp_path / "r.pth")
    message = str(caught.value)
    assert "1 keys are missing: layer1.0.conv2.weight" in message
    assert "1 keys are unexpected: layer1.0.conv9.weight (nearest: layer1.0.conv2.weight)" in message
    assert "1 keys have another shape: fc.bias [5] instead of [24]" in message


def test_foreign_network(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "r.pth")
    refused(tmp_path / "r.pth", "no network of this engine.*found 2 keys, among them weight, bias")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "n.pth")
    refused(tmp_path / "n.pth", "holds no tensors")
    torch.save([torch.zeros(2)], tmp_path / "l.pth")
    refused(tmp_path / "l.pth", "holds a list; expected a state dict")


def test_another_kind_is_named(recogniser: IResNet, tmp_path: Path) -> None:
    torch.save(recogniser.state_dict(), tmp_path / "r.pth")
    with pytest.raises(CheckpointError, match="holds a recogniser; a generator was asked for"):
        load_generator(tmp_path / "r.pth")
    torch.save(PatchDiscriminator(16).state_dict(), tmp_path / "d.pth")
    refused(tmp_path / "d.pth", "holds a discriminator; a recogniser was asked for")
    with pytest.raises(CheckpointError, match="only generators and recognisers"):
        convert(tmp_path / "d.pth", tmp_path / "d.safetensors")


def test_unpublished_size_without_configuration(tmp_path: Path) -> None:
    torch.save({"model_vec2face": Vec2Face(TINY).state_dict()}, tmp_path / "g.pth")
    with pytest.raises(CheckpointError, match="width 32 with 2 \\+ 1 blocks is no published size"):
        load_generator(tmp_path / "g.pth")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"width": 64}, "contradicts"),
        ({"encoder_blocks": 10**9}, "contradicts"),
        ({"encoder_heads": 7}, "multiple of 7 heads"),
        ({"heads": 2}, "unknown entries"),
        ({"width": "wide"}, "cannot be used"),
    ],
)
def test_configurations_that_lie(tmp_path: Path, change: dict[str, object], match: str) -> None:
    head = {"kind": "vec2face", "config": {**TINY.to_json(), **change}}
    save_weights(tmp_path / "g.safetensors", {"model": Vec2Face(TINY)}, head)
    with pytest.raises(CheckpointError, match=match):
        load_generator(tmp_path / "g.safetensors")


def raw_safetensors(path: Path, header: str, body: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + body)


A = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    ("header", "size", "match"),
    [
        ("{" + A + "," + A + "}", 8, "twice"),
        ("{" + A.replace("[0,8]", "[4,12]") + "}", 12, "does not fit"),
        ("{" + A.replace("[2]", "[3]") + "}", 8, "does not fit"),
        ("{" + A + "}", 20, "bytes behind its end"),
        ("{" + A + "}", 4, "truncated: expected"),
        ("{" + A.replace("F32", "U8").replace("[2]", "[8]") + "}", 8, "as U8"),
        ("{" + A.replace("[2]", "[1048576,1048576]").replace("8]", "4398046511104]") + "}", 8, "truncated"),
        ('{"a":[1,2]}', 8, "damaged"),
        ("{" + A.replace("[2]", '"2"') + "}", 8, "damaged"),
        ('{"__metadata__":{"head":"[1]"},' + A + "}", 8, "JSON object"),
        ('{"__metadata__":{"head":"{"},' + A + "}", 8, "x.safetensors"),
        ("{not json", 8, "damaged"),
    ],
)
def test_hostile_safetensors(tmp_path: Path, header: str, size: int, match: str) -> None:
    raw_safetensors(tmp_path / "x.safetensors", header, bytes(size))
    refused(tmp_path / "x.safetensors", match)


def test_fuzzed_files_raise_only_our_error(recogniser: IResNet, tmp_path: Path) -> None:
    """Flipped bytes at the places that matter: load or CheckpointError, never anything else."""
    torch.save(recogniser.state_dict(), tmp_path / "r.pth")
    save_file(recogniser.state_dict(), tmp_path / "r.safetensors")
    rng = np.random.default_rng(5)
    for name, spans in (("r.pth", ((0, 6000), (-4000, 0))), ("r.safetensors", ((0, 6000),))):
        good = (tmp_path / name).read_bytes()
        for trial in range(60):
            start, end = spans[trial % len(spans)]
            content = bytearray(good)
            for at in rng.integers(start, end, size=3):
                content[at] = rng.integers(256)
            (tmp_path / f"bad-{name}").write_bytes(content)
            try:
                load_recogniser(tmp_path / f"bad-{name}")
            except CheckpointError as error:
                assert f"bad-{name}" in str(error)


def test_saving_refuses_what_half_precision_cannot_hold(recogniser: IResNet, tmp_path: Path) -> None:
    with torch.no_grad():
        recogniser.fc.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"fc\.weight is not finite as torch\.float16"):
        save_weights(tmp_path / "r.safetensors", {"model": recogniser}, {}, precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_json(recogniser: IResNet, tmp_path: Path) -> None:
    save_weights(tmp_path / "r.safetensors", {"model": recogniser}, {"kind": "iresnet", "b": 1})
    content = (tmp_path / "r.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    assert json.loads(header["__metadata__"]["head"]) == {"kind": "iresnet", "b": 1}


def test_a_full_disk_leaves_the_old_file(
    recogniser: IResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.safetensors"
    digest = save_weights(path, {"model": recogniser}, {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="are free"):
        save_weights(path, {"model": recogniser}, {"later": True})
    monkeypatch.undo()
    assert read_checkpoint(path).sha256 == digest
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OutputFolderError, match="No such file"):
        save_weights(tmp_path / "absent" / "r.safetensors", {"model": recogniser}, {})

"""The datacenter path with an imagined library and GPU: what is asked of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from imagined_tensorrt import Imagined

from v2f_engine.errors import ArtefactError, BackendUnavailable, ConfigError, MissingDependency
from v2f_engine.export import tensorrt
from v2f_engine.export.parity import Judge
from v2f_engine.export.tensorrt import BuildSettings, export_engine, measure_engine, profile_of
from v2f_engine.models.mask_schedule import MASK_SCHEDULES
from v2f_engine.models.weights import load_generator, load_recogniser
from v2f_engine.pipeline import Engine
from v2f_engine.runtime.artefact import Sidecar, open_artefact, sidecar_path
from v2f_engine.runtime.tensorrt import FLAVOURS, EngineNetwork, Gpu, check_engine, profile_for

HERE = Gpu("Imagined H1", "sm90")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU that builds, and on which nothing is run."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Gpu, "of", classmethod(lambda cls, device: HERE))
    monkeypatch.setattr(tensorrt, "runs_here", lambda sidecar: False)


def built(small_export: Path, out: Path, library: Imagined, **settings: object) -> Path:
    made = export_engine(
        "tensorrt", small_export, out / "engine.plan", library=library,
        settings=BuildSettings(targets=(), **settings),  # type: ignore[arg-type]
    )  # fmt: skip
    return made.path


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(("version", "flag"), [("10.13.3.9", True), ("11.4.0.106", False)])
def test_both_majors_are_asked_for_the_same(
    small_export: Path, tmp_path: Path, version: str, flag: bool
) -> None:
    library = Imagined(version, strongly_typed_flag=flag)
    cache = tmp_path / "timings"
    cache.write_bytes(b"t")
    path = built(
        small_export, tmp_path, library,
        profiles=((1, 64, 256), (128, 128, 128)), workspace_gib=2.0, level=4, timing_cache=cache,
    )  # fmt: skip
    told = library.told
    assert told.flags == (2 if flag else 0)
    assert [profile["noise"] for profile in told.profiles] == [
        ((1, 49), (64, 49), (256, 49)),
        ((128, 49),) * 3,
    ]
    assert told.profiles[0]["n_masked"] == ((1,), (64,), (256,))
    assert (told.workspace, told.level) == (2 << 30, 4)
    assert cache.read_bytes() == b"t."
    sidecar = open_artefact(path)
    assert sidecar.built_with["tensorrt"] == version
    assert sidecar.built_for == {"compute_capabilities": ["sm90"], "gpu": HERE.name}
    assert sidecar.source == open_artefact(small_export).files[small_export.name]
    assert sidecar.accuracy["measured_with"].startswith("the ONNX graph, not the engine")


@pytest.mark.usefixtures("card")
def test_a_timing_cache_of_another_machine_is_refused(small_export: Path, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"foreign")
    with pytest.raises(ArtefactError, match="another version or GPU"):
        built(small_export, tmp_path, Imagined("10.13.3.9"), timing_cache=cache)


@pytest.mark.usefixtures("card")
def test_engine_files_run_on_the_addresses_they_are_given(
    small_weights: Path, small_export: Path, tmp_path: Path
) -> None:
    library = Imagined("10.13.3.9")
    path = built(small_export, tmp_path, library, profiles=((1, 2, 3), (6, 6, 6)))
    sidecar = open_artefact(path)
    judge = Judge.of(
        load_generator(small_weights), load_recogniser("mini"), MASK_SCHEDULES["generate"], images=7
    )
    parity = measure_engine(path, sidecar, judge, library, device="cpu")  # 7 faces, at most 3 a call
    assert parity.images == 7
    assert parity.max_grey <= 1
    assert parity.spread > 5.0
    network = EngineNetwork(library, path, sidecar, batch_size=6)
    vectors, noise, n_masked = (torch.from_numpy(part[:6].copy()) for part in judge.inputs)
    made = network.decode(vectors, noise, n_masked, 5)
    assert np.abs(made.numpy().astype(int) - judge.images[:6]).max() <= 1
    vectors.copy_(torch.from_numpy(judge.inputs[0][:1]).expand(6, -1))
    noise.copy_(torch.from_numpy(judge.inputs[1][:1]).expand(6, -1))
    n_masked.fill_(int(judge.inputs[2][0]))
    again = network.decode(vectors, noise, n_masked, 5)
    assert again.data_ptr() == made.data_ptr()
    assert np.abs(again.numpy().astype(int) - judge.images[0]).max() <= 1


@pytest.mark.usefixtures("card")
def test_a_plan_changed_after_the_check_or_unreadable_is_refused(small_export: Path, tmp_path: Path) -> None:
    library = Imagined("10.13.3.9")
    path = built(small_export, tmp_path, library)
    sidecar = open_artefact(path)
    path.write_bytes(b"another")
    with pytest.raises(ArtefactError, match="changed while"):
        EngineNetwork(library, path, sidecar, 4)
    with pytest.raises(ArtefactError, match="sha256"):
        Engine.load(path)
    sidecar_path(path).unlink()
    with pytest.raises(ArtefactError, match="no sidecar"):
        Engine.load(path)


def sidecar_of(kind: str, built_with: dict[str, str], built_for: dict[str, object]) -> Sidecar:
    return Sidecar(kind, "generator", "fp16", {}, {}, 5, ((1, 64, 256),), built_with, built_for)


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        (sidecar_of("tensorrt", {"tensorrt": "10.13.3.9"}, {}), "do not pass between versions"),
        (sidecar_of("tensorrt", {}, {}), "do not pass between versions"),
        (
            sidecar_of(
                "tensorrt", {"tensorrt": "11.4.0"}, {"compute_capabilities": ["sm80"], "gpu": HERE.name}
            ),
            "built for sm80",
        ),
        (sidecar_of("tensorrt", {"tensorrt": "11.4.0"}, {}), "no named GPU"),
        (
            sidecar_of("tensorrt", {"tensorrt": "11.4.0"}, {"compute_capabilities": ["sm90"], "gpu": "H100"}),
            "tuned on 'H100'",
        ),
        (
            sidecar_of(
                "tensorrt-rtx", {"tensorrt_rtx": "11.4.0"}, {"compute_capabilities": ["sm89", "sm120"]}
            ),
            "built for sm89, sm120",
        ),
    ],
)
def test_engines_of_another_version_or_gpu_are_refused(sidecar: Sidecar, words: str) -> None:
    with pytest.raises(ArtefactError, match=words):
        check_engine(Path("e.plan"), sidecar, "11.4.0", HERE)


def test_an_engine_of_this_version_and_gpu_passes() -> None:
    own = sidecar_of("tensorrt", {"tensorrt": "11.4.0"}, {"compute_capabilities": ["sm90"], "gpu": HERE.name})
    check_engine(Path("e.plan"), own, "11.4.0", HERE)
    rtx = sidecar_of("tensorrt-rtx", {"tensorrt_rtx": "1.7"}, {"compute_capabilities": ["sm89", "sm90"]})
    check_engine(Path("e.plan"), rtx, "1.7", HERE)


def test_the_narrowest_profile_that_fits_is_taken() -> None:
    profiles = ((1, 64, 256), (64, 64, 64), (128, 128, 128))
    assert [profile_for(Path("e"), profiles, rows) for rows in (1, 64, 100, 128, 256)] == [0, 1, 0, 2, 0]
    with pytest.raises(ConfigError, match="asked for 300"):
        profile_for(Path("e"), profiles, 300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_without_the_package_or_a_gpu_the_message_says_what_to_do(small_export: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"pip install tensorrt-cu1[23].*tensorrt-rtx.*onnx"):
        export_engine("tensorrt", small_export, tmp_path / "e.plan")
    with pytest.raises(BackendUnavailable, match="v2f export tensorrt-rtx"):
        export_engine("tensorrt", small_export, tmp_path / "e.plan", library=Imagined("11.4.0"))
    assert not (tmp_path / "e.plan").exists()


def test_the_install_line_follows_torchs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, package in (("12.9", "cu12"), ("13.0", "cu13"), (None, "cu13")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        assert FLAVOURS["tensorrt"].install == f"pip install tensorrt-{package}"
        assert FLAVOURS["tensorrt-rtx"].install == f"pip install tensorrt-rtx-{package}"


@pytest.mark.parametrize("text", ["", "1,2", "a", "1,2,3,4", "-1", "1;64;256"])
def test_profiles_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="MIN,OPT,MAX"):
        profile_of(text)


@pytest.mark.parametrize("profile", [(0, 1, 2), (2, 1, 3), (1, 3, 2)])
def test_profiles_out_of_order(profile: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="min <= opt <= max"):
        BuildSettings((profile,))


def test_weights_are_no_engine() -> None:
    with pytest.raises(ConfigError, match="v2f export tensorrt"):
        Engine.load("mini", runner="tensorrt")


def test_sidecars_of_engines_are_json(small_export: Path) -> None:
    assert json.loads(sidecar_path(small_export).read_text())["kind"] == "onnx"

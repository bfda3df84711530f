"""`v2f export`: what a user types and reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from v2f_engine.cli.main import app, main

RUN = CliRunner()


def test_help_names_all_four() -> None:
    shown = RUN.invoke(app, ["export", "--help"]).output
    assert all(name in shown for name in ("onnx", "tensorrt", "tensorrt-rtx", "verify"))


def test_onnx_prints_steps_and_a_summary(small_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.onnx"
    command = [
        "export",
        "onnx",
        "--model",
        str(small_weights),
        "--part",
        "decoder",
        "--out",
        str(out),
        "--check",
        "4",
    ]
    done = RUN.invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    for words in (
        "trace",
        "compare",
        "layers",
        "identity cosine",
        "images/s",
        "onnx, decoder of small, fp32",
    ):
        assert words in done.output
    assert out.with_name("d.onnx.json").is_file()


def test_rtx_builds_from_an_onnx_file_and_verify_tells_what_is_open(
    small_export: Path, tmp_path: Path
) -> None:
    out = tmp_path / "e.plan"
    command = [
        "export",
        "tensorrt-rtx",
        "--model",
        str(small_export),
        "--out",
        str(out),
        "--profile",
        "1,2,4",
    ]
    done = RUN.invoke(app, [*command, "--profile", "8", "--target", "sm89"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "1/2/4, 8/8/8" in done.output
    assert "sm89" in done.output
    assert "the ONNX graph, not the engine" in done.output
    told = RUN.invoke(app, ["export", "verify", str(out)], catch_exceptions=False).output
    assert "ok       sha256 of 1 file(s)" in told
    if not torch.cuda.is_available():
        assert "open     no GPU here" in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_without_tensorrt_the_message_is_the_install_line(
    small_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["v2f", "export", "tensorrt", "--model", str(small_export), "--out", str(tmp_path / "e.plan")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert "pip install tensorrt-cu1" in capsys.readouterr().err


def test_a_changed_file_is_one_line_on_stderr(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported.write_bytes(exported.read_bytes() + b"\0")
    monkeypatch.setattr("sys.argv", ["v2f", "export", "verify", str(exported)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("error (ArtefactError):")
    assert len(err.strip().splitlines()) == 1

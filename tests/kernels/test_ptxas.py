"""Which assembler is in use: told by `v2f env`, by its own word, and by name where there is none."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner
from v2f_kernels._triton import ptxas

pytest.importorskip("triton")


def tool(folder: Path, says: str) -> Path:
    path = folder / "ptxas"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_env_tells_both_and_which_is_known_to_be_bad() -> None:
    from v2f_engine.cli.main import app

    said = CliRunner().invoke(app, ["env", "--device", "cpu"]).output
    assert f"ptxas {ptxas.versions()}" in said
    assert "12.8.93 (known to be bad: its code is linted before it runs) for sm_80, sm_90" in said
    assert "12.9.86 for sm_100 and later" in said


def test_the_environment_chooses_for_the_older_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also what the run recorded: a version that does not follow it would vouch for the wrong assembler."""
    other = tool(tmp_path, "Cuda compilation tools, release 13.5, V13.5.37")
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(other))
    assert ptxas.ptxas_path(90) == other
    assert [ptxas.ptxas_version(capability) for capability in (80, 90, 120)] == [
        "13.5.37",
        "13.5.37",
        "12.9.86",
    ]
    assert "known to be bad" not in ptxas.versions()
    assert ptxas.newer_version() == "12.9.86"


def test_a_tool_without_a_version_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(tool(tmp_path, "release 12.8, mended by hand")))
    with pytest.raises(ptxas.PtxasMissing, match=r"expected a ptxas that tells its version.*mended by hand"):
        ptxas.ptxas_version(90)


def test_what_cannot_be_assembled_says_why() -> None:
    with pytest.raises(ptxas.PtxasMissing, match="cannot assemble for sm_90: .*fatal"):
        ptxas.assemble("no ptx", 90, ptxas.ptxas_path(90))

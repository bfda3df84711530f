"""A threshold is of the recogniser that read the features: given, calibrated, published or its own, and always said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import v2f_engine.vectors.plots as plots
from v2f_engine.cli.main import app
from v2f_engine.errors import ConfigError, ModelNotFound
from v2f_engine.models import registry

MINI = json.loads((registry.MINI / registry.CARD).read_text())["features"]["max_cosine"]


def run(*words: object) -> str:
    ended = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.fixture
def features(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.standard_normal((40, 512)), 3, axis=0)
    rows = centres + 0.5 * generator.standard_normal((120, 512))
    np.save(tmp_path / "f.npy", rows.astype(np.float32))
    np.save(tmp_path / "who.npy", np.repeat(np.arange(40), 3))
    return tmp_path / "f.npy"


def test_foreign_features_get_no_threshold_unasked(features: Path) -> None:
    """Refused where nobody says who read them; with a name, a record, a reference or a cosine the record says which."""
    out = features.with_name("o.json")
    line = ["evaluate", "separability", features, "--labels", features.with_name("who.npy"), "--out", out]
    with pytest.raises(ConfigError, match="nobody says which recogniser read these features"):
        run(*line)
    known = features.with_name("known.npy")
    np.save(known, np.random.default_rng(1).standard_normal((60, 512)).astype(np.float32))
    for words, threshold, why in (
        (["--threshold", 0.35], 0.35, "given"),
        (["--recogniser", "arcface-r100-glint360k"], 0.40, "as published for arcface-r100-glint360k"),
        (["--recogniser", "mini"], MINI, "the limit of mini"),
        (["--reference", known, "--fmr", 0.01], None, "false-match rate 0.01 on known, 1,770 pairs"),
    ):
        said = run(*line, *words, "--overwrite")
        record = json.loads(out.read_text())
        assert record["threshold_from"] == why
        assert threshold is None or record["threshold"] == pytest.approx(threshold, abs=2e-3)
        assert why in said
    with pytest.raises(ModelNotFound):
        run(*line, "--recogniser", "arcfacer100", "--overwrite")
    features.with_suffix(".json").write_text(json.dumps({"recogniser": {"name": "mini", "sha256": "0"}}))
    run(*line, "--overwrite")  # as `v2f features` notes it
    assert json.loads(out.read_text())["threshold_from"] == "the limit of mini"
    features.with_suffix(".json").write_text(json.dumps({"recogniser": {"name": "r50", "sha256": "0"}}))
    run(*line, "--overwrite")
    assert json.loads(out.read_text())["threshold_from"] == "the engine's 0.3: r50 states no limit of its own"


def test_several_sets_are_counted_over_all_prefixes_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the published script prints them: each prefix of each set, by a definition written anew."""
    generator = np.random.default_rng(3)
    sets = {}
    for name, count in (("a/x", 230), ("b/x", 150), ("y", 100)):
        rows = generator.standard_normal((count, 512)).astype(np.float32)
        rows[count // 2 :: 3] = rows[: len(rows[count // 2 :: 3])] + 0.1
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, rows)
        sets[path] = rows
    drawn: list[dict[str, object]] = []
    monkeypatch.setattr(plots, "plot_separability", lambda curves, path: drawn.append(dict(curves)))
    said = run("ids", "check", *sets, "--step", 100, "--plot", tmp_path / "c.png")
    for path, rows in sets.items():
        name = "y" if path.stem == "y" else str(path)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for first in (*range(100, len(rows), 100), len(rows)):
            above = unit[:first] @ unit[:first].T > 0.40
            unique = int((np.triu(above, k=1).sum(axis=0) == 0).sum())
            assert f"{name}: {unique:,} unique identities of the first {first:,}\n" in said
            assert unique < first or first == 100
    assert said.count("at cosine 0.4 (as published, for features of arcface-r100-glint360k)") == 3
    assert list(drawn[0]) == [str(tmp_path / "a/x.npy"), str(tmp_path / "b/x.npy"), "y"]
    assert "(given)" in run("ids", "check", tmp_path / "y.npy", "--threshold", 0.3)

"""Wherever a recogniser is named it may be an ONNX graph; where its gradients are needed, that is said.

The commands are those of the tree with an option `--recogniser`, each run as its table of options runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_every_option import SCENES
from wiring_case import Case, Seen, commands, missing, names_of, play, spies_of, typed
from wiring_ui import SERVE

from v2f_engine.ui.studio import Studio

NAMED = sorted(
    name for name, command in commands().items() if any("--recogniser" in names_of(p) for p in command.params)
)
WITH_GRADIENTS = {"train generator", "train pose"}
"""Losses are taken through the recogniser: an ONNX graph has no gradients."""
OPENED = "v2f_engine.models.embedder:open_embedder"


def studio(call: Callable[[], Any], arguments: Mapping[str, Any]) -> None:
    """What the page needs is opened, and nothing is served."""
    Studio(arguments["begun"])


LATER = {"ui": {SERVE: studio}}
"""Command -> what stands for serving, where a recogniser is opened once that begins."""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser of 512 entries in 1.2 MB."""
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(588, 512))
    example = torch.zeros(2, 3, 112, 112)
    torch.onnx.export(
        network.eval(), (example,), path, input_names=["x"], dynamic_axes={"x": {0: "B"}}, dynamo=False
    )
    return path


@pytest.mark.parametrize("command", NAMED)
def test_a_graph_is_opened(command: str, graph: Path, places: dict[str, Path], tmp_path: Path) -> None:
    scene = SCENES[command]
    told = scene.options["--recogniser"]
    asked: Case = told[0] if isinstance(told, tuple) else told
    case = replace(asked, words="{graph}", seen=(Seen(OPENED, "source", "{graph}"),))
    here = {**places, "graph": graph, "out": tmp_path / "out"}
    spies = {**spies_of(scene, asked), **spies_of(scene, case), **LATER.get(command, {})}
    played = play(typed(scene, "--recogniser", case, True, here), spies)
    if command in WITH_GRADIENTS:
        assert "an ONNX graph has no gradients" in played.ended
        return
    assert missing(played, case, here) == [], played.ended
    assert not played.ended or "ONNX" not in played.ended

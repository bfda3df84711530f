"""`v2f export`: where options end; nothing is traced or built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from wiring_case import OVERWRITE, Case, Scene, case
from wiring_generate import GENERATOR, RECOGNISER
from wiring_spies import Answer, give, stop

BUILD = "v2f_engine.export.tensorrt:build_engine"
FLAVOUR = "v2f_engine.runtime.tensorrt:Flavour.library"
JUDGE = "v2f_engine.export.parity:Judge.of"
PART = "v2f_engine.export.graph:part_of"
PLACE = "v2f_engine.export.onnx:put_in_place"
REQUIRE = "v2f_engine.export.parity:Parity.require"
SIDECAR = "v2f_engine.runtime.artefact:Sidecar"
TRACE = "v2f_engine.export.graph:trace"


def saved(call: Any, arguments: Mapping[str, Any]) -> list[str]:
    """Instead of a graph: a file of a few bytes."""
    Path(arguments["path"]).write_bytes(b"graph")
    return [Path(arguments["path"]).name]


def parity() -> Any:
    from v2f_engine.export.parity import Parity

    return Parity(2, 0, 0.0, 1.0, 1.0, 1.0, 50.0, "reader", "nothing", 1.0)


SPARED: dict[str, Answer] = {
    TRACE: give(SimpleNamespace(model=SimpleNamespace(graph=(1, 2)))),
    "v2f_engine.export.graph:describe": give(None),
    "v2f_engine.export.onnx:save_program": saved,
    "v2f_engine.export.onnx:check_file": give(None),
    "v2f_engine.export.onnx:measure_onnx": lambda call, arguments: parity(),
    JUDGE: give(SimpleNamespace()),
}
"""An export without its minutes: trace, graph, checks and comparison are canned."""

SHARED: dict[str, Case] = {
    "--part": case("decoder", (PART, "part", "decoder"), (SIDECAR, "self.part", "decoder")),
    "--opset": case("21", (TRACE, "opset", 21), (SIDECAR, "self.built_with.opset", "21")),
    "--masks": case("plus-generate", (PART, "n_dropped", 40), (SIDECAR, "self.n_dropped", 40)),
    "--recogniser": case("{reader}", (RECOGNISER, "model", "{reader}")),
    "--check": case("5", (JUDGE, "images", 5)),
    "--force": case(None, (REQUIRE, "force", True)),
    "--fetch": case(None, (GENERATOR, "fetch", True), (RECOGNISER, "fetch", True)),
}

ONNX = Scene(
    "export onnx",
    "--out {out}.onnx --model {small}",
    {
        **OVERWRITE,
        "--out": case("{out}-b.onnx", (PLACE, "names.0", lambda name: name.endswith("-b.onnx"))),
        "--model": case("mini", (GENERATOR, "model", "mini"), spies={GENERATOR: stop}),
        "--precision": case("fp16", (PART, "precision", "fp16"), (SIDECAR, "self.precision", "fp16")),
        **SHARED,
    },
    SPARED,
)

BUILDING: dict[str, Answer] = {**SPARED, FLAVOUR: give(SimpleNamespace(__version__="1.7")), BUILD: stop}


def engine(command: str, further: Mapping[str, Case]) -> Scene:
    """A scene of one of the two builders."""
    return Scene(
        f"export {command}",
        "--out {out}.plan --model {small}",
        {
            **OVERWRITE,
            "--out": case("{out}-b.plan", (BUILD, "onnx", "{out}-b.onnx")),
            "--model": case("mini", (GENERATOR, "model", "mini"), spies={GENERATOR: stop}),
            "--precision": case("bf16", (PART, "precision", "bf16")),
            "--profile": case("1,2,3", (BUILD, "settings.profiles.0", (1, 2, 3))),
            "--level": case("4", (BUILD, "settings.level", 4)),
            **SHARED,
            **further,
        },
        BUILDING,
    )


TENSORRT = engine(
    "tensorrt",
    {
        "--timing-cache": case("{out}.cache", (BUILD, "settings.timing_cache", "{out}.cache")),
        "--workspace": case("2.5", (BUILD, "settings.workspace_gib", 2.5)),
    },
)
RTX = engine("tensorrt-rtx", {"--target": case("sm80", (BUILD, "settings.targets", ("sm80",)))})

CHECK = "v2f_engine.runtime.artefact:open_artefact"
VERIFY = Scene(
    "export verify",
    "<file={small}>",
    {"file": case("{reader}", (CHECK, "path", "{reader}"))},
    {CHECK: stop},
)

SCENES = (ONNX, TENSORRT, RTX, VERIFY)

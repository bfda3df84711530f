"""`v2f ui`: where its options end; its sliders stand in `tests/ui/test_every_slider.py`."""

from __future__ import annotations

from wiring_case import Scene, case
from wiring_spies import stop

SERVE = "v2f_engine.ui.serving:serve"
UI = Scene(
    "ui",
    "--port 0",
    {
        "--model": case("{small}", (SERVE, "begun.engine.model", "{small}")),
        "--vectors": case("{table}", (SERVE, "begun.vectors", "{table}")),
        "--out": case("{out}", (SERVE, "begun.out", "{out}")),
        "--host": case("0.0.0.0", (SERVE, "host", "0.0.0.0")),
        "--port": case("1234", (SERVE, "port", 1234), instead=""),
        "--open": case(None, (SERVE, "opens", True)),
        "--recogniser": case("{reader}", (SERVE, "begun.recogniser", "{reader}")),
        "--device": case("cpu", (SERVE, "begun.engine.device", "cpu")),
        "--precision": case("fp32", (SERVE, "begun.engine.precision", "fp32")),
        "--fetch": case(None, (SERVE, "begun.engine.fetch", True)),
    },
    {SERVE: stop},
)
SCENES = (UI,)

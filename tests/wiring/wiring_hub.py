"""`v2f push` and `pull`: where options end; no Hub is asked (`tests/hub` has one)."""

from __future__ import annotations

from types import SimpleNamespace

from wiring_case import Scene, case
from wiring_spies import give, stop

CARGO = "v2f_engine.hub.cargo:cargo_of"
CONNECT = "v2f_engine.hub.client:connect"
PROSPECT = "v2f_engine.hub.push:prospect"
PULL = "v2f_engine.hub.pull:pull"
PUSH = "v2f_engine.hub.push:push"
WANTED = "v2f_engine.hub.pull:wanted"
PROSPECTED = SimpleNamespace(lines=list, missing=(1,), private=False, place=SimpleNamespace(url="there"))

SCENES = (
    Scene(
        "push",
        "<source={faces}> <repository=ada/faces>",
        {
            "source": case("{strangers}", (CARGO, "source", "{strangers}")),
            "repository": case("ada/others", (PROSPECT, "name", "ada/others")),
            "--private": case(None, (PROSPECT, "private", True)),
            "--revision": case("v2", (PROSPECT, "revision", "v2")),
            "--yes": case(None, (PUSH, "asked.private", False)),
        },
        {
            CONNECT: give(None),
            CARGO: give(SimpleNamespace(remarks=(), manifest=None)),
            PROSPECT: give(PROSPECTED),
            PUSH: stop,
        },
    ),
    Scene(
        "pull",
        "<repository=ada/faces>",
        {
            "repository": case("ada/others", (WANTED, "typed", "ada/others"), also="--out {out}"),
            "--out": case("{out}", (PULL, "out", "{out}")),
            "--revision": case("v2", (WANTED, "revision", "v2"), also="--out {out}"),
        },
        {CONNECT: give(None), WANTED: give(None), PULL: stop},
    ),
)

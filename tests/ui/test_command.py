"""`v2f ui` as a command: what it was begun with reaches the engine, and what cannot be shown is said."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.main import get_command

from v2f_engine.cli.main import app
from v2f_engine.errors import ConfigError, MissingDependency, ModelNotFound, OutputFolderError
from v2f_engine.options import EngineOptions
from v2f_engine.ui import serving
from v2f_engine.ui.asked import Settings, Who
from v2f_engine.ui.begun import Begun
from v2f_engine.ui.desk import Line
from v2f_engine.ui.export import Order
from v2f_engine.ui.studio import Studio

Said = list[str]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """`served(host=...)`: what is said of a server that ends at once."""

    def run(**how: Any) -> Said:
        said: Said = []
        monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
        given = {"host": "127.0.0.1", "port": 0, "opens": False, **how}
        serving.serve(Begun(EngineOptions()), given.pop("host"), given.pop("port"), say=said.append, **given)
        return said

    return run


def test_loopback_alone_unless_told(served: Callable[..., Said]) -> None:
    (line,) = served()
    assert line.startswith("the page is at http://127.0.0.1:")
    line, warning = served(host="0.0.0.0")
    assert line.startswith("the page is at http://127.0.0.1:")
    assert warning.startswith("warning: it listens on 0.0.0.0: anybody who reaches this machine can use it")


def test_a_browser_is_opened_when_asked_for(
    served: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Said = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    served()
    assert opened == []
    served(opens=True)
    assert len(opened) == 1
    assert opened[0].startswith("http://127.0.0.1:")


def test_a_port_that_is_taken_is_named() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="--port 0 for a free one"):
            serving.listening("127.0.0.1", taken.getsockname()[1])
    for host, port in (("127.0.0.1", 70_000), ("nowhere.invalid", 0)):
        with pytest.raises(ConfigError, match="--port"):
            serving.listening(host, port)


def test_without_the_extra_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingDependency, match=r"pip install .*\[ui\]"):
        serving.serve(Begun(EngineOptions()), "127.0.0.1", 0, opens=False, say=lambda words: None)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--model", "nobody"], ModelNotFound),
        (["--out", "file"], OutputFolderError),
        (["--precision", "fp1"], ConfigError),
        (["--recogniser", "nobody"], ModelNotFound),
    ],
)
def test_what_cannot_be_shown_ends_the_command(words: list[str], error: type[Exception]) -> None:
    """Found while the page is served already, or before: the command ends with the name of the error."""
    Path("file").write_text("somebody's")
    with pytest.raises(error):
        get_command(app)(["ui", "--port", "0", "--no-open", *words], standalone_mode=False)


def test_what_it_was_begun_with_reaches_engine_and_command(table: Path) -> None:
    from v2f_engine.models.registry import locate

    reader = str(locate("mini", "recogniser").path)
    begun = Begun(EngineOptions("mini-pose", "cpu", "fp32"), reader, table, Path("/a/b/sets"))
    studio = Studio(begun)
    lines: list[Line] = []
    studio.row(Who("table", 1), Settings(images=2, yaw=10), lines.append, lambda: None)
    told = studio.engine("mini-pose").runner.describe()
    assert (told["device"], told["precision"]) == ("cpu", "fp32")
    assert studio.reader.name != "mini"
    assert studio.pose_model == "mini-pose"
    assert lines[-1]["kind"] == "end"
    order = Order(Settings(yaw=10), 2, "parquet")
    command = order.command(begun, studio.pose_model, begun.out / "set-1")
    assert command == (
        "v2f generate --model mini-pose --device cpu --precision fp32 --vectors sets/set-1.safetensors --images 2 "
        "--by pose-model --yaw 10 --seed 0 --format parquet --executor inline --out sets/set-1"
    )

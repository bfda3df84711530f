"""The server itself: a socket, uvicorn around it, and an end that is said."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from v2f_kernels._extras import install

from v2f_engine.errors import ConfigError, MissingDependency
from v2f_engine.ui.guard import is_loopback

if TYPE_CHECKING:
    from v2f_engine.ui.begun import Begun


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: an address or a port that cannot be had.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port: expected 0 to 65535, found {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(64)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port} cannot be listened on ({error.strerror or error}). Take another port, or "
            "--port 0 for a free one."
        ) from error
    return made


def address_of(listens: socket.socket) -> str:
    """What to open in a browser."""
    host, port = listens.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def opens_itself() -> bool:
    """Whether a browser is to be expected: somebody looks at a screen that is this machine's."""
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return bool(screen and sys.stdout.isatty())


def serve(begun: Begun, host: str, port: int, *, opens: bool, say: Callable[[str], None]) -> None:
    """Serves the page until a signal ends it.

    Args:
        begun: what to show.
        host, port: to listen on.
        opens: whether a browser is opened.
        say: told the address, and a warning where others may reach it.

    Raises:
        MissingDependency, ConfigError: nothing to serve with, or nowhere.
        ModelNotFound, CheckpointError, VectorError: of what it was begun with.
    """
    try:
        import uvicorn

        from v2f_engine.ui.app import Page, application
    except ImportError as error:
        raise MissingDependency(f"The page needs {error.name}; install it with: {install('ui')}") from error

    listens = listening(host, port)
    errors: list[BaseException] = []

    def failed(error: BaseException) -> None:
        errors.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        application(Page(begun, failed), host),
        http="h11",
        ws="none",
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    address = address_of(listens)
    say(f"the page is at {address} (Ctrl-C ends it)")
    if not is_loopback(host):
        say(
            f"warning: it listens on {host}: anybody who reaches this machine can use it and write sets to its disk"
        )
    if opens:
        import webbrowser

        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        server.run(sockets=[listens])
    finally:
        listens.close()
        if errors:
            raise errors[0]

"""Who may ask: pages of this server alone, under a name that is this machine's.

A browser lets any page send requests to 127.0.0.1, and a stranger's name may be pointed there (DNS rebinding). So a
request whose Host is no name of ours is refused, and one that changes something must come from our own page.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS: Mapping[bytes, bytes] = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}
"""Of every answer: the page may load and ask for nothing that is not this server's."""


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host` is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(authority: str) -> str:
    """`127.0.0.1` of `127.0.0.1:8000`, `::1` of `[::1]:8000`, in lower case."""
    text = authority.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


class Guard:
    """An ASGI application before another.

    Args:
        app: what answers.
        host: what the server listens on. Loopback: its names alone are ours. Anything else: addresses are ours too,
            which nobody can rebind, and this machine's name.
    """

    def __init__(self, app: App, host: str = "127.0.0.1") -> None:
        self.app, self.open = app, not is_loopback(host)
        self.names = {*LOOPBACK, host.lower()} | ({socket.gethostname().lower()} if self.open else set())

    def knows(self, authority: str) -> bool:
        """Whether a Host header is ours."""
        name = host_of(authority)
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.open or address.is_loopback

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """(status, words) of a request that is not answered."""
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if not self.knows(host):
            return (
                421,
                f"This server does not go by the name {host_of(host)[:80]!r}: open the address it printed.",
            )
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin.lower() != f"{scope['scheme']}://{host.strip().lower()}":
            return 403, "This request comes from another page; only the page of `v2f ui` itself may ask."
        if site not in (None, "same-origin", "none"):
            return 403, "This request comes from another site; only the page of `v2f ui` itself may ask."
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        refused = self.refusal(scope)
        if refused is None:
            await self.app(scope, receive, with_headers)
            return
        status, words = refused
        body = json.dumps({"kind": "error", "name": "Refused", "words": words}).encode()
        length = str(len(body)).encode()
        kinds = [(b"content-type", b"application/json"), (b"content-length", length)]
        await with_headers({"type": "http.response.start", "status": status, "headers": kinds})
        await send({"type": "http.response.body", "body": body})

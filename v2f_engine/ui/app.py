"""The page's server as an application: three files, and what they ask for as JSON.

GET  /                  the page; /style.css, /app.js
GET  /api/state         what there is to slide, who is kept, how the export stands
POST /api/row           {who, settings}: lines of JSON as images are made; a newer request ends an older one
POST /api/face          a picture's bytes: a person of it
POST /api/keep, /drop   {who}: the tray
POST /api/export        {settings, images, format}; /api/export/stop; GET /api/export says how it stands
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from v2f_engine.errors import ConfigError, V2FError
from v2f_engine.ui.desk import Desk, Line, Superseded
from v2f_engine.ui.guard import Guard
from v2f_engine.ui.sliders import COUNTS, SLIDERS
from v2f_engine.ui.words import Told, told

if TYPE_CHECKING:
    from v2f_engine.ui.begun import Begun
    from v2f_engine.ui.export import Exports
    from v2f_engine.ui.studio import Studio

PAGE = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
}
MOST = 64 << 10
"""Bytes of a request that is no picture."""
Handler = Callable[[Request], Awaitable[Response]]


class Page:
    """What answers the page; made before the engine is there, so that the page can be shown meanwhile.

    Args:
        begun: what `v2f ui` was started with.
        failed: called where the engine cannot be loaded.
    """

    def __init__(self, begun: Begun, failed: Callable[[BaseException], None] = lambda error: None) -> None:
        self.begun, self.failed = begun, failed
        self.desk = Desk()
        self._loaded: asyncio.Future[tuple[Studio, Exports]] | None = None

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The engine is loaded while the page is shown."""
        self._loaded = asyncio.ensure_future(self._load())
        try:
            yield
        finally:
            self.desk.close()
            if self._loaded.done() and not self._loaded.cancelled() and self._loaded.exception() is None:
                self._loaded.result()[1].close(10.0)

    async def _load(self) -> tuple[Studio, Exports]:
        def load() -> tuple[Studio, Exports]:
            from v2f_engine.ui.export import Exports
            from v2f_engine.ui.studio import Studio

            studio = Studio(self.begun)
            return studio, Exports(self.begun, studio.pose_model)

        try:
            return await asyncio.to_thread(load)
        except BaseException as error:
            self.failed(error)
            raise

    async def there(self) -> tuple[Studio, Exports]:
        """The studio and the exports, once they are there."""
        assert self._loaded is not None, "the application runs"
        return await asyncio.shield(self._loaded)

    async def state(self, request: Request) -> Response:
        from v2f_engine.ui.export import OFFERED, shown

        studio, exports = await self.there()
        gallery = studio.gallery
        return JSONResponse(
            {
                "model": shown(str(self.begun.engine.model)),
                "mini": str(self.begun.engine.model) in ("mini", "mini-pose"),
                "device": studio.device,
                "limit": gallery.limit,
                "recogniser": studio.reader.name,
                "pose_model": studio.pose_model is not None,
                "table": 0 if gallery.table is None else len(gallery.table),
                "out": shown(self.begun.out),
                "absolute": self.begun.out.is_absolute(),
                "sliders": {name: asdict(one) for name, one in {**SLIDERS, **COUNTS}.items()},
                "formats": OFFERED,
                "tray": [studio.card(one) for one in gallery.kept],
                "export": exports.state.to_json(),
            }
        )

    async def row(self, request: Request) -> Response:
        from v2f_engine.ui.asked import Settings, Who

        studio, _ = await self.there()
        body = await object_of(request)
        who, settings = Who.of(body.get("who", {})), Settings.of(body.get("settings", {}))
        settings.taken(studio.pose_model is not None)
        job = self.desk.begin()
        lines = self.desk.lines(job, lambda emit, check: studio.row(who, settings, emit, check))
        return StreamingResponse(_written(lines), media_type="application/x-ndjson")

    async def face(self, request: Request) -> Response:
        from v2f_engine.ui.uploads import MOST as PICTURE

        studio, _ = await self.there()
        data = await body_of(request, PICTURE, "a picture")
        return JSONResponse(await self.desk.run(self.desk.begin(), lambda check: studio.upload(data)))

    async def keep(self, request: Request) -> Response:
        from v2f_engine.ui.asked import Who

        studio, _ = await self.there()
        who = Who.of((await object_of(request)).get("who"))
        studio.gallery.keep(who)
        return JSONResponse({"kept": len(studio.gallery.kept), "card": studio.card(who)})

    async def drop(self, request: Request) -> Response:
        from v2f_engine.ui.asked import Who

        studio, _ = await self.there()
        studio.gallery.drop(Who.of((await object_of(request)).get("who")))
        return JSONResponse({"kept": len(studio.gallery.kept)})

    async def export(self, request: Request) -> Response:
        studio, exports = await self.there()
        if request.method == "GET":
            return JSONResponse(exports.state.to_json())
        from v2f_engine.ui.asked import Settings
        from v2f_engine.ui.export import Order

        body = await object_of(request)
        unknown = sorted(set(body) - {"settings", "images", "format"})
        if unknown:
            raise ConfigError(f"export: unknown {', '.join(unknown)}.")
        order = Order(Settings.of(body.get("settings", {})), body.get("images", 10), body.get("format", ""))
        table = studio.gallery.kept_table()
        return JSONResponse((await asyncio.to_thread(exports.start, order, table)).to_json())

    async def stop(self, request: Request) -> Response:
        _, exports = await self.there()
        exports.stop()
        return JSONResponse(exports.state.to_json())

    def application(self) -> Starlette:
        """The routes, without the guard."""
        made = [
            Route("/api/state", self.state),
            Route("/api/row", self.row, methods=["POST"]),
            Route("/api/face", self.face, methods=["POST"]),
            Route("/api/keep", self.keep, methods=["POST"]),
            Route("/api/drop", self.drop, methods=["POST"]),
            Route("/api/export", self.export, methods=["GET", "POST"]),
            Route("/api/export/stop", self.stop, methods=["POST"]),
            *(Route(path, _static(name, kind)) for path, (name, kind) in PAGE.items()),
        ]
        named: tuple[type[Exception], ...] = (V2FError, Superseded, ClientDisconnect, Exception)
        catch: dict[Any, Any] = {HTTPException: _http, **dict.fromkeys(named, _error)}
        return Starlette(routes=made, lifespan=self.lifespan, exception_handlers=catch)


def application(page: Page, host: str = "127.0.0.1") -> Guard:
    """The whole application for a server that listens on `host`."""
    return Guard(page.application(), host)


def _static(name: str, kind: str) -> Handler:
    text = files("v2f_engine.ui").joinpath("static", name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(text, media_type=kind)

    return answer


async def body_of(request: Request, most: int, what: str) -> bytes:
    """The body of a request; no more than `most` bytes are taken.

    Raises:
        HTTPException: it is larger.
    """
    held = bytearray()
    async for part in request.stream():
        held += part
        if len(held) > most:
            raise HTTPException(413, f"{what} has at most {most / 2**20:g} MiB; this one is larger.")
    return bytes(held)


async def object_of(request: Request) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
        ConfigError: it is none.
    """
    try:
        value = json.loads(await body_of(request, MOST, "a request"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConfigError("This request holds no JSON object.")
    return value


async def _written(lines: AsyncGenerator[Line]) -> AsyncGenerator[bytes]:
    """A line of JSON each; the last one says how it ended, whatever happened."""
    try:
        async for line in lines:
            yield _line(line)
    except Superseded:
        yield _line({"kind": "superseded"})
    except Exception as error:
        yield _line(told(error).to_json())
    finally:
        await lines.aclose()


def _line(value: Line) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _answer(what: Told) -> Response:
    return JSONResponse(what.to_json(), what.status)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(Told("Refused", str(error.detail), error.status_code))


async def _error(request: Request, error: Exception) -> Response:
    if isinstance(error, Superseded):
        return JSONResponse({"kind": "superseded"}, 409)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    return _answer(told(error))

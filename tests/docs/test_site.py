"""The documentation site: it builds strictly, has no dead link, fetches nothing, and lacks no public name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from site_of_docs import ROOT, Page, build, inventory, is_external, local
from typer.main import get_command

from v2f_engine.cli.main import app

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EXTERNAL = {"https://semver.org/spec/v2.0.0.html", "https://keepachangelog.com/en/1.1.0/"}
"""Addresses outside that pages link to; a reader follows them, nothing fetches them."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation") / "site"
    said, seconds = build(folder)
    assert "WARNING" not in said, said
    assert seconds < 60, f"the site took {seconds:.0f} s to build"
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site over HTTP on the loopback interface."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_no_link_and_no_anchor_is_dead(site: Path, pages: dict[Path, Page]) -> None:
    dead, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            if is_external(link) or path.name == "404.html":
                continue
            target, anchor = local(link, path, site)
            followed += 1
            if not target.is_file() or not target.is_relative_to(site.resolve()):
                dead.append(f"{path.relative_to(site)} -> {link}: no such file")
            elif (
                anchor
                and target.suffix == ".html"
                and anchor not in pages[site / target.relative_to(site.resolve())].anchors
            ):
                dead.append(f"{path.relative_to(site)} -> {link}: no such anchor")
    assert not dead, "\n".join(dead)
    assert followed > 2000


def test_a_dead_link_would_be_seen(tmp_path: Path) -> None:
    page = Page('<a href="gone.html">x</a><a href="#nowhere">y</a><h1 id="here">z</h1><img src="a.png">')
    assert page.links == ["gone.html", "#nowhere", "a.png"]
    assert page.anchors == {"here"}
    assert local("gone.html#x", tmp_path / "a.html", tmp_path) == (tmp_path / "gone.html", "x")


def test_addresses_outside_are_well_formed_and_known(pages: dict[Path, Page]) -> None:
    outside = {link for page in pages.values() for link in page.links if is_external(link)}
    for link in outside:
        parts = urlsplit(link)
        assert parts.scheme in ("https", "mailto"), link
        assert parts.scheme != "https" or re.fullmatch(r"[\w.-]+\.\w+", parts.netloc), link
    assert outside <= EXTERNAL, (
        f"new addresses outside; list them here if they are meant: {outside - EXTERNAL}"
    )


def test_nothing_is_fetched_from_outside(site: Path, pages: dict[Path, Page]) -> None:
    assert not {link for page in pages.values() for link in page.loads if is_external(link)}
    for sheet in site.rglob("*.css"):
        fetched = re.findall(
            r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)|@import\s+['\"]((?:https?:)?//[^'\"]+)",
            sheet.read_text(),
        )
        assert not fetched, (sheet, fetched)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_search_works_and_the_browser_asks_nobody_else(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}/fidelity.html")
        page.fill("input[name=query]", "saturation")
        page.wait_for_selector(".md-search-result__link", timeout=20_000)
        found = [one.get_attribute("href") for one in page.query_selector_all(".md-search-result__link")]
        browser.close()
    assert any("identities.html" in link for link in found), found
    assert {f"http://{urlsplit(url).netloc}" for url in asked if not url.startswith("blob:")} == {address}
    assert not wrong, wrong


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_pages_are_no_wider_than_a_telephone(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    wide = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        for name in ("index", "tour", "fidelity", "formats", "commands", "api/generate", "api/kernels"):
            page.goto(f"{address}/{name}.html", wait_until="domcontentloaded")
            if page.evaluate("document.documentElement.scrollWidth") > 390:
                wide.append(name)
        browser.close()
    assert not wide, wide


def test_every_command_has_its_options_in_the_page(site: Path, pages: dict[Path, Page]) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "commands.html").read_text())

    def walk(command: object, words: list[str]) -> Iterator[tuple[str, object]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield "-".join(words), command
        else:
            for name, one in inner.items():
                if not one.hidden:
                    yield from walk(one, [*words, name])

    commands = list(walk(get_command(app), ["v2f"]))
    assert len(commands) > 25
    for name, command in commands:
        assert name in pages[site / "commands.html"].anchors, name
        for parameter in command.params:  # type: ignore[attr-defined]
            for option in [one for one in parameter.opts if one.startswith("--")]:
                assert option in text, (name, option)


PUBLIC = ("v2f_engine", "v2f_engine.pipeline", "v2f_engine.data", "v2f_engine.models", "v2f_engine.errors")


def test_the_python_reference_has_every_public_name(site: Path) -> None:
    known = inventory(site)
    lacking = []
    for module in map(import_module, PUBLIC):
        for name in module.__all__:
            value = getattr(module, name)
            if name.startswith("__") or not callable(value):
                continue
            if f"{value.__module__}.{value.__qualname__}" not in known:
                lacking.append(f"{module.__name__}.{name}")
    assert not lacking, lacking
    ops = {path.parent.name for path in (ROOT / "kernels/v2f_kernels").glob("[a-z]*/reference.py")}
    assert ops <= {name.removeprefix("v2f_kernels.") for name in known}


def test_documented_parameters_exist(site: Path) -> None:
    """`lr, weight_decay: ...` names two; each is a parameter, of whatever the reference shows."""
    import griffe

    loader = griffe.GriffeLoader(search_paths=[ROOT, ROOT / "kernels"], docstring_parser="google")
    loader.load("v2f_engine")
    loader.load("v2f_kernels")
    wrong, seen = [], 0
    for name in sorted(inventory(site)):
        if not name.startswith("v2f_engine."):
            continue
        thing = loader.modules_collection[name]
        if not (thing.is_function or thing.is_class) or thing.docstring is None:
            continue
        parameters = {one.name.lstrip("*") for one in thing.parameters}
        for section in thing.docstring.parse("google", warnings=False):
            if section.kind.value != "parameters":
                continue
            for one in section.value:
                for word in one.name.split(","):
                    seen += 1
                    if word.strip().lstrip("*") not in parameters:
                        wrong.append(f"{name}: {word.strip()}")
    assert not wrong, wrong
    assert seen > 200


def test_the_index_of_search_holds_every_page(site: Path, pages: dict[Path, Page]) -> None:
    index = json.loads((site / "search/search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {str(path.relative_to(site)) for path in pages} - {"404.html"} <= found | {"index.html"}

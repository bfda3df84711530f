"""The page in a real browser: Chromium without a screen, at the width of a desk and of a phone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from v2f_engine.data.formats import open_dataset
from v2f_engine.models.registry import locate

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright of the extra `dev` drives the browser"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine; `make browser` installs one"
)
expect = playwright.expect
expect.set_options(timeout=30_000)
ROOT = Path(__file__).resolve().parents[2]
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
PATIENCE = 60_000
"""Milliseconds, for machines that do much else."""


@dataclass
class Server:
    """A running `v2f ui`."""

    process: subprocess.Popen[str]
    address: str
    folder: Path


@dataclass
class Opened:
    """A page, and what it asked for and complained of."""

    page: Any
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ui")
    program = "import sys; from v2f_engine.cli import main; main()"
    words = ["ui", "--port", "0", "--no-open", "--out", "sets", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", said)
    if found is None:
        process.kill()
        pytest.fail(f"`v2f ui` said {said!r}, then {process.stdout.read()!r}")
    yield Server(process, found[0], folder)
    if process.poll() is None:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def opened(browser: Any, server: Server) -> Callable[..., Any]:
    """`with opened("phone") as one:`; the log is looked at when the block ends."""

    @contextmanager
    def open_it(size: str, **how: Any) -> Iterator[Opened]:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **how)
        one = Opened(context.new_page())
        context.on("request", lambda request: one.asked.append(request.url))
        one.page.on("console", lambda line: one.complaints.append(line.text) if line.type != "log" else None)
        one.page.on("pageerror", lambda error: one.complaints.append(str(error)))
        one.page.set_default_timeout(30_000)
        one.page.goto(server.address, timeout=PATIENCE)
        drawn(one.page)
        yield one
        context.close()
        assert one.complaints == []
        elsewhere = [url for url in one.asked if not url.startswith((server.address, "data:"))]
        assert elsewhere == []

    return open_it


def drawn(page: Any, images: int = 8, said: str = " images") -> None:
    """Waits for a whole row."""
    expect(page.locator("#row")).not_to_have_attribute("aria-busy", "true", timeout=PATIENCE)
    expect(page.locator("#status")).to_contain_text(said, timeout=PATIENCE)
    expect(page.locator("#row img")).to_have_count(images, timeout=PATIENCE)


def slide(page: Any, name: str, value: float) -> None:
    """Moves a slider as a hand does."""
    page.locator(f"#slide-{name}").fill(str(value))


def wide(page: Any) -> int:
    """Pixels by which the page is wider than the window."""
    found: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return found


def test_on_a_desktop(opened: Callable[..., Any], server: Server) -> None:
    """Draw, slide, upload, keep, write a set, and look whether it is whole."""
    with opened("desktop") as one:
        page = one.page
        expect(page.locator("#who")).to_have_text("Person 0 of seed 0")
        expect(page.locator("#row .below b").first).to_have_text(re.compile(r"0\.\d\d"))
        first = page.locator("#row img").first.get_attribute("src")
        page.locator("#keep").click()
        expect(page.locator("#tray li")).to_have_count(1)
        page.locator("#next").click()
        expect(page.locator("#who")).to_have_text("Person 1 of seed 0")
        drawn(page)
        assert page.locator("#row img").first.get_attribute("src") != first
        expect(page.locator("#nearest-words")).to_contain_text("Person 0 of seed 0, cosine")
        limit = re.sub("0$", "", f"{locate('mini', 'generator').max_cosine:.3f}")
        expect(page.locator("#nearest-verdict")).to_contain_text(f"limit {limit}:")

        plain = page.locator("#row img").first.get_attribute("src")
        slide(page, "yaw", 30)
        drawn(page, said="turned by the pose model")
        assert page.locator("#row img").first.get_attribute("src") != plain
        page.get_by_role("button", name="Yaw 30°, back to as drawn").click()
        slide(page, "masks", 0.6)
        slide(page, "images", 3)
        page.locator("[name=spread][value=cosine]").check()
        slide(page, "cosine", 0.9)
        drawn(page, 3, "3 images")

        ours = page.locator("#row img").first.screenshot()
        face = server.folder / "face.png"
        Image.fromarray(np.full((112, 90, 3), 90, np.uint8)).save(face)
        page.locator("#file").set_input_files(face)
        expect(page.locator("#problem")).to_contain_text("90x112 pixels, expected an aligned face")
        one.complaints.clear()  # the browser says that 400 was answered
        face.write_bytes(ours)
        Image.open(face).convert("RGB").resize((160, 160)).save(face)
        page.locator("#file").set_input_files(face)
        expect(page.locator("#reference-words")).to_contain_text("your picture has 160x160 pixels")
        expect(page.locator("#who")).to_have_text("Uploaded face 1")
        drawn(page, 3, "3 images")
        expect(page.locator("#problem")).to_be_hidden()
        page.locator("#keep").click()
        expect(page.locator("#tray li")).to_have_count(2)

        page.locator("#export-images").fill("4")
        page.locator("#format").select_option("webdataset")
        page.locator("#write").click()
        expect(page.locator("#export-words")).to_contain_text("2 people, 8 pictures", timeout=PATIENCE)
        command = page.locator("#command").inner_text()
        assert command.startswith(
            "v2f generate --model mini --device cpu --vectors sets/set-1.safetensors --images 4"
        )
        assert "--target-cosine 0.9 --masks 0.6 --seed 0 --format webdataset" in command
        assert len(open_dataset(server.folder / "sets" / "set-1")) == 8
        assert str(server.folder) not in page.content()
        assert wide(page) == 0

        page.reload()  # the tray is the server's
        expect(page.locator("#tray li")).to_have_count(2)
        expect(page.locator("#export-words")).to_contain_text("2 people, 8 pictures")
        for _ in range(2):
            page.locator("#tray .away").first.click()
        expect(page.locator("#tray li")).to_have_count(0)
        expect(page.locator("#write")).to_be_disabled()


def test_steering_is_told_and_can_be_left(opened: Callable[..., Any]) -> None:
    """Iterations are counted in words; whoever moves on is not kept waiting."""
    with opened("desktop") as one:
        slide(one.page, "quality", 36)
        expect(one.page.locator("#status")).to_contain_text("of at most 40", timeout=PATIENCE)
        expect(one.page.locator("#steering")).to_be_visible()
        expect(one.page.locator("#way-words")).to_contain_text("optimised")
        one.page.locator("#reset").click()
        drawn(one.page, said="8 images, ")
        expect(one.page.locator("#steering")).to_be_hidden()


def test_on_a_phone(opened: Callable[..., Any]) -> None:
    """Nothing is wider than the screen, everything is large enough for a thumb, pictures stay in sight."""
    with opened("phone", device_scale_factor=2, has_touch=True, is_mobile=True) as one:
        page = one.page
        assert wide(page) == 0
        page.locator("#next").tap()
        expect(page.locator("#who")).to_have_text("Person 1 of seed 0")
        slide(page, "pitch", 10)  # every part of the controls is there
        page.locator("[name=way][value=pose-model]").tap()
        drawn(page, said="turned by the pose model")
        page.locator("#keep").tap()
        expect(page.locator("#tray li")).to_have_count(1)
        page.locator("[name=spread][value=sigma]").tap()
        drawn(page)
        assert wide(page) == 0
        small = page.evaluate(
            """[...document.querySelectorAll('button, select, [type=number], [type=range], .choice label, .upload')]
            .filter((one) => one.offsetParent && !one.disabled)
            .map((one) => [one.id || one.className || one.textContent, one.getBoundingClientRect()])
            .filter(([, box]) => box.width < 44 || box.height < 44)
            .map(([name, box]) => `${name} ${box.width}x${box.height}`)"""
        )
        assert small == []
        page.locator("#variation").scroll_into_view_if_needed()
        box = page.locator("#row img").first.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 300, "the pictures left the screen while sliders move"
        page.locator("#tray .away").tap()
        expect(page.locator("#tray li")).to_have_count(0)


def test_by_keyboard_alone(opened: Callable[..., Any]) -> None:
    """Every control is reached by Tab, shows where it is, and has a name."""
    with opened("desktop") as one:
        page = one.page
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, select, input, code, progress')]
            .filter((one) => !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim()
              && !one.querySelector('img[alt]'))
            .map((one) => one.id || one.outerHTML)"""
        )
        assert nameless == []
        page.keyboard.press("ArrowRight")
        expect(page.locator("#who")).to_have_text("Person 1 of seed 0")
        drawn(page)
        page.keyboard.press("k")
        expect(page.locator("#keep")).to_have_text("Kept")
        page.keyboard.press("k")
        expect(page.locator("#keep")).to_have_text("Keep")
        visited, rings = [], []
        for _ in range(22):
            page.keyboard.press("Tab")
            name, ring = page.evaluate(
                """(() => {
                const one = document.activeElement, beside = [one, one.nextElementSibling, one.parentElement];
                const rings = beside.filter(Boolean).map((each) => getComputedStyle(each))
                  .map((style) => style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth));
                return [one.id || one.value || one.className || one.tagName, Math.max(...rings)];
                })()"""
            )
            visited.append(name)
            rings.append(ring)
        assert visited[:5] == ["skip", "previous", "next", "keep", "number"]
        assert {
            "seed",
            "file",
            "slide-yaw",
            "slide-pitch",
            "slide-quality",
            "slide-masks",
            "slide-images",
        } <= set(visited)
        assert {"usual", "variation", "reset", "export-images", "format"} <= set(visited)
        assert min(rings[:16]) >= 2, list(zip(visited, rings, strict=True))
        page.locator("#slide-yaw").focus()
        page.keyboard.press("End")
        expect(page.locator("#slide-yaw")).to_have_attribute("aria-valuetext", "60°")
        drawn(page, said="turned by the pose model")


def test_dark_and_light_can_be_read(opened: Callable[..., Any]) -> None:
    """Contrast of words to their ground of at least 4.5, in both schemes."""

    def luminance(colour: str) -> float:
        levels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    grounds = []
    for scheme in ("light", "dark"):
        with opened("desktop", color_scheme=scheme) as one:
            ground = one.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            grounds.append(ground)
            for place in ("h1", "#model", "#status", "footer p", ".slide label", "#spread-words", "#keep"):
                words, own = one.page.evaluate(
                    f"(() => {{ const s = getComputedStyle(document.querySelector('{place}')); "
                    "return [s.color, s.backgroundColor]; })()"
                )
                behind = ground if own == "rgba(0, 0, 0, 0)" else own
                light, dark = sorted((luminance(words), luminance(behind)), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, place, words, behind)
    assert grounds[0] != grounds[1]


def test_a_server_that_is_gone_is_said(opened: Callable[..., Any]) -> None:
    with opened("desktop") as one:
        one.page.route("**/api/row", lambda route: route.abort())
        one.page.locator("#next").click()
        expect(one.page.locator("#problem")).to_contain_text("The server does not answer")
        expect(one.page.locator("#row li")).to_have_count(0)
        one.page.unroute("**/api/row")
        one.page.locator("#next").click()
        drawn(one.page)
        expect(one.page.locator("#problem")).to_be_hidden()
        one.complaints.clear()  # the browser says that a request failed


def test_ctrl_c_ends_it_cleanly(server: Server) -> None:
    """Last: whatever was written is named, no traceback, code 0."""
    server.process.send_signal(signal.SIGINT)
    said, _ = server.process.communicate(timeout=60)
    written = (server.folder / "sets").exists()  # by the first test, where it ran in this process
    assert said.strip() == ("ended; sets are in sets" if written else "ended; no set was written")
    assert server.process.returncode == 0

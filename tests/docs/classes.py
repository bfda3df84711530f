"""How each example of the pages is tried: as typed, with small numbers, or read only, for a reason that stands here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from documented import Typed

READ_ONLY: Mapping[str, str] = {
    r"--model vec2face|arcface-r100-glint360k": "published weights, which are not on this machine",
    r"--preset published|--recipe published": "base networks at their batch: minutes a step on a CPU",
    r"runs/judge/recogniser-best": "what the published recipe would have left",
    r"export tensorrt ": "the GPU that it will run on",
    r"export tensorrt-rtx": "TensorRT-RTX builds for minutes; tests/export has it",
    r"--executor (ray|slurm)": "a cluster; tests/scale has one with real workers",
    r"^v2f generate \.\.\.": "the dots stand for the line above",
    r"ids prove": "faces of ten thousand; tests/test_proof_on_faces.py has it small",
    r"^v2f verify SET": "of the set that a cluster made",
    r"^v2f generate --extend SET": "a set of the reader's; tests/test_extension.py grows real ones",
    r"^v2f ids plan 10000000 --source gaussian": "25 s of pilot; its lines are compared by test_plans.py",
    r"--config ": "a file or manifest of the reader's; the tests of --config replay real ones",
    r"report a --beside b": "four sets; the line before it, of two, is run",
    r"^v2f ui": "serves until stopped; tests/ui drives it in a browser",
    r"^v2f align album": "photographs; tests/faces has some",
    r"train pose people": "tests/train/test_pose_training.py trains one",
}
"""A pattern of commands that are read (every word known, every value of its type) and not run -> why."""

ELSEWHERE: Mapping[str, str] = {
    r"^make \S+": "a target of the Makefile: looked up",
    r"^source \.venv": "the shell's",
    r"^python3\.11 -m venv|-env/bin/|mxnet_check": "another environment, by hand; the page has the date",
    r"^pip (install|uninstall|download) ": "pip's; tests/test_install_words.py holds the extras",
    r"^python -m build": "a wheel, which tests/test_packaging.py builds and looks at",
    r"^docker run": "a container runtime",
    r"^for format in": "another environment's sets, by hand",
    r"^python -c .*LPIPS|lpips/heads": "weights that are not shipped",
    r"^(checkpoints|generator\.safetensors|log\.jsonl|events|samples|bad_rows\.json|resized\.json)\b": "a listing",
}
"""What is no command of ours -> what it is."""

HELD: Mapping[str, str] = {
    "docs/walk.md:1": "tests/test_documented_walk.py",
    "docs/walk.md:2": "tests/test_documented_walk.py",
    "docs/groups.md": "tests/test_documented_groups.py",
    "docs/hub.md": "tests/hub/test_hub_page.py",
    "docs/ui.md": "tests/ui/test_browser.py",
    "docs/python.md": "tests/test_python_page.py",
}
"""Pages, and blocks by number, that have a test of their own, which runs them."""

SMALLER: Mapping[str, str] = {
    r"--ids \d+": "--ids 6",
    r"--images \d+": "--images 3",
    r"--keep \d+": "--keep 2",
    r"--steps \d+": "--steps 2",
    r"(--recipe rendered --held-out others)$": r"\1 --steps 2",
    r"--held-out-people \d+": "--held-out-people 2",
    r"--workers \d+": "--workers 2",
    r"(ids (?:plan|sample)) (\d{4,})(?!.*\bgaussian)": r"\1 40",
    r"n_ids=\d+": "n_ids=6",
    r"images_per_id=\d+": "images_per_id=3",
    r"sample_identities\(\d+": "sample_identities(6",
    r"iterations=\d+": "iterations=2",
    r"--recogniser (glintr100\.onnx|magface\.pth|r50\.pth|arcface\.onnx)": "--recogniser mini",
    r"examples/brightness": "{root}/examples/brightness",
    r"\[17, 4, 17, 9\]": "[3, 1, 3, 2]",
}
"""Pattern -> what stands in its place where an example is tried small: counts, steps, and weights of others."""


def smaller(text: str, root: str) -> str:
    """The same example, small."""
    for pattern, instead in SMALLER.items():
        text = re.sub(pattern, instead.replace("{root}", root), text)
    return text


def matching(table: Mapping[str, str], text: str) -> list[str]:
    return [pattern for pattern in table if re.search(pattern, text)]


def class_of(typed: Typed) -> list[str]:
    """The classes that an example falls into: there must be exactly one."""
    if {typed.page, f"{typed.page}:{typed.block}"} & HELD.keys():
        return ["held by another test"]
    if typed.words is None and not typed.python:
        return [f"elsewhere: {pattern}" for pattern in matching(ELSEWHERE, typed.text)]
    found = [f"read only: {pattern}" for pattern in matching(READ_ONLY, typed.text)]
    return found[:1] or ["run small" if smaller(typed.text, "") != typed.text else "run"]

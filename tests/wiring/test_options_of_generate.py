"""Every option of `v2f generate` changes what it says, and nothing else; the list of options is the command's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from options_of_generate import (
    ELSEWHERE,
    IMAGES,
    LAYOUT,
    MORE,
    NEARLY,
    NOTHING,
    PEOPLE,
    ROWS,
    SOME,
    STEM,
    Row,
)
from safetensors.torch import load_file, save_file
from wiring_case import commands, play, without

from v2f_engine.data.formats import open_dataset
from v2f_engine.data.layout import IDENTITIES
from v2f_engine.data.records.manifest import Manifest, flat
from v2f_engine.models.registry import MINI
from v2f_engine.train.emulated import bf16_here
from v2f_engine.vectors.identities import Identities


def test_every_option_has_a_row_and_every_row_an_option() -> None:
    found = {one.opts[0] for one in commands()["generate"].params if one.name != "help"}
    assert found - set(ROWS) - set(ELSEWHERE) == set(), "say in options_of_generate.py what these change"
    assert set(ROWS) | set(ELSEWHERE) <= found
    assert not set(ROWS) & set(ELSEWHERE)
    for option, rows in ROWS.items():
        assert option == "--out" or all(option in row.words for row in rows), option


@dataclass(frozen=True)
class Set:
    """A dataset that was made.

    Args:
        images: uint8 `[N, 112, 112, 3]`, as decoded, in order.
        people: float32 `[I, 512]`.
        settings: of the manifest, flat; the encoder's under `encoder`.
        files: path -> sha256, but for what describes the set.
    """

    images: NDArray[np.uint8]
    identity: NDArray[np.int64]
    people: NDArray[np.float32]
    settings: dict[str, Any]
    files: dict[str, str]

    @classmethod
    def at(cls, folder: Path) -> Set:
        manifest, dataset = Manifest.load(folder / "manifest.json"), open_dataset(folder)
        per_id = manifest.plan.images_per_id
        images = dataset.images(range(manifest.plan.images))
        return cls(
            images,
            np.arange(len(images)) // per_id,
            Identities.load(folder / IDENTITIES).vectors,
            flat({**manifest.settings, "encoder": dict(manifest.encoder)}),
            {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        )


@pytest.fixture(scope="session")
def more_places(places: dict[str, Path]) -> dict[str, Path]:
    """Further networks that judge: the embedded ones with weights moved."""
    root = places["small"].parent
    made = {
        **places,
        "other_reader": root / "other_reader.safetensors",
        "other_pose": root / "other_pose.safetensors",
    }
    for name, source in (("other_reader", "recogniser"), ("other_pose", "attributes/pose")):
        moved(MINI / f"{source}.safetensors", made[name])
    return made


def moved(source: Path, target: Path) -> None:
    from safetensors import safe_open

    torch.manual_seed(0)
    with safe_open(source, "pt") as opened:  # type: ignore[no-untyped-call]
        about = opened.metadata()
    tensors = load_file(source)
    changed = {
        name: one * (1 + 0.2 * torch.randn_like(one)) if one.ndim > 1 else one
        for name, one in tensors.items()
    }
    save_file(changed, target, about)


@pytest.fixture(scope="session")
def make(more_places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Set]:
    """A command line -> what it makes; each is run once."""
    root, known = tmp_path_factory.mktemp("options"), dict[str, Set]()

    def run(words: str, anew: bool = False) -> Set:
        if anew or words not in known:
            out = root / f"set{len(list(root.iterdir()))}"
            own = f"{words} --out {out}".format(**more_places).split()
            line = [*without(STEM.format(**more_places).split(), "generate", own), *own]
            assert play(line, {}).ended == "", line
            made = Set.at(out)
            if anew:
                return made
            known[words] = made
        return known[words]

    return run


CASES = [
    pytest.param(option, row, id=f"{option} {number}", marks=[pytest.mark.slow] if row.slow else [])
    for option, rows in ROWS.items()
    for number, row in enumerate(rows)
]


@pytest.mark.parametrize(("option", "row"), CASES)
def test_it_changes_what_it_says(option: str, row: Row, make: Callable[..., Set]) -> None:
    if option == "--device" and torch.cuda.is_available():
        pytest.skip("auto is the GPU here")
    with_it, without = make(row.words, anew=row.words.strip() == row.beside), make(row.beside)
    told = {
        name for name in with_it.settings.keys() | without.settings.keys()
        if with_it.settings.get(name) != without.settings.get(name)
    }  # fmt: skip
    assert not (found := different(row.claim, with_it, without)), f"{option}: {row.claim}: {found}"
    assert all(name.startswith(row.says) for name in told), f"the manifest tells of {sorted(told)}"
    # Published precision is fp32, which is what `auto` chooses on a CPU that cannot multiply bf16.
    says = [
        b for b in row.says if not (option == "--as-published" and b == "runner" and not bf16_here("cpu"))
    ]
    silent = [beginning for beginning in says if not any(name.startswith(beginning) for name in told)]
    assert not silent, f"the manifest tells nothing of {silent}"


def different(claim: str, a: Set, b: Set) -> str:
    """How two sets do not differ as claimed; empty where they do."""
    people = a.people.shape == b.people.shape and np.array_equal(a.people, b.people)
    if claim == PEOPLE:
        return "the same people" if people else "" if not equal(a, b) else "the same images"
    if claim == MORE:
        return shared(a, b)
    if not people:
        return "other people"
    if claim == IMAGES:
        return "some image is the same" if same(a, b).any() else ""
    if claim == SOME:
        return "the same images" if equal(a, b) else ""
    if claim == NEARLY:
        away = np.abs(a.images.astype(int) - b.images)
        return "" if away.mean() < 1 else f"{away.mean():.1f} levels apart"
    if not equal(a, b):
        return "other images"
    if claim == NOTHING:
        unlike = {name for name in a.files.keys() | b.files.keys() if a.files.get(name) != b.files.get(name)}
        return f"other files {sorted(unlike)}" if unlike else ""
    assert claim == LAYOUT
    return "the same files" if a.files == b.files else ""


def same(a: Set, b: Set) -> NDArray[np.bool_]:
    """bool `[N]`: images that are equal."""
    found: NDArray[np.bool_] = (a.images == b.images).reshape(len(a.images), -1).all(1)
    return found


def equal(a: Set, b: Set) -> bool:
    return a.images.shape == b.images.shape and bool(same(a, b).all())


def shared(a: Set, b: Set) -> str:
    """Whether what both hold is the same, and the first holds more."""
    if len(a.images) <= len(b.images):
        return "no more images"
    for one in range(int(b.identity.max()) + 1):
        left, right = a.images[a.identity == one], b.images[b.identity == one]
        if not np.array_equal(left[: len(right)], right):
            return f"other images of identity {one}"
    return "" if np.array_equal(a.people[: len(b.people)], b.people) else "other people"

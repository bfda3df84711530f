"""Small things in the place of what the pages speak of: sets of faces, training rows, lists of pairs, results."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

import v2f_engine as v2f
from v2f_engine.data import open_dataset
from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.models.features import extract_features
from v2f_engine.models.weights import load_recogniser


class World:
    """Made once, lazily; `put` copies a thing where an example looks for it.

    Args:
        root: where they are made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, folder: Path) -> bool:
        """Copies what is called so, with what belongs to it; False if nothing is."""
        make = MAKERS.get(name.rstrip("/"))
        if make is None:
            return False
        source, target = make(self), folder / name.rstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        return True

    def faces(self, seed: int) -> Path:
        """Six people of six pictures, an image folder."""
        out = self.root / f"faces-{seed}"
        if not out.exists():
            v2f.generate(n_ids=6, images_per_id=6, out=out, seed=seed)
        return out

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
        """(features, labels, encoded pictures) of `faces(2)`, as mini's recogniser sees them."""
        faces = open_dataset(self.faces(2))
        images = faces.images(np.arange(len(faces)))
        return (
            extract_features(load_recogniser("mini").model, images),
            faces.labels,
            [faces.data(row) for row in range(len(faces))],
        )

    def lmdb(self) -> Path:
        """Records (jpeg, feature, label), the published layout."""
        out, (features, labels, pictures) = self.root / "rows.lmdb", self.rows
        if not out.exists():
            rows = zip(pictures, features, (int(one) for one in labels), strict=True)
            write_training_lmdb(out, rows, int(labels.max()) + 1)
        return out

    def array(self, name: str, values: Callable[[], np.ndarray]) -> Path:
        out = self.root / name
        np.save(out, values())
        return out

    def table(self) -> Path:
        """A table of `v2f ids sample`."""
        out = self.root / "ids.safetensors"
        if not out.exists():
            v2f.sample_identities(6).save(out)
        return out

    def aligned(self) -> Path:
        """A folder of four people of five pictures, as lists of pairs name them: `Ann_0/Ann_0_0001.jpg`."""
        out, (_, labels, pictures) = self.root / "aligned", self.rows
        for person in range(4):
            (out / f"Ann_{person}").mkdir(parents=True, exist_ok=True)
            for number, row in enumerate(np.flatnonzero(labels == person)[:5]):
                (out / f"Ann_{person}" / f"Ann_{person}_{number + 1:04}.jpg").write_bytes(pictures[row])
        return out

    def pairs(self) -> Path:
        """LFW's layout: twenty pairs of one person and twenty of two."""
        lines = []
        for person in range(4):
            lines += [f"Ann_{person}\t1\t{other}" for other in (2, 3, 4, 5)] + [f"Ann_{person}\t2\t3"]
            lines += [f"Ann_{person}\t{n}\tAnn_{(person + 1) % 4}\t{n}" for n in (1, 2, 3, 4, 5)]
        return self.text("pairs.txt", lines)

    def sllfw(self) -> Path:
        """SLLFW's: two lines of a path."""
        lines = []
        for n in range(1, 6):
            for person in range(4):
                own, other = f"Ann_{person}/Ann_{person}_", f"Ann_{(person + 1) % 4}/Ann_{(person + 1) % 4}_"
                lines += [
                    f"{own}{n:04}.jpg",
                    f"{own}{n % 5 + 1:04}.jpg",
                    f"{own}{n:04}.jpg",
                    f"{other}{n:04}.jpg",
                ]
        return self.text("sllfw.txt", lines)

    def text(self, name: str, lines: list[str]) -> Path:
        (self.root / name).write_text("\n".join(lines) + "\n")
        return self.root / name

    def results(self, what: str) -> Path:
        """What an earlier `v2f evaluate` left."""
        from typer.main import get_command

        from v2f_engine.cli.main import app

        out = self.root / f"{what}.evaluation"
        words = {
            "verification": [self.pairs(), "--images", self.aligned()],
            "separability": [self.faces(0)],
        }[what]
        typed = ["evaluate", what, *map(str, words), "--out", str(out / f"{what}.json")]
        if not out.exists():
            get_command(app).main(args=typed, prog_name="v2f", standalone_mode=False)
        return out


MAKERS: Mapping[str, Callable[[World], Path]] = {
    "faces": lambda world: world.faces(0),
    "known": lambda world: world.faces(1),
    "gen1": lambda world: world.faces(0),
    "rendered": lambda world: world.faces(1),
    "people": lambda world: world.faces(2),
    "others": lambda world: world.faces(3),
    "WebFace4M.lmdb": World.lmdb,
    "50000_ids_1022444_ims.npy": lambda world: world.array("mask.npy", lambda: np.arange(0, 36, 2)),
    "features.npy": lambda world: world.array("features.npy", lambda: world.rows[0]),
    "ids.safetensors": World.table,
    "lfw_aligned": World.aligned,
    "pairs.txt": World.pairs,
    "pair_SLLFW.txt": World.sllfw,
    "r50.evaluation": lambda world: world.results("verification"),
    "set.evaluation": lambda world: world.results("separability"),
}
"""Name in a page -> what stands for it."""

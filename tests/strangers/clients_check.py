"""Real clients over sets of ours; run by hand where all of them are installed (CONTRIBUTING says how).

python tests/strangers/clients_check.py SETS    # SETS holds a folder each: imagefolder, webdataset, parquet, ...
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from v2f_engine.batch import ImageBatch

IMAGES, CLASSES = 100, 20


@dataclass(frozen=True)
class Client:
    """A call of somebody else's program.

    Args:
        name: the call.
        format: of the set it reads.
        needs: modules it is made of.
        read: of the set's folder; returns (images, classes).
    """

    name: str
    format: str
    needs: tuple[str, ...]
    read: Callable[[Path], tuple[int, int]]


def batches(identities: range) -> Iterator[ImageBatch]:
    """Images of (identity, image), for sets that a test writes."""
    import numpy as np

    from v2f_engine.batch import ImageBatch

    for identity in identities:
        count = IMAGES // CLASSES
        images = np.full((count, 112, 112, 3), 10 * identity, np.uint8)
        images[:, :56] += np.arange(count, dtype=np.uint8)[:, None, None, None]
        number = np.arange(count)
        yield ImageBatch(images, np.full(count, identity), number, {"yaw": number.astype(np.float32)})


def _hugging_face(
    column: str, *words: str, files: str = "", folder: bool = False, below: str = ""
) -> Callable[[Path], tuple[int, int]]:
    def read(root: Path) -> tuple[int, int]:
        os.environ["HF_HUB_OFFLINE"] = "1"
        import datasets

        datasets.disable_progress_bars()
        with tempfile.TemporaryDirectory() as cache:
            more = (
                {"data_dir": str(root / below)}
                if folder
                else {"data_files": str(root / files)}
                if files
                else {}
            )
            table = datasets.load_dataset(*(words or (str(root),)), split="train", cache_dir=cache, **more)
            return len(table), len(set(table[column]))

    return read


def _image_folder(root: Path) -> tuple[int, int]:
    from torchvision.datasets import ImageFolder

    found = ImageFolder(str(root / "images"))
    assert [found.classes[label] for _, label in found.samples] == [
        Path(p).parent.name for p, _ in found.samples
    ]
    return len(found), len(found.classes)


def _timm(root: Path) -> tuple[int, int]:
    from timm.data import create_dataset

    found = create_dataset("", root=str(root / "images"))
    return len(found), len({label for _, label in found.reader.samples})


def _webdataset(root: Path) -> tuple[int, int]:
    import webdataset

    urls = [str(path) for path in sorted(root.glob("shard-*.tar"))]
    rows = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("jpg", "cls"))
    return len(rows), len({int(label) for _, label in rows})


def _streamed(column: str) -> Callable[[Path], tuple[int, int]]:
    def read(root: Path) -> tuple[int, int]:
        os.environ["HF_HUB_OFFLINE"] = "1"
        import datasets

        rows = list(datasets.load_dataset(str(root), split="train", streaming=True))
        return len(rows), len({row[column] for row in rows})

    return read


def _named(column: str) -> Callable[[Path], tuple[int, int]]:
    """The people's names as the card gives them: `000000`, ... in order."""

    def read(root: Path) -> tuple[int, int]:
        os.environ["HF_HUB_OFFLINE"] = "1"
        import datasets

        datasets.disable_progress_bars()
        with tempfile.TemporaryDirectory() as cache:
            table = datasets.load_dataset(str(root), split="train", cache_dir=cache)
            names = table.features[column].names
            assert names == [f"{identity:06d}" for identity in range(CLASSES)]
            return len(table), len(names)

    return read


def _croissant(root: Path) -> tuple[int, int]:
    """Tars are unpacked into a cache by their relative names, so each set needs a cache of its own (1.1.1)."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CROISSANT_CACHE"] = cache
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlcroissant"]:
            del sys.modules[name]
        import mlcroissant

        found = mlcroissant.Dataset(str(root / "croissant.json"))
        assert not found.metadata.ctx.issues.errors
        rows = list(found.records("faces"))
        assert all(row["faces/image"].size == (112, 112) for row in rows)
        return len(rows), len({row["faces/label"] for row in rows})


def _pandas(root: Path) -> tuple[int, int]:
    import pandas

    table = pandas.read_parquet(root / "data")
    return len(table), table["label"].nunique()


CLIENTS = (
    Client("load_dataset(SET), imagefolder", "imagefolder", ("datasets",), _hugging_face("label")),
    Client("load_dataset(SET), webdataset", "webdataset", ("datasets",), _hugging_face("cls")),
    Client("load_dataset(SET), parquet", "parquet", ("datasets",), _hugging_face("label")),
    Client("load_dataset('imagefolder', data_dir=SET)", "imagefolder", ("datasets",),
           _hugging_face("label", "imagefolder", folder=True)),
    Client("load_dataset('parquet', data_dir=SET)", "parquet", ("datasets",),
           _hugging_face("label", "parquet", folder=True)),
    Client("load_dataset('webdataset', data_files=SET/shard-*.tar)", "webdataset", ("datasets",),
           _hugging_face("cls", "webdataset", files="shard-*.tar")),
    Client("load_dataset('imagefolder', data_dir=SET/images)", "imagefolder", ("datasets",),
           _hugging_face("label", "imagefolder", folder=True, below="images")),
    Client("load_dataset(SET, streaming=True), imagefolder", "imagefolder", ("datasets",), _streamed("label")),
    Client("load_dataset(SET, streaming=True), webdataset", "webdataset", ("datasets",), _streamed("cls")),
    Client("load_dataset(SET, streaming=True), parquet", "parquet", ("datasets",), _streamed("label")),
    Client("names of load_dataset(SET), imagefolder", "imagefolder", ("datasets",), _named("label")),
    Client("names of load_dataset(SET), webdataset", "webdataset", ("datasets",), _named("cls")),
    Client("names of load_dataset(SET), parquet", "parquet", ("datasets",), _named("label")),
    Client("mlcroissant records('faces'), imagefolder", "imagefolder", ("mlcroissant",), _croissant),
    Client("mlcroissant records('faces'), webdataset", "webdataset", ("mlcroissant",), _croissant),
    Client("mlcroissant records('faces'), parquet", "parquet", ("mlcroissant",), _croissant),
    Client("torchvision ImageFolder(SET/images)", "imagefolder", ("torchvision",), _image_folder),
    Client("timm create_dataset('', SET/images)", "imagefolder", ("timm",), _timm),
    Client("webdataset.WebDataset(SET/shard-*.tar)", "webdataset", ("webdataset",), _webdataset),
    Client("pandas.read_parquet(SET/data)", "parquet", ("pandas", "pyarrow"), _pandas),
)  # fmt: skip


def main(sets: Path) -> int:
    """Prints a line a client; the number of those that found something else."""
    wrong = 0
    for client in CLIENTS:
        try:
            versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in client.needs)
            found = client.read(sets / client.format)
        except ImportError as error:
            print(f"not asked  {client.name}: {error}")
            continue
        wrong += found != (IMAGES, CLASSES)
        print(
            f"{'right' if found == (IMAGES, CLASSES) else 'WRONG'}      {client.name}: {found} ({versions})"
        )
    with contextlib.suppress(ImportError):
        from huggingface_hub import metadata_load

        for folder in sorted(path.parent for path in sets.glob("*/README.md")):
            card = metadata_load(folder / "README.md")
            wrong += card is None
            print(f"{'right' if card else 'WRONG'}      metadata_load, {folder.name}: {sorted(card or ())}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Small valid files of every format that is read from outside, and how each is read to the last byte."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "data")]

from stub_people import make_batches, picture  # noqa: E402

from v2f_engine.data import Encoder, Plan, open_dataset, write_dataset  # noqa: E402
from v2f_engine.data.gate.decode import decode  # noqa: E402
from v2f_engine.data.records.verify import verify_dataset  # noqa: E402
from v2f_engine.data.verification.sets import open_verification_set, write_bin  # noqa: E402
from v2f_engine.npy import map_file  # noqa: E402
from v2f_engine.vectors.gate import check_vectors  # noqa: E402
from v2f_engine.vectors.identities import Identities  # noqa: E402
from v2f_engine.vectors.streams import open_vectors  # noqa: E402


@dataclass(frozen=True)
class Seed:
    """A valid file, and everything the engine would do with it.

    Args:
        name: of the format, for reports.
        path: the file that is damaged; what else it needs lies beside it.
        read: opens it and reads all of it.
        opened: what `read` gets: the file, or the folder around it.
    """

    name: str
    path: Path
    read: Callable[[Path], Any]
    opened: Path


def _vectors(path: Path) -> None:
    check_vectors(np.asarray(open_vectors(path)), str(path))


def _numbers(path: Path) -> None:
    np.asarray(map_file(path)).sum()


def _dataset(path: Path) -> None:
    data = open_dataset(path)
    for index in range(min(len(data), 50)):
        data.image(index)


def _image(path: Path) -> None:
    decode(path.read_bytes(), str(path))


def _checkpoint(path: Path) -> None:
    from v2f_engine.models.checkpoint_file import read_checkpoint

    read_checkpoint(path)


def _png() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture(1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def make_seeds(base: Path) -> list[Seed]:
    """One or more valid files of each format below `base`."""
    rng = np.random.default_rng(0)
    seeds: list[Seed] = []

    def single(name: str, suffix: str, content: bytes, read: Callable[[Path], Any]) -> None:
        folder = base / name
        folder.mkdir()
        path = folder / f"file{suffix}"
        path.write_bytes(content)
        seeds.append(Seed(name, path, read, path))

    vectors = rng.standard_normal((6, 512), np.float32)
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    single("npy vectors", ".npy", buffer.getvalue(), _vectors)
    buffer = io.BytesIO()
    np.save(buffer, np.arange(40, dtype=np.int64))
    single("npy numbers", ".npy", buffer.getvalue(), _numbers)
    single("identity table", ".safetensors", Identities.from_vectors(vectors).to_bytes(), Identities.load)
    single("jpeg", ".jpg", Encoder(quality=80).encode(picture(0, 0)), _image)
    single("png", ".png", _png(), _image)

    import torch
    from safetensors.numpy import save

    single("safetensors", ".safetensors", save({"a.weight": vectors[:2], "b": vectors[0]}), _checkpoint)
    buffer = io.BytesIO()
    torch.save({"state_dict": {"a.weight": torch.from_numpy(vectors[:2]), "b": torch.ones(3)}}, buffer)
    single("pth", ".pth", buffer.getvalue(), _checkpoint)

    encoded = [Encoder(quality=80).encode(picture(i, k)) for i in range(4) for k in range(2)]
    (base / "bin").mkdir()
    write_bin(base / "bin" / "pairs.bin", encoded, [True, False, True, False])
    seeds.append(
        Seed(
            "verification bin", base / "bin" / "pairs.bin", open_verification_set, base / "bin" / "pairs.bin"
        )
    )

    files = {
        "imagefolder": "images/000000/000.jpg",
        "webdataset": "shard-000000.tar",
        "lmdb": "",
        "recordio": "train.rec",
        "parquet": "",
    }
    for format, inside in files.items():
        root = base / format
        write_dataset(root, {}, Plan.of(3, 2, 6), make_batches(2), format=format, encoder=Encoder(quality=80))
        found = root / inside if inside else max(root.rglob("*"), key=lambda p: p.stat().st_size)
        own = base / f"{format} own"
        own.mkdir()
        for path in root.rglob("*"):
            if path.is_file():
                (own / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
                (own / path.relative_to(root)).write_bytes(path.read_bytes())
        (root / "manifest.json").unlink()  # as a stranger's: nothing says what is in it
        seeds.append(Seed(format, found, _dataset, root))
        if format == "recordio":
            seeds.append(Seed("recordio index", root / "train.idx", _dataset, root))
        if format == "webdataset":
            seeds.append(Seed("manifest", own / "manifest.json", partial(verify_dataset, level="full"), own))
    folder = base / "zip"
    folder.mkdir()
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        for number, image in enumerate(encoded):
            archive.writestr(f"faces/{number // 2:03d}/{number % 2}.jpg", image)
    seeds.append(Seed("zip", folder / "faces.zip", _dataset, folder / "faces.zip"))
    return seeds

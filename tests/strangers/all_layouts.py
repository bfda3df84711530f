"""Every layout of sets of faces that the engine reads, strangers' and its own, with the tool that writes each.

The table of docs/formats.md and the damaged sets of `test_damaged_layouts` are made of these.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import archive_files
import msgpack
import numpy as np
import record_files
from people_given import People
from PIL import Image

from v2f_engine.data import convert_dataset

Maker = Callable[[Path, People], Path]

OURS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")


@dataclass(frozen=True)
class Layout:
    """One way to store faces.

    Args:
        name: for people.
        family: what its container is, of FAMILIES: what may be damaged in it.
        tool: what writes it so.
        maker: writes it; gives the path that a user would hand over.
        split: the one to ask for, where several sets lie in one place.
    """

    name: str
    family: str
    tool: str
    maker: Maker
    split: str | None = None

    def __post_init__(self) -> None:
        assert self.family in FAMILIES, self.family


FAMILIES = ("folders", "zips", "tars", "shards", "lists", "records", "parquet", "lmdb")


@cache
def picture(seed: int, kind: str = "JPEG", side: int = 112, mode: str = "RGB") -> bytes:
    """A face-sized picture of noise in few colours: small, and no two alike."""
    cells = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, len(mode)), np.uint8)
    if mode == "RGBA":
        cells[..., 3] = 255
    stream = io.BytesIO()
    options = {"quality": 60} if kind == "JPEG" else {}
    Image.fromarray(np.kron(cells, np.ones((8, 8, 1), np.uint8)), mode).save(stream, kind, **options)
    return stream.getvalue()


# What the modules of makers have, with the tools.

RECORD_TOOLS = {
    "records of insightface": "insightface `face2rec`; CASIA-WebFace, MS1MV3, Glint360K",
    "records of RecBuilder": "insightface `RecBuilder`",
    "records of DCFace": "DCFace `Writer`",
    "records of im2rec": "mxnet `im2rec`, its `.lst` beside",
    "records of CVLface": "CVLface, its `.tsv` beside",
}
LIST_TOOLS = {
    "list of path label": "FaceX-Zoo, IDnet, SOTA-FR",
    "list of path label, tabs": "the same",
    "list of label path, tabs": "the same",
    "list of im2rec": "mxnet `im2rec`",
    "list of dir2lst": "insightface `dir2lst`",
    "list of index path": "DCFace",
    "list of paths": "SOTA-FR; the folder is the person",
    "list of names": "scripts",
    "list with backslashes, Windows": "scripts on Windows: byte order mark, CRLF",
    "list in UTF-16": "PowerShell",
    "list with a header": "scripts",
    "list with semicolons": "Excel",
    "list of pandas": "pandas `to_csv`",
    "list in lines of JSON": "Hugging Face `metadata.jsonl`",
    "list of StyleGAN": "StyleGAN `dataset.json`",
    "list of CelebA": "CelebA",
}
TABLE_TOOLS = {
    "parquet of datasets": "Hugging Face `push_to_hub`",
    "parquet of datasets, with a hash": "the same, before 2023",
    "parquet of the Hub's bot": "the Hub's converter bot",
    "parquet of converted shards": "the same, from WebDataset",
    "parquet of texts": "`datasets` with string labels",
    "parquet of a dictionary": "pandas with categories",
    "parquet of large binary": "polars, pyarrow",
    "parquet of binary": "pyarrow",
    "parquet of unsigned": "pyarrow",
    "parquet of floats": "pandas, labels as floats",
    "parquet of class labels": "`datasets` with a ClassLabel",
    "parquet of paths": "`datasets`, `embed_external_files=False`",
}
LMDB_TOOLS = {
    "LMDB of HaiyuWu": "HaiyuWu `folder2lmdb`; HSFace, WebFace4M",
    "LMDB as a folder": "liblmdb's default",
    "LMDB folder in a folder": "the same",
    "LMDB of records alone": "no `__keys__`, no `__len__`",
}
ARCHIVE_TOOLS = {
    "folders": "torchvision `ImageFolder`; ExFaceGAN, SynFace, CASIA",
    "folders, upper case": "cameras",
    "folders below images/": "ours, and others",
    "folders, two levels": "VGGFace2 by groups",
    "folders, person/aligned": "detectors",
    "folders from macOS": "macOS on exFAT or SMB",
    "folders from Synology": "a Synology's indexer",
    "folders, some empty": "filters",
    "folders that are links": "`ln -s`",
    "folders with names in Latin-1": "old disks",
    "IDiff-Face, flat": "IDiff-Face `split_identity_blocks.py`",
    "IDiff-Face, the folder above": "the same",
    "zip": "Info-ZIP",
    "zip from macOS": "Finder",
    "zip from Windows": ".NET before 4.6.1",
    "zip, UTF-8 without flag": "Info-ZIP on a Mac",
    "zip with ./": "`zip -r set.zip ./`",
    "zips in parts": "downloads in parts",
    "zips of DigiFace-1M": "DigiFace-1M",
    "zip, flat names": "IDiff-Face, packed",
    "tar of folders": "`tar`",
    "tar.gz of folders": "`tar -z`",
    "tgz of folders": "`tar -z`",
    "tar.xz of folders": "`tar -J`",
    "tar.bz2 of folders": "`tar -j`",
    "tar of a disk": "`tar` with hard links",
    "tars joined by cat": "`cat a.tar b.tar`",
    "tar, v7 and base 256": "old tars, star",
    "tar of git archive": "`git archive`",
    "webdataset": "webdataset `ShardWriter`",
    "webdataset, same keys": "HaiyuWu `imagelist2webdataset.py`",
    "webdataset, names not ASCII": "Python `tarfile`",
    "webdataset, long names": "GNU tar",
    "webdataset, members apart": "`tar --sort=name`",
    "webdataset, dots in keys": "scripts",
    "webdataset, .jpg.cls": "scripts, a mask beside each face",
    "webdataset, classes by name": "scripts",
    "webdataset, labels in json": "img2dataset",
    "webdataset, tar.gz": "`tar -z`",
    "webdataset, notes and hidden files": "tar on macOS",
}
SPLIT_TOOLS = {
    "folders in splits": "`train/person`, `test/person`",
    "splits in folders": "`person/train`, `person/test`",
    "zip with splits": "`set/train/person` in a zip",
    "a zip a split": "`train.zip`, `test.zip`",
    "tar.gz with splits": "the same in a tar",
    "shards of splits": "`faces-train-000000.tar`",
    "folders of shards": "`train/000000.tar`",
}


def _archive_family(name: str) -> str:
    for start, family in (("zip", "zips"), ("a zip", "zips"), ("t", "tars"), ("webdataset", "shards")):
        if name.startswith(start):
            return family
    return "shards" if "shards" in name else "folders"


# Makers that no module above has.


def _with_features(landmark: bool) -> Maker:
    """Vec2Face's training set: msgpack of (picture, .npy of its feature, label[, landmark picture])."""

    def make(folder: Path, people: People) -> Path:
        entries: dict[bytes, bytes] = {}
        for place, (person, _, data) in enumerate(record_files.mixed(people)):
            stream = io.BytesIO()
            np.save(stream, np.full(512, 1 + place, np.float32))
            more = (picture(10_000 + place),) if landmark else ()
            entries[b"%d" % place] = msgpack.packb((data, stream.getvalue(), person, *more))
        entries[b"__len__"] = msgpack.packb(len(entries))
        entries[b"__keys__"] = msgpack.packb([b"%d" % place for place in range(len(entries) - 1)])
        return record_files.environment(folder / "train.lmdb", entries)

    return make


def _beside(make: Callable[[Path, str, People], object]) -> Maker:
    """The people as `train`, the first of them turned as `test`."""

    def both(folder: Path, people: People) -> Path:
        make(folder, "train", people)
        make(folder, "test", [pictures[::-1] for pictures in people[:1]])
        return folder

    return both


def _rec(folder: Path, stem: str, people: People) -> None:
    rec = record_files.Rec(folder, stem)
    for key, (person, _, data) in enumerate(record_files.mixed(people)):
        rec.add(key, person, data)
    rec.close()


def _table(folder: Path, stem: str, people: People) -> None:
    record_files.parquet(f"data/{stem}-00000-of-00001.parquet")(folder, people)


def _tree(folder: Path, stem: str, people: People) -> None:
    record_files.environment(folder / f"{stem}.lmdb", record_files.entries(people))


def _split_column(folder: Path, people: People) -> Path:
    rows = ["path,label,split"]
    for person, path in record_files.pictures(folder, people):
        rows.append(f"{path},{person},train")
    (folder / "more.jpg").write_bytes(people[0][0])
    (folder / "faces.csv").write_text("\n".join([*rows, "more.jpg,0,test", ""]))
    return folder / "faces.csv"


def ours(format: str) -> Maker:
    """A set of this engine: its manifest, attributes and all."""

    def make(folder: Path, people: People) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        source = archive_files.plain(folder.with_name(folder.name + ".source"), people)
        convert_dataset(source, folder / "set", format, images_per_shard=6)
        shutil.rmtree(source)
        return folder / "set"

    return make


LAYOUTS: tuple[Layout, ...] = (
    *(
        Layout(f"ours, {format}", family, f"`v2f --format {format}`", ours(format))
        for format, family in zip(OURS, ("folders", "shards", "lmdb", "records", "parquet"), strict=True)
    ),
    *(
        Layout(name, _archive_family(name), ARCHIVE_TOOLS[name], maker)
        for name, maker in archive_files.LAYOUTS
    ),
    *(Layout(name, "records", RECORD_TOOLS[name], maker) for name, maker in record_files.RECORDS),
    *(Layout(name, "lmdb", LMDB_TOOLS[name], maker) for name, maker in record_files.TREES),
    Layout("LMDB with features", "lmdb", "Vec2Face's training set", _with_features(False)),
    Layout("LMDB with features and landmarks", "lmdb", "the same, for poses", _with_features(True)),
    *(Layout(name, "parquet", TABLE_TOOLS[name], maker) for name, maker in record_files.TABLES),
    *(Layout(name, "lists", LIST_TOOLS[name], maker) for name, maker in record_files.LISTS),
)
"""Of one set each."""

SPLIT_LAYOUTS: tuple[Layout, ...] = (
    *(
        Layout(name, _archive_family(name), SPLIT_TOOLS[name], maker, "train")
        for name, maker in archive_files.SPLIT_LAYOUTS
    ),
    Layout("records of splits", "records", "`train.rec`, `test.rec`", _beside(_rec), "train"),
    Layout("parquet of splits", "parquet", "Hugging Face `push_to_hub`", _beside(_table), "train"),
    Layout("LMDBs of splits", "lmdb", "`train.lmdb`, `test.lmdb`", _beside(_tree), "train"),
    Layout("list with a column of splits", "lists", "pandas `to_csv`", _split_column, "train"),
)  # fmt: skip
"""Of several sets, of which one is asked for."""

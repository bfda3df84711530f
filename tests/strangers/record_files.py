"""Sets of faces as public tools pack them into records, tables and lists; a maker writes one layout of given people.

People are encoded pictures of each person. Bytes are written by struct, pyarrow, liblmdb and text, as the named tools
write them, never with code of the engine. A maker gives the path that a user would hand over.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack
from people_given import People

Maker = Callable[[Path, People], Path]
MAGIC = 0xCED7230A


def rows_of(people: People) -> list[tuple[int, int, bytes]]:
    """(person, number, picture), person by person."""
    return [(p, k, data) for p, pictures in enumerate(people) for k, data in enumerate(pictures)]


def mixed(people: People) -> list[tuple[int, int, bytes]]:
    """The same, one picture of each person after another, as generators and shuffles leave them."""
    return sorted(rows_of(people), key=lambda row: (row[1], row[0]))


# RecordIO


class Rec:
    """mxnet's MXIndexedRecordIO and `pack` (python/mxnet/recordio.py): the length of a list of labels is the flag."""

    def __init__(self, folder: Path, stem: str = "train") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.place, self.data, self.index = folder / stem, bytearray(), ""

    def add(self, key: int, label: float | Sequence[float], data: bytes = b"") -> None:
        several = list(label) if isinstance(label, Sequence) else []
        header = struct.pack("<IfQQ", len(several), 0.0 if several else label, key, 0)
        payload = header + struct.pack(f"<{len(several)}f", *several) + data
        self.index += f"{key}\t{len(self.data)}\n"
        self.data += struct.pack("<II", MAGIC, len(payload)) + payload + b"\0" * (-len(payload) % 4)

    def close(self) -> None:
        self.place.with_suffix(".rec").write_bytes(self.data)
        self.place.with_suffix(".idx").write_text(self.index)


def insightface(folder: Path, people: People) -> Path:
    """insightface's face2rec: a meta record, images, a record of the range of keys of each person."""
    rec, count = Rec(folder), sum(map(len, people))
    rec.add(0, [count + 1, count + 1 + len(people)])
    for key, (person, _, data) in enumerate(rows_of(people), start=1):
        rec.add(key, person, data)
    first = 1
    for person, pictures in enumerate(people):
        rec.add(count + 1 + person, [first, first + len(pictures)])
        first += len(pictures)
    rec.close()
    (folder / "property").write_text(f"{len(people)},112,112")
    return folder


def rec_builder(folder: Path, people: People) -> Path:
    """insightface's RecBuilder.add_image: keys from 0, no meta record, a list of labels on each picture."""
    rec = Rec(folder)
    for key, (person, number, data) in enumerate(mixed(people)):
        rec.add(key, [person, number % 2], data)
    rec.close()
    (folder / "property").write_text(f"{len(people)},112,112\n{sum(map(len, people))}\n")
    return folder


def dcface(folder: Path, people: People) -> Path:
    """DCFace's Writer: `record/file.rec` whose labels are all 0, `list.txt` of key and path."""
    rec, lines = Rec(folder / "record", "file"), []
    for key, (person, number, data) in enumerate(mixed(people)):
        rec.add(key, 0, data)
        lines.append(f"{key}\t{person}/{number:03d}.jpg\n")
    rec.close()
    (folder / "record" / "list.txt").write_text("".join(lines))
    (folder / "record" / "done_list.txt").write_text(
        "".join(f"train\t{line.split(chr(9))[1]}" for line in lines)
    )
    return folder


def im2rec(folder: Path, people: People) -> Path:
    """mxnet's im2rec: the list that the records were made of stays beside them."""
    rec, lines = Rec(folder), []
    for key, (person, number, data) in enumerate(mixed(people)):
        rec.add(key, person, data)
        lines.append(f"{key}\t{person:f}\tn{person}/{number}.jpg\n")
    rec.close()
    (folder / "train.lst").write_text("".join(lines))
    return folder


def cvlface(folder: Path, people: People) -> Path:
    """CVLface's records with `train.tsv` of index, path and label."""
    rec, lines = Rec(folder), []
    for key, (person, number, data) in enumerate(rows_of(people), start=1):
        rec.add(key, person, data)
        lines.append(f"{key}\tn{person}/{number}.jpg\t{person}\n")
    rec.close()
    (folder / "train.tsv").write_text("".join(lines))
    return folder


# Lists


def pictures(folder: Path, people: People, form: str = "images/p{:03d}/{}.jpg") -> list[tuple[int, str]]:
    """Writes the pictures; (person, path) of each."""
    found = []
    for person, number, data in mixed(people):
        name = form.format(person, number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        found.append((person, name))
    return found


def lines(name: str, form: str, *, head: str = "", end: str = "\n", encoding: str = "utf-8") -> Maker:
    """A list whose lines are `form` with `i`, `path`, `back` (the path with backslashes), `label` and `name`."""

    def make(folder: Path, people: People) -> Path:
        written = [
            form.format(i=i, path=path, back=path.replace("/", "\\"), label=person, name=f"Ann {person}")
            for i, (person, path) in enumerate(pictures(folder, people))
        ]
        (folder / name).write_bytes((head + end.join([*written, ""])).encode(encoding))
        return folder / name

    return make


def csv_file(folder: Path, people: People) -> Path:
    """pandas' to_csv with its index; a path with a comma is quoted."""
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "image_path", "label"])
        for i, (person, path) in enumerate(pictures(folder, people, "images/p,{:03d}/{}.jpg")):
            writer.writerow([i, path, f"person {person}"])
    return folder / "train.csv"


def jsonl(folder: Path, people: People) -> Path:
    """Hugging Face's metadata.jsonl, given as a list."""
    found = pictures(folder, people)
    text = "".join(json.dumps({"file_name": path, "label": person}) + "\n" for person, path in found)
    (folder / "metadata.jsonl").write_text(text)
    return folder / "metadata.jsonl"


def json_file(folder: Path, people: People) -> Path:
    """StyleGAN's dataset.json."""
    found = {"labels": [[path, person] for person, path in pictures(folder, people)]}
    (folder / "dataset.json").write_text(json.dumps(found))
    return folder / "dataset.json"


def celeba(folder: Path, people: People) -> Path:
    """CelebA's identity list beside the folder of all pictures."""
    found = pictures(folder, people, "img_align/{:03d}{}.jpg")
    (folder / "identity.txt").write_text("".join(f"{Path(path).name} {person}\n" for person, path in found))
    return folder / "identity.txt"


# Parquet


def image_column(rows: Sequence[tuple[int, int, bytes]], kind: str = "binary") -> Any:
    """Hugging Face's Image: a struct of bytes and path."""
    import pyarrow as pa

    values = [{"bytes": data, "path": f"{person}_{number}.jpg"} for person, number, data in rows]
    return pa.array(values, pa.struct([("bytes", getattr(pa, kind)()), ("path", pa.string())]))


def write(path: Path, **columns: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=3)


def parquet(
    *names: str,
    image: str = "image",
    label: str = "label",
    column: Callable[[Any, list[int]], Any] = lambda pa, labels: pa.array(labels, pa.int64()),
    struct: str | None = "binary",
    binary: str = "binary",
    **further: str,
) -> Maker:
    """Files of these names, in which the rows are dealt out one after another."""

    def make(folder: Path, people: People) -> Path:
        import pyarrow as pa

        rows = mixed(people)
        step = -(-len(rows) // len(names))
        for place, name in enumerate(names):
            part = rows[place * step : (place + 1) * step]
            encoded = (
                image_column(part, struct)
                if struct
                else pa.array([data for *_, data in part], getattr(pa, binary)())
            )
            others = {key: pa.array([value] * len(part)) for key, value in further.items()}
            write(
                folder / name,
                **{image: encoded, label: column(pa, [person for person, *_ in part]), **others},
            )
        return folder

    return make


def class_labels(folder: Path, people: People) -> Path:
    """`datasets` with a ClassLabel: names in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {
        "image": {"_type": "Image"},
        "label": {"names": [f"Ann {p}" for p in range(len(people))], "_type": "ClassLabel"},
    }
    meta = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table(
        {"image": image_column(mixed(people)), "label": pa.array([p for p, *_ in mixed(people)])}
    )
    (folder / "data").mkdir(parents=True)
    pq.write_table(table.replace_schema_metadata(meta), folder / "data" / "train-00000-of-00001.parquet")
    return folder


def pointing(folder: Path, people: People) -> Path:
    """`datasets` with `embed_external_files=False`: rows name files beside the table."""
    import pyarrow as pa

    found = pictures(folder, people)
    values = [{"bytes": None, "path": path} for _, path in found]
    images = pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    write(folder / "train.parquet", image=images, label=pa.array([person for person, _ in found]))
    return folder / "train.parquet"


# LMDB


def environment(path: Path, entries: dict[bytes, bytes], *, folder: bool = False) -> Path:
    """Written by liblmdb."""
    import lmdb

    path.parent.mkdir(parents=True, exist_ok=True)
    made = lmdb.open(str(path), subdir=folder, map_size=1 << 24)
    with made.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    made.close()
    return path


def entries(people: People, form: str = "{}", *, length: bool = True) -> dict[bytes, bytes]:
    """HaiyuWu's folder2lmdb: msgpack of (picture, label), `__keys__` and `__len__`."""
    found = {
        form.format(i).encode(): msgpack.packb((data, person))
        for i, (person, _, data) in enumerate(mixed(people))
    }
    about = {b"__keys__": msgpack.packb(list(found)), b"__len__": msgpack.packb(len(found))} if length else {}
    return {**found, **about}


def lmdb_file(folder: Path, people: People) -> Path:
    return environment(folder / "train.lmdb", entries(people)).parent


def lmdb_folder(folder: Path, people: People) -> Path:
    """liblmdb's own default: a folder of data.mdb and lock.mdb."""
    return environment(folder / "train.lmdb", entries(people, "img_{:08d}"), folder=True)


def lmdb_in_folder(folder: Path, people: People) -> Path:
    return lmdb_folder(folder, people).parent


def lmdb_bare(folder: Path, people: People) -> Path:
    """Records and nothing else."""
    return environment(folder / "faces.lmdb", entries(people, length=False))


RECORDS: tuple[tuple[str, Maker], ...] = (
    ("records of insightface", insightface),
    ("records of RecBuilder", rec_builder),
    ("records of DCFace", dcface),
    ("records of im2rec", im2rec),
    ("records of CVLface", cvlface),
)
LISTS: tuple[tuple[str, Maker], ...] = (
    ("list of path label", lines("train.txt", "{path} {label}")),
    ("list of path label, tabs", lines("train.txt", "{path}\t{label}")),
    ("list of label path, tabs", lines("train.txt", "{label}\t{path}")),
    ("list of im2rec", lines("train.lst", "{i}\t{label:f}\t{path}")),
    ("list of dir2lst", lines("train.lst", "1\t{path}\t{label}")),
    ("list of index path", lines("list.txt", "{i}\t{path}")),
    ("list of paths", lines("train.txt", "{path}")),
    ("list of names", lines("train.tsv", "{path}\t{name}")),
    ("list with backslashes, Windows", lines("train.txt", "{back} {label}", head="\ufeff", end="\r\n")),
    ("list in UTF-16", lines("train.txt", "{path} {label}", end="\r\n", encoding="utf-16")),
    ("list with a header", lines("train.tsv", "{path}\t{label}", head="path\tlabel\n")),
    (
        "list with semicolons",
        lines("train.csv", "{back};{name}", head="\ufeffFileName;Identity\r\n", end="\r\n"),
    ),
    ("list of pandas", csv_file),
    ("list in lines of JSON", jsonl),
    ("list of StyleGAN", json_file),
    ("list of CelebA", celeba),
)
SHARDS = tuple(f"data/train-{number:05d}-of-00002.parquet" for number in range(2))
TABLES: tuple[tuple[str, Maker], ...] = (
    ("parquet of datasets", parquet(*SHARDS)),
    ("parquet of datasets, with a hash", parquet("data/train-00000-of-00001-a09b74b3ef9c3b56.parquet")),
    ("parquet of the Hub's bot", parquet("default/train/0000.parquet", "default/train/0001.parquet")),
    (
        "parquet of converted shards",
        parquet("0000.parquet", image="jpg", label="cls", __key__="x", __url__="x.tar"),
    ),
    ("parquet of texts", parquet(*SHARDS, column=lambda pa, labels: pa.array([f"n{p:06d}" for p in labels]))),
    (
        "parquet of a dictionary",
        parquet(*SHARDS, column=lambda pa, labels: pa.array([f"n{p}" for p in labels]).dictionary_encode()),
    ),
    (
        "parquet of large binary",
        parquet("train.parquet", struct=None, binary="large_binary", image="image_bytes"),
    ),
    ("parquet of binary", parquet("train/x.parquet", struct=None, image="img", label="identity")),
    (
        "parquet of unsigned",
        parquet(*SHARDS, struct="large_binary", column=lambda pa, labels: pa.array(labels, pa.uint16())),
    ),
    (
        "parquet of floats",
        parquet(*SHARDS, column=lambda pa, labels: pa.array(map(float, labels), pa.float32())),
    ),
    ("parquet of class labels", class_labels),
    ("parquet of paths", pointing),
)
TREES: tuple[tuple[str, Maker], ...] = (
    ("LMDB of HaiyuWu", lmdb_file),
    ("LMDB as a folder", lmdb_folder),
    ("LMDB folder in a folder", lmdb_in_folder),
    ("LMDB of records alone", lmdb_bare),
)
LAYOUTS: tuple[tuple[str, Maker], ...] = (*RECORDS, *LISTS, *TABLES, *TREES)

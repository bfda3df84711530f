"""Sets of faces as people keep them in folders, zips and tars; a maker writes one layout of given people.

People are encoded pictures of each person. Tars come from Python's tarfile and webdataset's TarWriter, or from `header`
where a dialect has no writer here; zips from zipfile. A maker gives the path that a user would hand over.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from people_given import People

Maker = Callable[[Path, People], Path]
Members = Iterable[tuple[str, bytes]]
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
JPEG_GIF = b"GIF89a" + bytes(20)
APPLEDOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(64)


def rows_of(people: People) -> list[tuple[int, int, bytes]]:
    """(person, number, picture), person by person."""
    return [(p, k, data) for p, pictures in enumerate(people) for k, data in enumerate(pictures)]


def mixed(people: People) -> list[tuple[int, int, bytes]]:
    """The same, one picture of each person after another."""
    return sorted(rows_of(people), key=lambda row: (row[1], row[0]))


def tar(path: Path, members: Members, kind: str = "pax", mode: str = "w") -> Path:
    """A tar of regular files, in one of tarfile's formats; `mode` as tarfile has it (`w:gz`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=FORMATS[kind]) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def header(
    name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\x0000", prefix: bytes = b""
) -> bytes:
    """One header by hand (POSIX.1-1988): for numbers and dialects that tarfile does not write."""
    block = (
        name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0") + b"0" * 11 + b"\0"
    )
    block += b"        " + kind + bytes(100) + magic.ljust(8, b"\0") + bytes(80) + prefix.ljust(155, b"\0")
    block = block.ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def folders(root: Path, members: Members) -> Path:
    for name, data in members:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def zipped(path: Path, members: Members, method: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tree(people: People, name: str = "person{0}/{1:03d}.jpg") -> list[tuple[str, bytes]]:
    """Pictures by path; `{0}` is the person, `{1}` the number of the picture."""
    return [(name.format(p, k), data) for p, k, data in rows_of(people)]


def samples(
    rows: Iterable[tuple[int, int, bytes]],
    key: str = "{0:04d}_{1:03d}",
    names: Sequence[str] = ("cls", "jpg"),
) -> list[tuple[str, bytes]]:
    """Members `key.cls`, `key.jpg` of each row, in the order of `names`."""
    return [
        (f"{key.format(p, k)}.{name}", data if name.rpartition(".")[2].lower() != "cls" else b"%d" % p)
        for p, k, data in rows
        for name in names
    ]


# folders


def plain(folder: Path, people: People) -> Path:
    """torchvision's ImageFolder."""
    return folders(folder, tree(people))


def upper_case(folder: Path, people: People) -> Path:
    return folders(folder, tree(people, "Person {0}/DSC{1:05d}.JPEG"))


def in_images(folder: Path, people: People) -> Path:
    """The folder of people one level down, a sheet of ours and notes beside it."""
    folders(folder, tree(people, "images/{0:06d}/{1:03d}.jpg"))
    return folders(
        folder, [("contact_sheet.png", people[0][0]), ("README.md", b"# Faces"), ("LICENSE", b"MIT")]
    )


def two_levels(folder: Path, people: People) -> Path:
    """group/person, as sets cut by hash or letter lie."""
    members = [(f"group{p % 2}/person{p}/{k}.jpg", data) for p, k, data in rows_of(people)]
    return folders(folder, members)


def inner_folder(folder: Path, people: People) -> Path:
    """person/aligned/picture, as detectors leave them."""
    return folders(folder, tree(people, "{0:05d}/aligned/{1}.png"))


def macos(folder: Path, people: People) -> Path:
    """Copied by macOS to exFAT or SMB."""
    members = tree(people)
    folders(folder, members)
    for name, _ in members:
        place = folder / name
        (place.parent / f"._{place.name}").write_bytes(APPLEDOUBLE)
    return folders(folder, [(".DS_Store", b"\0\0\0\1Bud1"), ("person0/.DS_Store", b"\0\0\0\1Bud1")])


def synology(folder: Path, people: People) -> Path:
    """Indexed by a Synology; Windows looked at it too."""
    folders(folder, tree(people))
    thumb = [(f"person{p}/@eaDir/000.jpg/SYNOFILE_THUMB_M.jpg", data) for p, _, data in rows_of(people)[:3]]
    return folders(folder, [*thumb, ("@eaDir/x/SYNOINDEX", b"x"), ("person0/Thumbs.db", b"\xd0\xcf\x11\xe0")])


def empty_people(folder: Path, people: People) -> Path:
    folders(folder, tree(people))
    (folder / "nobody").mkdir()
    return folders(folder, [("only notes/notes.txt", b"words")])


def linked_people(folder: Path, people: People) -> Path:
    """Folders of people that are links to another disk."""
    folders(folder / "disk", tree(people))
    (folder / "set").mkdir()
    for p in range(len(people)):
        os.symlink(folder / "disk" / f"person{p}", folder / "set" / f"person{p}")
    return folder / "set"


def foreign_bytes(folder: Path, people: People) -> Path:
    """Names of folders in Latin-1 on a disk that takes any bytes."""
    for p, k, data in rows_of(people):
        place = os.path.join(os.fsencode(folder), b"No\xebl %d" % p)
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, b"%d.jpg" % k), "wb") as file:
            file.write(data)
    return folder


def idiff_face(folder: Path, people: People) -> Path:
    """IDiff-Face's split_identity_blocks.py: one flat folder of {id}_{i}.png."""
    return folders(folder, tree(people, "{0}_{1}.png"))


def idiff_face_above(folder: Path, people: People) -> Path:
    """The same from the folder above: datasets/MODEL/CONTEXT/{id}_{i}.png."""
    doubled = [[*pictures] for pictures in people if len(pictures) > 1]
    if len(doubled) < 2 or len(doubled) < len(people):
        return idiff_face(folder, people)
    folders(folder / "synthetic_uniform_15000", tree(people, "{0}_{1}.png"))
    return folder


# zips


def zip_stored(folder: Path, people: People) -> Path:
    return zipped(folder / "set.zip", tree(people, "set/{0}/{1}.png"))


def zip_macos(folder: Path, people: People) -> Path:
    """macOS's archiver: AppleDouble halves below __MACOSX, entries for folders."""
    members = [(f"faces/{name}", data) for name, data in tree(people)]
    members += [(f"__MACOSX/faces/person0/._{k:03d}.jpg", APPLEDOUBLE) for k in range(len(people[0]))]
    return zipped(folder / "faces.zip", [("faces/", b""), *members], zipfile.ZIP_DEFLATED)


def zip_windows(folder: Path, people: People) -> Path:
    """.NET before 4.6.1: backslashes between parts."""
    return zipped(folder / "faces.zip", tree(people, "faces\\person{0}\\{1}.jpg"))


def zip_unflagged(folder: Path, people: People) -> Path:
    """Info-ZIP on a Mac: names in UTF-8 without the flag that says so; here set back in both headers."""
    path = zipped(folder / "faces.zip", tree(people, "李雷{0}/{1}.jpg"))
    data = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        start = data.find(magic)
        while start >= 0:
            data[start + place] &= ~0x08
            start = data.find(magic, start + 4)
    path.write_bytes(data)
    return path


def zip_dotted(folder: Path, people: People) -> Path:
    return zipped(folder / "faces.zip", tree(people, "./person{0}/{1}.jpg"))


def zip_parts(folder: Path, people: People) -> Path:
    """Parts of one set: a person goes on in the next part."""
    members = tree(people)
    for part in (0, 1):
        zipped(folder / f"part{part}.zip", members[part::2])
    return folder


def digiface(folder: Path, people: People) -> Path:
    """DigiFace-1M: subjects in ranges, a zip each."""
    half = max(1, len(people) // 2)
    members = tree(people, "{0}/{1}.png")
    first = [m for m in members if int(m[0].split("/")[0]) < half]
    zipped(folder / "subjects_0-1999_72_imgs.zip", first)
    zipped(folder / "subjects_2000-3999_72_imgs.zip", [m for m in members if m not in first])
    return folder


def zip_flat(folder: Path, people: People) -> Path:
    return zipped(folder / "idiff.zip", tree(people, "{0}_{1}.png"))


# tars of folders


def tar_folders(folder: Path, people: People) -> Path:
    return tar(folder / "faces.tar", [("faces/notes.txt", b"words"), *tree(people, "faces/{0}/{1}.jpg")])


def tar_gz(folder: Path, people: People) -> Path:
    return tar(folder / "faces.tar.gz", tree(people, "./{0}/{1}.jpg"), "gnu", "w:gz")


def tgz(folder: Path, people: People) -> Path:
    return tar(folder / "faces.tgz", tree(people), "ustar", "w:gz")


def tar_xz(folder: Path, people: People) -> Path:
    return tar(folder / "faces.tar.xz", tree(people), mode="w:xz")


def tar_bz2(folder: Path, people: People) -> Path:
    return tar(folder / "faces.tar.bz2", tree(people), mode="w:bz2")


def tar_of_disk(folder: Path, people: People) -> Path:
    """`tar` over a folder: entries for folders, two names of one file as a hard link."""
    plain(folder / "faces", people)
    first = next((folder / "faces/person0").iterdir())
    os.link(first, folder / "faces/person0/notes.txt")
    with tarfile.open(folder / "faces.tar", "w") as archive:
        archive.add(folder / "faces", "faces")
    return folder / "faces.tar"


def tar_joined(folder: Path, people: People) -> Path:
    """`cat a.tar b.tar`."""
    members = tree(people)
    parts = [tar(folder / f"{n}.part", members[n::2]).read_bytes() for n in (0, 1)]
    for n in (0, 1):
        (folder / f"{n}.part").unlink()
    (folder / "faces.tar").write_bytes(parts[0] + parts[1])
    return folder / "faces.tar"


def tar_old(folder: Path, people: People) -> Path:
    """v7 headers without magic, sizes in base 256 as GNU tar and star write large ones, signed sums as Sun's."""
    out = b""
    for turn, (name, data) in enumerate(tree(people, "faces/{0}/{1}.jpg")):
        size = b"%11o " % len(data) if turn % 2 else b"\x80" + len(data).to_bytes(11, "big")
        out += header(name.encode(), size, b"\0", b"") + padded(data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faces.tar").write_bytes(out + bytes(1024))
    return folder / "faces.tar"


def tar_global(folder: Path, people: People) -> Path:
    """`git archive`: a global pax header first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "faces.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "0" * 40}) as archive:
        for name, data in tree(people, "repo/" + "long" * 40 + "/{0}/{1}.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


# webdataset


def wds(folder: Path, people: People) -> Path:
    """webdataset's ShardWriter, as the library writes them."""
    import webdataset

    folder.mkdir(parents=True, exist_ok=True)
    writer = webdataset.ShardWriter(str(folder / "faces-%06d.tar"), maxcount=3, verbose=0)
    for p, k, data in mixed(people):
        writer.write({"__key__": f"{p}_{k}", "jpg": data, "cls": p})
    writer.close()
    return folder


def wds_same_keys(folder: Path, people: People) -> Path:
    """HaiyuWu's imagelist2webdataset.py: the key is the base name, lines dealt round robin, the index one folder up."""
    import webdataset

    rows = rows_of(people)
    (folder / "tar").mkdir(parents=True)
    shards = []
    for number in (0, 1):
        dealt = rows[number::2]
        writer = webdataset.TarWriter(str(folder / "tar" / f"web4m-{number:06d}.tar"))
        for p, k, data in dealt:
            writer.write({"__key__": f"{k:03d}", "jpg": data, "cls": p})
        writer.close()
        shards.append({"url": f"/tar/web4m-{number:06d}.tar", "nsamples": len(dealt)})
    (folder / "datasets_webdataset.json").write_text(json.dumps({"wids_version": 1, "shardlist": shards}))
    return folder / "tar"


def wds_names(folder: Path, people: People) -> Path:
    """Identities by names that are not ASCII, of which the plain field of a header keeps `?`."""
    names = ["李雷", "王芳", "张伟", "刘洋", "Zoë", "Noël"]
    rows = [(p, k, data) for p, k, data in rows_of(people)]
    members = [(f"{names[p % 6]}{p}/{k}.{end}", data if end == "jpg" else b"%d" % p) for p, k, data in rows
               for end in ("cls", "jpg")]  # fmt: skip
    return tar(folder / "faces.tar", members)


def wds_long(folder: Path, people: People) -> Path:
    return tar(folder / "faces.tar", samples(rows_of(people), "deep/" * 30 + "{0}/{1}"), "gnu")


def wds_apart(folder: Path, people: People) -> Path:
    """All pictures, then all labels: `tar --sort=name` of a folder of pictures beside one of labels, merged."""
    members = samples(mixed(people))
    return tar(folder / "faces.tar", sorted(members, key=lambda member: not member[0].endswith("jpg")))


def wds_dots(folder: Path, people: People) -> Path:
    """Dots in names: for webdataset one key with many members."""
    return tar(folder / "faces.tar", samples(rows_of(people), "p.{0}/img.{1:04d}"))


def wds_double_ending(folder: Path, people: People) -> Path:
    """Labels called after the whole name of the picture; a mask of each face beside it."""
    rows = rows_of(people)
    members = samples(rows, "./{0}/{1}", ("JPG", "jpg.cls", "seg.png"))
    return tar(folder / "faces.tar", [(n, b"\x89PNG" if n.endswith("seg.png") else d) for n, d in members])


def wds_text_classes(folder: Path, people: People) -> Path:
    members = [(n, b"Person No. " + d + b"\n" if n.endswith("cls") else d) for n, d in samples(mixed(people))]
    return tar(folder / "faces.tar", members)


def wds_json(folder: Path, people: People) -> Path:
    """img2dataset with a column `label` kept: picture, caption and .json of each, statistics and tables beside it."""
    members = []
    for place, (p, _, data) in enumerate(mixed(people)):
        fields = {"key": f"{place:09d}", "label": f"n{p}", "id": place, "width": 112, "status": "success"}
        stem = f"{place:09d}"
        members += [
            (f"{stem}.jpg", data),
            (f"{stem}.txt", b"a face"),
            (f"{stem}.json", json.dumps(fields).encode()),
        ]
    tar(folder / "00000.tar", members)
    (folder / "00000_stats.json").write_text('{"count": 3}')
    return folder / "00000.tar"


def wds_gz(folder: Path, people: People) -> Path:
    rows = mixed(people)
    for number in (0, 1):
        tar(folder / f"faces-{number:06d}.tar.gz", samples(rows[number::2]), "gnu", "w:gz")
    return folder


def wds_meta(folder: Path, people: People) -> Path:
    """Members about the shard, hidden ones, notes."""
    members = samples(mixed(people))
    members[2:2] = [("._0000_000.jpg", APPLEDOUBLE), ("README.md", b"words")]
    return tar(
        folder / "faces.tar",
        [("__description__.json", b"{}"), *members, (".DS_Store", b"x"), ("LICENSE", b"MIT")],
    )


LAYOUTS: tuple[tuple[str, Maker], ...] = (
    ("folders", plain),
    ("folders, upper case", upper_case),
    ("folders below images/", in_images),
    ("folders, two levels", two_levels),
    ("folders, person/aligned", inner_folder),
    ("folders from macOS", macos),
    ("folders from Synology", synology),
    ("folders, some empty", empty_people),
    ("folders that are links", linked_people),
    ("folders with names in Latin-1", foreign_bytes),
    ("IDiff-Face, flat", idiff_face),
    ("IDiff-Face, the folder above", idiff_face_above),
    ("zip", zip_stored),
    ("zip from macOS", zip_macos),
    ("zip from Windows", zip_windows),
    ("zip, UTF-8 without flag", zip_unflagged),
    ("zip with ./", zip_dotted),
    ("zips in parts", zip_parts),
    ("zips of DigiFace-1M", digiface),
    ("zip, flat names", zip_flat),
    ("tar of folders", tar_folders),
    ("tar.gz of folders", tar_gz),
    ("tgz of folders", tgz),
    ("tar.xz of folders", tar_xz),
    ("tar.bz2 of folders", tar_bz2),
    ("tar of a disk", tar_of_disk),
    ("tars joined by cat", tar_joined),
    ("tar, v7 and base 256", tar_old),
    ("tar of git archive", tar_global),
    ("webdataset", wds),
    ("webdataset, same keys", wds_same_keys),
    ("webdataset, names not ASCII", wds_names),
    ("webdataset, long names", wds_long),
    ("webdataset, members apart", wds_apart),
    ("webdataset, dots in keys", wds_dots),
    ("webdataset, .jpg.cls", wds_double_ending),
    ("webdataset, classes by name", wds_text_classes),
    ("webdataset, labels in json", wds_json),
    ("webdataset, tar.gz", wds_gz),
    ("webdataset, notes and hidden files", wds_meta),
)
"""(name, maker) of every layout that is read."""


# several sets in one place


def split_folders(folder: Path, people: People) -> Path:
    plain(folder / "train", people)
    return (
        folders(folder, [("val/stranger/0.jpg", people[0][0]), ("test/other/0.jpg", people[0][-1])])
        and folder
    )


def split_last(folder: Path, people: People) -> Path:
    """person/train beside person/test."""
    folders(folder, tree(people, "{0}/train/{1}.jpg"))
    return folders(folder, tree([pictures[:1] for pictures in people], "{0}/test/{1}.jpg"))


def split_zip(folder: Path, people: People) -> Path:
    return zipped(
        folder / "set.zip", [*tree(people, "set/train/{0}/{1}.jpg"), ("set/test/9/0.jpg", people[0][0])]
    )


def split_zips(folder: Path, people: People) -> Path:
    zipped(folder / "train.zip", tree(people))
    zipped(folder / "test.zip", tree(people[:1]))
    return folder


def split_tar(folder: Path, people: People) -> Path:
    return tar(
        folder / "set.tar.gz",
        [*tree(people, "train/{0}/{1}.jpg"), ("test/9/0.jpg", people[0][0])],
        mode="w:gz",
    )


def split_shards(folder: Path, people: People) -> Path:
    tar(folder / "faces-train-000000.tar", samples(rows_of(people)))
    tar(folder / "faces-test-000000.tar", samples(rows_of(people[:1])))
    return folder


def split_shard_folders(folder: Path, people: People) -> Path:
    tar(folder / "train" / "000000.tar", samples(rows_of(people)))
    tar(folder / "validation" / "000000.tar", samples(rows_of(people[:1])))
    return folder


SPLIT_LAYOUTS: tuple[tuple[str, Maker], ...] = (
    ("folders in splits", split_folders),
    ("splits in folders", split_last),
    ("zip with splits", split_zip),
    ("a zip a split", split_zips),
    ("tar.gz with splits", split_tar),
    ("shards of splits", split_shards),
    ("folders of shards", split_shard_folders),
)
"""(name, maker) of layouts with several sets; the people are those of `train`."""

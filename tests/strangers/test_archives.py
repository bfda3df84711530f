"""Folders, zips and tars of strangers: the exact people, or a named error; never fewer pictures or people."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import archive_files as made
import pytest
from archive_files import (
    LAYOUTS,
    SPLIT_LAYOUTS,
    Maker,
    folders,
    header,
    padded,
    samples,
    tar,
    tree,
    zipped,
)
from people_given import drawn, groups, noise, read

from v2f_engine.data import convert_dataset, open_dataset
from v2f_engine.errors import DatasetError, V2FError

POOL = [noise(seed, quality=20) for seed in range(30)]


PEOPLE = drawn(random.Random(5), POOL, 2)


@pytest.mark.parametrize(("name", "maker"), LAYOUTS, ids=[name for name, _ in LAYOUTS])
def test_every_layout_gives_the_people(tmp_path: Path, name: str, maker: Maker) -> None:
    for seed in range(3):
        people = drawn(random.Random(seed), POOL, 1 + seed)
        path = maker(tmp_path / str(seed), people)
        found, _ = read(path)
        assert found == groups(people), (name, seed)
        again = pickle.loads(pickle.dumps(open_dataset(path)))
        assert again.record(1) == open_dataset(path).record(1)


@pytest.mark.parametrize(("name", "maker"), LAYOUTS, ids=[name for name, _ in LAYOUTS])
def test_every_layout_converts(tmp_path: Path, name: str, maker: Maker) -> None:
    path = maker(tmp_path / "set", PEOPLE)
    report = convert_dataset(path, tmp_path / "new", "webdataset")
    assert (report.images, report.identities) == (sum(map(len, PEOPLE)), len(PEOPLE)), name
    assert read(tmp_path / "new")[0] == groups(PEOPLE)


@pytest.mark.parametrize(("name", "maker"), SPLIT_LAYOUTS, ids=[name for name, _ in SPLIT_LAYOUTS])
def test_splits_are_named_and_one_is_asked_for(tmp_path: Path, name: str, maker: Maker) -> None:
    path = maker(tmp_path / "set", PEOPLE)
    with pytest.raises(DatasetError, match=r"sets: .*train.*--split"):
        open_dataset(path)
    with pytest.raises(DatasetError, match="expected a split 'none'|no set 'none'"):
        open_dataset(path, split="none")
    found, account = read(path, "train")
    assert found == groups(PEOPLE)
    assert any("split train of" in remark for remark in account.remarks)
    assert pickle.loads(pickle.dumps(open_dataset(path, split="train"))).split == "train"


def _tar(*members: tuple[str, bytes]) -> Callable[[Path], Path]:
    return lambda folder: tar(folder / "set.tar", members)


def _folder(*members: tuple[str, bytes]) -> Callable[[Path], Path]:
    return lambda folder: folders(folder, members)


def _zip(*members: tuple[str, bytes]) -> Callable[[Path], Path]:
    return lambda folder: zipped(folder / "set.zip", members)


A, B, C, D = POOL[:4]
PERSONS = (("p0/0.jpg", A), ("p0/1.jpg", B), ("p1/0.jpg", C))
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "pictures beside the folders": (_folder(*PERSONS, ("x.jpg", D)), r"1 pictures lie beside 2 folders.*'x.jpg'"),
    "a folder in a person's": (
        _folder(*PERSONS, ("p0/more/9.jpg", D)), r"'p0' holds 2 pictures itself and 1 more in 'p0/more'"),
    "kinds that are not read": (
        _folder(*PERSONS, ("p1/1.gif", b"GIF89a")), r"1 pictures of kinds that are not read \(.gif: 1\)"),
    "archives beside": (_folder(*PERSONS, ("more.7z", b"7z")), r"1 archives lie beside the pictures.*'more.7z'"),
    "several depths": (_folder(*PERSONS, ("g/a/0.jpg", D), ("g/b/0.jpg", D)), "at several depths"),
    "one person's name in two groups": (
        _folder(("a/p0/0.jpg", A), ("a/p1/0.jpg", B), ("b/p0/0.jpg", C)), "2 sets: a, b"),
    "flat": (_folder(("000.jpg", A), ("001.jpg", B)), r"2 pictures lie in the folder without a folder for each person"),
    "flat with gaps": (_folder(("7_0.png", A), ("7_2.png", B), ("8_0.png", C)), r"'7' are not all of 0, 1, 2"),
    "flat below images": (_folder(("images/a.jpg", A), ("images/b.jpg", B)), r"2 pictures lie in images without"),
    "flat splits": (_folder(("train/a.jpg", A), ("test/b.jpg", B)), "2 sets: test, train"),
    "CelebA": (
        _folder(("img_align_celeba/000001.jpg", A), ("img_align_celeba/000002.jpg", B),
                ("identity_CelebA.txt", b"000001.jpg 2880\n000002.jpg 2937\n")),
        "'identity_CelebA.txt' lists pictures"),
    "files without an ending": (_folder(*PERSONS, ("p1/1", D)), r"1 files have no ending .* such as 'p1/1'"),
    "half a download": (_folder(*PERSONS, ("p1/1.jpg.part", D)), "such as 'p1/1.jpg.part'"),
    "metadata of Hugging Face": (
        _folder(("train/0.jpg", A), ("train/1.jpg", B),
                ("train/metadata.jsonl", b'{"file_name": "0.jpg", "label": 3}\n')), "'train/metadata.jsonl' lists"),
    "a crowd in one folder": (
        _folder(*((f"crowd/{n}.jpg", b"\xff\xd8\xff") for n in range(1001))),
        "all 1001 pictures lie in one folder 'crowd'"),
    "one person, other people's names": (
        _folder(("set/a_0.png", A), ("set/a_1.png", B), ("set/b_0.png", C)), "names speak of 2 people"),
    "zip: flat": (_zip(("a.jpg", A), ("b.jpg", B)), "2 pictures lie in the folder without"),
    "zip: climbs": (_zip(*PERSONS, ("../../p9/0.jpg", D)), "expected names inside the archive"),
    "zip: absolute": (_zip(*PERSONS, ("/p9/0.jpg", D)), "expected names inside the archive"),
    "zip: a drive": (_zip(*PERSONS, ("C:\\p9\\0.jpg", D)), "expected names inside the archive"),
    "zip in a zip": (_zip(("part.zip", A)), r"no image.*\.zip: 1"),
    "tar: climbs": (_tar(*PERSONS, ("p0/../../9.jpg", D)), "expected names inside the archive"),
    "tar: flat": (_tar(("a.jpg", A), ("b.jpg", B)), "2 pictures lie in the folder without"),
    "tar: a name twice": (_tar(*PERSONS, ("p0/0.jpg", D)), r"1 names of pictures stand there more than once"),
    "wds: a picture without label": (_tar(("a.jpg", A), ("a.cls", b"0"), ("b.jpg", B)), r"1 of 2 keys.*'b' has jpg"),
    "wds: a label without picture": (_tar(("a.jpg", A), ("a.cls", b"0"), ("b.cls", b"1")), r"1 of 2 keys.*'b' has cls"),
    "wds: two pictures": (_tar(("a.jpg", A), ("a.png", B), ("a.cls", b"0")), r"'a' has cls, jpg, png"),
    "wds: two of a name": (_tar(("a.jpg", A), ("a.jpg", B), ("a.cls", b"0")), "do not fall into samples"),
    "wds: pictures, then labels of one key": (
        _tar(("a.jpg", A), ("a.jpg", B), ("a.cls", b"0"), ("a.cls", b"1")), "do not fall into samples"),
    "wds: a sample twice": (
        _tar(("a.jpg", A), ("a.cls", b"0"), ("a.jpg", A), ("a.cls", b"0")), "'a' stands there twice, byte for byte"),
    "wds: captions": (_tar(("a.jpg", A), ("a.txt", b"a face")), "captions and no labels"),
    "wds: json without label": (_tar(("a.jpg", A), ("a.json", b'{"width": 3}')), "found none of them"),
    "wds: json numbers rows": (
        _tar(("a.jpg", A), ("a.json", b'{"id": 1}'), ("b.jpg", B), ("b.json", b'{"id": 2}')),
        "differs in all 2 samples"),
    "wds: fields disagree": (
        _tar(("a.jpg", A), ("a.json", b'{"label": 1, "person": 1}'),
             ("b.jpg", B), ("b.json", b'{"label": 1, "person": 2}')),
        "label with 1 values, person with 2 values"),
    "wds: labels all equal, json knows better": (
        _tar(("a.jpg", A), ("a.cls", b"0"), ("a.json", b'{"person": 1}'), ("b.jpg", B), ("b.cls", b"0"),
             ("b.json", b'{"person": 2}')), "labels of .cls and the field 'person' of .json disagree: 1 and 2"),
    "wds: labels all equal, .id knows better": (
        _tar(("a.jpg", A), ("a.cls", b"0"), ("a.id", b"x"), ("b.jpg", B), ("b.cls", b"0"), ("b.id", b"y")),
        r"all 2 samples have the label 0, and members .id may tell"),
    "a name in two spellings": (
        _folder(("\u00e9/0.jpg", A), ("e\u0301/0.jpg", B), ("p/0.jpg", C)), "one name in two spellings of Unicode"),
    "wds: no number": (_tar(("a.jpg", A), ("a.cls", b"\xff\0")), "expected a label"),
    "wds: webp's cousin": (_tar(("a.avif", A), ("a.cls", b"0")), "a picture of a kind that is not read"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_known_is_refused(tmp_path: Path, name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(DatasetError, match=message):
        open_dataset(make(tmp_path / "set"))


def test_one_person_is_allowed(tmp_path: Path) -> None:
    assert read(_folder(("p0/000.jpg", A), ("p0/001.jpg", B))(tmp_path / "a"))[0] == groups([[A, B]])
    alike = _tar(("a.jpg", A), ("a.cls", b"5"), ("b.jpg", B), ("b.cls", b"5"))
    assert read(alike(tmp_path / "b"))[0] == groups([[A, B]])


def test_links_and_devices(tmp_path: Path) -> None:
    """A link inside a tar is the file it names; one that leads elsewhere is a lost picture."""

    def linked(kind: bytes, target: str) -> Path:
        path = tmp_path / f"{kind.decode()}{target.replace('/', '-')}.tar"
        with tarfile.open(path, "w") as archive:
            for name, data in PERSONS:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            info = tarfile.TarInfo("p1/1.jpg")
            info.type, info.linkname = kind, target
            archive.addfile(info)
        return path

    assert read(linked(tarfile.LNKTYPE, "p0/1.jpg"))[0] == groups([[A, B], [C, B]])
    assert read(linked(tarfile.SYMTYPE, "../p0/1.jpg"))[0] == groups([[A, B], [C, B]])
    for kind, target in (
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "gone.jpg"),
        (tarfile.FIFOTYPE, ""),
    ):
        with pytest.raises(DatasetError, match=r"'p1/1.jpg' is a .*expected"):
            open_dataset(linked(kind, target))
    folders(tmp_path / "disk", PERSONS)
    os.symlink("nowhere.jpg", tmp_path / "disk/p1/1.jpg")
    with pytest.raises(DatasetError, match="found a link to nothing"):
        open_dataset(tmp_path / "disk")
    (tmp_path / "disk/p1/1.jpg").unlink()
    os.symlink("..", tmp_path / "disk/p1/up")
    with pytest.raises(DatasetError, match="in which it lies"):
        open_dataset(tmp_path / "disk")


def test_a_link_does_not_make_one_picture_two(tmp_path: Path) -> None:
    for name, link, target in (
        ("person", "p9", "p0"),
        ("picture", "p0/9.jpg", "0.jpg"),
        ("picture of another", "p1/9.jpg", "../p0/0.jpg"),
    ):
        root = folders(tmp_path / name, PERSONS)
        (root / link).symlink_to(target)
        with pytest.raises(DatasetError, match="are one file by a link"):
            open_dataset(root)
    root = folders(tmp_path / "splits", [(f"images/{name}", data) for name, data in PERSONS])
    (root / "train").mkdir()
    (root / "train" / "p0").symlink_to("../images/p0")
    assert read(root, "train")[0] == groups([[A, B]])
    blob = folders(tmp_path / "blobs", [("0", A)]) / "0"
    root = folders(tmp_path / "hub", PERSONS)
    for name in ("p1/1.jpg", "p1/2.jpg"):
        (root / name).symlink_to(blob)
    assert len(open_dataset(root)) == 5


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path / "set", PERSONS)
    scandir = os.scandir

    def refusing(path: str | Path) -> object:
        if str(path).endswith("p1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DatasetError, match="p1: cannot be read: Permission denied"):
        open_dataset(tmp_path / "set")


def test_damaged_tars_of_every_dialect(tmp_path: Path) -> None:
    """Cut at every block, and one byte of every header changed: never fewer rows."""
    rows = made.rows_of(PEOPLE)
    whole = tar(tmp_path / "a.tar", samples(rows, "李雷" + "x" * 90 + "{0}/{1}")).read_bytes()
    path = tmp_path / "set.tar"
    (tmp_path / "a.tar").unlink()
    tried = 0
    for size in range(512, len(whole) - 1024, 512):
        path.write_bytes(whole[:size])
        try:
            assert read(path)[0] == groups(PEOPLE)  # only the padding of the record was cut
        except V2FError:
            tried += 1
    assert tried > 20
    path.write_bytes(whole + b"garbage".ljust(512, b"\0"))
    with pytest.raises(DatasetError, match="bytes after the archive's end"):
        open_dataset(path)
    lone = header(b"a.jpg", b"%011o" % len(A)) + padded(A) + header(b"a.cls", b"%011o" % 1) + padded(b"0")
    for last in (
        header(b"x", b"%011o" % 20, b"x") + padded(b"19 path=nonsense\n\n\n\n"),
        header(b"L", b"7", b"L") + padded(b"longname"),
    ):
        path.write_bytes(lone + last + bytes(1024))
        with pytest.raises(DatasetError, match="pax record|it was cut"):
            open_dataset(path)
    path.write_bytes(lone + header(b"b.jpg", b"%011o" % 9, b"S") + padded(b"123456789") + bytes(1024))
    with pytest.raises(DatasetError, match="'b.jpg' is a sparse file"):
        open_dataset(path)


def test_compressed_archives(tmp_path: Path) -> None:
    path = made.tar_gz(tmp_path / "a", PEOPLE)
    assert "unpacked into a temporary file" in " ".join(read(path)[1].remarks)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        open_dataset(path)
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(DatasetError, match="zstd, which is not read here"):
        open_dataset(path)
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("p0/0.jpg")
        info.size = 100 << 20
        archive.addfile(info, _Zeros())  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="unpack to more than"):
        open_dataset(path)


class _Zeros(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def test_zips_of_every_kind(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a" / "set.zip", tree(PEOPLE), zipfile.ZIP_BZIP2)
    with pytest.raises(DatasetError, match=r"compressed by other methods.*\(12\)"):
        open_dataset(path)
    path = zipped(tmp_path / "b" / "set.zip", tree(PEOPLE))
    data = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(magic) + place] |= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="1 of .* pictures are encrypted"):
        open_dataset(path)
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in tree(PEOPLE):
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert read(path)[0] == groups(PEOPLE)
    path.write_bytes(b"#!/bin/sh\nexit\n" * 9 + path.read_bytes())  # a self-extracting archive
    assert read(path)[0] == groups(PEOPLE)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(tree(PEOPLE)[0][0], D)
    with pytest.raises(DatasetError, match="1 names of pictures stand there more than once"):
        open_dataset(path)


def test_sets_that_lie_together_are_not_merged(tmp_path: Path) -> None:
    """Label 0 of one set is not label 0 of the other."""
    tar(tmp_path / "a" / "casia-000000.tar", samples(made.rows_of(PEOPLE)))
    tar(tmp_path / "a" / "web4m-000000.tar", samples(made.rows_of(drawn(random.Random(9), POOL))))
    with pytest.raises(DatasetError, match=r"labels, such as '0', are in archives of several names"):
        open_dataset(tmp_path / "a")
    zipped(tmp_path / "b" / "casia.zip", tree(PEOPLE, "{0}/{1}.jpg"))
    zipped(tmp_path / "b" / "web.zip", tree(drawn(random.Random(9), POOL), "{0}/x{1}.jpg"))
    with pytest.raises(DatasetError, match="archives of several names"):
        open_dataset(tmp_path / "b")
    zipped(tmp_path / "c" / "part1.zip", tree(PEOPLE))
    shutil.copy(tmp_path / "c" / "part1.zip", tmp_path / "c" / "part1 (1).zip")
    with pytest.raises(DatasetError, match="stands there twice"):
        open_dataset(tmp_path / "c")
    tar(tmp_path / "d" / "x-0.tar", samples(made.rows_of(PEOPLE)))
    tar(tmp_path / "d" / "x-0.tar.gz", samples(made.rows_of(PEOPLE)), mode="w:gz")
    with pytest.raises(DatasetError, match="stands there twice"):
        open_dataset(tmp_path / "d")
    plain = made.wds(tmp_path / "e", PEOPLE)
    made.plain(plain / "more", PEOPLE)
    (plain / "0.jpg").write_bytes(A)
    folders(plain, [("people/0.jpg", A)])
    with pytest.raises(DatasetError, match="pictures in folders lie beside"):
        open_dataset(plain)


def test_an_index_that_knows_more_is_believed(tmp_path: Path) -> None:
    path = made.wds_same_keys(tmp_path / "a", PEOPLE)
    (path / "web4m-000001.tar").rename(tmp_path / "kept")
    with pytest.raises(DatasetError, match=r"states 2 shards .* found 1 .*web4m-000001.tar"):
        open_dataset(path)
    (tmp_path / "kept").rename(path / "web4m-000001.tar")
    index = tmp_path / "a" / "datasets_webdataset.json"
    said = json.loads(index.read_text())
    said["shardlist"][0]["nsamples"] += 1
    index.write_text(json.dumps(said))
    with pytest.raises(DatasetError, match="first difference: web4m-000000.tar"):
        open_dataset(path)


def test_folders_are_classes_where_texts_only_describe(tmp_path: Path) -> None:
    members = [(name, data) for name, data in tree(PEOPLE)]
    texts = [(name.replace(".jpg", ".txt"), b"a face") for name, _ in members]
    found, account = read(tar(tmp_path / "set.tar", [*members, *texts]))
    assert found == groups(PEOPLE)
    assert account.lines()[1].startswith(f"{len(texts)} files that are no pictures")


def test_numbers_that_shards_lack_are_said(tmp_path: Path) -> None:
    for number, name in ((0, "a"), (3, "b")):
        tar(tmp_path / f"{number:05d}.tar", [(f"{name}.jpg", POOL[number]), (f"{name}.cls", b"%d" % number)])
    found, account = read(tmp_path)
    assert found == groups([[POOL[0]], [POOL[3]]])
    said = "shards are numbered 0 to 3, 2 of these numbers are not there, such as 1"
    assert account.remarks == (said,)
    assert said in open_dataset(tmp_path).told()


def test_a_label_with_a_mark_of_byte_order_is_the_label(tmp_path: Path) -> None:
    members = [
        ("a.jpg", A),
        ("a.cls", b"\xef\xbb\xbf7"),
        ("b.jpg", B),
        ("b.cls", b"7"),
        ("c.jpg", C),
        ("c.cls", b"8"),
    ]
    assert read(tar(tmp_path / "x.tar", members))[0] == groups([[A, B], [C]])


def test_an_empty_first_shard_changes_nothing(tmp_path: Path) -> None:
    path = made.wds_gz(tmp_path / "set", PEOPLE)
    tar(path / "faces-.tar", [])
    assert read(path)[0] == groups(PEOPLE)


def test_books_of_our_own_sets_balance(tmp_path: Path) -> None:
    for format in ("imagefolder", "webdataset"):
        convert_dataset(made.plain(tmp_path / f"{format} source", PEOPLE), tmp_path / format, format)
        found, account = read(tmp_path / format)
        assert found == groups(PEOPLE)
        assert account.missing == 0
        with pytest.raises(DatasetError, match="no split"):
            open_dataset(tmp_path / format, split="train")


ODD = ["a", "Zoë", "李雷", "x y", "n.1", "with-dash", "long" * 45, "deep/" * 12 + "p", "é́", "p'q"]


def test_random_shards_by_tarfile_and_webdataset(tmp_path: Path) -> None:
    """Any names in any format, samples shuffled, hidden files strewn in: the exact rows, or a named error."""
    import webdataset

    exact = refused = 0
    for seed in range(300):
        rng = random.Random(seed)
        people = drawn(rng, POOL)
        rows = made.rows_of(people)
        rng.shuffle(rows)
        names = rng.sample(ODD, len(people))
        style = rng.choice(["own", "base", "base dots"])
        pattern = {"own": "{n}/{k:03d}", "base": "{k:03d}", "base dots": "img.{k}"}[style]
        path = tmp_path / f"{seed}" / "set-000.tar"
        path.parent.mkdir()
        if rng.random() < 0.3:
            writer = webdataset.TarWriter(str(path))
            for p, k, data in rows:
                writer.write({"__key__": pattern.format(n=names[p], k=k), "jpg": data, "cls": p})
            writer.close()
        else:
            order = rng.choice([("jpg", "cls"), ("cls", "jpg"), ("cls", "jpg", "meta.json")])
            members = []
            for p, k, data in rows:
                kinds = {"jpg": data, "cls": b"%d" % p, "meta.json": b"{}"}
                members += [(f"{pattern.format(n=names[p], k=k)}.{kind}", kinds[kind]) for kind in order]
            if rng.random() < 0.3:
                rng.shuffle(members)
            for _ in range(rng.randint(0, 3)):
                members.insert(
                    rng.randint(0, len(members)), (rng.choice(["._x.jpg", ".DS_Store", "d/._0.cls"]), b"x")
                )
            kind = rng.choice(["gnu", "pax", "ustar"])
            try:
                tar(path, members, kind)
            except ValueError:  # longer than ustar has room for
                path.unlink()
                tar(path, members, "pax")
        try:
            assert read(path)[0] == groups(people), seed
            exact += 1
        except V2FError as error:
            assert style != "own", error
            refused += 1
    print(f"300 random shards: {exact} exact, {refused} refused by name")
    assert exact > 200


def test_random_folders_zips_and_tars(tmp_path: Path) -> None:
    """Random trees in folders, a zip and a tar give the same answer: the exact rows, or the same kind of error."""
    exact = refused = 0
    for seed in range(150):
        rng = random.Random(seed)
        people = drawn(rng, POOL)
        names = rng.sample(ODD, len(people))
        top = rng.choice(["", "set/", "train/", "images/"])
        endings = [".jpg", ".JPG", ".jpeg", ".png"]
        members = [(f"{top}{names[p]}/{k}{rng.choice(endings)}", data) for p, k, data in made.rows_of(people)]
        for _ in range(rng.randint(0, 3)):
            place = rng.choice(["", f"{top}{names[0]}/", top])
            members.append(
                (place + rng.choice(["._0.jpg", ".DS_Store", "Thumbs.db", "notes.txt", "@eaDir/0.jpg"]), b"x")
            )
        members = list(dict(members).items())
        rng.shuffle(members)
        answers = []
        for make in (_folder, _zip, _tar):
            path = make(*members)(tmp_path / f"{seed}{make.__name__}")
            try:
                answers.append(read(path)[0] == groups(people))
                assert answers[-1], (seed, make)
            except V2FError:
                answers.append(False)
        assert len(set(answers)) == 1, (seed, answers, [name for name, _ in members])
        exact += answers[0]
        refused += not answers[0]
    print(f"150 random trees in 3 containers: {exact} exact, {refused} refused by name")
    assert exact > 130


def _damage(rng: random.Random, members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """One of seven ways to damage a list of members."""
    place = rng.randrange(len(members))
    name, data = members[place]
    way = rng.randrange(7)
    if way == 0:
        return members[:place] + members[place + 1 :]
    if way == 1:
        return [*members, (name, data)]
    if way == 2:
        return [*members[: place + 1], (name, data), *members[place + 1 :]]
    if way == 3:
        return [*members[:place], (name + ".part", data), *members[place + 1 :]]
    if way == 4:
        return [*members, (f"test/9/{name}", data)]
    if way == 5:
        return [*members, (f"{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}".lstrip("/"), b"x")]
    return [*members, ("loose.jpg", D)]


def test_random_damage_of_shards(tmp_path: Path) -> None:
    """A member lost, repeated, renamed or added: the exact rows, or a named error."""
    exact = refused = 0
    for seed in range(300):
        rng = random.Random(seed)
        people = drawn(rng, POOL)
        key = rng.choice(["{0}/{1:03d}", "{0:04d}_{1:03d}", "{1:03d}"])
        rows = made.rows_of(people)
        rng.shuffle(rows)
        path = tar(tmp_path / f"{seed}.tar", _damage(rng, samples(rows, key)))
        try:
            found = read(path)[0]
        except V2FError:
            refused += 1
            continue
        assert found == groups(people), seed
        exact += 1
    print(f"300 damaged shards: {exact} exact, {refused} refused by name")
    assert refused > 150


@pytest.mark.parametrize("field", ["label", "labels", "identity", "person_id", "pid", "subject"])
def test_labels_and_a_field_of_persons_that_disagree_are_asked_about(tmp_path: Path, field: str) -> None:
    """`.cls` numbers the samples and `.json` names the person, or the other way round: nobody is merged or split."""

    def shard(name: str, labels: list[int], persons: list[str]) -> Path:
        members: list[tuple[str, bytes]] = []
        for row, (label, person) in enumerate(zip(labels, persons, strict=True)):
            members += [(f"{row}.jpg", POOL[row]), (f"{row}.cls", b"%d" % label)]
            members.append((f"{row}.json", json.dumps({field: person, "caption": "a face"}).encode()))
        return tar(tmp_path / name, members)

    persons = ["b", "b", "a", "a"]
    for name, labels in (("rows.tar", [0, 1, 2, 3]), ("across.tar", [0, 1, 0, 1])):
        with pytest.raises(DatasetError, match=f"labels of .cls and the field '{field}' of .json disagree"):
            read(shard(name, labels, persons))
    assert read(shard("alike.tar", [7, 7, 3, 3], persons))[0] == groups([POOL[:2], POOL[2:4]])

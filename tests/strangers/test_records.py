"""Records, tables and lists of strangers: the exact people, or a named error; never fewer pictures or people."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from people_given import drawn, groups, noise, read
from record_files import (
    LAYOUTS,
    LISTS,
    RECORDS,
    TABLES,
    TREES,
    Maker,
    People,
    Rec,
    dcface,
    entries,
    environment,
    im2rec,
    insightface,
    lines,
    mixed,
    parquet,
    rec_builder,
)

from v2f_engine.data import convert_dataset, open_dataset
from v2f_engine.data.inspect_file import inspect_file
from v2f_engine.errors import DatasetError, OutputFolderError, V2FError

POOL = [noise(seed, quality=30) for seed in range(40)]


PEOPLE = drawn(random.Random(7), POOL)


@pytest.mark.parametrize(("name", "maker"), LAYOUTS, ids=[name for name, _ in LAYOUTS])
def test_every_layout_gives_its_people(tmp_path: Path, name: str, maker: Maker) -> None:
    path = maker(tmp_path, PEOPLE)
    assert read(path)[0] == groups(PEOPLE)


def test_labels_are_the_numbers_that_are_written(tmp_path: Path) -> None:
    for place, (name, maker) in enumerate(LAYOUTS):
        path = maker(_folder(tmp_path / str(place)), PEOPLE)
        found = open_dataset(path)
        if found.class_names is None:
            expected = {data: person for person, _, data in mixed(PEOPLE)}
            assert dict(found) == expected, name
        else:
            assert len(found.class_names) == len(PEOPLE), name


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


# Damages: each changes the files of a layout; `harmless` ones leave the data whole, and must be read.

Damage = Callable[[Path, random.Random], None]


def _one(folder: Path, pattern: str, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in folder.rglob(pattern) if not path.name.startswith(".")))


def edit_line(pattern: str, change: Callable[[list[str], int], None], *, inner: bool = False) -> Damage:
    """Changes a line of a text; `inner`: not the last one."""

    def damage(folder: Path, rng: random.Random) -> None:
        file = _one(folder, pattern, rng)
        text = file.read_text().splitlines(keepends=True)
        change(text, rng.randrange(len(text) - inner))
        file.write_text("".join(text))

    return damage


def cut(pattern: str) -> Damage:
    def damage(folder: Path, rng: random.Random) -> None:
        file = _one(folder, pattern, rng)
        data = file.read_bytes()
        file.write_bytes(data[: rng.randrange(len(data))])

    return damage


def remove(pattern: str) -> Damage:
    return lambda folder, rng: _one(folder, pattern, rng).unlink()


def add(name: str, data: bytes) -> Damage:
    def damage(folder: Path, rng: random.Random) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return damage


def another_set(maker: Maker, *names: tuple[str, str]) -> Damage:
    """Files of another set beside, or instead."""

    def damage(folder: Path, rng: random.Random) -> None:
        other = _folder(folder.parent / "other")
        maker(other, drawn(rng, POOL))
        for source, target in names:
            place = next(iter(sorted(folder.rglob("*.rec"))), folder / "x").parent
            shutil.copy(other / source, place / target)

    return damage


def one_frame_less(folder: Path, rng: random.Random) -> None:
    """A `.rec` and `.idx` that both end a record early."""
    idx = _one(folder, "*.idx", rng)
    text = idx.read_text().splitlines(keepends=True)
    rec = idx.with_suffix(".rec")
    rec.write_bytes(rec.read_bytes()[: int(text[-1].split("\t")[1])])
    idx.write_text("".join(text[:-1]))


def swap_label(text: list[str], at: int) -> None:
    """One picture goes to a person of its own."""
    cells = text[at].rstrip("\n").split("\t")
    place = 2 if len(cells) == 3 and "." not in cells[2][-4:] else 1
    cells[place] = "99/0.jpg" if "/" in cells[place] else "99"
    text[at] = "\t".join(cells) + "\n"


def shift(text: list[str], at: int) -> None:
    key, offset = text[at].split("\t")
    text[at] = f"{key}\t{int(offset) + 4}\n"


def shard_missing(folder: Path, rng: random.Random) -> None:
    """Any shard whose number is missed; the converter bot's names do not say how many there are."""
    files = sorted(folder.rglob("*.parquet"))
    (rng.choice(files) if "-of-" in files[0].name else files[0]).unlink()


RECORD_DAMAGES: dict[str, Damage] = {
    "a line of the index removed": edit_line("*.idx", lambda text, at: text.pop(at) and None),
    "a line of the index repeated": edit_line("*.idx", lambda text, at: text.insert(at, text[at])),
    "an offset moved": edit_line("*.idx", shift),
    "an offset of another key": edit_line(
        "*.idx",
        lambda text, at: text.__setitem__(at, f"{text[at].split(chr(9))[0]}\t0\n") if at else text.pop(),
    ),
    "the index cut": cut("*.idx"),
    "the records cut": cut("*.rec"),
    "a record less in both": one_frame_less,
    "the index removed": remove("*.idx"),
    "the index of another set": another_set(
        insightface, ("train.idx", "train.idx"), ("train.idx", "file.idx")
    ),
    "another set beside": another_set(insightface, ("train.rec", "val.rec"), ("train.idx", "val.idx")),
}
LISTED_DAMAGES: dict[str, Damage] = {
    "a line of the list removed": edit_line("*.[tl]s[tv]", lambda text, at: text.pop(at) and None),
    "a line of the list repeated": edit_line("*.[tl]s[tv]", lambda text, at: text.insert(at, text[at])),
    "the list contradicts": edit_line("*.[tl]s[tv]", swap_label),
}
DCFACE_DAMAGES: dict[str, Damage] = {
    "a line of the list removed": edit_line("list.txt", lambda text, at: text.pop(at) and None),
    "a line of the list repeated": edit_line("list.txt", lambda text, at: text.insert(at, text[at])),
    "the list removed": remove("list.txt"),
}
LIST_DAMAGES: dict[str, Damage] = {
    "a line repeated": edit_line("*.[!j]*", lambda text, at: text.insert(at, text[at])),
    "a line cut": edit_line(
        "*.[!j]*", lambda text, at: text.__setitem__(at, text[at][: len(text[at]) // 2] + "\n")
    ),
    "a picture removed": remove("*.jpg"),
}
TABLE_DAMAGES: dict[str, Damage] = {
    "a shard missing": shard_missing,
    "a shard cut": cut("*.parquet"),
    "a split added": lambda folder, rng: void(
        parquet("data/test-00000-of-00001.parquet")(folder, drawn(rng, POOL))
    ),
    "a table added": lambda folder, rng: void(
        parquet("default/validation/0000.parquet")(folder, drawn(rng, POOL))
    ),
}
HIDDEN: dict[str, Damage] = {
    "a hidden record file": add("._train.rec", b"\0\x05\x16\x07"),
    "a hidden table": add("data/._train-00000-of-00002.parquet", b"\0\x05\x16\x07"),
    "a system's file": add(".DS_Store", b"\0\0\0\1Bud1"),
}


def void(_: object) -> None:
    return None


FAMILIES = (
    (RECORDS, RECORD_DAMAGES),
    ([pair for pair in RECORDS if pair[0].endswith(("im2rec", "CVLface"))], LISTED_DAMAGES),
    ([pair for pair in RECORDS if pair[0].endswith("DCFace")], DCFACE_DAMAGES),
    (
        [
            pair
            for pair in LISTS
            if "UTF-16" not in pair[0] and "JSON" not in pair[0] and "StyleGAN" not in pair[0]
        ],
        LIST_DAMAGES,
    ),
    (TABLES, TABLE_DAMAGES),
    ((*RECORDS, *TABLES, *TREES), HIDDEN),
)
ROUNDS = 3


def test_damaged_sets_are_read_exactly_or_refused(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    cases = refused = 0
    for layouts, damages in FAMILIES:
        for name, maker in layouts:
            for what, damage in damages.items():
                for seed in range(ROUNDS):
                    rng = random.Random(f"{name} {what} {seed}")
                    folder = tmp_path / str(cases) / "set"
                    people = drawn(rng, POOL)
                    path = maker(_folder(folder), people)
                    damage(folder, rng)
                    cases += 1
                    try:
                        found, _ = read(path)
                    except V2FError as error:
                        assert damages is not HIDDEN, f"{name}, {what}: {error}"
                        assert str(folder.parent) in str(error), f"{name}, {what}: {error} names no file"
                        refused += 1
                        continue
                    assert found == groups(people), f"{name}, {what}, seed {seed}"
                    shutil.rmtree(folder.parent)
    record_property("cases", cases)
    print(f"{cases} damaged sets: {refused} refused by name, {cases - refused} read exactly")
    assert cases > 300


def lmdb_of(folder: Path, people: People, change: Callable[[dict[bytes, bytes]], None]) -> Path:
    made = entries(people)
    change(made)
    return environment(_folder(folder) / "x.lmdb", made)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: void(made.pop(b"1")), "1 of .* records do not exist"),
        (lambda made: made.update({b"1x": made[b"1"]}), "1 entries that neither __keys__ nor __len__"),
        (lambda made: made.update({b"__len__": msgpack.packb(2)}), "__len__ says 2, __keys__ lists"),
        (lambda made: made.update({b"__keys__": msgpack.packb([b"0", b"1"])}), "is not a list of"),
        (lambda made: made.update({b"__keys__": msgpack.packb([b"0"] * (len(made) - 2))}), "keys twice"),
    ],
)
def test_entries_of_an_lmdb_agree(
    tmp_path: Path, change: Callable[[dict[bytes, bytes]], None], said: str
) -> None:
    with pytest.raises(DatasetError, match=said):
        read(lmdb_of(tmp_path, PEOPLE, change))


def test_several_sets_are_named_and_one_is_asked_for(tmp_path: Path) -> None:
    others = drawn(random.Random(8), POOL)
    train, test = parquet("data/train-00000-of-00001.parquet"), parquet("data/test-00000-of-00001.parquet")
    test(train(tmp_path / "parquet", PEOPLE), others)
    environment(tmp_path / "lmdb" / "train.lmdb", entries(PEOPLE))
    environment(tmp_path / "lmdb" / "test.lmdb", entries(others))
    for stem, people in (("train", PEOPLE), ("test", others)):
        rec = Rec(tmp_path / "rec", stem)
        for key, (person, _, data) in enumerate(mixed(people)):
            rec.add(key, person, data)
        rec.close()
    for folder in ("parquet", "lmdb", "rec"):
        with pytest.raises(DatasetError, match="2 sets: test, train.*--split"):
            open_dataset(tmp_path / folder)
        with pytest.raises(DatasetError, match="expected a split 'val', found 2 sets: test, train"):
            open_dataset(tmp_path / folder, split="val")
        found, account = read(tmp_path / folder, "test")
        assert found == groups(others)
        assert "split test of test, train" in account.remarks
        assert read(tmp_path / folder, "train")[0] == groups(PEOPLE)
    report = convert_dataset(tmp_path / "rec", tmp_path / "made", "lmdb", split="test")
    assert report.told == ("split test of test, train",)
    assert read(tmp_path / "made")[0] == groups(others)
    seen = inspect_file(tmp_path / "rec", split="train")
    assert seen.sound
    assert "split train of test, train" in seen.account


def test_equal_labels_are_believed_only_where_nothing_speaks_against_them(tmp_path: Path) -> None:
    folder = dcface(tmp_path / "a", PEOPLE)
    assert "labels of list.txt: every record has the label 0" in read(folder)[1].remarks
    (folder / "record" / "list.txt").unlink()
    with pytest.raises(
        DatasetError, match="all .* records have the label 0, and beside it lie done_list.txt: who is who"
    ):
        open_dataset(folder)
    (folder / "record" / "done_list.txt").unlink()
    assert read(folder)[1].remarks == ("all labels are equal: one person",)
    (folder / "record" / "property").write_text("5,112,112")
    with pytest.raises(DatasetError, match="property speaks of 5 people"):
        open_dataset(folder)


def test_the_list_of_another_set_is_refused(tmp_path: Path) -> None:
    folder = im2rec(tmp_path / "a", PEOPLE)
    lst = folder / "train.lst"
    lst.write_text(lst.read_text() + "999\t0\tx/0.jpg\n")
    with pytest.raises(
        DatasetError,
        match=r"train.lst lists \d+ keys, train.rec holds \d+ pictures: 0 are not listed .*, 1 listed",
    ):
        open_dataset(folder)


def test_meta_records_and_ranges_are_known_by_what_they_hold(tmp_path: Path) -> None:
    account = read(insightface(tmp_path / "a", PEOPLE))[1]
    assert [(each.reason, each.count) for each in account.aside] == [
        ("records of ranges of keys, without picture", 1 + len(PEOPLE))
    ]
    assert read(rec_builder(tmp_path / "b", PEOPLE))[1].aside == ()
    rec = Rec(tmp_path / "c")
    rec.add(0, [9, 12])
    rec.add(1, 0, POOL[0])
    rec.close()
    with pytest.raises(
        DatasetError,
        match="the meta record speaks of keys up to 9, the index ends at 1: pictures are missing",
    ):
        open_dataset(tmp_path / "c")
    rec = Rec(tmp_path / "d")
    rec.add(0, [1 << 24, 0], POOL[0])
    rec.add(1, [1, 0], POOL[1])
    rec.close()
    with pytest.raises(DatasetError, match="below 16777216"):
        read(tmp_path / "d")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/0.jpg 1\na/1.jpg -1\n", "found -1 .1 of 2"),
        ("a/0.jpg 1\na/1.jpg 0.5\n", "found 0.5"),
        ("a/0.jpg 1\na/0.jpg 2\n", "line 2: a/0.jpg stands in line 1 and here with another label"),
        ("a/0.jpg 1\na/1.jpg\n", "line 2: .*with label or without, not both"),
        ("a/0.jpg\na/1.jpg\n", "all in the folder 'a': everybody would be one person"),
        ("a/0.jpg 1\nb/0.jpg 1\n", "all 2 lines have the label 1, while the pictures lie in 2 folders"),
        ("0\ta/0.jpg\n1\ta/1.jpg\n", "an index, or a person a picture"),
        ("5\na/0.jpg 1\nb/0.jpg 2\n", "line 1: says 5 lines, 2 follow"),
        ("#a/0.jpg 1\nb/0.jpg 2\n", "line 1: .*a comment, or a path"),
        ("a/0.jpg\tx\ny\tz\n", "line 2"),
        ("a/0.jpg 1\n./a/0.jpg 2\n", "line 2: a/0.jpg stands in line 1 and here with another label"),
        ("a/0.jpg 1\na//0.jpg 1\n", "line 2: a/0.jpg stands in line 1 and here again"),
        ("a/0.jpg 1\nb/../a/0.jpg 1\n", "line 2: a/0.jpg stands in line 1 and here again"),
        ("a/0.jpg\n/a/1.jpg\nb/0.jpg\n", "line 2: .*1 paths begin at the root and 2 do not"),
        ("0\ta/0.jpg\t0\n0\ta/1.jpg\t1\n1\tb/0.jpg\t2\n", "another in each of 3 lines.*swapped"),
        ("0\t0\ta/0.jpg\n0\t1\ta/1.jpg\n1\t2\tb/0.jpg\n", "another in each of 3 lines.*swapped"),
        ("1\ta/0.jpg\t0\n1\ta/1.jpg\t1\n1\tb/0.jpg\t2\n", "another in each of 3 lines.*swapped"),
        ("train/a/0.jpg\ntrain/a/1.jpg\ntest/a/0.jpg\n", "2 sets: test, train"),
        ("a/0.jpg\t\u00e9\na/1.jpg\te\u0301\n", "one name in two spellings of Unicode"),
        ("a/0.jpg 1\ngone/1.jpg 1\ngone/2.jpg 2\n", "2 of 3 pictures do not exist: line 2, gone/1.jpg"),
    ],
)
def test_lines_that_cannot_be_meant_are_named(tmp_path: Path, text: str, said: str) -> None:
    for name in ("a/0.jpg", "a/1.jpg", "b/0.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(POOL[0])
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(DatasetError, match=said):
        read(tmp_path / "train.txt")


def test_lines_say_the_same_however_they_are_spelled(tmp_path: Path) -> None:
    people = [POOL[:2], POOL[2:3]]
    names = [("a/0.jpg", POOL[0]), ("a/1.jpg", POOL[1]), ("b/0.jpg", POOL[2])]
    for name, data in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    texts = (
        "././a/0.jpg\na//1.jpg\n.\\b\\0.jpg\n",
        "a/0.jpg 0\r\na/1.jpg 0\r\nb/0.jpg 1\r\n\x1a",
        "\ufeffa/0.jpg\t5\n\ufeffa/1.jpg\t5\nb/0.jpg\t7\n",
        f"a/0.jpg {10**25}\na/1.jpg {10**25}\nb/0.jpg {10**25 + 1}\n",
    )
    for text in texts:
        (tmp_path / "train.txt").write_bytes(text.encode())
        assert read(tmp_path / "train.txt")[0] == groups(people), text


def test_of_paths_alone_one_set_is_read(tmp_path: Path) -> None:
    names = ("train/a/0.jpg", "train/b/0.jpg", "test/a/0.jpg")
    for name, data in zip(names, POOL, strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "list.txt").write_text("\n".join(names))
    found, account = read(tmp_path / "list.txt", "train")
    assert found == groups([[POOL[0]], [POOL[1]]])
    assert "split train of test, train" in account.remarks


def test_labels_of_a_table_are_read_as_those_of_a_list(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"image": pa.array(POOL[:3], pa.binary()), "label": ["a", "a ", "b"]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert read(tmp_path)[0] == groups([POOL[:2], POOL[2:3]])


def test_a_set_is_not_written_into_its_own_source(tmp_path: Path) -> None:
    for name in ("a/0.jpg", "b/0.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        (tmp_path / "set" / name).write_bytes(POOL[0])
    for inside in ("set/new", "set/a/new", "set/../set/a"):
        with pytest.raises(OutputFolderError, match="lies inside"):
            convert_dataset(tmp_path / "set", tmp_path / inside, "webdataset")
    assert len(open_dataset(tmp_path / "set")) == 2


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": [7, 8]}, "column id differs in all 2 rows"),
        ({"label": ["a", " "]}, "1 of 2 labels are empty texts"),
        ({"label": ["\u00e9", "e\u0301"]}, "one name in two spellings of Unicode"),
        ({"label": [0, 1], "split": [0, 1]}, "2 sets: 0, 1"),
        ({"identity": [0, 1], "person": [0, 1]}, "2 the person"),
        ({"label": [0, None]}, "1 of 2 labels are missing"),
        ({"label": [0, -1]}, "labels -1 to 0"),
        ({"label": [0.5, 1.0]}, "label 0.5"),
        ({"label": [True, False]}, "expected columns image"),
        ({"name": ["a", "b"]}, "expected columns image"),
    ],
)
def test_columns_that_cannot_be_meant_are_named(
    tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {"image": pa.array(POOL[:2], pa.binary()), **{name: pa.array(v) for name, v in columns.items()}}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match=said):
        read(tmp_path)


def test_rows_without_bytes_are_counted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = [{"bytes": POOL[0], "path": "a.jpg"}, {"bytes": None, "path": "gone.jpg"}, None]
    images = pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": images, "label": [0, 1, 2]}), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match="2 of 3 rows have no picture"):
        read(tmp_path)


def test_tables_of_one_set_have_the_same_columns(tmp_path: Path) -> None:
    parquet("data/train-00000-of-00002.parquet")(tmp_path, PEOPLE)
    parquet("data/train-00001-of-00002.parquet", label="identity")(tmp_path, PEOPLE)
    with pytest.raises(DatasetError, match="labels in identity .*labels in label"):
        open_dataset(tmp_path)


def test_a_list_of_a_part_is_what_it_says(tmp_path: Path) -> None:
    path = lines("train.txt", "{path} {label}")(tmp_path, PEOPLE)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert open_dataset(path).account().images == 3


def test_a_column_that_says_the_split_is_asked_about(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["train", "test", "train", "train"]
    columns = {"image": pa.array(POOL[:4], pa.binary()), "label": [0, 1, 2, 2], "split": names}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    rows = ["path,label,split"]
    for place, data in enumerate(POOL[:4]):
        (tmp_path / f"{place}.jpg").write_bytes(data)
        rows.append(f"{place}.jpg,{columns['label'][place]},{names[place]}")
    (tmp_path / "x.csv").write_text("\n".join(rows))
    for path in (tmp_path / "x.parquet", tmp_path / "x.csv"):
        with pytest.raises(DatasetError, match="2 sets: test, train"):
            open_dataset(path)
        found, account = read(path, "train")
        assert found == groups([[POOL[0]], [POOL[2], POOL[3]]])
        assert "split train of test, train" in account.remarks
        assert next(each for each in account.aside if each.reason == "rows of other splits").count == 1


def test_a_constant_label_beside_another_column_is_asked_about(tmp_path: Path) -> None:
    parquet("train.parquet", column=lambda pa, labels: pa.array([0] * len(labels)), identity="x")(
        tmp_path, PEOPLE
    )
    with pytest.raises(DatasetError, match="values of label are equal, and there are columns identity"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["identity", "person", "pid", "subject_id"])
def test_a_label_that_disagrees_with_a_column_of_persons_is_asked_about(tmp_path: Path, name: str) -> None:
    """`label` says male or female, or numbers the rows, and `identity` says who: nobody is merged or split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [picture for person in PEOPLE for picture in person]
    who = [f"p{label}" for label, person in enumerate(PEOPLE) for _ in person]
    for case, label in (("gender", [row % 2 for row in range(len(who))]), ("rows", list(range(len(who))))):
        pq.write_table(pa.table({"image": pictures, "label": label, name: who}), tmp_path / f"{case}.parquet")
        with pytest.raises(DatasetError, match=f"columns label and {name} disagree"):
            read(tmp_path / f"{case}.parquet")
    alike = [int(person[1:]) + 5 for person in who]
    pq.write_table(pa.table({"image": pictures, "label": alike, name: who}), tmp_path / "alike.parquet")
    assert read(tmp_path / "alike.parquet")[0] == groups(PEOPLE)

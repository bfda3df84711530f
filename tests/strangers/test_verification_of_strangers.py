"""Verification sets of every dialect and layout: exact pictures and labels, or a named error; nothing is executed."""

from __future__ import annotations

import functools
import pickle
import random
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from verification_files import (
    LABELS,
    LAYOUTS,
    ORDERS,
    PICTURES,
    Pair,
    cplfw,
    doppelver,
    lfw,
    lfw_folder,
    pickled,
    sllfw,
)

from v2f_engine.data.verification import VerificationSet, open_verification_set
from v2f_engine.data.verification.sets import parse_bin
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.evaluate.verification import verify_pairs


@functools.cache
def picture(seed: int, side: int = 24) -> bytes:
    return Encoder("png").encode(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def random_people(chance: random.Random) -> list[list[bytes]]:
    count = chance.randint(3, 6)
    return [
        [picture(100 * person + number) for number in range(chance.randint(2, 4))] for person in range(count)
    ]


def random_pairs(chance: random.Random, people: list[list[bytes]], count: int) -> list[Pair]:
    def one() -> tuple[int, int]:
        person = chance.randrange(len(people))
        return person, chance.randrange(len(people[person]))

    pairs = []
    for _ in range(count):
        first = one()
        second = (first[0], chance.randrange(len(people[first[0]]))) if chance.random() < 0.5 else one()
        pairs.append((first, second))
    return pairs


def test_every_dialect_of_pickles_reads_exactly() -> None:
    chance = random.Random(0)
    pictures = [picture(n) for n in range(14)]
    same = [True, False, False, True, True, False, True]
    dialects = [(kind, labels, order) for kind in PICTURES for labels in LABELS for order in ORDERS]
    read = 0
    for dialect in dialects:
        for protocol in chance.sample(range(6), 3):
            found = parse_bin(pickled(pictures, same, dialect, protocol), "x.bin", "x")
            assert found.encoded == pictures, dialect
            assert found.same.tolist() == same, dialect
            read += 1
    print(f"{read} pickles in {len(dialects)} dialects read exactly")


def test_damaged_dialects_are_the_exact_data_or_a_named_error() -> None:
    """One label or picture fewer, a label that is none, a picture that is none: never other pairs."""
    chance = random.Random(1)
    pictures = [picture(n) for n in range(12)]
    same = [True, False, False, True, True, False]
    refused = 0
    for number in range(600):
        dialect = tuple(chance.choice(list(table)) for table in (PICTURES, LABELS, ORDERS))
        some, labels = list(pictures), list(same)
        how = number % 4
        if how == 0:
            labels.pop(chance.randrange(6))
        elif how == 1:
            del some[chance.randrange(5) * 2 : 12]
            if not some:
                continue
        elif how == 2:
            labels[chance.randrange(6)] = 2  # type: ignore[call-overload]
            if dialect[1] not in ("ints", "floats", "array of i4", "list of u1", "column", "object array"):
                continue
        elif dialect[0] in ("bytes", "bytearrays", "object array of bytes"):
            some[chance.randrange(12)] = None  # type: ignore[call-overload]
            if dialect[0] == "bytearrays":
                continue
        else:
            continue
        with pytest.raises(DatasetError, match=r"x.bin: .*(images for|label \d+|image \d+)"):
            parse_bin(pickled(some, labels, dialect, 4), "x.bin", "x")  # type: ignore[arg-type]
        refused += 1
    assert refused > 200
    print(f"{refused} damaged pickles refused by name")


class Touch:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.path), "w")


def test_nothing_hidden_in_an_array_of_objects_is_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for protocol in range(6):
        made = np.empty(2, object)
        made[:] = [picture(0), Touch(trap)]
        for value in ((made, [True]), ([picture(0)] * 2, made[1:])):
            with pytest.raises(DatasetError, match="nothing in it was executed"):
                parse_bin(pickle.dumps(value, protocol), "x.bin", "x")
        assert not trap.exists()


@pytest.mark.parametrize(("name", "make"), LAYOUTS, ids=[name for name, _ in LAYOUTS])
def test_every_list_of_pairs_reads_exactly(name: str, make: object, tmp_path: Path) -> None:
    chance = random.Random(name)
    for number in range(8):
        people = random_people(chance)
        pairs = random_pairs(chance, people, chance.randint(2, 30))
        folder = tmp_path / str(number)
        folder.mkdir()
        listing = make(folder, people, pairs)  # type: ignore[operator]
        found = open_verification_set(listing, folder / "faces")
        assert list(found.encoded or ()) == [people[p][k] for pair in pairs for p, k in pair]
        assert found.same.tolist() == [one[0] == two[0] for one, two in pairs]
        assert found.folds is None
        assert found.layout


@pytest.mark.parametrize(("name", "make"), LAYOUTS, ids=[name for name, _ in LAYOUTS])
def test_damaged_lists_are_the_exact_data_or_a_named_error(name: str, make: object, tmp_path: Path) -> None:
    """A picture missing, a line cut, a line more, a column lost, foreign files: never fewer or other pairs."""
    chance = random.Random(name)
    refused = exact = 0
    for number in range(30):
        people = random_people(chance)
        pairs = random_pairs(chance, people, chance.randint(3, 12))
        folder = tmp_path / str(number)
        folder.mkdir()
        listing: Path = make(folder, people, pairs)  # type: ignore[operator]
        lines = listing.read_bytes().splitlines(keepends=True)
        if number % 5 == 0:
            used = {people[p][k] for pair in pairs for p, k in pair}
            gone = [path for path in (folder / "faces").rglob("*.png") if path.read_bytes() in used]
            chance.choice(gone).unlink()
        elif number % 5 == 1:
            at = chance.randrange(len(lines))
            lines[at] = lines[at].rstrip()[: len(lines[at]) // 3] + b"\n"
        elif number % 5 == 2:
            lines.insert(chance.randrange(1, len(lines)), b"one\n")
        elif number % 5 == 3:
            at = chance.randrange(1, len(lines))
            lines[at] = re.sub(rb"[\t, ][^\t, ]*$", b"", lines[at].strip()) + b"\n"
        else:  # hidden and foreign files are no pictures of the list
            (folder / "faces" / ".DS_Store").write_bytes(b"x")
            for path in list((folder / "faces").rglob("*.png")):
                path.with_name("._" + path.name).write_bytes(b"AppleDouble")
        listing.write_bytes(b"".join(lines))
        try:
            found = open_verification_set(listing, folder / "faces")
        except DatasetError as error:
            assert listing.name in str(error)
            refused += 1
            continue
        assert list(found.encoded or ()) == [people[p][k] for pair in pairs for p, k in pair]
        assert found.same.tolist() == [one[0] == two[0] for one, two in pairs]
        exact += 1
    assert exact >= 6
    print(f"{name}: {refused} refused by name, {exact} exact")


def test_lfw_with_its_first_line_has_the_folds_it_states(tmp_path: Path) -> None:
    people = [[picture(10 * person + n) for n in range(3)] for person in range(4)]
    same: list[Pair] = [((p, 0), (p, 1)) for p in range(3)]
    other: list[Pair] = [((p, 0), (p + 1, 2)) for p in range(3)]
    listing = lfw(tmp_path, people, (same + other) * 2)
    listing.write_text("2\t3\n" + listing.read_text())
    found = open_verification_set(listing, tmp_path / "faces")
    assert (found.folds, found.same.tolist()) == ((6, 6), ([True] * 3 + [False] * 3) * 2)
    listing.write_text("6\n" + listing.read_text().split("\n", 1)[1])  # pairsDevTest.txt
    assert open_verification_set(listing, tmp_path / "faces").folds is None
    listing.write_text("10\t300\n" + listing.read_text().split("\n", 1)[1])
    with pytest.raises(
        DatasetError, match="states 10 x 300 pairs of one person and as many of two; found 6 and 6"
    ):
        open_verification_set(listing, tmp_path / "faces")


def test_doppelver_s_folds_are_its_own(tmp_path: Path) -> None:
    people = [[picture(10 * person + n) for n in range(3)] for person in range(4)]
    pairs: list[Pair] = [
        ((0, 0), (0, 1)),
        ((1, 0), (2, 1)),
        ((3, 0), (3, 1)),
        ((2, 2), (1, 1)),
        ((0, 1), (0, 2)),
    ]
    listing = doppelver(tmp_path, people, pairs)
    for number, fold in enumerate("10110"):
        text = listing.read_text().splitlines()
        text[1 + number] = text[1 + number][:-1] + fold
        listing.write_text("\n".join(text))
    found = open_verification_set(listing, tmp_path / "faces")
    order = [1, 4, 0, 2, 3]
    assert list(found.encoded or ()) == [people[p][k] for at in order for p, k in pairs[at]]
    assert found.folds == (2, 3)
    listing.write_text(listing.read_text().replace(",0\n", ",training\n"))
    with pytest.raises(DatasetError, match="pairs of 3 splits .*'training' of"):
        open_verification_set(listing, tmp_path / "faces")


def test_stated_folds_judge_and_equal_ones_are_the_default() -> None:
    generator = np.random.default_rng(0)
    same = generator.random(100) < 0.5
    rows = generator.standard_normal((200, 8))
    rows[1::2][same] = rows[0::2][same] + 0.5 * generator.standard_normal((int(same.sum()), 8))
    ten = verify_pairs(rows, same)
    assert verify_pairs(rows, same, sizes=(10,) * 10).to_json() == ten.to_json()
    uneven = verify_pairs(rows, same, sizes=(30, 50, 20))
    assert (len(uneven.folds), uneven.pairs) == (3, 100)


def test_names_that_fit_two_pictures_or_one_picture_twice_are_refused(tmp_path: Path) -> None:
    people = [[picture(10 * person + n) for n in range(2)] for person in range(2)]
    pairs: list[Pair] = [((0, 0), (0, 1)), ((0, 0), (1, 1))]
    listing = sllfw(tmp_path, people, pairs)
    lfw_folder(tmp_path / "faces" / "aligned", people)
    found = open_verification_set(listing, tmp_path / "faces" / "aligned")
    assert list(found.encoded or ()) == [people[p][k] for pair in pairs for p, k in pair]
    (tmp_path / "faces" / "Ann_A0").rename(tmp_path / "faces" / "other")
    lfw_folder(tmp_path / "faces" / "third", people)
    with pytest.raises(DatasetError, match="may be 2 pictures"):
        open_verification_set(listing, tmp_path / "faces")
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "0.png").write_bytes(picture(0))
    (tmp_path / "two.txt").write_text("a/0.png b/0.png 0\n")
    with pytest.raises(DatasetError, match=r"a/0.png and b/0.png are one picture"):
        open_verification_set(tmp_path / "two.txt", flat)


def test_what_is_no_list_of_pairs_is_named(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    with pytest.raises(DatasetError, match="does not exist"):
        open_verification_set(tmp_path / "none.txt", tmp_path / "faces")
    for text, message in {
        "": "no line",
        "a.jpg\nb.jpg\n": "line 1: no layout of pairs",
        "a/1.jpg\na/2.jpg\nb/1.jpg\n": "3 lines of a picture each; expected two a pair",
        "a.jpg 0\nb.jpg 1\n": "one pair has the labels '0' and '1'",
        "a.jpg b.jpg 1\na.jpg b.jpg same\na.jpg b.jpg 0\n": r"line 2 \(1 of 3 such lines\): expected the label",
        "path1,path2\na.jpg,b.jpg\n": "expected a label",
    }.items():
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(DatasetError, match=message):
            open_verification_set(tmp_path / "list.txt", tmp_path / "faces")
    cplfw(tmp_path, [[picture(0), picture(1)]], [((0, 0), (0, 1))])
    with pytest.raises(ConfigError, match="--images"):
        open_verification_set(tmp_path / "pairs_CPLFW.txt")


def test_sets_of_another_size_are_resized_and_counted(tmp_path: Path) -> None:
    pictures = [picture(n, 160 if n % 4 else 112) for n in range(8)]
    found = parse_bin(pickle.dumps((pictures, [True, False, True, True])), "x.bin", "x")
    images = found.images(0, 8)
    assert (found.resized.counts, images.shape) == ({"160x160": 6}, (8, 112, 112, 3))
    stacked = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), np.uint8)
    np.save(tmp_path / "a.npy", stacked)
    (tmp_path / "issame.txt").write_text("1.000e+00\n0.000e+00\n")  # as np.savetxt writes floats
    opened = open_verification_set(tmp_path / "a.npy")
    assert opened.same.tolist() == [True, False]
    one = cv2.resize(np.ascontiguousarray(stacked[3].transpose(1, 2, 0)), (112, 112))
    assert np.abs(opened.images(3, 4)[0].astype(int) - one).max() <= 1
    odd = Encoder("png").encode(np.zeros((40, 30, 3), np.uint8))
    toy = VerificationSet("toy", np.array([True]), encoded=[pictures[0], odd], names=["a.png", "b.png"])
    with pytest.raises(DatasetError, match=r"toy: image 1 \(b.png\): 40x30 pixels"):
        toy.images(0, 2)

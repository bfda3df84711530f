"""Every kind of picture reads as OpenCV reads it; sizes are resized by one rule, counted, or refused by name."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from picture_files import KINDS, Made, Pixels, grey16, jpeg, rgb8, webp
from PIL import Image
from verification_files import LAYOUTS

from v2f_engine.data.formats import open_dataset
from v2f_engine.data.gate.decode import decode, size_of
from v2f_engine.data.gate.resize import resized
from v2f_engine.data.training.training_set import open_training_set
from v2f_engine.data.verification import open_verification_set, write_bin
from v2f_engine.data.writing.convert import convert_dataset
from v2f_engine.data.writing.convert_pairs import convert_pairs
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.face_bytes import face_bytes
from v2f_engine.errors import DatasetError
from v2f_engine.train.extract import store_features


def smooth(seed: int, height: int = 40, width: int = 40) -> Pixels:
    """A picture with large areas, so that JPEG keeps it."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def opencv(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


@pytest.mark.parametrize(("name", "make"), KINDS, ids=[name for name, _ in KINDS])
def test_every_kind_holds_the_pixels_it_was_made_of(name: str, make: object) -> None:
    shapes = [(40, 40), (23, 37), (64, 17)]
    for seed, (height, width) in enumerate(shapes * 4):
        made: Made = make(smooth(seed, height, width))  # type: ignore[operator]
        data, expected, levels = made
        found = decode(data, "x")
        assert (found.shape, found.dtype) == (expected.shape, np.uint8)
        assert found.flags.c_contiguous
        assert np.abs(found.astype(int) - expected).max() <= levels
        assert np.abs(found.astype(int) - opencv(data)).max() <= 1  # what the published loaders see
        assert size_of(data, "x") == expected.shape[:2]


def test_white_and_black_of_sixteen_bits_stay_what_they_are() -> None:
    for value in (0, 255, 128):
        assert (decode(grey16(np.full((8, 8, 3), value, np.uint8))[0], "x") == value).all()


def test_damage_is_the_same_pixels_or_a_named_error() -> None:
    """Cut anywhere, or with a byte changed: no other exception, and no picture of another size by a cut."""
    generator = np.random.default_rng(0)
    cut = changed = 0
    for name, make in KINDS:
        data, expected, _ = make(smooth(1))
        for end in generator.integers(0, len(data), 12):
            try:
                assert decode(data[:end], name).shape == expected.shape
            except DatasetError as error:
                assert name in str(error)
                cut += 1
        for _ in range(25):
            other = bytearray(data)
            other[generator.integers(0, len(data))] = generator.integers(0, 256)
            try:
                decode(bytes(other), name)
            except DatasetError as error:
                assert name in str(error)
                changed += 1
    assert cut > 300
    print(f"{cut} cut and {changed} changed pictures refused by name, of {len(KINDS) * 37}")


def test_a_canvas_larger_than_the_limit_is_refused_before_it_takes_memory() -> None:
    data = bytearray(webp(smooth(0))[0])
    assert data[12:16] == b"VP8L"
    data[21:25] = (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
    with pytest.raises(DatasetError, match="16384x16384 pixels"):
        decode(bytes(data), "x")


@pytest.mark.parametrize("side", [16, 96, 111, 113, 128, 160, 224, 250, 600])
def test_the_rule_of_resizing_is_that_of_opencv(side: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    assert np.abs(resized(image).astype(int) - cv2.resize(image, (112, 112))).max() <= 1


def folders(root: Path, sides: list[int], make: object = rgb8) -> Path:
    """Two people, pictures of these sides in turn."""
    for person in range(2):
        (root / f"p{person}").mkdir(parents=True)
        for number, side in enumerate(sides):
            made: Made = make(smooth(10 * person + number, side, side))  # type: ignore[operator]
            (root / f"p{person}" / f"{number}.png").write_bytes(made[0])
    return root


def test_mixed_sizes_are_resized_and_each_picture_counts_once(tmp_path: Path) -> None:
    data = open_dataset(folders(tmp_path / "set", [112, 160, 160, 96]))
    for _ in range(2):
        images = data.images(np.arange(8), threads=2)
        for row in range(8):
            image = data.image(row)
            expected = image if len(image) == 112 else cv2.resize(image, (112, 112))
            assert np.abs(images[row].astype(int) - expected).max() <= 1
    assert data.resized.counts == {"96x96": 2, "160x160": 4}
    assert data.resized.line() == "resized to 112x112: 2 pictures of 96x96, 4 pictures of 160x160"
    training = open_training_set(tmp_path / "set")
    assert np.array_equal(training.read(range(8)).images, images)
    assert training.resized.record()["resized"] == {"96x96": 2, "160x160": 4}


def test_pictures_that_are_not_square_are_refused_by_name(tmp_path: Path) -> None:
    folders(tmp_path / "set", [112])
    (tmp_path / "set" / "p1" / "odd.jpg").write_bytes(jpeg(smooth(0, 112, 96))[0])
    with pytest.raises(DatasetError, match=r"odd.jpg: 112x96 pixels; expected aligned faces of 112x112"):
        open_dataset(tmp_path / "set").images(np.arange(3))
    with pytest.raises(DatasetError, match=r"odd.jpg: 112x96 pixels"):
        open_training_set(tmp_path / "set").read([2])


def test_convert_refuses_other_sizes_with_counts_and_resizes_when_told(tmp_path: Path) -> None:
    """RecordIO's `property` says 112x112 of every picture: nothing else may pass into it."""
    source = folders(tmp_path / "set", [112, 160, 160, 96])
    with pytest.raises(DatasetError, match=r"4 of 160x160, 2 of 96x96 among 8 pictures.*--resize"):
        convert_dataset(source, tmp_path / "out", "recordio")
    assert not (tmp_path / "out").exists()
    report = convert_dataset(source, tmp_path / "out", "recordio", resize=True)
    assert report.told[-1] == "resized to 112x112: 4 pictures of 160x160, 2 pictures of 96x96"
    before, after = open_dataset(source), open_dataset(tmp_path / "out")
    assert np.array_equal(after.images(np.arange(8)), before.images(np.arange(8)))  # PNG, as the others are
    assert not after.resized.counts
    assert after.record(0) == before.record(0)
    assert after.manifest is not None
    kept = after.manifest.settings["converted_from"]
    assert kept["resized"] == {"160x160": 4, "96x96": 2}
    assert kept["encoder"]["codec"] == "png"


def test_convert_encodes_codecs_anew_that_formats_do_not_hold(tmp_path: Path) -> None:
    source = folders(tmp_path / "set", [112, 112])
    (source / "p0" / "2.webp").write_bytes(webp(smooth(7, 112, 112))[0])
    (source / "p1" / "2.jpg").write_bytes(jpeg(smooth(8, 112, 112))[0])
    with pytest.raises(DatasetError, match=r"1 webp among 6 pictures, such as .*2.webp"):
        convert_dataset(source, tmp_path / "out", "webdataset")
    report = convert_dataset(source, tmp_path / "out", "webdataset", resize=True)
    assert set(report.told[-2:]) == {"encoded anew: 1 webp", "encoded anew: 1 jpeg"}
    before, after = open_dataset(source), open_dataset(tmp_path / "out")
    assert np.array_equal(after.images(np.arange(6)), before.images(np.arange(6)))


def test_convert_refuses_what_cannot_be_resized(tmp_path: Path) -> None:
    source = folders(tmp_path / "set", [112])
    (source / "p1" / "odd.png").write_bytes(rgb8(smooth(0, 112, 96))[0])
    with pytest.raises(DatasetError, match=r"1 of 3 pictures: 112x96 pixels"):
        convert_dataset(source, tmp_path / "out", "lmdb", resize=True)


def test_a_late_odd_picture_is_found_while_writing(tmp_path: Path) -> None:
    """Sizes of 64 pictures are looked at before; one that they miss stops the conversion, counted."""
    source = folders(tmp_path / "set", [112] * 100)
    (source / "p1" / "55.png").write_bytes(rgb8(smooth(0, 160, 160))[0])
    with pytest.raises(DatasetError, match="1 of 160x160 among 200 pictures"):
        convert_dataset(source, tmp_path / "out", "recordio", images_per_shard=100)


def test_features_are_those_of_the_resized_picture_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a kill: pictures counted before it are not read again."""

    class Mean:
        dim, calls = 3, 9

        def describe(self) -> dict[str, str]:
            return {"name": "mean"}

        def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.calls -= 1
            if self.calls < 0:
                raise KeyboardInterrupt
            return images.mean((1, 2)).astype(np.float32)

    monkeypatch.setattr("v2f_engine.train.extract.COMMIT_ROWS", 2)
    source = folders(tmp_path / "set", [112, 160, 96])
    record = store_features(source, tmp_path / "f.npy", Mean(), batch=2)  # type: ignore[arg-type]
    assert record["resized"] == {"96x96": 2, "160x160": 2}
    expected = open_dataset(source).images(np.arange(6)).mean((1, 2))
    assert np.allclose(np.load(tmp_path / "f.npy"), expected)
    killed = Mean()
    killed.calls = 2
    with pytest.raises(KeyboardInterrupt):
        store_features(source, tmp_path / "g.npy", killed, batch=2)  # type: ignore[arg-type]
    again = store_features(source, tmp_path / "g.npy", Mean(), batch=2)  # type: ignore[arg-type]
    assert again["resized"] == record["resized"]
    assert (tmp_path / "g.npy").read_bytes() == (tmp_path / "f.npy").read_bytes()


@pytest.mark.parametrize("layout", [name for name, _ in LAYOUTS])
def test_every_list_of_pairs_becomes_a_bin(layout: str, tmp_path: Path) -> None:
    people = [[rgb8(smooth(10 * person + number, 112, 112))[0] for number in range(2)] for person in range(3)]
    pairs = [((0, 0), (0, 1)), ((1, 0), (2, 1)), ((2, 0), (2, 1))]
    listing = dict(LAYOUTS)[layout](tmp_path, people, pairs)
    report = convert_pairs(listing, tmp_path / "out.bin", tmp_path / "faces")
    assert (report.pairs, report.same) == (3, 2)
    encoded, same = pickle.loads((tmp_path / "out.bin").read_bytes())
    assert encoded == [people[p][k] for pair in pairs for p, k in pair]
    assert same == [True, False, True]


def test_pairs_of_another_size_become_a_bin_only_when_told(tmp_path: Path) -> None:
    data = [rgb8(smooth(n, 160 if n else 112, 160 if n else 112))[0] for n in range(4)]
    write_bin(tmp_path / "a.bin", data, [True, False])
    with pytest.raises(DatasetError, match=r"3 of 160x160 among 4 pictures, such as a: image 1"):
        convert_pairs(tmp_path / "a.bin", tmp_path / "b.bin")
    report = convert_pairs(tmp_path / "a.bin", tmp_path / "b.bin", resize=True)
    assert "resized to 112x112: 3 pictures of 160x160" in report.told
    after = open_verification_set(tmp_path / "b.bin")
    assert after.encoded is not None
    assert after.encoded[0] == data[0]
    assert after.images(0, 4).shape == (4, 112, 112, 3)
    assert not after.resized.counts


@pytest.mark.parametrize(("name", "make"), KINDS, ids=[name for name, _ in KINDS])
def test_what_passes_into_a_set_is_read_alike_by_pillow(name: str, make: object) -> None:
    """torchvision, timm and Hugging Face read with Pillow's `convert("RGB")`: no 16-bit white, no turned face."""
    made: Made = make(smooth(5, 112, 112))  # type: ignore[operator]
    with Image.open(io.BytesIO(face_bytes(made[0], name, Encoder(quality=95)))) as opened:
        theirs = np.asarray(opened.convert("RGB")).astype(int)
    assert np.abs(theirs - decode(made[0], name)).mean() < 3

"""The encoder: settings, order, colours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from stub_people import picture

from v2f_engine.batch import ImageBatch
from v2f_engine.data.gate.decode import MAX_SIDE, decode
from v2f_engine.data.writing.encode import Encoder, check_batch, collect, submit
from v2f_engine.errors import ConfigError, DatasetError


@pytest.mark.parametrize("encoder", [Encoder(), Encoder(quality=100, subsampling="444"), Encoder("png")])
def test_threads_keep_the_order(encoder: Encoder) -> None:
    images = np.stack([picture(index, 0) for index in range(70)])
    batch = ImageBatch(images, np.arange(70), np.zeros(70, np.int64))
    with ThreadPoolExecutor(3) as pool:
        encoded = collect(submit(pool, encoder, batch))
    assert encoded == [encoder.encode(image) for image in images]


def test_jpeg_is_close_and_png_exact() -> None:
    image = picture(3, 1)
    error = np.abs(
        decode(Encoder(quality=100, subsampling="444").encode(image), "x").astype(int) - image
    ).mean()
    assert error < 1
    assert np.array_equal(decode(Encoder("png").encode(image), "x"), image)


def test_subsampling_and_quality_decide_the_size() -> None:
    image = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    sizes = [
        len(Encoder(quality=q, subsampling=s).encode(image))
        for q, s in ((50, "420"), (95, "420"), (95, "444"))
    ]
    assert sizes == sorted(set(sizes))


def test_describe_names_library_and_version() -> None:
    import simplejpeg

    record = Encoder(quality=90).describe()
    assert record["version"] == simplejpeg.__version__
    assert record["quality"] == 90
    assert "quality" not in Encoder("png").describe()


@pytest.mark.parametrize(
    "bad", [{"codec": "jpg"}, {"quality": 0}, {"quality": 101}, {"quality": 9.5}, {"subsampling": "4:2:0"}]
)
def test_impossible_settings(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Encoder(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "count"),
    [
        (np.zeros((2, 112, 112, 3), np.float32), 2),
        (np.zeros((2, 3, 112, 112), np.uint8), 2),
        (np.zeros((2, 112, 112, 3), np.uint8), 3),
    ],
)
def test_wrong_batches(images: np.ndarray, count: int) -> None:
    with pytest.raises(ConfigError, match="must be"):
        check_batch(ImageBatch(images, np.arange(count), np.zeros(count, np.int64)))


def test_decode_refuses_what_is_no_image() -> None:
    good = Encoder().encode(picture(0, 0))
    png = Encoder("png").encode(picture(0, 0))
    for data in (b"", b"GIF89a", good[:40], good[: len(good) // 2], png[:40], png[: len(png) // 2]):
        with pytest.raises(DatasetError, match="here: "):
            decode(data, "here")


def test_decode_refuses_huge_images_before_taking_memory() -> None:
    good = bytearray(Encoder().encode(picture(0, 0)))
    frame = good.index(b"\xff\xc0")
    good[frame + 5 : frame + 9] = (MAX_SIDE + 1).to_bytes(2, "big") * 2
    with pytest.raises(DatasetError, match="4097x4097 pixels"):
        decode(bytes(good), "here")

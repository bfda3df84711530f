"""Features read from batches and from datasets, in one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from v2f_engine.batch import ImageBatch
from v2f_engine.errors import ConfigError, VectorError
from v2f_engine.evaluate.features import read_features
from v2f_engine.models.features import extract_features, to_network


class Means(torch.nn.Module):
    """Mean, left half's mean and right half's mean of each channel: features one can compute by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x.mean((2, 3)), x[..., :56].mean((2, 3)), x[..., 56:].mean((2, 3))]
        return torch.cat(parts, 1) * self.scale


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 112, 112, 3), dtype=np.uint8)


def test_network_input_spans_minus_one_to_one() -> None:
    x = to_network(torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 1, 1, 3))
    assert x.flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])


@pytest.mark.parametrize("batch", [1, 3, 128])
def test_features_do_not_depend_on_the_batch(batch: int) -> None:
    images = pictures(7)
    features = extract_features(Means(), images, batch=batch)
    expected = images.astype(np.float64).mean((1, 2)) / 127.5 - 1
    assert features.shape == (7, 9)
    assert features.dtype == np.float32
    assert np.allclose(features[:, :3], expected, atol=1e-4)


def test_flip_sum_adds_the_mirrored_image() -> None:
    images = pictures(3)
    plain, both = (extract_features(Means(), images, flip_sum=flip) for flip in (False, True))
    assert np.allclose(both[:, 3:6], plain[:, 3:6] + plain[:, 6:9], atol=1e-5)


def test_wrong_images_are_named() -> None:
    for wrong in (pictures(2)[0], pictures(2).astype(np.float32), pictures(2)[:0]):
        with pytest.raises(ConfigError, match="images must be uint8"):
            extract_features(Means(), wrong)


def test_batches_and_a_dataset_of_the_same_images_give_the_same_table(tmp_path) -> None:
    from PIL import Image

    from v2f_engine.data import open_dataset

    images, labels = pictures(6), np.array([0, 0, 1, 1, 2, 2])
    for row, label in enumerate(labels):
        folder = tmp_path / f"{label:06d}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(images[row]).save(folder / f"{row:06d}.png")
    seen: list[int] = []
    batches = [ImageBatch(images[a:b], labels[a:b], np.arange(a, b)) for a, b in ((0, 4), (4, 6))]
    direct = read_features(batches, Means(), seen=lambda batch: seen.append(len(batch)))
    from_disk = read_features(open_dataset(tmp_path), Means())
    assert seen == [4, 2]
    assert np.array_equal(direct.labels, labels)
    assert np.array_equal(from_disk.labels, labels)
    assert np.allclose(direct.features, from_disk.features, atol=1e-6)


def test_an_empty_source_is_named() -> None:
    with pytest.raises(VectorError, match="no images"):
        read_features([], Means())

"""The same seed gives the same bytes in every version: candidates, sigma, noise, masks, vectors; and the same pictures.

Hashes are of runs of commit 2138950. All of these are defined down to the last bit on every machine (integer
Philox, float32 `+ - *`, float64 halving sums), so they are compared exactly. Pixels are not: a CPU's instruction
set decides how its libraries add up a convolution, which moves single pixels by a grey level, so pictures are
compared by the means of 16x16 blocks, to half a grey level.

What the embedded model gives stands in `golden/small_run.npz`, with the edition it is of: run as a script
(`make mini-figures`) this file writes it for a new edition, and for no other reason.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from v2f_engine.models.mask_schedule import MASK_SCHEDULES, N_TOKENS
from v2f_engine.models.registry import CARD, MINI
from v2f_engine.pipeline import Engine
from v2f_engine.randomness import Purpose, bits, normals, uniforms
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import find_source

SEED = 20_260_101
IDENTITY, IMAGE = np.array([0, 0, 1, 5, 4_000_000_000]), np.array([0, 1, 0, 49, 7])
MANY = np.arange(1000)
GOLDEN = Path(__file__).parent / "golden" / "small_run.npz"


def sha(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


STREAMS = {
    "IDENTITY_VECTOR": (1, "fe8e090547076c49"),
    "SIGMA": (2, "f02c6f95e7dace7c"),
    "PERTURBATION": (3, "af3add03223745a0"),
    "MASK_ROWS": (4, "e5592a1775ff49a5"),
    "MASK_COUNT": (5, "517478499ab64fc7"),
    "RENDER_PERSON": (6, "3313fad5043825e7"),
    "RENDER_IMAGE": (7, "b26d2d965da85386"),
    "TRAIN_ORDER": (8, "2b61a2c58ee872a3"),
    "TRAIN_MASK": (9, "683043bf3b1721eb"),
    "AUGMENT": (10, "6f6cdc7fbcef10be"),
    "DROPOUT": (11, "b5f915b4b96432cc"),
    "PLANNER": (12, "a349bda0db32f243"),
    "INITIALISATION": (13, "53ab5078ef13e297"),
    "STEERING": (14, "8e48b8c0e3947edc"),
    "EVALUATION": (15, "8de77a8665ab37bf"),
    "SPLIT": (16, "ae28bc4dc01169af"),
    "ATTRIBUTE": (17, "5c31451d65013540"),
    "CLASS_SAMPLE": (18, "7c9ca9d300632873"),
}
"""Purpose -> its number, and its first 8 words at five places. A purpose may go; its number is never used again."""


def test_purposes_keep_their_numbers_and_their_streams() -> None:
    found = {p.name: (int(p), sha(bits(SEED, p, IDENTITY, IMAGE, 8))[:16]) for p in Purpose}
    assert {name: found[name] for name in found.keys() & STREAMS.keys()} == {
        name: STREAMS[name] for name in found.keys() & STREAMS.keys()
    }
    assert {number for number, _ in (found[name] for name in found.keys() - STREAMS.keys())} <= set(
        range(19, 99)
    )
    assert {"IDENTITY_VECTOR", "SIGMA", "PERTURBATION", "MASK_ROWS", "MASK_COUNT"} <= found.keys()


def edition() -> str:
    """Of the embedded model: one hash over those of its generator and its statistics."""
    files = json.loads((MINI / CARD).read_text())["files"]
    hashes = [files[name]["sha256"] for name in ("generator.safetensors", "statistics.safetensors")]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:32]


def small_run() -> dict[str, NDArray[Any]]:
    """The embedded model, fp32: 2 identities, 2 images each, from a seed to pixels."""
    engine = Engine.load("mini", device="cpu", precision="fp32", compute_batch=4)
    loaded = engine.loaded
    table = sample_identities(2, seed=SEED, max_cosine=loaded.max_cosine, source=loaded.statistics)
    batch = next(iter(engine.images(table, 2, seed=SEED, batch_size=4)))
    return {
        "edition": np.array(edition()),
        "candidates": np.array(sha(find_source("mini").candidates(SEED, 3, 5))),
        "vectors": np.array(sha(table.vectors)),
        "sigma": batch.attributes["sigma"],
        "n_masked": batch.attributes["n_masked"],
        "cosine": batch.attributes["cosine_to_centre"],
        "thumbnails": batch.images.astype(np.float32).reshape(4, 7, 16, 7, 16, 3).mean((2, 4)),
    }


def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as found:
        return dict(found)


def test_candidates() -> None:
    assert sha(find_source("gaussian").candidates(SEED, 3, 5)) == "5a1fb64c78cc8b92be3bb5b39f1261cc"


def test_gaussian_candidates_are_the_normals_of_their_number() -> None:
    """IDENTITY_VECTOR, identity = number of the candidate, image 0."""
    found = find_source("gaussian").candidates(SEED, 3, 5)
    np.testing.assert_array_equal(found, normals(SEED, Purpose.IDENTITY_VECTOR, np.arange(3, 8), 0, 512))


def test_a_table_of_identities() -> None:
    table = sample_identities(6, seed=SEED, max_cosine=0.05, source="gaussian")
    assert table.candidate.tolist() == [0, 1, 4, 5, 6, 7]
    assert sha(table.vectors) == "b3be268c24a6fcda138beae0cbf81201"


def test_sigma_noise_and_vectors() -> None:
    centres = find_source("gaussian").candidates(SEED, 0, 5)
    drawn = Perturbation().draw(centres, IDENTITY, IMAGE, seed=SEED)
    assert sha(drawn.sigma) == "2a7822f5f756d6321dbdfa1ce3930a20"
    assert sha(drawn.vectors) == "13af1ab9b5b949be13de31ee9652fa1a"
    np.testing.assert_allclose(
        drawn.cosine, [0.9572883, 0.96212435, 0.8134769, 0.9554017, 0.9624649], rtol=1e-6
    )
    many = Perturbation().sigma(np.zeros((1000, 512), np.float32), MANY // 10, MANY % 10, seed=SEED)
    assert sha(many) == "72e74504d33cd218986ce3d0db3b6da9"
    towards = Perturbation.target_cosine(0.9, 0.8, 0.7).draw(centres, IDENTITY, IMAGE, seed=SEED)
    assert sha(towards.vectors) == "acc6e22231a1b8be69f556e73f073053"


def test_sigma_and_noise_come_from_their_own_streams() -> None:
    """The level: SIGMA, one uniform. The noise: PERTURBATION, 512 normals. Both at (identity, image)."""
    centres = find_source("gaussian").candidates(SEED, 0, 1000)
    drawn = Perturbation().draw(centres, MANY // 10, MANY % 10, seed=SEED)
    chance = uniforms(SEED, Purpose.SIGMA, MANY // 10, MANY % 10, 1)[:, 0]
    level = np.where(chance < 0.4, 0.3, np.where(chance < 0.8, 0.5, 0.7)).astype(np.float32)
    np.testing.assert_array_equal(drawn.sigma, level)
    noise = normals(SEED, Purpose.PERTURBATION, MANY // 10, MANY % 10, 512)
    moved = centres.astype(np.float64) + level[:, None] * noise.astype(np.float64)
    moved *= (np.linalg.norm(centres.astype(np.float64), axis=1) / np.linalg.norm(moved, axis=1))[:, None]
    np.testing.assert_allclose(drawn.vectors, moved, rtol=0, atol=2e-6)


MASKS = {
    "train": "bb66dddd347e1443ba879b0721af1c46",
    "generate": "5d64d6432107ee9db501dec9a0b8de19",
    "demo": "faf25e01e4ebcc82550a9cf213b17989",
    "plus-train": "890b9694eaae4c7a2c53c93254623337",
    "plus-generate": "5ebb73a9d9ec4f9a3d3335ed3b69a7bb",
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str) -> None:
    """Row order: MASK_ROWS, 49 uniforms, whatever the schedule. Count: MASK_COUNT, one uniform."""
    schedule = MASK_SCHEDULES[name]
    noise, n_masked = schedule.draw(SEED, MANY // 10, MANY % 10)
    assert sha(noise) == "6725038368a0b7e7a417fb11b4908fc0"
    assert sha(n_masked.astype(np.int64)) == MASKS[name]
    np.testing.assert_array_equal(noise, uniforms(SEED, Purpose.MASK_ROWS, MANY // 10, MANY % 10, N_TOKENS))
    # The count is a rising function of its own uniform alone.
    order = np.argsort(uniforms(SEED, Purpose.MASK_COUNT, MANY // 10, MANY % 10, 1)[:, 0], kind="stable")
    assert (np.diff(n_masked[order]) >= 0).all()
    assert len(np.unique(n_masked)) > 4


def test_pictures_of_a_small_run() -> None:
    stored = golden()
    assert str(stored["edition"]) == edition(), "another edition of the embedded model: make mini-figures"
    found = small_run()
    for name in ("candidates", "vectors", "sigma", "n_masked"):
        np.testing.assert_array_equal(found[name], stored[name], err_msg=name)
    np.testing.assert_allclose(found["cosine"], stored["cosine"], rtol=1e-6)
    np.testing.assert_allclose(found["thumbnails"], stored["thumbnails"], rtol=0, atol=0.5)
    # Another image of the same people is far away: the tolerance does not swallow a wrong picture.
    assert np.abs(stored["thumbnails"][0] - stored["thumbnails"][1]).max() > 5


def write_golden() -> str:
    """Writes what a new edition gives; what it said. Draws that belong to no weights have to be the old ones."""
    stored, found = golden(), small_run()
    if str(stored["edition"]) == str(found["edition"]):
        return f"{GOLDEN.name} is of this edition: left as it is. What differs from it is a change of the engine."
    for name in ("sigma", "n_masked"):
        np.testing.assert_array_equal(found[name], stored[name], err_msg=name)
    np.savez_compressed(GOLDEN, **found)
    return f"{GOLDEN.name} is of edition {found['edition']}"


if __name__ == "__main__":
    print(write_golden())

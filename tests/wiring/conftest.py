"""Small files that command lines can name: a generator, people, features, row numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from v2f_engine.batch import ImageBatch
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.models.registry import locate
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import save_weights
from v2f_engine.pipeline import generate
from v2f_engine.vectors.labelled import fit_groups, save_labelled
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.statistics import fit_statistics, save_statistics

SMALL = Vec2FaceConfig(
    width=48, encoder_blocks=1, encoder_heads=1, decoder_blocks=1, decoder_heads=1, z_channels=8,
    base_channels=8, multipliers=(1, 1, 1, 1, 1), residual_blocks=1, norm_groups=4, dropout=0.0,
)  # fmt: skip
PEOPLE, IMAGES = 8, 2


def small_generator(path: Path) -> Path:
    """A generator of 48 channels, every weight drawn from one seed."""
    torch.manual_seed(0)
    network = Vec2Face(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    save_weights(path, {"model": network}, {"kind": "vec2face", "config": SMALL.to_json()}, precision="fp32")
    return path


def people(path: Path, seed: int) -> Path:
    """8 people of 2 noise pictures each, with yaw, pitch, roll and blur."""
    rng = np.random.default_rng(seed)

    def batches(ids: range) -> list[ImageBatch]:
        identity = np.repeat(np.arange(ids.start, ids.stop), IMAGES)
        image = np.tile(np.arange(IMAGES), len(ids))
        pictures = rng.integers(0, 256, (len(identity), 112, 112, 3), dtype=np.uint8)
        angles = {name: (7.0 * identity).astype(np.float32) for name in ("yaw", "pitch", "roll", "blur")}
        return [ImageBatch(pictures, identity, image, angles)]

    write_dataset(
        path, {"seed": seed}, Plan.of(PEOPLE, IMAGES), batches, format="imagefolder", encoder=Encoder()
    )
    return path


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> path, as the tables say `{name}`."""
    root = tmp_path_factory.mktemp("wiring")
    rng = np.random.default_rng(0)
    arrays = {
        "features": rng.standard_normal((PEOPLE * IMAGES, 512)),
        "others": rng.standard_normal((PEOPLE * IMAGES, 512)),
        "gallery": rng.standard_normal((5, 512)),
        "known": rng.standard_normal((60, 512)),
        "vectors": rng.standard_normal((3, 512)),
        "eight": rng.standard_normal((PEOPLE, 512)),
    }
    made = {name: root / f"{name}.npy" for name in (*arrays, "labels", "swapped", "gallery_labels", "index")}
    for name, values in arrays.items():
        np.save(made[name], values.astype(np.float32))
    np.save(made["labels"], np.repeat(np.arange(PEOPLE), IMAGES))
    np.save(made["swapped"], np.repeat(np.arange(PEOPLE), IMAGES)[::-1].copy())
    np.save(made["gallery_labels"], np.array([0, 0, 1, 2, 3]))
    np.save(made["index"], np.arange(0, PEOPLE * IMAGES - 2))
    made["small"] = small_generator(root / "small.safetensors")
    made["reader"] = root / "reader.safetensors"
    shutil.copy(locate("mini", "recogniser").path, made["reader"])
    made["faces"], made["strangers"] = people(root / "faces", 1), people(root / "strangers", 2)
    made["statistics"] = root / "statistics.safetensors"
    save_statistics(made["statistics"], fit_statistics([(0, arrays["known"].astype(np.float32))]))
    made["groups"], made["other_groups"] = root / "groups.csv", root / "other_groups.csv"
    half = len(arrays["known"]) // 2
    made["groups"].write_text("age,glasses\n" + "old,no\nyoung,yes\n" * half)
    made["other_groups"].write_text("age\n" + "early\n" * half + "late\n" * half)
    made["grouped"] = root / "grouped.safetensors"
    known = arrays["known"].astype(np.float32)
    save_labelled(made["grouped"], fit_groups([(0, known)], ["old", "young"] * half, shrinkage=0.5))
    made["table"] = root / "table.safetensors"
    sample_identities(3, seed=11, source="gaussian").save(made["table"])
    made["pictures"] = root / "pictures"
    made["pictures"].mkdir()
    shutil.copy(next((root / "faces").rglob("*.jpg")), made["pictures"] / "a.jpg")
    made["verification"] = root / "accuracy.json"
    made["verification"].write_text(json.dumps({"average": 0.5, "sets": []}))
    for name, accuracy in (("result", 0.9), ("other_result", 0.8)):
        made[name] = root / f"{name}.json"
        sets = [{"name": "lfw", "accuracy": accuracy, "deviation": 0.0, "pairs": 20}]
        made[name].write_text(json.dumps({"recogniser": {"name": name}, "average": accuracy, "sets": sets}))
    made["meta"], made["other_meta"] = ijb(root / "meta", rng), ijb(root / "other_meta", rng)
    made["broken"], made["also_broken"] = broken(root / "broken", made), broken(root / "also_broken", made)
    for name in ("unfinished", "also_unfinished"):
        made[name] = root / name
        (made[name] / ".v2f").mkdir(parents=True)
        (made[name] / ".v2f" / "run.json").touch()
    return made


def broken(path: Path, made: dict[str, Path]) -> Path:
    """A generated dataset with a flipped bit."""
    generate(2, 1, path, model=made["small"], source="gaussian", device="cpu", compute_batch=2)
    file = next(path.rglob("*.jpg"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    return path


def ijb(folder: Path, rng: np.random.Generator) -> Path:
    """A protocol of 8 templates of one image each, twice: `ijbb` and `ijbc`."""
    folder.mkdir()
    for name in ("ijbb", "ijbc"):
        rows = range(1, PEOPLE + 1)
        (folder / f"{name}_face_tid_mid.txt").write_text("".join(f"{k}.jpg {k} {k}\n" for k in rows))
        pairs = [(a, b, int(a % 4 == b % 4)) for a in rows for b in rows if a < b]
        (folder / f"{name}_template_pair_label.txt").write_text(
            "".join(f"{a} {b} {label}\n" for a, b, label in pairs)
        )
        scores = rng.uniform(0.1, 1, PEOPLE)
        (folder / f"{name}_name_5pts_score.txt").write_text(
            "".join(f"{k}.jpg {'1 ' * 10}{scores[k - 1]:.3f}\n" for k in rows)
        )
    return folder

"""A proof with a generator and a recogniser: what was seen is what is generated; interrupted runs go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from v2f_engine.batch import ImageBatch
from v2f_engine.data.records.plan import Plan
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.data.writing.write import write_dataset
from v2f_engine.errors import ConfigError, SaturationError
from v2f_engine.models.features import extract_features
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import load_recogniser, save_weights
from v2f_engine.pipeline import Engine
from v2f_engine.pipeline.proof import FaceFeatures, prove
from v2f_engine.pipeline.references import calibrate_on_faces, face_centres, fit_faces
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.sampling import sample_identities

SMALL = Vec2FaceConfig(
    width=48, encoder_blocks=1, encoder_heads=1, decoder_blocks=1, decoder_heads=1, z_channels=8,
    base_channels=8, multipliers=(1, 1, 1, 1, 1), residual_blocks=1, norm_groups=4, dropout=0.0,
)  # fmt: skip
JUDGE = IResNetConfig(layers=(1, 1, 1, 1), widths=(8, 8, 16, 16), stem_stride=2, feature_dim=64)
EXACT = Perturbation((0.1,), (1.0,))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    network = Vec2Face(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    generator, judge = folder / "generator.safetensors", folder / "judge.safetensors"
    about = {"kind": "vec2face", "config": SMALL.to_json()}
    save_weights(generator, {"model": network}, about, precision="fp32")
    torch.manual_seed(1)
    about = {"kind": "iresnet", "config": JUDGE.to_json()}
    save_weights(judge, {"model": IResNet(JUDGE)}, about, precision="fp32")
    return generator, judge


def features_of(judge: Path, images: np.ndarray) -> np.ndarray:
    found = extract_features(load_recogniser(judge).model, images).astype(np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def proven(models: tuple[Path, Path], **options):  # type: ignore[no-untyped-def]
    generator, judge = models
    told = {"source": "gaussian", "seed": 4, "perturbation": EXACT, "compute_batch": 8, "images_per_id": 2}
    return prove(24, model=generator, recogniser=judge, **{**told, **options})


@pytest.fixture(scope="module")
def limit(models: tuple[Path, Path]) -> float:
    """A threshold at which some collide: random networks see much the same in every face."""
    nearest = proven(models, image_cosine=1.0).before.nearest
    return float(np.quantile(nearest, 0.75))


def test_what_was_seen_is_what_is_generated(models: tuple[Path, Path], limit: float, tmp_path: Path) -> None:
    generator, judge = models
    proof = proven(models, image_cosine=limit)
    assert proof.before.repeated > 0
    proof.require().save(tmp_path / "t.safetensors")
    table = Identities.load(tmp_path / "t.safetensors")
    assert np.any(np.diff(table.candidate) > 1)
    engine = Engine.load(generator, compute_batch=8)
    made = next(engine.images(table, 3, seed=4, perturbation=EXACT, batch_size=72))
    first = made.image < 2
    seen = features_of(judge, made.images[first]).reshape(24, 2, -1).mean(axis=1)
    assert np.allclose(seen, proof.features, atol=1e-5)
    cosines = seen @ seen.T / np.outer(*[np.linalg.norm(seen, axis=1)] * 2)
    np.fill_diagonal(cosines, -1)
    assert cosines.max() < limit + 1e-6
    # The same vectors under their row numbers are other images: keys matter.
    plain = Identities.from_vectors(table.vectors)
    other = next(engine.images(plain, 3, seed=4, perturbation=EXACT, batch_size=72))
    assert not np.array_equal(other.images, made.images)


def test_an_interrupted_run_goes_on_and_makes_no_image_twice(
    models: tuple[Path, Path], limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = proven(models, image_cosine=limit).require()
    work, made = tmp_path / "work", []
    look = FaceFeatures._look

    def counted(self: FaceFeatures, part: Identities) -> np.ndarray:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(part.candidate)
        return look(self, part)

    monkeypatch.setattr("v2f_engine.pipeline.proof.PIECE", 8)
    monkeypatch.setattr(FaceFeatures, "_look", counted)
    with pytest.raises(KeyboardInterrupt):
        proven(models, image_cosine=limit, work=work)
    assert len(list(work.glob("*.safetensors"))) == 2
    next(iter(work.glob("*.safetensors"))).write_bytes(b"torn")
    made.clear()
    monkeypatch.setattr(FaceFeatures, "_look", lambda self, part: made.append(0) or look(self, part))
    progress: list[tuple[int, int]] = []
    again = proven(models, image_cosine=limit, work=work, progress=lambda done, n: progress.append((done, n)))
    assert again.require().table_hash == whole.table_hash
    pieces = sum(-(-r.made // 8) for r in again.rounds)
    assert len(made) == pieces - 1  # one of two was torn
    assert progress[-1] == (2 * again.made, 2 * again.made)
    assert not work.exists()


def test_other_settings_do_not_take_each_others_pieces(
    models: tuple[Path, Path], limit: float, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    hopeless = proven(models, image_cosine=-0.5, work=work)
    with pytest.raises(SaturationError, match="24 identities"):
        hopeless.require()
    assert work.exists()
    one = proven(models, image_cosine=limit, seed=5, work=work).require()
    assert one.table_hash == proven(models, image_cosine=limit, seed=5).require().table_hash


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (30, 4, 112, 112, 3), dtype=np.uint8)

    def make(ids: range):  # type: ignore[no-untyped-def]
        for i in ids:
            yield ImageBatch(images[i], np.full(4, i, np.int64), np.arange(4, dtype=np.int64))

    out = tmp_path_factory.mktemp("known") / "people"
    write_dataset(out, {"seed": 0}, Plan.of(30, 4), make, format="lmdb", encoder=Encoder(quality=95))
    return out, images


def test_statistics_and_thresholds_straight_from_faces(
    models: tuple[Path, Path], known: tuple[Path, np.ndarray]
) -> None:
    from v2f_engine.data.formats import open_dataset

    folder, _ = known
    stored = open_dataset(folder)
    features = extract_features(load_recogniser(models[1]).model, stored.images(range(120)))
    means = features.reshape(30, 4, -1).mean(axis=1)
    found = face_centres(folder, models[1])
    assert np.allclose(found.centres, means, rtol=1e-4, atol=1e-5)
    assert found.labels.tolist() == list(range(30))
    statistics = fit_faces(folder, models[1], shrinkage="oas", components=20)
    assert np.allclose(statistics.mean, means.mean(axis=0), rtol=1e-3, atol=1e-5)  # as they are, as published
    scale = np.linalg.norm(features, axis=1).mean() / np.linalg.norm(means, axis=1).mean()
    longer = fit_faces(folder, models[1], length="images")
    assert np.allclose(longer.mean, means.mean(axis=0) * scale, rtol=1e-3, atol=1e-5)
    assert statistics.count == 30
    assert statistics.components == 20
    assert 0 < statistics.shrinkage <= 1
    assert len(sample_identities(5, source=statistics, max_cosine=None)) == 5
    limit = calibrate_on_faces(folder, models[1], fmr=0.1, images_per_id=2)
    assert limit.pairs == (60 * 59 - 30 * 2) // 2
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = units.reshape(60, 2, -1).mean(axis=1)
    cosines = rows @ rows.T / np.outer(*[np.linalg.norm(rows, axis=1)] * 2)
    who = np.repeat(np.arange(30), 2)
    assert np.mean(cosines[who[:, None] != who] >= limit.threshold) == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ConfigError, match=r"needs 1,000,000 pairs .* found 6,960"):
        calibrate_on_faces(folder, models[1], fmr=1e-5)
    assert json.dumps(limit.describe())

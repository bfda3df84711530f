"""Proof on the faces, with imagined images: a function of the stream and the features alone, bounded, honest."""

import json

import numpy as np
import pytest
from v2f_kernels import _cosine

import v2f_engine.vectors.proof as proof_module
from v2f_engine.errors import ConfigError, SaturationError, VectorError
from v2f_engine.vectors.calibration import Calibration
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.plots import plot_proof
from v2f_engine.vectors.proof import collisions, keyed_by_candidate, nearest_other, prove_identities
from v2f_engine.vectors.rejection import reject_similar
from v2f_engine.vectors.sampling import IdentityStream, sample_identities
from v2f_engine.vectors.separability import separability_curve
from v2f_engine.vectors.sources import GaussianSource

D = 24
BUDGET = 100_000


class Faces:
    """A generator that shows only part of a vector, so that distant vectors can have one face."""

    def __init__(self, shown=8):
        self.shown, self.seen = shown, []

    def __call__(self, identities):
        assert identities.provenance["noise"] == "candidate"
        self.seen.append(identities.candidate)
        return np.ascontiguousarray(identities.vectors[:, : self.shown])


def stream(seed=3):
    return IdentityStream(source=GaussianSource(D), seed=seed, max_cosine=0.6)


def test_what_is_kept_is_greedy_rejection_of_the_faces_in_the_streams_order():
    faces = Faces()
    proof = prove_identities(150, stream(), faces, max_cosine=0.8)
    table = proof.require()
    vectors = sample_identities(proof.made, max_cosine=0.6, seed=3, source=GaussianSource(D))
    kept = reject_similar(vectors.vectors[:, :8], 0.8)[:150]
    assert np.array_equal(table.vectors, vectors.vectors[kept])
    assert np.array_equal(table.candidate, vectors.candidate[kept])
    assert np.array_equal(table.keys, table.candidate)
    assert np.array_equal(proof.features, table.vectors[:, :8])
    assert separability_curve(proof.features, threshold=0.8).share == 1.0
    # Only identities new in a round are made, each once.
    seen = np.concatenate(faces.seen)
    assert np.array_equal(seen, vectors.candidate)
    assert len(proof.rounds) == len(faces.seen) > 1
    assert [r.made for r in proof.rounds] == [len(part) for part in faces.seen]
    assert proof.rounds[-1].kept >= 150


def test_before_and_after_are_counts_of_the_same_collisions():
    proof = prove_identities(150, stream(), Faces(), max_cosine=0.8)
    first = sample_identities(150, max_cosine=0.6, seed=3, source=GaussianSource(D)).vectors[:, :8]
    cosines = _cosine.cosine(first[:, None], first[None])
    np.fill_diagonal(cosines, -1)
    assert proof.before.repeated == (np.tril(cosines, -1) >= 0.8).any(axis=1).sum() > 0
    assert proof.before.rejected == 150 - len(reject_similar(first, 0.8)) > 0
    assert np.allclose(proof.before.nearest, cosines.max(axis=1), atol=2e-6)
    assert (proof.after.identities, proof.after.repeated, proof.after.rejected) == (150, 0, 0)
    assert proof.after.nearest.max() < 0.8 < proof.before.nearest.max()


def test_the_first_n_of_a_larger_proof_are_the_proof_of_n():
    fewer = prove_identities(60, stream(), Faces(), max_cosine=0.8).require()
    more = prove_identities(140, stream(), Faces(), max_cosine=0.8).require()
    assert np.array_equal(fewer.candidate, more.candidate[:60])
    again = prove_identities(60, stream(), Faces(), max_cosine=0.8).require()
    assert again.table_hash == fewer.table_hash
    other = prove_identities(60, stream(seed=4), Faces(), max_cosine=0.8).require()
    assert other.table_hash != fewer.table_hash


def test_the_table_survives_the_disk_with_what_it_was_proven_with(tmp_path):
    limit = Calibration(0.8, 1e-4, 9e-5, 10**6, "known people")
    proof = prove_identities(
        40, stream(), Faces(), max_cosine=0.8, calibration=limit, about={"recogniser": "r"}
    )
    proof.require().save(tmp_path / "t.safetensors")
    table = Identities.load(tmp_path / "t.safetensors")
    faces = table.provenance["faces"]
    assert faces["max_cosine"] == 0.8
    assert faces["recogniser"] == "r"
    assert faces["calibration"]["fmr"] == 1e-4
    assert table.provenance["candidates_drawn"] == table.candidate[-1] + 1
    assert np.array_equal(table.keys, table.candidate)
    record = json.loads(json.dumps(proof.to_json()))
    assert record["met"] is True
    assert record["table_hash"] == table.table_hash
    assert record["before"]["repeated"] == proof.before.repeated
    plot_proof(proof, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_a_request_beyond_reach_ends_after_the_first_round_and_names_a_threshold_that_does():
    proof = prove_identities(200, stream(), Faces(), max_cosine=0.4)
    assert proof.table is None
    assert len(proof.rounds) == 1
    with pytest.raises(
        SaturationError, match=r"200 identities .* raise the threshold to about 0\.7"
    ) as error:
        proof.require()
    assert f"{len(proof.features):,} kept of 200 made" in str(error.value)
    assert proof.to_json()["prediction_after_round_1"]["cosine_that_fits_the_budget"] == proof.fitting
    assert 0.4 < proof.fitting < 1
    assert prove_identities(200, stream(), Faces(), max_cosine=proof.fitting).table is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_rounds": 1}, "limit of 1 rounds"), ({"max_made": 160}, "no more may be made")],
)
def test_bounds_on_rounds_and_images(options, message):
    proof = prove_identities(150, stream(), Faces(), max_cosine=0.8, **options)
    assert proof.made <= options.get("max_made", 150)
    with pytest.raises(SaturationError, match=message):
        proof.require()


def test_a_stream_that_runs_dry_says_so():
    small = IdentityStream(source=GaussianSource(4), seed=0, max_cosine=0.3)
    with pytest.raises(SaturationError, match="400 identities"):
        prove_identities(400, small, Faces(4), max_cosine=0.9)


@pytest.mark.parametrize("fault", ["nan", "zero", "count"])
def test_features_that_are_no_features_are_refused(fault):
    def faces(identities):
        features = identities.vectors[:, :8].copy()
        if fault == "count":
            return features[1:]
        features[5] = np.nan if fault == "nan" else 0
        return features

    with pytest.raises(VectorError, match=r"images: .*(5|expected a feature for each of 50)"):
        prove_identities(50, stream(), faces, max_cosine=0.8)


def test_options_out_of_range():
    for options in ({"max_rounds": 0}, {"max_made": 10}):
        with pytest.raises(ConfigError, match="at least"):
            prove_identities(50, stream(), Faces(), max_cosine=0.8, **options)
    with pytest.raises(ConfigError, match="max_cosine between images"):
        prove_identities(50, stream(), Faces(), max_cosine=1.5)


def test_nearest_other_over_several_tiles(monkeypatch):
    monkeypatch.setattr(proof_module, "TILE", 100)
    rows = np.random.default_rng(0).standard_normal((330, 12), dtype=np.float32)
    cosines = _cosine.cosine(rows[:, None], rows[None])
    np.fill_diagonal(cosines, -2)
    assert np.allclose(nearest_other(rows), cosines.max(axis=1), atol=2e-6)
    assert collisions(rows, 0.8).repeated == (np.tril(cosines, -1) >= 0.8).any(axis=1).sum() > 0


def test_keys_are_rows_until_proven():
    table = sample_identities(5, max_cosine=0.3, seed=0, source=GaussianSource(D))
    assert table.keys.tolist() == [0, 1, 2, 3, 4]
    assert keyed_by_candidate(table).keys.tolist() == table.candidate.tolist()
    part = keyed_by_candidate(table).part(np.array([1, 4]))
    assert part.keys.tolist() == table.candidate[[1, 4]].tolist()
    assert np.array_equal(part.vectors, table.vectors[[1, 4]])

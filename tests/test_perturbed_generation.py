"""Datasets whose images lie in cones: the same bytes by any worker, part and resume; what cannot be is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_networks import SMALL
from test_replay import tree, v2f
from v2f_kernels import _cosine

from v2f_engine.cli.outputs import _told
from v2f_engine.cli.show import looked_at
from v2f_engine.cli.show.sets import finished_set
from v2f_engine.data.layout import IDENTITIES, MANIFEST, PERTURBATION
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.errors import ConfigError, OutputFolderError, VectorError
from v2f_engine.models.vec2face import Vec2Face
from v2f_engine.models.weights import save_weights
from v2f_engine.options import ImageOptions
from v2f_engine.pipeline import Engine, generate
from v2f_engine.pipeline.draws import Draws
from v2f_engine.pipeline.generation import Request
from v2f_engine.pipeline.proof import prove
from v2f_engine.pipeline.shard_source import repair
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.nearest import nearest_other
from v2f_engine.vectors.perturbation import Perturbation
from v2f_engine.vectors.perturbation_cone import Cone
from v2f_engine.vectors.sampling import sample_identities


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = Vec2Face(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_weights(path, {"model": network}, {"kind": "vec2face", "config": SMALL.to_json()}, precision="fp32")
    return path


@pytest.fixture(scope="module")
def engine(model: Path) -> Engine:
    return Engine.load(model, device="cpu", precision="fp32", compute_batch=4)


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def doubles(n: int = 6) -> Identities:
    """Of every two people one is the other's double, so that no part of them has the bounds of the whole."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((n, 512))
    rows[1::2] = rows[::2] + 0.5 * rng.standard_normal(rows[1::2].shape)
    return Identities.from_vectors(rows.astype(np.float32))


def drawn(table: Identities | np.ndarray, noise: Cone, engine: Engine, select: range | None = None) -> Draws:
    return Draws.of(table, ImageOptions(3, 5, noise), engine.masks, select)


def vectors_of(draws: Draws) -> np.ndarray:
    return np.concatenate([batch.vectors for batch in draws.batches(4)])


def test_a_part_of_a_run_has_the_bounds_of_the_whole_table(engine: Engine) -> None:
    table, cone = doubles(), Cone(0.1)
    whole = vectors_of(drawn(table, cone, engine))
    for select in (range(2, 3), range(4, 6)):
        part = vectors_of(drawn(table, cone, engine, select))
        np.testing.assert_array_equal(part, whole[select.start * 3 : select.stop * 3])
    np.testing.assert_array_equal(vectors_of(drawn(table.vectors, cone, engine, range(2, 3))), whole[6:9])
    # A table of some of them: alone it is a table of its own, told of the whole before it keeps that one's bounds.
    some = table[2:3]
    assert not np.array_equal(vectors_of(drawn(some, cone, engine)), whole[6:9])
    told = cone.over(table.vectors, table.keys)
    np.testing.assert_array_equal(vectors_of(drawn(some, told, engine)), whole[6:9])
    with pytest.raises(ConfigError, match="other vectors than in the table"):
        drawn(Identities.from_vectors(table.vectors[::-1].copy()), told, engine)


def test_keys_need_not_be_rows(engine: Engine) -> None:
    """A proven table keys its images by candidate: each bound is that of its own vector."""
    table = doubles()
    keyed = Identities(table.vectors, np.array([9, 4, 7, 30, 2, 11]), {"noise": "candidate"})
    draws = drawn(keyed, Cone(0.1), engine)
    cone = draws.images.perturbation
    assert isinstance(cone, Cone)
    expected = np.maximum(0.1, np.sqrt((1 + nearest_other(table.vectors)) / 2))
    np.testing.assert_array_equal(cone.lowest_of(keyed.keys), expected)
    said = f"from {expected.min():.3f} to {expected.max():.3f}, {expected.mean():.3f} in the mean"
    assert cone.guard_told == f"raised the lowest cosine of {(expected > 0.1).sum()} of 6 people: {said}"
    assert Cone(0.1, guarded=False).guard_told == Cone(0.1).guard_told == ""


def test_images_are_those_of_the_vectors(engine: Engine) -> None:
    table, cone = doubles(), Cone(0.2)
    (batch,) = list(engine.images(table, 3, seed=5, perturbation=cone, batch_size=64))
    assert set(batch.attributes) == {"cosine_to_centre", "n_masked", "failed"}
    cosines = batch.attributes["cosine_to_centre"].reshape(6, 3)
    assert (cosines >= np.sqrt((1 + nearest_other(table.vectors)) / 2)[:, None] - 1e-6).all()
    (part,) = list(engine.images(table, 3, seed=5, perturbation=cone, select=range(3, 4)))
    np.testing.assert_array_equal(part.images, batch.images[9:12])
    data = engine.dataset(table, 3, seed=5, perturbation=cone, batch_size=4)
    streamed = torch.cat([images for images, _ in data]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(streamed, batch.images)
    assert data.asked.perturbation.attachment() is not None  # told once, so that no worker looks again


def made(model: Path, out: Path | str, noise: object = None, **how: object) -> dict[str, bytes]:
    options: dict[str, object] = {"device": "cpu", "compute_batch": 2, "source": "gaussian", "seed": 3, **how}
    generate(4, 3, out, model=model, perturbation=noise, **options)  # type: ignore[arg-type]
    return tree(Path(out))


@pytest.mark.usefixtures("_here")
def test_the_default_is_what_it_was_and_a_cone_is_told_of(model: Path, engine: Engine) -> None:
    plain, named = made(model, "plain"), made(model, "named", Perturbation.of("sigma:0.3,0.5,0.7"))
    assert plain == named
    assert PERTURBATION not in plain
    told = json.loads(plain[MANIFEST])["settings"]["perturbation"]
    assert told == {"levels": [0.3, 0.5, 0.7], "weights": [0.4, 0.4, 0.2], "unit": "sigma"}
    cone = made(model, "cone", Perturbation.cone(0.2))
    assert verify_dataset(Path("cone")).ok
    assert any(words.startswith("raised the lowest") for _, words in finished_set(Path("cone")).lines)
    table, held = Identities.load(Path("cone") / IDENTITIES), load_file(Path("cone") / PERTURBATION)
    np.testing.assert_array_equal(held["cosine"], nearest_other(table.vectors))
    settings = json.loads(cone[MANIFEST])["settings"]
    assert settings["perturbation"].keys() == {"kind", "lowest", "guarded", "nearest_sha256"}
    assert settings["identities"] == json.loads(plain[MANIFEST])["settings"]["identities"]
    free = made(model, "free", Perturbation.cone(0.2, guarded=False))
    assert PERTURBATION not in free
    images = [name for name in plain if name.startswith("images/")]
    assert all(plain[name] != cone[name] != free[name] for name in images)


@pytest.mark.usefixtures("_here")
def test_a_cone_goes_on_and_another_is_refused_by_name(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(model, "whole", Cone(0.2), images_per_shard=3)
    original, calls = Cone.draw, []

    def breaking(self: Cone, *given: object, **further: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise VectorError("cut short")
        return original(self, *given, **further)  # type: ignore[arg-type]

    monkeypatch.setattr(Cone, "draw", breaking)
    with pytest.raises(VectorError, match="cut short"):
        made(model, "set", Cone(0.2), images_per_shard=3)
    monkeypatch.setattr(Cone, "draw", original)
    assert (Path("set") / PERTURBATION).is_file()
    for other, said in (
        (Cone(0.3), r"settings.perturbation.lowest is 0.2 there, 0.3 now \(--perturbation\)"),
        (Cone(0.2, guarded=False), r"guarded is true there, false now \(--perturbation\)"),
        (None, r"settings.perturbation.kind is .cone. there, absent now \(--perturbation\)"),
    ):
        with pytest.raises(OutputFolderError, match=said):
            made(model, "set", other, images_per_shard=3)
    assert made(model, "set", Cone(0.2), images_per_shard=3) == whole


@pytest.mark.slow
@pytest.mark.usefixtures("_here")
def test_workers_and_repair_make_the_same_bytes(model: Path) -> None:
    whole = made(model, "whole", Cone(0.2), images_per_shard=3)
    assert made(model, "shared", Cone(0.2), images_per_shard=3, executor="local", workers=2) == whole
    victim = sorted(Path("shared").glob("images/**/*.jpg"))[4]
    victim.write_bytes(b"broken")
    assert len(repair(Path("shared"), model=str(model), device="cpu")) == 1
    assert tree(Path("shared")) == whole
    held = Path("shared") / PERTURBATION
    data = held.read_bytes()
    held.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # the last byte is a key's, and zero
    victim.write_bytes(b"broken")
    with pytest.raises(Exception, match=PERTURBATION):
        repair(Path("shared"), model=str(model), device="cpu")


@pytest.mark.usefixtures("_here")
def test_a_manifest_makes_it_again(model: Path) -> None:
    stem = f"--ids 3 --images 2 --compute-batch 2 --device cpu --model {model} --source gaussian"
    v2f("generate", stem, "--perturbation cone:0.35 --sigma-shares exact --out first")
    v2f("generate --config first/manifest.json --model", model, "--out second")
    assert tree(Path("first")) == tree(Path("second"))
    v2f("generate --config first/manifest.json --model", model, "--sigma 0.2 --sigma-weights 1 --out third")
    told = json.loads((Path("third") / MANIFEST).read_text())["settings"]["perturbation"]
    assert told == {"levels": [0.2], "weights": [1.0], "unit": "sigma"}
    v2f(
        "generate --config third/manifest.json --model",
        model,
        "--perturbation cone:0.4,unguarded --out fourth",
    )
    told = json.loads((Path("fourth") / MANIFEST).read_text())["settings"]["perturbation"]
    assert told == {"kind": "cone", "lowest": 0.4, "guarded": False}
    with pytest.raises(ConfigError, match="--sigma says nothing beside --perturbation"):
        v2f("generate", stem, "--perturbation cone:0.4 --sigma 0.2 --out fifth")


@pytest.mark.usefixtures("_here")
def test_a_measured_covariance_goes_with_the_set(model: Path) -> None:
    """Fitted by a command, named by another; the set holds it, so that its manifest is enough to make it again."""
    rng = np.random.default_rng(0)
    np.save(
        "features.npy", (rng.standard_normal((40, 512)) + np.repeat(rng.standard_normal((10, 512)), 4, 0))
    )
    np.save("labels.npy", np.repeat(np.arange(10), 4))
    v2f("ids within features.npy --labels labels.npy --components 8 --out within.safetensors")
    stem = f"--ids 3 --images 2 --compute-batch 2 --device cpu --model {model} --source gaussian"
    v2f("generate", stem, "--perturbation covariance:within.safetensors --out first")
    assert (Path("first") / PERTURBATION).read_bytes() == Path("within.safetensors").read_bytes()
    Path("within.safetensors").unlink()
    v2f("generate --config first/manifest.json --model", model, "--out second")
    assert tree(Path("first")) == tree(Path("second"))
    victim = sorted(Path("second").glob("images/**/*.jpg"))[3]
    victim.write_bytes(b"broken")
    assert len(repair(Path("second"), model=str(model), device="cpu")) == 1
    assert tree(Path("first")) == tree(Path("second"))


def test_exact_shares_spread_the_cosines(engine: Engine) -> None:
    table = Identities.from_vectors(np.random.default_rng(0).standard_normal((5, 512), np.float32))
    draws = Draws.of(table, ImageOptions(20, 5, Cone(0.5, False), sigma_shares="exact"), engine.masks)
    (batch,) = list(draws.batches(100))
    cosines = np.sort(_cosine.cosine(np.repeat(table.vectors, 20, axis=0), batch.vectors))
    np.testing.assert_allclose(cosines, 0.5 + 0.5 * (np.arange(100) + 0.5) / 100, atol=2e-7)


def test_a_proof_and_refined_identities_have_no_table_yet() -> None:
    from v2f_engine.attributes.control import AttributeControl
    from v2f_engine.options import EngineOptions, IdentityOptions, OutputOptions
    from v2f_engine.pipeline.generation import prepare

    with pytest.raises(
        ConfigError, match=r"guarded as well by cone:L,unguarded.*0\.864 for the 0\.491 of mini"
    ):
        prove(5, perturbation=Perturbation.cone(0.6))
    asked = Request(
        EngineOptions(device="cpu", precision="fp32", compute_batch=2),
        IdentityOptions(2),
        ImageOptions(1, 0, Cone(0.6)),
        OutputOptions(),
        attributes=AttributeControl({"quality": 24}, use="identities"),
    )
    with pytest.raises(ConfigError, match=r"Steer the images \(--steer images\), or leave the guard out"):
        prepare(asked)


@pytest.mark.usefixtures("_here")
def test_a_set_of_packed_people_says_that_they_were(model: Path) -> None:
    """In its manifest and where it is shown; guarded by how near they are now, and its manifest makes it again."""
    table = sample_identities(4, source="gaussian", max_cosine=0.3)
    table.save("t.safetensors")
    v2f("ids pack t.safetensors --steps 3 --out p.safetensors")
    packed = Identities.load("p.safetensors")
    assert not np.array_equal(packed.vectors, table.vectors)
    stem = f"--images 2 --compute-batch 2 --device cpu --model {model}"
    v2f("generate", stem, "--vectors p.safetensors --perturbation cone:0.2 --out first")
    told = json.loads((Path("first") / MANIFEST).read_text())["settings"]["identities"]
    assert told["packed"] == packed.provenance["packed"]
    assert told["packed"]["from"] == table.table_hash
    assert told["table_hash"] == packed.table_hash
    near = load_file(Path("first") / PERTURBATION)["cosine"]
    np.testing.assert_array_equal(near, nearest_other(packed.vectors))
    lines = dict(looked_at(Path("first")).lines)
    assert lines["packed"].endswith(f"from the table {table.table_hash[:12]}")
    assert lines["around them"] == "cone 0.2"
    v2f("generate --config first/manifest.json --model", model, "--out second")
    assert tree(Path("first")) == tree(Path("second"))


@pytest.mark.usefixtures("_here")
def test_another_file_behind_a_form_is_another_setting() -> None:
    """A proof over `covariance:w.safetensors` was complete, it was said, though that file had been fitted anew."""
    place = Path("folder/w.safetensors")
    place.parent.mkdir()
    told = set()
    for content in (b"one", b"two"):
        place.write_bytes(content)
        told.add(_told(f"covariance:{place}"))
    assert len(told) == 2
    Path("w.safetensors").write_bytes(b"two")
    assert _told("covariance:w.safetensors") in told  # where it lies decides nothing
    for text in ("cone:0.6", "covariance:missing.safetensors", "covariance:folder", ":", "a:"):
        assert _told(text) == text

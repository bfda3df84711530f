"""A person in the gallery is absent from what every entry point makes: leakage protection is never lost on the way.

The gallery holds features of "real people" close to (cosine 0.9) identities that would be sampled without it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from wiring_case import play
from wiring_spies import stop

from v2f_engine.data.layout import IDENTITIES
from v2f_engine.errors import ConfigError
from v2f_engine.pipeline import generate
from v2f_engine.pipeline.proof import prove
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.packing import pack_identities
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.sources import GaussianSource

SEED, LIMIT = 5, 0.4
PROVE = "v2f_engine.vectors.proof:prove_identities"
GONE = (1, 2)
"""Candidates that resemble somebody in the gallery."""


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two `.npy` files of real people: three strangers and the double of candidate 1; the double of candidate 2."""
    root = tmp_path_factory.mktemp("gallery")
    rng = np.random.default_rng(3)
    candidates = sample_identities(4, seed=SEED, max_cosine=None, source="gaussian").vectors

    def double(row: int) -> NDArray[np.float32]:
        noise = rng.standard_normal(512).astype(np.float32)
        return np.asarray(candidates[row] + 0.48 * noise, np.float32)

    np.save(root / "a.npy", np.stack([*rng.standard_normal((3, 512)).astype(np.float32), double(1)]))
    np.save(root / "b.npy", double(2)[None])
    return root / "a.npy", root / "b.npy"


def by_sampling(small: Path, galleries: list[Path], out: Path) -> Identities:
    return sample_identities(3, seed=SEED, source="gaussian", max_cosine=LIMIT, exclude=galleries or None)


def by_generate(small: Path, galleries: list[Path], out: Path) -> Identities:
    both = out.with_suffix(".npy")
    if galleries:
        np.save(both, np.concatenate([np.load(path) for path in galleries]))
    generate(
        3, 1, out, model=small, source="gaussian", seed=SEED, max_cosine=LIMIT, device="cpu", compute_batch=1,
        exclude=both if galleries else None,
    )  # fmt: skip
    return Identities.load(out / IDENTITIES)


def by_generate_command(small: Path, galleries: list[Path], out: Path) -> Identities:
    both = out.with_suffix(".npy")
    if galleries:
        np.save(both, np.concatenate([np.load(path) for path in galleries]))
    words = f"generate --ids 3 --images 1 --out {out} --model {small} --source gaussian --seed {SEED}"
    words += f" --max-cosine {LIMIT} --device cpu --compute-batch 1"
    ended = play([*words.split(), *(["--exclude", str(both)] if galleries else [])], {}).ended
    assert ended == ""
    return Identities.load(out / IDENTITIES)


def by_sample_command(small: Path, galleries: list[Path], out: Path) -> Identities:
    words = (
        f"ids sample 3 --out {out}.safetensors --source gaussian --seed {SEED} --max-cosine {LIMIT}".split()
    )
    for path in galleries:
        words += ["--exclude", str(path)]
    assert play(words, {}).ended == ""
    return Identities.load(out.with_suffix(".safetensors"))


def by_prove_command(small: Path, galleries: list[Path], out: Path) -> Identities:
    words = f"ids prove 3 --out {out}.safetensors --model {small} --source gaussian --seed {SEED}".split()
    words += ["--max-cosine", str(LIMIT)]
    for path in galleries:
        words += ["--exclude", str(path)]
    played = play(words, {PROVE: stop})
    return _stream(played.calls[PROVE][0])


def by_pack(small: Path, galleries: list[Path], out: Path) -> Identities:
    """The first step of packing, which moves everybody, ends with nobody nearer to a real person than allowed."""
    return pack_identities(
        by_sampling(small, galleries, out), steps=1, target=-0.4, max_drift=1e9, exclude=galleries or None
    )


def by_pack_command(small: Path, galleries: list[Path], out: Path) -> Identities:
    by_sampling(small, galleries, out).save(out.with_suffix(".safetensors"))
    words = f"ids pack {out}.safetensors --out {out}-packed.safetensors --steps 1 --max-cosine -0.4".split()
    for path in galleries:
        words += ["--exclude", str(path)]
    assert play(words, {}).ended == ""
    return Identities.load(out.with_name(f"{out.name}-packed.safetensors"))


def by_prove(small: Path, galleries: list[Path], out: Path) -> Identities:
    with pytest.MonkeyPatch.context() as patch:
        seen: list[dict[str, object]] = []

        def record(n: int, stream: object, *rest: object, **options: object) -> None:
            seen.append({"stream": stream})
            raise KeyboardInterrupt

        patch.setattr("v2f_engine.pipeline.proof.prove_identities", record)
        with pytest.raises(KeyboardInterrupt):
            prove(
                3, model=small, source="gaussian", seed=SEED, max_cosine=LIMIT, image_cosine=0.5,
                exclude=list(galleries) or None, device="cpu",
            )  # fmt: skip
    return _stream(seen[0])


def _stream(call: dict[str, object]) -> Identities:
    """The stream that a proof would draw its identities from."""
    made: Identities = call["stream"].take(3, max_candidates=1000)  # type: ignore[attr-defined]
    return made


ENTRIES: dict[str, Callable[[Path, list[Path], Path], Identities]] = {
    "sample_identities": by_sampling,
    "generate": by_generate,
    "prove": by_prove,
    "pack_identities": by_pack,
    "v2f ids pack": by_pack_command,
    "v2f generate": by_generate_command,
    "v2f ids sample": by_sample_command,
    "v2f ids prove": by_prove_command,
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_excluded_person_is_absent(
    entry: str, places: dict[str, Path], galleries: tuple[Path, Path], tmp_path: Path
) -> None:
    make = ENTRIES[entry]
    without = make(places["small"], [], tmp_path / "without")
    assert without.candidate.tolist() == [0, 1, 2]
    table = make(places["small"], list(galleries), tmp_path / "with")
    assert table.candidate.tolist() == [0, 3, 4]
    gallery = np.concatenate([np.load(path) for path in galleries])
    cosines = table.vectors @ gallery.T
    cosines /= np.linalg.norm(table.vectors, axis=1)[:, None] * np.linalg.norm(gallery, axis=1)
    assert cosines.max() < LIMIT
    told = table.provenance["exclude"]
    assert (told["rows"], told["cosine"]) == (len(gallery), LIMIT)


@pytest.mark.parametrize("cosine", [1.5, -1.5])
def test_a_threshold_out_of_range_is_refused(cosine: float, galleries: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="exclude_cosine"):
        sample_identities(3, seed=SEED, source="gaussian", exclude=galleries[0], exclude_cosine=cosine)
    assert (
        len(sample_identities(3, seed=SEED, source="gaussian", exclude=galleries[0], exclude_cosine=1.0)) == 3
    )


def test_packing_holds_back_whoever_would_come_to_resemble_a_real_person(tmp_path: Path) -> None:
    """The real person stands where packing moves somebody to: by a float64 loop nobody is as near as the limit."""
    plain = sample_identities(30, source=GaussianSource(), max_cosine=0.3, seed=1)
    free = pack_identities(plain, source="gaussian", max_drift=1e9)
    away = np.linalg.norm(free.vectors - plain.vectors, axis=1)
    mover = int(away.argmax())
    real = 3 * free.vectors[mover] - 2 * plain.vectors[mover]

    def nearest(table: Identities) -> float:
        own = [float(np.dot(one, wide) / np.linalg.norm(one)) for one in table.vectors.astype(np.float64)]
        return max(own) / float(np.linalg.norm(wide))

    wide = real.astype(np.float64)
    limit = (nearest(plain) + nearest(free)) / 2
    assert nearest(plain) < limit < nearest(free)
    np.save(tmp_path / "real.npy", real[None])
    given = sample_identities(
        30,
        source=GaussianSource(),
        max_cosine=0.3,
        seed=1,
        exclude=tmp_path / "real.npy",
        exclude_cosine=limit,
    )
    given.save(tmp_path / "t.safetensors")
    words = f"ids pack {tmp_path}/t.safetensors --out {tmp_path}/p.safetensors --exclude {tmp_path}/real.npy"
    assert play([*words.split(), "--max-drift", "1e9"], {}).ended == ""
    packed = Identities.load(tmp_path / "p.safetensors")
    assert nearest(packed) < limit
    np.testing.assert_array_equal(packed.vectors[mover], plain.vectors[mover])
    assert not np.array_equal(packed.vectors, plain.vectors)

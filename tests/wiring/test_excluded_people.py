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
from v2f_engine.vectors.sampling import sample_identities

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

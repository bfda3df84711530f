"""What `bench/claims/judge.py` measures gives the answers that are known: combs, blur, noise, two Gaussians."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("numba")
sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.claims import sharpness as measured
from bench.claims.frechet import against_rendered, chip, frechet_distance
from bench.claims.judged_sets import Seen, as_written, read_pictures
from bench.claims.looks import Counter, corrected, described, shares
from bench.claims.rendered_traits import hair_and_beards, traits_shown
from bench.claims.sharpness import COMB, OCTAVES, sharpness, spectrum
from v2f_engine.batch import ImageBatch
from v2f_engine.errors import ConfigError, VectorError

AMPLITUDE, NOISE, COUNT = 20.0, 12.0, 60


def pictures(kind: str, period: float = 4.0, noise: float = NOISE) -> NDArray[np.float64]:
    """Grey float64 `[60, 112, 112]`: white noise about 128, and a comb of AMPLITUDE that stands, lies, or is not."""
    rng = np.random.Generator(np.random.Philox(key=7))
    out = 128 + noise * rng.standard_normal((COUNT, 112, 112))
    place = np.arange(112) + rng.uniform(0, period, (COUNT, 1))  # any phase
    wave = AMPLITUDE * np.cos(2 * np.pi * place / period)
    return np.asarray(
        out + {"stands": wave[:, None, :], "lies": wave[:, :, None], "none": wave[:1, :1, None] * 0}[kind]
    )


def rgb(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def test_noise_of_no_direction_has_a_comb_ratio_of_one_and_its_own_variance() -> None:
    seen = spectrum(rgb(pictures("none")))
    assert seen.comb_ratio == pytest.approx(1, abs=0.03)
    assert seen.power.sum() == pytest.approx(NOISE**2 + 1 / 12, rel=0.02)  # 1/12: whole grey levels
    _, across, down = seen.profile()
    assert across == pytest.approx(down, rel=0.15)


@pytest.mark.parametrize(("kind", "expected"), [("stands", 1), ("lies", -1)])
def test_a_comb_of_known_amplitude_gives_the_expected_ratio(kind: str, expected: int) -> None:
    seen = spectrum(rgb(pictures(kind)))
    band = (NOISE**2 + 1 / 12) * 10 / 80  # of 80 frequencies, 18 to 22 with either sign
    assert seen.comb_ratio**expected == pytest.approx(1 + AMPLITUDE**2 / 2 / band, rel=0.04)


@pytest.mark.parametrize("period", [4.0, 8.0, 2.5])
def test_the_profile_peaks_at_the_period_of_the_comb(period: float) -> None:
    periods, across, down = spectrum(rgb(pictures("stands", period))).profile()
    assert periods[(across / down).argmax()] == pytest.approx(period, rel=0.05)
    assert (across / down)[np.abs(np.log2(periods / period)) > 0.3] == pytest.approx(1, abs=0.35)


def test_detail_over_rendered_is_by_octave_and_a_comb_is_no_detail() -> None:
    sharp = pictures("none", noise=24.0)
    frequency = np.hypot(np.fft.fftfreq(112)[:, None], np.fft.fftfreq(112)[None])
    blurred = np.fft.ifft2(
        np.fft.fft2(sharp) * np.where(frequency > 1 / 4, 0.5, 1.0)
    ).real  # half of an amplitude
    found = sharpness(spectrum(rgb(blurred)), spectrum(rgb(sharp)))
    assert list(found["detail"]) == ["2-4", "4-8", "8-16", "16-32", "3.5-4.7"]
    assert found["detail"]["2-4"] == pytest.approx(0.25, abs=0.02)
    for octave in ("4-8", "8-16", "16-32"):
        assert found["detail"][octave] == pytest.approx(1, abs=0.05)
    low, high = found["comb_ratio_95"]
    assert low < found["results"]["comb_ratio"] < high < 1.1

    comb = sharpness(
        spectrum(rgb(pictures("stands", noise=6.0))), spectrum(rgb(pictures("none", noise=12.0)))
    )
    assert comb["detail_in_the_combs_band"]["across"] > 5
    assert (
        comb["results"]["detail_4px"]
        == comb["detail_in_the_combs_band"]["down"]
        == pytest.approx(0.25, abs=0.02)
    )


def test_octaves_cover_all_periods_once() -> None:
    assert all(a[1] == b[0] for a, b in itertools.pairwise(OCTAVES))
    seen = spectrum(rgb(pictures("none")))
    whole = seen.ring(2, 32)
    assert sum(seen.ring(*octave) for octave in OCTAVES) == pytest.approx(whole)
    assert 0 < seen.ring(*COMB) < whole


def gaussian(mean: list[float], deviation: list[float], seed: int, n: int = 40_000) -> NDArray[np.float64]:
    rng = np.random.Generator(np.random.Philox(key=seed))
    return np.asarray(mean + rng.standard_normal((n, len(mean))) * deviation)


def test_frechet_distance_of_two_gaussians() -> None:
    a, b = gaussian([0, 1, 0], [1, 2, 1], 1), gaussian([3, 1, 0], [1, 5, 0.5], 2)
    turn, _ = np.linalg.qr(np.random.Generator(np.random.Philox(key=3)).standard_normal((3, 3)))
    # Of commuting covariances: |difference of means|^2 + sum of (difference of deviations)^2 = 9 + 9 + 0.25.
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(18.25, rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + np.array([0, 0, 2])) == pytest.approx(4)
    # Not commuting: correlations +r and -r in two dimensions, tr sqrt(C1 C2) = 2 sqrt(1 - r^2).
    r = 0.8
    plus = gaussian([0, 0], [1, 1], 4) @ np.linalg.cholesky([[1, r], [r, 1]]).T
    minus = gaussian([0, 0], [1, 1], 5) @ np.linalg.cholesky([[1, -r], [-r, 1]]).T
    assert frechet_distance(plus, minus) == pytest.approx(4 - 4 * (1 - r * r) ** 0.5, rel=0.03)


def test_frechet_distance_where_covariances_are_singular() -> None:
    rng = np.random.Generator(np.random.Philox(key=6))
    a, b = rng.standard_normal((10, 64)), rng.standard_normal((8, 64))
    small = frechet_distance(a[:, :3], b[:, :3])
    assert frechet_distance(
        np.pad(a[:, :3], ((0, 0), (0, 61))), np.pad(b[:, :3], ((0, 0), (0, 61)))
    ) == pytest.approx(small)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    for wrong in (a[:1], a[:, :5], a * np.inf):
        with pytest.raises(VectorError, match=r"Frechet|finite"):
            frechet_distance(wrong, b)


def test_the_floor_is_other_people_and_not_the_same() -> None:
    rng = np.random.Generator(np.random.Philox(key=8))
    people = np.repeat(np.arange(40), 5)
    real = rng.standard_normal((200, 4)).astype(np.float32)
    real[people % 2 == 1] += 1  # every second person lies 1 off in 4 features: the floor is about 4
    found = against_rendered(real[people % 2 == 0], real, people)
    assert found["n"] == 100
    assert found["distance"] == pytest.approx(0, abs=1e-9)
    assert found["floor"] == pytest.approx(4, rel=0.3)
    with pytest.raises(VectorError, match="two rendered people"):
        against_rendered(real, real, np.zeros(200, np.int64))


def test_a_chip_has_the_eyes_where_dlib_wants_them() -> None:
    image = np.zeros((112, 112, 3), np.uint8)
    for x, y in ((38, 52), (74, 51)):
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    bright = chip(image)[..., 0].astype(float)
    for half, eye in ((slice(0, 75), 47.7), (slice(75, 150), 100.3)):
        column = bright[:, half].sum(axis=0) @ np.arange(150)[half] / bright[:, half].sum()
        row = bright[:, half].sum(axis=1) @ np.arange(150) / bright[:, half].sum()
        assert (column, row) == (pytest.approx(eye, abs=1.5), pytest.approx(47.1, abs=1.5))


def test_the_light_form_reads_folders_of_any_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name, kind in (("real", "none"), ("made", "stands")):
        for number, image in enumerate(rgb(pictures(kind))[:12]):
            folder = tmp_path / name / f"person{number // 3}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    options = ["--generated", str(tmp_path / "made"), "--rendered", str(tmp_path / "real")]
    assert measured.main([*options, "--images", "8", "--json", str(tmp_path / "record.json")]) == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["images"] == {"generated": 8, "rendered": 8}
    assert f"comb ratio {record['results']['comb_ratio']:.2f}" in said
    assert record["results"]["comb_ratio"] > 8
    assert len(record["profile"]["period"]) == len(record["profile"]["generated_across"]) == 36
    spread = read_pictures(tmp_path / "made", 8)
    assert np.unique(spread.identity).tolist() == [0, 1, 2, 3]
    assert measured.main(["--generated", "minni", "--rendered", str(tmp_path / "real")]) != 0
    assert "did you mean 'mini'" in capsys.readouterr().err


def test_what_is_written_is_what_a_dataset_gives_back(tmp_path: Path) -> None:
    from v2f_engine.data import Encoder, Plan, open_dataset, write_dataset

    images = rgb(pictures("stands"))[:3]
    batch = ImageBatch(images, np.zeros(3, np.int64), np.arange(3))
    write_dataset(tmp_path / "set", {}, Plan.of(1, 3), lambda _: [batch], format="lmdb", encoder=Encoder())
    assert np.array_equal(as_written(images), open_dataset(tmp_path / "set").images(np.arange(3)))
    assert not np.array_equal(as_written(images), images)


def test_a_share_is_corrected_for_the_error_of_its_estimator() -> None:
    # Of 1,000 images 300 have it; 80 % of them are seen, and 10 % of the rest: 240 + 70.
    assert corrected(0.31, 0.8, 0.9) == pytest.approx(0.3)
    assert corrected(0.02, 0.8, 0.9) == 0  # fewer than its own false alarms
    assert corrected(0.95, 0.8, 0.9) == 1


def people_with_a_trait(
    share: float, seed: int, visible: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features `[1200, 12]` of 400 people x 3, and who has the trait, which shifts one feature by `visible`."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    has = np.repeat(rng.random(400) < share, 3)
    features = rng.standard_normal((1200, 12)).astype(np.float32)
    features[:, 3] += visible * has
    return features, has


def test_shares_of_people_whom_nobody_labelled_are_found_within_their_bounds() -> None:
    people = np.arange(1200) // 3
    features, has = people_with_a_trait(0.2, 1, visible=2.0)
    rng = np.random.Generator(np.random.Philox(key=2))
    counter = Counter.fit(
        features, {"seen": has, "chance": rng.random(1200) < 0.4, "rare": people < 3}, people
    )
    for share in (0.05, 0.9):
        made, truth = people_with_a_trait(share, 3, visible=2.0)
        found = shares(counter, made, people)
        about = found["seen"]
        low, high = about["generated_95"]
        assert low - 0.01 <= truth.mean() <= high + 0.01
        assert abs(about["seen"] - truth.mean()) > 0.03  # uncorrected it would be wrong
        assert 0.8 < about["balanced_accuracy"] < 0.88  # two deviations apart: 84.1 %
        assert "near chance" in found["chance"]["refused"]
        assert "generated" not in found["chance"]
        assert "fewer than 12" in found["rare"]["refused"]


def test_a_table_takes_the_place_of_sampled_people(tmp_path: Path) -> None:
    import argparse
    from types import SimpleNamespace

    from bench.claims.judge import parse, people
    from v2f_engine.vectors.people import People
    from v2f_engine.vectors.sampling import sample_identities
    from v2f_engine.vectors.sources import GaussianSource

    file = tmp_path / "t.safetensors"
    table = sample_identities(5, source="gaussian", seed=9)
    table.save(file)
    engine = SimpleNamespace(people=People("m", GaussianSource(), True, 0.3))

    def judged(*words: str) -> Any:
        options: argparse.Namespace = parse(["--judge", "j", *words])
        return people(options, engine, 0.3)  # type: ignore[arg-type]

    found = judged("--ids-table", str(file), "--ids", "3")
    assert np.array_equal(found.vectors, table.vectors[:3])
    assert found.keys.tolist() == [0, 1, 2]
    assert not np.array_equal(judged("--ids", "3").vectors, found.vectors)
    with pytest.raises(ConfigError, match="5 identities, --ids asks for 6"):
        judged("--ids-table", str(file), "--ids", "6")


def test_an_estimator_is_judged_on_people_it_has_not_seen() -> None:
    """A trait of people that no feature tells, but each person's own feature does: it must be at chance."""
    rng = np.random.Generator(np.random.Philox(key=4))
    people, has = np.arange(400) // 4, np.repeat(rng.random(100) < 0.5, 4)
    features = np.repeat(rng.standard_normal((100, 300)), 4, axis=0).astype(np.float32)
    about = shares(Counter.fit(features, {"of nobody": has}, people), features, people)["of nobody"]
    assert about["balanced_accuracy"] < 0.65


@pytest.mark.parametrize("period", [3.5, 4.5])
def test_what_is_described_does_not_see_a_comb(period: float) -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.Generator(np.random.Philox(key=5))
    soft = 128 + gaussian_filter(rng.standard_normal((8, 112, 112)), (0, 4, 4)) * 400
    comb = 25 * np.cos(2 * np.pi * np.arange(112) / period)
    plain, combed, other = (described(rgb(picture)) for picture in (soft, soft + comb, soft[::-1]))
    assert plain.shape == (8, 2352)
    # 0.02; a Gaussian of 1.2 pixels would leave 0.08, one of 0.5 pixels 0.18
    assert np.abs(combed - plain).mean() < 0.03 * np.abs(other - plain).mean()


def test_hair_and_beards_of_rendered_people_are_of_their_world_and_number() -> None:
    from v2f_engine.rendered import WORLDS, make_person

    labels = np.arange(6)
    for world in WORLDS:
        found = hair_and_beards(labels, seed=404, first=3, world=world)
        people = [make_person(404, 3 + label, world=world) for label in range(6)]
        assert found["beards"].tolist() == [
            n for n, p in enumerate(people) if p.beard not in ("none", "stubble")
        ]
        assert found["hair that hangs"].tolist() == [
            n for n, p in enumerate(people) if p.style in ("long", "wavy", "bob")
        ]
    assert found["beards"].size
    assert found["hair that hangs"].size
    with pytest.raises(ConfigError, match="world"):
        hair_and_beards(labels, seed=404, first=0, world=99)


def test_a_folder_that_says_no_world_leaves_hair_and_beards_out(tmp_path: Path) -> None:
    from argparse import Namespace

    from v2f_engine.data import Encoder, Plan, write_dataset

    told = {
        name: np.array(values, np.float32) for name, values in (("yaw", [-50, 10, 41]), ("hat", [0, 1, 1]))
    }
    batch = ImageBatch(rgb(pictures("none"))[:3], np.zeros(3, np.int64), np.arange(3), told)
    write_dataset(
        tmp_path / "set", {"seed": 0}, Plan.of(1, 3), lambda _: [batch], format="lmdb", encoder=Encoder()
    )
    seen = Seen("rendered", 3)
    seen(batch)
    traits, why = traits_shown(Namespace(rendered=tmp_path / "set"), seen)
    assert {name: shown.tolist() for name, shown in traits.items()} == {
        "hats": [False, True, True],
        "yaw beyond 40": [True, False, True],
    }
    assert "does not say of which rendered world" in why

"""Each setting of the recipe `sharp` reaches what it names, by calculations of its own; off, a step is the earlier one.

Nothing here asks the functions that the step uses, but for those that a test holds by their known answers.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import v2f
from numpy.typing import NDArray
from test_step_by_hand import ONLY_PIXELS, moved, to_unit, trainer_of, whole_batch
from train_harness import ALL, EYE, people, settings, small_recogniser

from v2f_engine.data.formats.lmdb.entries import write_training_lmdb
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import ConfigError, OutputFolderError
from v2f_engine.models.discriminator import PatchDiscriminator
from v2f_engine.models.iresnet import IResNet
from v2f_engine.models.weights import save_weights
from v2f_engine.randomness import Purpose, uniforms
from v2f_engine.train.checkpoint import Checkpoints
from v2f_engine.train.generator import GeneratorTrainer, GeneratorTraining, train_generator
from v2f_engine.train.generator_recipes import RECIPES
from v2f_engine.train.generator_step import pixel_weights
from v2f_engine.train.generator_values import with_values
from v2f_engine.train.losses import PRESETS, smoothness_loss, spectrum_loss

OFF = {
    "critic_vector": False,
    "critic_smooth": 0.0,
    "critic_side": 112,
    "subpixel": False,
    "background": 1.0,
    "second": None,
}
"""The newer settings as every published recipe has them."""


def second_recogniser(path: Path) -> IResNet:
    """Another network than the first, blurred, and its file."""
    torch.manual_seed(5)
    network = IResNet(dataclasses.replace(EYE, blur=True)).eval()
    save_weights(path, {"model": network}, {"kind": "iresnet", "config": network.config.to_json()})
    return network


def unlike(network: IResNet, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Over three stages the mean over places of |u - v|^2 of unit channel vectors, and 1 - cosine of features."""

    def unit(x: torch.Tensor) -> torch.Tensor:
        return x / x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-4)

    maps = zip(network.stages(fake, 3), network.stages(real, 3), strict=True)
    apart = sum(((unit(a) - unit(b)) ** 2).sum(1).mean((1, 2)) for a, b in maps)
    cosine = (unit(network(fake)) * unit(network(real))).sum(1)
    return (apart + 1 - cosine).mean()


def test_the_second_recogniser_sees_both_images(tmp_path: Path) -> None:
    """Its term, and at the last layer the share of the gradient that its weight says."""
    network = second_recogniser(tmp_path / "second.safetensors")
    weights = dataclasses.replace(ONLY_PIXELS, second=0.25, gan=0.0, gan_from=1.0)
    with trainer_of(weights, second=tmp_path / "second.safetensors", shift=2) as trainer:
        terms, _ = trainer.step(5, 0.9)
        last = trainer.model.im_decoder.conv_out.weight
        assert last.grad is not None
        found = last.grad.clone()
        part = whole_batch(trainer, 5)
        fake = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped).images
        real = to_unit(part.images)
        term = unlike(network, moved(fake, *part.crop, 2), moved(real, *part.crop, 2))
        (of_pixels,) = torch.autograd.grad(((fake - real) ** 2).mean(), last, retain_graph=True)
        (of_second,) = torch.autograd.grad(term, last)
        elsewhere = unlike(small_recogniser(), moved(fake, *part.crop, 2), moved(real, *part.crop, 2))
    assert set(terms) == {"pixel", "second", "gradient"}
    assert float(terms["second"].detach()) == pytest.approx(float(term.detach()), rel=2e-4)
    assert abs(float((elsewhere - term).detach())) > 0.01 * float(term.detach())
    torch.testing.assert_close(found, of_pixels + 0.25 * of_second, rtol=2e-3, atol=1e-7)
    assert float(of_second.norm()) > 0.05 * float(of_pixels.norm())


def ellipse(background: float) -> NDArray[np.float64]:
    """Weights of 112 x 112 pixels, one at a time."""
    weights = np.empty((112, 112))
    for y in range(112):
        for x in range(112):
            away = (((x - 55.5) / 46) ** 2 + ((y - 58) / 62) ** 2) ** 0.5
            weights[y, x] = background + (1 - background) / (1 + np.exp(-16 * (1 - away)))
    return np.asarray(weights / weights.mean())


def test_pixels_far_from_the_face_weigh_less() -> None:
    by_hand = ellipse(0.2)
    found = pixel_weights(0.2)
    assert found.shape == (1, 1, 112, 112)
    np.testing.assert_allclose(found[0, 0].numpy(), by_hand, rtol=1e-4)
    assert float(found.mean()) == pytest.approx(1.0, abs=1e-6)
    for corner in ((0, 0), (0, 111), (111, 0), (111, 111)):
        assert float(found[0, 0][corner]) == pytest.approx(0.2 * float(found[0, 0, 58, 55]), rel=0.05)
    with trainer_of(ALL, background=0.2) as trainer:
        terms, _ = trainer.step(2, 0.1)
        part = whole_batch(trainer, 2)
        with torch.no_grad():
            fake = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped).images
        apart = (fake - to_unit(part.images)).double().numpy()
    assert float(terms["pixel"].detach()) == pytest.approx(float((apart**2 * by_hand).mean()), rel=2e-4)
    assert float(terms["absolute"].detach()) == pytest.approx(float((abs(apart) * by_hand).mean()), rel=2e-4)
    assert abs(float((apart**2).mean()) / float((apart**2 * by_hand).mean()) - 1) > 2e-3


def between_pixels(images: NDArray[np.float64], top: float, left: float, shift: int) -> NDArray[np.float64]:
    """Bilinear, from the four pixels around each place; the border goes on."""

    def ends(begin: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        place = np.arange(112) + begin - shift
        low = np.floor(place).astype(np.int64)
        return low.clip(0, 111), (low + 1).clip(0, 111), place - low

    up, down, y = ends(top)
    west, east, x = ends(left)
    y = y[:, None]
    rows = [images[:, :, row] for row in (up, down)]
    upper, lower = (row[..., west] * (1 - x) + row[..., east] * x for row in rows)
    return np.asarray(upper * (1 - y) + lower * y)


@pytest.mark.parametrize("crop", [(0.0, 5.999), (1.25, 3.5), (2.0, 4.75), (5.5, 1.0), (0.03, 0.97)])
def test_moves_by_fractions_are_bilinear(crop: tuple[float, float]) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 112, 112))
    with trainer_of(ONLY_PIXELS, shift=3, subpixel=True) as trainer:
        found = trainer._moved(torch.from_numpy(images), crop)
    np.testing.assert_allclose(found.numpy(), between_pixels(images, *crop, 3), atol=1e-12)


def test_whole_moves_are_the_earlier_ones_and_fractions_stay_within() -> None:
    images = torch.rand(1, 3, 112, 112)
    with trainer_of(ONLY_PIXELS, shift=3) as trainer:
        for top in range(7):
            assert torch.equal(trainer._moved(images, (top, 6 - top)), moved(images, top, 6 - top, 3))
        for step in range(20):
            draw = uniforms(trainer.settings.seed, Purpose.AUGMENT, step, 0, 2)[0]
            assert whole_batch(trainer, step).crop == (int(draw[0] * 7), int(draw[1] * 7))
    with trainer_of(ONLY_PIXELS, shift=3, subpixel=True) as trainer:
        crops = np.array([whole_batch(trainer, step).crop for step in range(60)])
    assert 0 <= crops.min() < 1
    assert 5 < crops.max() < 6
    assert len(np.unique(crops % 1)) == crops.size


def critic_by_hand(trainer: GeneratorTrainer, part: Any, smooth: float, number: int) -> tuple[float, float]:
    """(the generator's term, the discriminator's loss) of the window and the vector that it sees."""
    (top, left), side = part.window, trainer.settings.critic_side
    with torch.no_grad():
        fake = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped).images
        real = to_unit(part.images).contiguous(memory_format=torch.channels_last)
        fake, real = (x[:, :, top : top + side, left : left + side] for x in (fake, real))
        asked = (part.features,) if trainer.settings.critic_vector else ()
        on_real, on_fake = trainer.critic(real, *asked), trainer.critic(fake, *asked)
        loss = ((on_real - 1) ** 2).mean() / 2 + (on_fake**2).mean() / 2
        if smooth:
            draw = torch.Generator().manual_seed(trainer.settings.seed * 1_000_003 + number)
            noise = torch.empty_like(real).normal_(generator=draw)
            slope = (trainer.critic(real + 0.1 * noise, *asked) - on_real) / 0.1
            loss = loss + smooth * (slope**2).mean()
        return float(((on_fake - 1) ** 2).mean() / 2), float(loss)


@pytest.mark.parametrize("number", [4, 5])
def test_what_the_discriminator_sees_and_how_it_is_smoothed(number: int) -> None:
    """In one step of four with four times the weight; a window of both images; the stored vector."""
    with trainer_of(
        dataclasses.replace(ONLY_PIXELS, gan=1.0),
        critic_vector=True,
        critic_smooth=0.5,
        critic_side=80,
        seed=3,
    ) as trainer:
        terms, _ = trainer.step(number, 0.9)
        part = whole_batch(trainer, number)
        gan, critic = critic_by_hand(trainer, part, 4 * 0.5 if number == 4 else 0.0, number)
        other = dataclasses.replace(part, features=-part.features)
        with_other, _ = critic_by_hand(trainer, other, 0.0, number)
        beside = dataclasses.replace(part, window=(32 - part.window[0], 32 - part.window[1]))
        elsewhere, _ = critic_by_hand(trainer, beside, 0.0, number)
    assert float(terms["gan"].detach()) == pytest.approx(gan, rel=1e-4)
    assert float(terms["critic"].detach()) == pytest.approx(critic, rel=1e-4)
    assert abs(with_other / gan - 1) > 1e-3
    assert abs(elsewhere / gan - 1) > 1e-3


def test_windows_lie_everywhere_and_a_whole_one_is_the_image() -> None:
    with trainer_of(ONLY_PIXELS, critic_side=80) as trainer:
        windows = np.array([whole_batch(trainer, step).window for step in range(80)])
    assert windows.min() in range(4)
    assert windows.max() in range(29, 33)
    with trainer_of(ONLY_PIXELS) as trainer:
        part = whole_batch(trainer, 3)
        assert part.window == (0, 0)
        image = torch.rand(1, 3, 112, 112)
        assert trainer._window(image, part) is image


def test_smoothness_is_the_squared_gradient_of_a_linear_discriminator() -> None:
    """D(x) = a . x has the slope |a|^2 everywhere; the gradient of that is 2 a. 20,000 draws tell both to 3 %."""
    draw = torch.Generator().manual_seed(0)
    a = torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    x = torch.randn(20_000, 4, generator=draw, dtype=torch.float64)
    nearby = x + 0.1 * torch.randn(20_000, 4, generator=draw, dtype=torch.float64)
    found = smoothness_loss(x @ a, nearby @ a, 0.1)
    assert float(found.detach()) == pytest.approx(9 + 1 + 0.25 + 4, rel=0.03)
    (slope,) = torch.autograd.grad(found, a)
    np.testing.assert_allclose(slope.numpy(), 2 * a.detach().numpy(), atol=0.25)


def power_by_hand(images: torch.Tensor) -> np.ndarray:
    """Mean power of luminance under a Hann window, over three by three frequencies, every other one of them."""
    luma = np.einsum("bchw,c->bhw", images.double().numpy(), [0.299, 0.587, 0.114])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(112) / 112)
    under = (luma - luma.mean((1, 2), keepdims=True)) * hann[:, None] * hann
    power = (np.abs(np.fft.fft2(under)[:, :, :57]) ** 2).mean(0)
    rows, columns = np.arange(0, 112, 2), np.arange(0, 57, 2)
    near = lambda at, end: [k for k in (at - 1, at, at + 1) if 0 <= k < end]  # noqa: E731
    return np.array([[power[np.ix_(near(r, 112), near(c, 57))].mean() for c in columns] for r in rows])


def test_spectra_by_hand_and_in_a_step() -> None:
    with trainer_of(dataclasses.replace(ONLY_PIXELS, spectrum=1.0)) as trainer:
        terms, _ = trainer.step(2, 0.1)
        part = whole_batch(trainer, 2)
        with torch.no_grad():
            fake = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped).images
    made, there = power_by_hand(fake), power_by_hand(to_unit(part.images))
    by_hand = np.abs(np.log((made + 1e-3) / (there + 1e-3))).mean()
    assert float(terms["spectrum"].detach()) == pytest.approx(by_hand, rel=1e-3)


def test_spectra_tell_strength_and_direction() -> None:
    """Twice the contrast is four times the power; a comb is missed where it was and found where it was not."""
    torch.manual_seed(0)
    real = torch.rand(8, 3, 112, 112) * 2 - 1
    assert float(spectrum_loss(real, real)) == 0.0
    assert float(spectrum_loss(2 * real, real)) == pytest.approx(np.log(4), rel=1e-3)
    assert float(spectrum_loss(real / 2, real)) == pytest.approx(np.log(4), rel=1e-3)
    comb = 0.2 * torch.cos(2 * np.pi * torch.arange(112) / 4)
    smooth = real * 0.05
    across, down = smooth + comb, smooth + comb[:, None]
    apart = float(spectrum_loss(across, down))
    assert apart > 0.01
    assert apart == pytest.approx(float(spectrum_loss(down, across)), rel=1e-5)
    with_grad = across.clone().requires_grad_()
    spectrum_loss(with_grad, smooth).backward()  # type: ignore[no-untyped-call]
    along = -(with_grad.grad * comb).sum()  # what a small step down does to the comb
    assert float(along) < 0


def test_logits_depend_on_where_a_vector_points_and_not_on_its_length() -> None:
    torch.manual_seed(0)
    critic = PatchDiscriminator(8, 12).eval()
    assert PatchDiscriminator(8).of_vector is None
    images, vectors = torch.rand(2, 3, 112, 112) * 2 - 1, torch.randn(2, 12)
    with torch.no_grad():
        logits = critic(images, vectors)
        assert logits.shape == (2, 1, 11, 11)
        torch.testing.assert_close(critic(images, vectors * torch.tensor([[0.03], [70.0]])), logits)
        apart = (critic(images, vectors.flip(0)) - logits).abs().mean((1, 2, 3))
        assert (apart > 1e-3).all()
        # By hand: of each patch the mean over 4 x 4 places of the product of the last map and the projected vector.
        x = images
        for stage in critic.layers:
            x = stage(x)
        inner, bent, last = critic.to_logits
        x = bent(inner(x))
        unit = vectors / vectors.square().sum(1, keepdim=True).sqrt()
        product = torch.einsum("bchw,bc->bhw", x, unit @ critic.of_vector.weight.T + critic.of_vector.bias)
        patches = product.unfold(1, 4, 1).unfold(2, 4, 1).mean((3, 4))
        torch.testing.assert_close(last(x)[:, 0] + patches, logits[:, 0], rtol=1e-4, atol=1e-5)


# --- names, refusals, folders ---------------------------------------------------------------------------


def test_the_recipe_and_that_published_ones_have_none_of_it() -> None:
    sharp = GeneratorTraining.named("sharp", Path("unused"))
    assert {name: getattr(sharp, name) for name in OFF} == {
        "critic_vector": True, "critic_smooth": 0.05, "critic_side": 80, "subpixel": True, "background": 0.2,
        "second": None,
    }  # fmt: skip
    assert sharp.loss_weights == PRESETS["sharp"]
    assert (sharp.loss_weights.gan_from, sharp.loss_weights.second) == (0.0, 0.0)
    assert set(PRESETS) == set(RECIPES)
    for name in set(RECIPES) - {"sharp"}:
        made = GeneratorTraining.named(name, Path("unused"))
        assert {one: getattr(made, one) for one in OFF} == OFF, name
        assert (made.loss_weights.second, made.loss_weights.spectrum) == (0.0, 0.0)


def test_values_by_name(tmp_path: Path) -> None:
    before = settings(tmp_path)
    texts = ["critic_smooth=1.0", f"second={tmp_path / 'x.safetensors'}", "loss.second=0.2", "background=0.5"]
    made = with_values(before, [*texts, "critic_vector=true", "subpixel=true", "critic_side=96"])
    assert made.second == tmp_path / "x.safetensors"
    assert made.loss_weights == dataclasses.replace(before.loss_weights, second=0.2)
    assert (made.critic_smooth, made.background, made.critic_side) == (1.0, 0.5, 96)
    assert made.critic_vector
    assert made.subpixel
    assert made.to_json()["second"] == str(tmp_path / "x.safetensors")
    assert with_values(made, ["second=none", "loss.second=0"]).second is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"critic_smooth": 2.0}, "graph.*needs critic_smooth=0 and critic_side=112, found critic_smooth 2.0"),
        ({"critic_side": 80}, "graph.*needs critic_smooth=0 and critic_side=112, found .*critic_side 80"),
    ],
)
def test_a_graph_would_repeat_what_is_drawn(changes: dict[str, Any], message: str) -> None:
    graph = {"stepping": "graph", "shift": 0, "out": Path("unused")}
    GeneratorTraining(**graph)
    with pytest.raises(ConfigError, match=message):
        GeneratorTraining(**graph, **changes)


def test_a_second_recogniser_and_its_weight_belong_together() -> None:
    weighed = dataclasses.replace(ALL, second=0.2)
    with pytest.raises(ConfigError, match=r"loss\.second 0\.2 and second None\. Give both, or neither"):
        GeneratorTraining(Path("unused"), weights=weighed)
    with pytest.raises(ConfigError, match=r"loss\.second 0\.0 and second x\.pth\. Give both, or neither"):
        GeneratorTraining(Path("unused"), weights=ALL, second=Path("x.pth"))
    GeneratorTraining(Path("unused"), weights=weighed, second=Path("x.pth"))
    for name, value in (("background", 1.5), ("critic_smooth", -1.0), ("critic_side", 20)):
        with pytest.raises(ConfigError, match=name):
            GeneratorTraining(Path("unused"), **{name: value})


def test_a_training_begun_before_these_settings_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bytes of an undisturbed one; with one of them turned on it is refused, and that one is named."""
    whole = dataclasses.replace(settings(tmp_path / "whole", steps=4), checkpoint_every=2)
    train_generator(people(), small_recogniser(), whole, say=lambda line: None)
    broken, save = dataclasses.replace(whole, out=tmp_path / "broken"), Checkpoints.save

    def killed(self: Checkpoints, step: int, *more: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt
        save(self, step, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train_generator(people(), small_recogniser(), broken, say=lambda line: None)
    note = broken.out / "settings.json"
    noted = json.loads(note.read_text())
    for name in OFF:
        del noted[name]
    del noted["weights"]["second"]
    for name, value in (("background", 0.5), ("critic_side", 80), ("subpixel", True)):
        note.write_text(json.dumps(noted))
        with pytest.raises(OutputFolderError, match=f"other settings: {name} is .* there, {value} now"):
            train_generator(
                people(),
                small_recogniser(),
                dataclasses.replace(broken, **{name: value}),
                say=lambda line: None,
            )
    lines: list[str] = []
    train_generator(people(), small_recogniser(), broken, say=lines.append)
    assert lines[0] == "resumed at step 2"
    weights = [(run.out / "generator.safetensors").read_bytes() for run in (broken, whole)]
    assert weights[0] == weights[1]


def test_noise_is_the_steps_own() -> None:
    """Not that of how many steps came before: a resumed training draws what an undisturbed one does."""
    seen = []
    for numbers in ((0, 4), (4,)):
        with trainer_of(dataclasses.replace(ONLY_PIXELS, gan=1.0), critic_smooth=1.0) as trainer:
            terms = [trainer.step(number, 0.9)[0] for number in numbers]
            seen.append(float(terms[-1]["critic"].detach()))
    assert seen[0] == seen[1]


def test_any_seed_will_do() -> None:
    for smooth in (0.0, 1.0):
        with trainer_of(
            dataclasses.replace(ONLY_PIXELS, gan=1.0), critic_smooth=smooth, seed=2**62
        ) as trainer:
            terms, _ = trainer.step(0, 0.9)
            assert torch.isfinite(terms["critic"])


def test_the_command_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[GeneratorTraining] = []

    class Reached(Exception):
        pass

    def reached(data: Any, recogniser: Any, wanted: GeneratorTraining, *more: Any, **further: Any) -> None:
        asked.append(wanted)
        raise Reached

    everyone, encode = people(2, 2), Encoder(quality=90).encode
    assert everyone.features is not None
    write_training_lmdb(
        tmp_path / "rows.lmdb",
        zip(map(encode, everyone.images), everyone.features, (0, 0, 1, 1), strict=True),
        2,
    )
    monkeypatch.setattr("v2f_engine.train.generator.train_generator", reached)
    line = ["train", "generator", tmp_path / "rows.lmdb", "--preset", "sharp", "--out", tmp_path / "out"]
    line += ["--device", "cpu", "--steps", 1, "--batch", 2, "--set", "critic_smooth=1.0"]
    line += ["--set", f"second={tmp_path / 'second.safetensors'}", "--set", "loss.second=0.2"]
    with pytest.raises(Reached):
        v2f(*line)
    (found,) = asked
    assert (found.preset, found.critic_smooth, found.critic_side, found.background) == ("sharp", 1.0, 80, 0.2)
    assert found.second == tmp_path / "second.safetensors"
    assert found.loss_weights == dataclasses.replace(PRESETS["sharp"], second=0.2)
    with pytest.raises(ConfigError, match="Give both, or neither"):
        v2f(*line[:-2])

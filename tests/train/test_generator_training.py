"""A generator's training: it learns, its parts do not change it, its faults are named and its switches measured."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_harness import ALL, TINY, people, settings, small_recogniser

from v2f_engine.data.training.memory_set import MemorySet
from v2f_engine.data.writing.lock import exclusive
from v2f_engine.errors import ConfigError, DatasetError, NonFiniteLoss, OutputFolderError
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.models.weights import convert, load_discriminator, load_generator
from v2f_engine.train.checkpoint import Checkpoints
from v2f_engine.train.generator import AsPublished, GeneratorTrainer, GeneratorTraining, train_generator
from v2f_engine.train.generator_settings import RECIPES
from v2f_engine.train.loop import Budget, read_log
from v2f_engine.train.losses import PRESETS
from v2f_engine.train.optim import published_lr
from v2f_engine.train.watch import Watcher

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training with everything on."""
    out = tmp_path_factory.mktemp("trained")
    wanted = dataclasses.replace(
        settings(out, steps=12, batch=8), base_lr=0.05, log_every=2, picture_every=6, ema=0.5
    )
    train_generator(people(), small_recogniser(), wanted, people(3, 4), say=lambda line: None)
    return out


def test_it_learns_and_the_discriminator_rests_until_its_start(trained: Path) -> None:
    lines = read_log(trained / "log.jsonl")
    assert lines[-1]["pixel"] < 0.9 * lines[0]["pixel"]
    assert "critic" not in lines[0]
    assert "critic" in lines[-1]
    assert {"gradient", "gan", "token", "ssim", "perceptual", "identity"} <= set(lines[-1])


def test_it_is_watched(trained: Path) -> None:
    held_out = [json.loads(line) for line in (trained / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in held_out] == [6, 12]
    assert set(held_out[0]) == {"step", "psnr", "ssim", "identity_cosine", "eer", "genuine", "impostor"}
    for name in ("samples/step-000012.png", "curves.png"):
        assert (trained / name).read_bytes().startswith(b"\x89PNG"), name
    assert len(list((trained / "events").glob("events.out.tfevents.*"))) == 1


def test_a_kill_between_validation_and_checkpoint_leaves_none_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = dataclasses.replace(settings(tmp_path, steps=4), checkpoint_every=2, picture_every=2)
    save = Checkpoints.save

    def killed(self: Checkpoints, step: int, *more: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt
        save(self, step, *more)

    monkeypatch.setattr(Checkpoints, "save", killed)
    monkeypatch.setattr(Watcher, "measure", lambda self, model: {"psnr": 1.0})
    with pytest.raises(KeyboardInterrupt):
        train_generator(people(), small_recogniser(), wanted, people(3, 4), say=lambda line: None)
    monkeypatch.undo()
    monkeypatch.setattr(Watcher, "measure", lambda self, model: {"psnr": 1.0})
    lines: list[str] = []
    train_generator(people(), small_recogniser(), wanted, people(3, 4), say=lines.append)
    assert lines[0] == "resumed at step 2"
    assert [line["step"] for line in read_log(tmp_path / "validation.jsonl")] == [2, 4]
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [4]


def test_its_average_loads(trained: Path) -> None:
    loaded = load_generator(trained / "generator.safetensors")
    assert loaded.config == TINY
    assert loaded.head["training"] == {"steps": 12, "preset": "rendered"}


def test_a_checkpoint_converts_to_the_published_layout(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "checkpoints" / "00000012.safetensors"
    average = load_generator(trained / "generator.safetensors").model.state_dict()
    convert(checkpoint, tmp_path / "x.safetensors")
    for name, value in load_generator(tmp_path / "x.safetensors").model.state_dict().items():
        assert torch.equal(value, average[name]), name
    assert load_discriminator(checkpoint).to_logits[0].weight.shape[0] == 64
    convert(checkpoint, tmp_path / "x.pth")
    published = torch.load(tmp_path / "x.pth", weights_only=True)
    assert list(published) == ["model_vec2face"]
    assert {k: v.shape for k, v in published["model_vec2face"].items()} == {
        k: v.shape for k, v in average.items()
    }


def test_base_size_has_the_published_keys() -> None:
    with torch.device("meta"):
        keys = sorted(Vec2Face(Vec2FaceConfig.base()).state_dict())
    listed = [
        line.split()[0] for line in (GOLDEN / "checkpoint_keys_base.txt").read_text().splitlines() if line
    ]
    published = sorted(key for key in listed if not key.startswith("#"))
    assert len(keys) == 349
    assert keys == published


def test_parts_of_a_batch_give_the_gradients_of_the_whole() -> None:
    whole, parts = (
        GeneratorTrainer(
            people(), small_recogniser(), settings(Path("unused"), batch=4, accumulate=n, bf16=False)
        )
        for n in (1, 2)
    )
    found = []
    for trainer in (whole, parts):
        trainer.optimizer.step = trainer.critic_optimizer.step = lambda: None  # type: ignore[method-assign]
        terms, keys = trainer.step(3, 0.5)
        gradients = [
            p.grad for m in (trainer.model, trainer.critic) for p in m.parameters() if p.grad is not None
        ]
        found.append((terms, keys, gradients))
        trainer.batches.close()
    assert found[0][1] == found[1][1]
    for name, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], value, rtol=2e-5, atol=1e-6, msg=name)
    for one, other in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def _critic_gradients(switches: AsPublished) -> tuple[GeneratorTrainer, list[torch.Tensor]]:
    """Unclipped gradients of the discriminator after a step, in which no weight moves."""
    wanted = dataclasses.replace(
        settings(Path("unused"), batch=2, bf16=False), as_published=switches, clip=1e9
    )
    trainer = GeneratorTrainer(people(), small_recogniser(), wanted)
    trainer.optimizer.step = trainer.critic_optimizer.step = lambda: None  # type: ignore[method-assign]
    trainer.step(0, 0.5)
    trainer.batches.close()
    return trainer, [p.grad.clone() for p in trainer.critic.parameters() if p.grad is not None]


def test_the_published_leak_is_the_generators_own_gradient() -> None:
    """Published = corrected + weight x gradient of -mean(D(fake)): what a leak is, and nothing else."""
    _, corrected = _critic_gradients(AsPublished(linear_fooling=True))
    trainer, published = _critic_gradients(AsPublished(linear_fooling=True, critic_leak=True))
    (part,) = trainer.batches._read(0)
    with torch.no_grad():
        fake = trainer.model(part.features, part.noise, part.n_masked, part.n_dropped).images
    parameters = list(trainer.critic.parameters())
    leak = torch.autograd.grad(-ALL.gan * trainer.critic(fake).mean(), parameters)
    assert max(float(g.abs().max()) for g in leak) > 1e-3
    for with_leak, without, own in zip(published, corrected, leak, strict=True):
        torch.testing.assert_close(with_leak - without, own, rtol=1e-3, atol=2e-6)


def test_a_waiting_discriminator_only_decays() -> None:
    """Run with factor 0 before its start, as published, it moves by AdamW's decay alone; corrected, not at all."""
    moved = {}
    for always in (False, True):
        wanted = dataclasses.replace(
            settings(Path("unused"), batch=2), as_published=AsPublished(critic_always=always), critic_lr=0.01
        )
        trainer = GeneratorTrainer(people(), small_recogniser(), wanted)
        before = [p.detach().clone() for p in trainer.critic.parameters()]
        trainer.step(0, 0.1)
        trainer.batches.close()
        moved[always] = [(a, p.detach()) for a, p in zip(before, trainer.critic.parameters(), strict=True)]
    assert all(torch.equal(a, b) for a, b in moved[False])
    for a, b in moved[True]:
        torch.testing.assert_close(b, a * (1 - 0.01 * 0.01) if a.ndim > 1 else a, rtol=1e-6, atol=1e-8)


def test_one_ratio_for_a_batch_as_published() -> None:
    wanted = dataclasses.replace(settings(Path("unused"), batch=8), as_published=AsPublished(one_ratio=True))
    trainer = GeneratorTrainer(people(), small_recogniser(), wanted)
    assert len(trainer.batches._read(0)[0].n_masked.unique()) == 1
    trainer.batches.settings = dataclasses.replace(wanted, as_published=AsPublished())
    assert len(trainer.batches._read(0)[0].n_masked.unique()) > 1


def test_nothing_waits_and_nothing_is_drawn_from_global_state(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = GeneratorTrainer(people(), small_recogniser(), settings(Path("unused"), batch=2))
    for (
        optimizer
    ) in trainer.optimizers().values():  # on a CPU AdamW reads its step counter; on a GPU it is fused
        optimizer.step = lambda: None  # type: ignore[method-assign]
    state = torch.get_rng_state()

    def refuse(self: torch.Tensor) -> float:
        raise AssertionError("a step asked the device for a number")

    for name in ("item", "__float__", "__bool__", "tolist", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    trainer.step(0, 0.5)
    monkeypatch.undo()
    trainer.batches.close()
    assert torch.equal(state, torch.get_rng_state())


def test_nan_stops_with_the_terms_name(tmp_path: Path) -> None:
    good = people()
    assert good.features is not None
    poisoned = MemorySet(good.images, good.labels, np.full_like(good.features, np.nan))
    with pytest.raises(NonFiniteLoss, match=r"'pixel' is nan at step 1.*row \d"):
        train_generator(poisoned, small_recogniser(), settings(tmp_path, steps=1, batch=2), say=print)
    assert not (tmp_path / "generator.safetensors").exists()


def test_unfit_data_is_refused(tmp_path: Path) -> None:
    good = people()
    assert good.features is not None
    with pytest.raises(DatasetError, match="features"):
        train_generator(MemorySet(good.images, good.labels), small_recogniser(), settings(tmp_path))
    short = MemorySet(good.images, good.labels, good.features[:, :100])
    with pytest.raises(DatasetError, match="have 100 numbers, the generator expects 512"):
        train_generator(short, small_recogniser(), settings(tmp_path))
    with exclusive(tmp_path / ".lock", tmp_path), pytest.raises(OutputFolderError, match="being written by"):
        train_generator(good, small_recogniser(), settings(tmp_path))


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'rendered'"):
        GeneratorTraining(Path("x"), preset="rendred")
    with pytest.raises(ConfigError, match="mask schedule"):
        GeneratorTraining(Path("x"), masks=("sometimes",))
    with pytest.raises(ConfigError, match="either steps or minutes"):
        Budget()
    with pytest.raises(ConfigError, match="4 ranks x 3 parts"):
        GeneratorTraining(Path("x"), batch=16, accumulate=3).part(4)
    with pytest.raises(ConfigError, match="CUDA graph"):
        GeneratorTraining.named("published-2025", Path("x"), stepping="graph")
    with pytest.raises(ConfigError, match=r"fp16_amp .* no CUDA graph"):
        GeneratorTraining(
            Path("x"), Vec2FaceConfig.mini(), fp16_amp=True, bf16=False, shift=0, stepping="graph"
        )
    with pytest.raises(ConfigError, match="would not be read"):
        GeneratorTraining(Path("x"), perceptual="recogniser", vgg=Path("lpips"))
    json.dumps(GeneratorTraining(Path("x")).to_json())


def test_a_name_is_a_whole_recipe() -> None:
    wanted = GeneratorTraining.named("published-2025", Path("x"), batch=64)
    assert (wanted.model, wanted.batch, wanted.masks) == (Vec2FaceConfig.base(), 64, ("train",))
    assert wanted.loss_weights is PRESETS["published-2025"]
    # 4 GPUs x 32 at blr 4e-5 on 1,022,444 images: lr 4.57e-5, 100 epochs.
    full = GeneratorTraining.named("published-2025", Path("x")).on(4)
    assert published_lr(full.base_lr, full.batch) == pytest.approx(4.571e-5, rel=1e-3)
    assert full.ends(1_022_444).steps == 798_700  # a published epoch drops the last batch
    mended = GeneratorTraining.named("mended-2025", Path("x"))
    assert mended.on(4) == mended
    assert mended.ends(1_022_444).steps == 798_784
    assert GeneratorTraining.named("plus", Path("x")).clip == 1.0
    assert GeneratorTraining.named("published-2024", Path("x")).on(1).batch == 8
    assert GeneratorTraining.named("rendered", Path("x")) == GeneratorTraining(Path("x"))
    assert set(RECIPES) <= set(PRESETS)

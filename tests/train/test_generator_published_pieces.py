"""What the published recipes consist of, piece by piece: start, decay, rates, epochs, batch, LPIPS, precision."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from train_harness import TINY, people, settings, small_recogniser

from v2f_engine.errors import ConfigError, DatasetError, ModelNotFound, OutputFolderError
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig
from v2f_engine.train.checkpoint import restore, training_state
from v2f_engine.train.distributed import Ranks
from v2f_engine.train.generator import AsPublished, GeneratorTrainer, GeneratorTraining, train_generator
from v2f_engine.train.generator_recipes import RECIPES
from v2f_engine.train.generator_scaler import LossScaler
from v2f_engine.train.generator_start import xavier
from v2f_engine.train.generator_values import with_values
from v2f_engine.train.losses import PRESETS
from v2f_engine.train.order import rows_of_step

PUBLISHED = ("published-2024", "published-2025", "plus")


def test_the_published_start_by_its_distributions() -> None:
    """Uniform in the bound of fan in and out, biases 0, positions N(0, 0.02), the image decoder untouched."""
    torch.manual_seed(1)
    model = Vec2Face(dataclasses.replace(Vec2FaceConfig.mini(), width=96))
    untouched = {name: value.clone() for name, value in model.im_decoder.state_dict().items()}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.fill_(3.0)
    xavier(model, torch.Generator().manual_seed(0))
    seen = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            outputs, inputs = module.weight.shape
            bound = math.sqrt(6 / (inputs + outputs))
            seen += 1
            assert float(module.weight.detach().abs().max()) <= bound, name
            spread = 0.4 if module.weight.numel() < 100 else 0.05
            assert float(module.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=spread), (
                name
            )
            assert not module.bias.any(), name
        elif isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
    assert seen == 5 + 8 * 4  # five maps, and qkv, proj, fc1, fc2 of eight blocks
    assert float(model.feature_token.weight.abs().max()) > 0.25  # sqrt(6 / 50) = 0.35
    patch = model.patch_embed.proj.weight
    assert float(patch.std()) == pytest.approx(math.sqrt(2 / (96 + 3 * 256)), rel=0.05)
    for table in (model.token_emb.position_embeddings.weight, model.decoder_pos_embed_learned):
        assert float(table.std()) == pytest.approx(0.02, rel=0.05)
    for name, value in model.im_decoder.state_dict().items():
        assert torch.equal(value, untouched[name]), name


def trainer_of(**changes: Any) -> GeneratorTrainer:
    base = {"shift": 0, "critic_lr": None, "as_published": AsPublished.all(), "bf16": False}
    trainer = GeneratorTrainer(
        people(), small_recogniser(), dataclasses.replace(settings(Path("unused")), **{**base, **changes})
    )
    trainer.batches.close()
    return trainer


def decaying(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(g["params"]) for g in optimizer.param_groups if g["weight_decay"] == 0.01)


def test_every_parameter_decays_as_published() -> None:
    ours = trainer_of(as_published=AsPublished())
    published = trainer_of(as_published=AsPublished(decay_all=True))
    for kind, module in (("optimizer", "model"), ("critic_optimizer", "critic")):
        read = [p for p in getattr(published, module).parameters() if p.requires_grad]
        assert decaying(getattr(published, kind)) == len(read)
        assert decaying(getattr(ours, kind)) == sum(p.ndim > 1 for p in read) < len(read)


def test_of_the_base_size_226_vectors_do_not_decay_in_ours() -> None:
    with torch.device("meta"):
        model = Vec2Face(Vec2FaceConfig.base())
    dead = ("center_token.", "patch_embed.")
    vectors = [p for name, p in model.named_parameters() if p.ndim < 2 and not name.startswith(dead)]
    assert len(vectors) == 226
    assert sum(p.numel() for p in model.parameters()) == 174_126_998


def test_the_published_critic_keeps_its_rate() -> None:
    constant, following = (
        trainer_of(as_published=AsPublished(critic_constant=on), warm_up=0.25, lr_floor=0.0)
        for on in (True, False)
    )
    for progress, share in ((0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.625, 0.5), (1.0, 0.0)):
        for trainer, of_critic in ((constant, 1.0), (following, share)):
            trainer.set_rates(progress)
            assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(trainer.lr * share, abs=1e-12)
            assert trainer.critic_optimizer.param_groups[0]["lr"] == pytest.approx(
                trainer.lr * of_critic, abs=1e-12
            )


def test_published_epochs_have_whole_batches() -> None:
    """Every epoch another order, no row twice in it, the remainder left out."""
    epochs = [
        np.concatenate([rows_of_step(5, 3 * epoch + i, 4, 14, whole_batches=True) for i in range(3)])
        for epoch in (0, 1)
    ]
    for rows in epochs:
        assert len(set(rows.tolist())) == 12
    assert epochs[0].tolist() != epochs[1].tolist()
    wanted = GeneratorTraining.named("published-2024", Path("x"), vgg=Path("v"))
    assert wanted.on(1).ends(21).steps == 2000 * 2
    with pytest.raises(DatasetError, match="7 rows for a batch of 8.*whole_epochs=false"):
        wanted.on(1).ends(7)
    assert with_values(wanted, ["as_published.whole_epochs=false"]).on(1).ends(7).steps == 1750


def test_the_batch_of_a_gpu_makes_batch_and_rate() -> None:
    """lr = blr x images of all GPUs and parts / 112; --batch counts all images instead."""
    for preset, each in (("published-2024", 8), ("published-2025", 32), ("plus", 32)):
        for world, accumulate in ((1, 1), (4, 1), (2, 3)):
            wanted = GeneratorTraining.named(preset, Path("x"), accumulate=accumulate).on(world)
            assert wanted.batch == each * world * accumulate
            assert wanted.part(world) == each
    assert GeneratorTraining.named("plus", Path("x"), batch=60).on(4).batch == 60
    assert with_values(GeneratorTraining.named("plus", Path("x")), ["batch=60"]).on(4).batch == 60
    alone = trainer_of(batch_per_gpu=6, base_lr=0.7)
    assert alone.lr == pytest.approx(0.7 * 6 / 112)
    assert alone.batches.size == 6


def test_each_rank_and_part_has_a_ratio_of_its_own() -> None:
    """The published code draws one a forward pass, each process from a seed of its own."""
    wanted = dataclasses.replace(
        settings(Path("unused"), batch=24),
        masks=("train",),
        accumulate=3,
        as_published=AsPublished(one_ratio=True),
    )
    for rank in (0, 1):
        trainer = GeneratorTrainer(people(), small_recogniser(), wanted)
        trainer.batches.close()
        trainer.batches.group = Ranks(rank, 2)
        trainer.batches.size = 4
        counts = [int(part.n_masked.unique()) for part in trainer.batches._read(1)]
        assert len(set(counts)) > 1, counts


@pytest.mark.parametrize("preset", sorted(set(RECIPES) - {"rendered", "sharp"}))
def test_lpips_is_required_by_name(preset: str, tmp_path: Path) -> None:
    wanted = GeneratorTraining.named(preset, tmp_path / "out", model=TINY, critic_width=8)
    with pytest.raises(
        ModelNotFound, match=r"LPIPS.*--vgg.*torchvision.*vgg16-397923af.*perceptual=recogniser"
    ):
        train_generator(people(), small_recogniser(), wanted)
    assert not (tmp_path / "out").exists()
    other = with_values(wanted, ["perceptual=recogniser"])
    other.require_vgg()
    assert other.to_json()["perceptual"] == "recogniser"
    with_values(wanted, ["loss.perceptual=0"]).require_vgg()


def test_every_value_of_a_recipe_is_settable_by_name() -> None:
    """Each field of the settings, the losses, the switches and the network; what a word means is its type's."""
    wanted = GeneratorTraining.named("published-2025", Path("x"))
    changed = {
        "clip": 0.5, "ema": 0.5, "lr_floor": 0.5, "warm_up": 0.25, "weight_decay": 0.3, "base_lr": 1e-3, "shift": 2,
        "critic_lr": 1e-5, "critic_width": 32, "perceptual": "recogniser", "batch_per_gpu": 3, "accumulate": 2,
        "stepping": "compiled", "checkpoint_every": 7, "picture_every": 8, "log_every": 9, "seed": 3, "batch": 12,
        "critic_side": 64, "critic_smooth": 0.5, "background": 0.5,
    }  # fmt: skip
    for name, value in changed.items():
        assert getattr(with_values(wanted, [f"{name}={value}"]), name) == value
    assert with_values(wanted, ["critic_lr=none"]).critic_lr is None
    assert with_values(wanted, ["masks=train,generate"]).masks == ("train", "generate")
    amp = with_values(wanted, ["fp16_amp=false", "bf16=true"])
    assert (amp.fp16_amp, amp.bf16) == (False, True)
    on = with_values(wanted, ["critic_vector=true", "subpixel=true"])
    assert (on.critic_vector, on.subpixel) == (True, True)
    told = {
        *changed,
        "masks",
        "fp16_amp",
        "bf16",
        "critic_vector",
        "subpixel",
        "second",
        "out",
        "preset",
        "budget",
        "vgg",
        "device",
        "start_from",
    }
    assert told | {"weights", "as_published", "model"} == {f.name for f in dataclasses.fields(wanted)}
    for name, value in vars(PRESETS["published-2025"]).items():
        other = 4 if name == "vgg_layers" else value / 2 + 0.25
        beside = ["second=x.safetensors"] if name == "second" else []  # one without the other is refused
        found = with_values(wanted, [f"loss.{name}={other}", *beside]).loss_weights
        assert found == dataclasses.replace(PRESETS["published-2025"], **{name: other})
    for name in vars(AsPublished()):
        found = with_values(wanted, [f"as_published.{name}=false"]).as_published
        assert found == dataclasses.replace(AsPublished.all(), **{name: False})
    assert with_values(
        wanted, ["model.dropout=0", "model.multipliers=1,1,1,2,2"]
    ).model == dataclasses.replace(wanted.model, dropout=0.0, multipliers=(1, 1, 1, 2, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip", "NAME=VALUE"), ("clip=", "NAME=VALUE"), ("clips=1", "did you mean 'clip'"),
        ("loss.sim=1", "did you mean 'ssim'"), ("losses.ssim=1", "did you mean 'loss'"),
        ("clip=much", "expected float"),
        ("shift=1.5", "expected int"), ("fp16_amp=1", "expected bool"), ("clip=true", "expected float"),
        ("out=elsewhere", "'out' is not known"), ("loss.ssim=-1", "ssim"), ("critic_lr=off", "float or none"),
        ("as_published.xavier=yes", "expected bool"), ("perceptual=vgg", "perceptual"),
    ],
)  # fmt: skip
def test_values_nobody_can_mean_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_values(GeneratorTraining.named("plus", Path("x")), [text])


def test_settings_are_recorded_and_a_training_goes_on_with_them_only(tmp_path: Path) -> None:
    """The default recipe's record is as it was, so that begun trainings go on; a switch more is another training."""
    wanted = dataclasses.replace(settings(tmp_path, steps=2), as_published=AsPublished(decay_all=True))
    train_generator(people(), small_recogniser(), wanted, say=lambda line: None)
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert kept["as_published"]["decay_all"] is True
    assert (kept["perceptual"], kept["fp16_amp"], kept["batch_per_gpu"]) == ("auto", False, None)
    with pytest.raises(OutputFolderError, match="as_published.decay_all is True there, None now"):
        train_generator(people(), small_recogniser(), dataclasses.replace(wanted, as_published=AsPublished()))
    record = GeneratorTraining(Path("x")).to_json()
    assert set(record["as_published"]) == {
        "critic_leak", "critic_always", "linear_fooling", "one_ratio", "no_average"
    }  # fmt: skip


def test_published_presets_are_the_letter() -> None:
    for name in PUBLISHED:
        wanted = GeneratorTraining.named(name, Path("x"))
        assert wanted.as_published == AsPublished.all()
        assert (wanted.base_lr, wanted.weight_decay, wanted.lr_floor, wanted.shift) == (4e-5, 0.01, 0.0, 0)
        assert (wanted.model, wanted.masks, wanted.bf16) == (Vec2FaceConfig.base(), ("train",), False)
    precise = {
        name: (
            w.clip,
            w.fp16_amp,
            w.budget.epochs,
            w.warm_up * (w.budget.epochs or 0),
            w.loss_weights.gan_from,
        )
        for name in PUBLISHED
        for w in [GeneratorTraining.named(name, Path("x"))]
    }
    assert precise == {
        "published-2024": (0.0, False, 2000, 5.0, 0.5),
        "published-2025": (2.0, True, 100, 5.0, 0.8),
        "plus": (1.0, True, 100, 5.0, 1.0),
    }


def amp_trainer() -> GeneratorTrainer:
    return trainer_of(fp16_amp=True, model=dataclasses.replace(TINY, dropout=0.1), batch=2)


def test_what_the_published_amp_computes_in_which_precision() -> None:
    """Blocks, norms and losses fp32, other maps and convolutions fp16, as autocast off inside the blocks makes them."""
    trainer = amp_trainer()
    seen: dict[str, set[torch.dtype]] = {}

    def note(name: str) -> Any:
        def hear(module: nn.Module, inputs: Any, output: Any) -> None:
            seen.setdefault(name, set()).add(output.dtype)

        return hear

    blocks = ("blocks.", "decoder_blocks.")
    for name, module in trainer.model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            where = "block" if name.startswith(blocks) else name.split(".")[0]
            module.register_forward_hook(note(where))
    for module in (*trainer.critic.modules(), *trainer.view.recogniser.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(note("others"))
    attended: set[torch.dtype] = set()
    for module in trainer.model.modules():
        if type(module).__name__ == "Attention":
            (op,) = module.ops
            module.ops = (lambda qkv, _op=op, **k: (attended.add(qkv.dtype), _op(qkv, **k))[1],)
    outputs = []
    trainer.model.register_forward_hook(lambda m, i, o: outputs.append(o))
    (part,) = trainer.batches._read(0)
    terms = trainer.update([part], True, 1.0)
    half, full = {torch.float16}, {torch.float32}
    assert seen.pop("block") == attended == full
    assert {name: kinds for name, kinds in seen.items() if kinds != half} == {}
    assert {"latent_prior_proj_f", "decoder_embed", "im_decoder_proj", "im_decoder", "others"} <= set(seen)
    assert (outputs[0].images.dtype, outputs[0].tokens.dtype) == (torch.float16, torch.float32)
    assert {value.dtype for value in terms.values()} == full
    assert all(torch.isfinite(value) for value in terms.values())
    assert next(trainer.view.recogniser.parameters()).dtype == torch.float16
    assert next(trainer.judge.parameters()).dtype == torch.float32  # who measures the held-out people
    assert {p.dtype for p in trainer.model.parameters()} == full


def test_amp_gives_the_losses_of_fp32_within_fp16() -> None:
    """Twice the distance of bf16's mantissa would be 1e-2."""
    found = []
    for on in (True, False):
        trainer = trainer_of(fp16_amp=on, batch=2)
        if trainer.scaler is not None:
            trainer.scaler.scale.fill_(256.0)  # at 65536 this network's first gradients leave fp16
        (part,) = trainer.batches._read(0)
        found.append(trainer.update([part], True, 1.0))
    for name in set(found[1]) - {"gradient"}:
        assert float(found[0][name]) == pytest.approx(float(found[1][name]), rel=5e-3, abs=1e-3), name
    assert float(found[0]["gradient"]) == pytest.approx(float(found[1]["gradient"]), rel=0.05)


def test_the_scale_moves_as_torchs_own() -> None:
    """Over 40 steps with overflows in between, and growth after three good ones."""
    ours, theirs = LossScaler(torch.device("cpu"), interval=3), torch.amp.GradScaler("cpu", growth_interval=3)
    parameter = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        bad = rng.random() < 0.2
        gradient = torch.full((4,), math.inf if bad else 2.0)
        parameter.grad = gradient * float(ours.scale)
        overflow = ours.unscale([parameter])
        assert bool(overflow) == bad
        if not bad:
            torch.testing.assert_close(parameter.grad, gradient)
        ours.update(overflow)
        parameter.grad = gradient * theirs.scale(torch.ones(()))
        theirs.step(optimizer)
        theirs.update()
        assert float(ours.scale) == theirs.get_scale()


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    trainer = amp_trainer()
    assert trainer.scaler is not None
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.scaler.scale.fill_(2.0**40)
    trainer.set_rates(0.5)
    (part,) = trainer.batches._read(0)
    terms = trainer.update([part], True, 1.0)
    assert float(terms["skipped"]) == 1
    assert float(terms["gradient"]) == 0
    assert float(trainer.scaler.scale) == 2.0**39
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    state = training_state(trainer.modules(), trainer.optimizers())
    other = amp_trainer()
    restore(state, other.modules(), other.optimizers())
    assert other.scaler is not None
    assert float(other.scaler.scale) == 2.0**39


def test_without_a_clip_gradients_stay_as_long_as_they_are() -> None:
    trainer = trainer_of(clip=0.0, batch=2)
    (part,) = trainer.batches._read(0)
    trainer.optimizer.step = trainer.critic_optimizer.step = lambda: None  # type: ignore[method-assign]
    for parameter in trainer.critic.to_logits.parameters():
        parameter.data.mul_(100)
    trainer.update([part], True, 1.0)
    for module in (trainer.critic, trainer.model):
        length = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm()
        assert float(length) > 2

"""Which network a state dict belongs to, and the strict fit of the one to the other.

Sizes are read from shapes. What shapes do not say (heads, groups, LoRA's alpha, strides) comes from the JSON
head of our own files, or from the table of published sizes.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import nn

from v2f_engine.errors import CheckpointError, ConfigError
from v2f_engine.models.checkpoint_file import CheckpointFile
from v2f_engine.models.dialects import SIGNATURES
from v2f_engine.models.discriminator import PatchDiscriminator
from v2f_engine.models.foreign import SUPPORTED, foreign_name
from v2f_engine.models.ir_layout import from_ir, is_adaface, is_ir
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.pth import Tensors
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config", Vec2FaceConfig, IResNetConfig)

PUBLISHED_SIZES = {
    (768, 12, 8): Vec2FaceConfig.base(),
    (1024, 24, 8): Vec2FaceConfig.large(),
    (1280, 32, 8): Vec2FaceConfig.huge(),
}
"""(width, encoder blocks, decoder blocks) -> configuration, heads included."""
SHOWN = 6


def kind_of(file: CheckpointFile) -> str:
    """`generator`, `recogniser` or `discriminator`.

    Raises:
        CheckpointError: none of them; the message names keys that were found.
    """
    tensors = file.parts["model"]
    looks = foreign_name(tensors)
    for kind, keys in SIGNATURES.items():
        if any(key in tensors for key in keys) and not (looks and kind == "recogniser"):
            return kind
    if looks:
        raise CheckpointError(
            f"{file.path}: is no network of this engine: its {len(tensors)} keys look like {looks}; found "
            f"{_listed(tensors)}. Expected a generator of Vec2Face, or a recogniser: {SUPPORTED}."
        )
    expected = ", ".join(key for keys in SIGNATURES.values() for key in keys)
    raise CheckpointError(
        f"{file.path}: is no network of this engine: expected one of {expected};"
        f" found {len(tensors)} keys, among them {_listed(tensors)}. Known recognisers: {SUPPORTED}."
    )


def build_generator(file: CheckpointFile) -> Vec2Face:
    """The generator that `file` holds, fp32.

    Raises:
        CheckpointError: another kind of network, an unknown size, or keys and shapes that do not fit.
    """
    _expect(file, "generator")
    config = _configured(file, Vec2FaceConfig, _generator_shape(file), _published_generator)
    return fit(lambda: Vec2Face(config), file, "model")


def build_recogniser(file: CheckpointFile) -> IResNet:
    """The recogniser that `file` holds, fp32. Raises CheckpointError as `build_generator`."""
    _expect(file, "recogniser")
    shape: dict[str, Any] = {}
    if is_ir(file.parts["model"]):
        tensors, shape = from_ir(file)
        file = replace(file, parts={**file.parts, "model": tensors})
    shape = {**_recogniser_shape(file), **shape}
    config = _configured(file, IResNetConfig, shape, _published_recogniser)
    return fit(lambda: IResNet(config), file, "model", optional=r".*\.num_batches_tracked")


def pixel_notes(file: CheckpointFile) -> tuple[str, ...]:
    """What is known of the pixels that a recogniser's trainer gave it, where they are not the rule's and not stated."""
    last = tuple(file.place.split(".")[-2:])
    if last in (("features", "module"), ("module", "features")):
        return (
            "MagFace's own weights want --channels bgr --mean 0 --std 255; taken are RGB and 127.5 unless stated",
        )
    if is_ir(file.parts["model"]) and is_adaface(file):
        return ("written by AdaFace's trainer: it gets BGR unless told otherwise",)
    if is_ir(file.parts["model"]):
        return (
            "an IR network does not say its channels: AdaFace's trainer used BGR, CVLface's and face.evoLVe's RGB",
        )
    return ()


def build_discriminator(file: CheckpointFile) -> PatchDiscriminator:
    """The discriminator of a training checkpoint, or of a file of its own. Raises CheckpointError."""
    part = "discriminator" if "discriminator" in file.parts else "model"
    weight = file.parts[part].get("to_logits.0.weight")
    if weight is None or weight.ndim != 4:
        raise CheckpointError(f"{file.path}: holds no discriminator (no to_logits.0.weight in {part}).")
    vector_dim = (
        _dimension(file, "of_vector.weight", 1, part=part) if "of_vector.weight" in file.parts[part] else None
    )
    return fit(lambda: PatchDiscriminator(len(weight) // 8, vector_dim), file, part)


def build_pose(file: CheckpointFile) -> PoseModel:
    """The pose model beside a Vec2Face+ generator. Raises CheckpointError."""
    width = _dimension(file, "linear.weight", 0, part="pose")
    return fit(lambda: PoseModel(width), file, "pose")


def fit(make: Callable[[], Model], file: CheckpointFile, part: str, *, optional: str = "") -> Model:
    """A network made without memory, then given the file's tensors as its own, in fp32.

    Args:
        make: builds it; called on the meta device.
        part: of `file.parts`.
        optional: pattern of buffers a file may lack; they start at zero.

    Raises:
        CheckpointError: with the missing, unexpected and misshapen keys.
    """
    with torch.device("meta"):
        model = make()
    expected = model.state_dict()
    found = file.parts[part]
    missing = [key for key in expected if key not in found and not re.fullmatch(optional or "$^", key)]
    unexpected = [key for key in found if key not in expected]
    wrong = [
        f"{key} {list(found[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    if missing or unexpected or wrong:
        raise CheckpointError(_misfit(file, part, missing, unexpected, wrong, expected))
    own: Tensors = {}
    for key, value in expected.items():
        source = found.get(key, torch.zeros(value.shape, dtype=value.dtype, device="cpu"))
        own[key] = source.to(value.dtype, copy=True, memory_format=torch.contiguous_format)
    model.load_state_dict(own, assign=True)
    return model.eval()


def _misfit(
    file: CheckpointFile,
    part: str,
    missing: list[str],
    unexpected: list[str],
    wrong: list[str],
    expected: Iterable[str],
) -> str:
    lines = [f"{file.path}: its {part} does not fit."]
    if missing:
        lines.append(f"{len(missing)} keys are missing: {_listed(missing)}.")
    if unexpected:
        near = [
            f"{key} (nearest: {match[0]})" if match else key
            for key in unexpected[:SHOWN]
            for match in [difflib.get_close_matches(key, missing or list(expected), 1)]
        ]
        lines.append(f"{len(unexpected)} keys are unexpected: {_listed(near, len(unexpected))}.")
    if wrong:
        lines.append(f"{len(wrong)} keys have another shape: {_listed(wrong)}.")
    return " ".join(lines)


def _listed(names: Iterable[str], total: int | None = None) -> str:
    names = list(names)
    count = len(names) if total is None else total
    return ", ".join(names[:SHOWN]) + (f" and {count - SHOWN} more" if count > SHOWN else "")


def _expect(file: CheckpointFile, wanted: str) -> None:
    found = kind_of(file)
    if found != wanted:
        raise CheckpointError(f"{file.path}: holds a {found}; a {wanted} was asked for.")


def _dimension(file: CheckpointFile, key: str, axis: int, *, part: str = "model") -> int:
    tensor = file.parts.get(part, {}).get(key)
    if tensor is None or tensor.ndim <= axis:
        raise CheckpointError(f"{file.path}: its {part} lacks {key}, which says its size.")
    return tensor.shape[axis]


def _count(file: CheckpointFile, pattern: str) -> int:
    """How many numbers n = 0, 1, ... without a gap occur in keys that match."""
    found = {int(match[1]) for key in file.parts["model"] if (match := re.match(pattern, key))}
    return next(n for n in range(len(found) + 1) if n not in found)


def _generator_shape(file: CheckpointFile) -> dict[str, Any]:
    lora = file.parts["model"].get("blocks.0.attn.qkv.A")
    channels = [_dimension(file, f"im_decoder.up.{level}.block.0.norm2.weight", 0) for level in range(5)]
    shape: dict[str, Any] = {
        "width": _dimension(file, "latent_prior_proj_f.weight", 0),
        "vector_dim": _dimension(file, "latent_prior_proj_f.weight", 1),
        "encoder_blocks": _count(file, r"blocks\.(\d+)\."),
        "decoder_blocks": _count(file, r"decoder_blocks\.(\d+)\."),
        "z_channels": _dimension(file, "im_decoder_proj.weight", 0),
        "residual_blocks": _count(file, r"im_decoder\.up\.0\.block\.(\d+)\."),
        "lora_rank": 0 if lora is None else len(lora),
    }
    base = channels[0]
    if base and all(c % base == 0 for c in channels):
        shape |= {"base_channels": base, "multipliers": tuple(c // base for c in channels)}
    return shape


def _recogniser_shape(file: CheckpointFile) -> dict[str, Any]:
    stages = range(1, 5)
    return {
        "layers": tuple(_count(file, rf"layer{stage}\.(\d+)\.") for stage in stages),
        "widths": tuple(_dimension(file, f"layer{stage}.0.conv1.weight", 0) for stage in stages),
        "feature_dim": _dimension(file, "fc.weight", 0),
        "se": any(".attn." in key for key in file.parts["model"]),
    }


def _published_generator(file: CheckpointFile, shape: Mapping[str, Any]) -> Vec2FaceConfig:
    key = (shape["width"], shape["encoder_blocks"], shape["decoder_blocks"])
    if key not in PUBLISHED_SIZES:
        raise CheckpointError(
            f"{file.path}: width {key[0]} with {key[1]} + {key[2]} blocks is no published size, and the"
            " number of heads cannot be read from shapes. Load a file that carries its configuration."
        )
    return replace(PUBLISHED_SIZES[key], **shape)


def _published_recogniser(file: CheckpointFile, shape: Mapping[str, Any]) -> IResNetConfig:
    config = IResNetConfig(**shape)
    grid = math.isqrt(_dimension(file, "fc.weight", 1) // max(1, config.widths[3]))
    if grid == 2 * config.grid:
        size = 2 * config.input_size
        raise CheckpointError(
            f"{file.path}: is a recogniser of pictures of {size}x{size} (its fc reads {grid}x{grid} places); expected "
            f"{config.input_size}x{config.input_size}."
        )
    return config


def _configured(
    file: CheckpointFile,
    kind: type[Config],
    shape: Mapping[str, Any],
    published: Callable[[CheckpointFile, Mapping[str, Any]], Config],
) -> Config:
    """The configuration in the file's head, which must agree with its shapes; else the published one."""
    found = file.head.get("config")
    try:
        if found is None:
            return published(file, shape)
        known = {field.name for field in fields(kind)}
        if not isinstance(found, Mapping) or not known >= set(found):
            raise CheckpointError(f"{file.path}: its configuration has unknown entries: {found!r:.200}.")
        config = kind(**found)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{file.path}: its configuration cannot be used: {error}") from error
    differing = {
        name: f"{getattr(config, name)} in its head, {value} in its shapes"
        for name, value in shape.items()
        if getattr(config, name) != value and not _same_channels(config, shape, name)
    }
    if differing:
        raise CheckpointError(f"{file.path}: its configuration contradicts its tensors: {differing}.")
    return config


def _same_channels(config: Vec2FaceConfig | IResNetConfig, shape: Mapping[str, Any], name: str) -> bool:
    """Base 16 times (2, 4) and base 32 times (1, 2) are one network."""
    if name not in ("base_channels", "multipliers") or not isinstance(config, Vec2FaceConfig):
        return False
    widths = [config.base_channels * m for m in config.multipliers]
    return widths == [shape["base_channels"] * m for m in shape["multipliers"]]

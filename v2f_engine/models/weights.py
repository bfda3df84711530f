"""Loading and saving of networks: by name or path, strictly, safely, with what a manifest needs to say."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from v2f_engine.atomic import replacing, write_atomically
from v2f_engine.config import one_of
from v2f_engine.errors import CheckpointError
from v2f_engine.models import layouts
from v2f_engine.models.checkpoint_file import CheckpointFile, file_sha256, read_checkpoint
from v2f_engine.models.discriminator import PatchDiscriminator
from v2f_engine.models.iresnet import IResNet, IResNetConfig
from v2f_engine.models.landmarks import HEIGHTS
from v2f_engine.models.pose import PoseModel
from v2f_engine.models.registry import Located, locate
from v2f_engine.models.vec2face import Vec2Face, Vec2FaceConfig

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class LoadedModel:
    """A generator, ready to be frozen or trained.

    Args:
        model: fp32, on the CPU, in eval mode.
        config: its shape.
        name: as asked for, or the file's stem.
        path, sha256: of the file it came from.
        licence: as its source states it; `unknown` for a path.
        statistics: where identity vectors for it come from: a statistics file, or `gaussian`.
        pose: the landmark condition of Vec2Face+, or None.
        head: what the file says about itself (training, source).
        max_cosine: similarity at which two identity vectors are one person to its extractor.
    """

    model: Vec2Face
    config: Vec2FaceConfig
    name: str
    path: Path
    sha256: str
    licence: str
    statistics: Path | str
    pose: PoseModel | None
    head: Mapping[str, Any]
    max_cosine: float

    @property
    def landmark_heights(self) -> str:
        """A name in `landmarks.HEIGHTS`: of the pictures that the pose network was trained on, as its file says. A file
        of `v2f train pose` that says nothing is of before they were recorded and drew the mean head; any other file of
        the published width is the published network's.

        Raises:
            CheckpointError: heights that this version does not know.
        """
        ours = "training" in self.head or self.config.width != Vec2FaceConfig.base().width
        stated = self.head.get("landmarks", "rendered" if ours else "published")
        if stated not in HEIGHTS:
            raise CheckpointError(
                f"{self.path}: landmarks at heights {stated!r}; this version knows {', '.join(HEIGHTS)}."
            )
        return str(stated)


@dataclass(frozen=True)
class LoadedRecogniser:
    """A recogniser; fields as in `LoadedModel`, and what is to be said about where the weights stood in the file."""

    model: IResNet
    config: IResNetConfig
    name: str
    path: Path
    sha256: str
    licence: str
    head: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def load_generator(model: str | Path = "mini", *, fetch: bool = False) -> LoadedModel:
    """A Vec2Face by name (`mini`, `mini-pose`, `vec2face`, `vec2face-plus`, `vec2face-plus-pose`) or path.

    Args:
        model: name, or path of a `.safetensors` or `.pth`.
        fetch: allow huggingface_hub to download published weights that are not here.

    Raises:
        ModelNotFound, MissingDependency: see `registry.locate`.
        CheckpointError: a file that is broken, unsafe, foreign or does not fit.
    """
    place = locate(model, "generator", fetch=fetch)
    file = _read(place, "generator")
    network = layouts.build_generator(file)
    pose = layouts.build_pose(file) if "pose" in file.parts else None
    if pose is not None and pose.linear.out_features != network.config.width:
        raise CheckpointError(
            f"{file.path}: its pose model is {pose.linear.out_features} wide, its generator"
            f" {network.config.width}."
        )
    return LoadedModel(
        network,
        network.config,
        place.name,
        file.path,
        file.sha256,
        place.licence,
        place.statistics,
        pose,
        file.head,
        place.max_cosine,
    )


def load_recogniser(model: str | Path = "mini", *, fetch: bool = False) -> LoadedRecogniser:
    """An IResNet by name (`mini`, `arcface-r100-glint360k`, `magface-r100-glint360k`) or path.

    Raises as `load_generator`, and CheckpointError for an ONNX graph: `embedder.open_reader` takes one.
    """
    place = locate(model, "recogniser", fetch=fetch)
    if place.path.suffix == ".onnx":
        raise CheckpointError(
            f"{place.path}: this goes through the recogniser backwards, and an ONNX graph has no gradients: give its "
            "weights (.safetensors, .pth)."
        )
    file = _read(place, "recogniser")
    network = layouts.build_recogniser(file)
    notes = (*file.notes, *layouts.pixel_notes(file))
    return LoadedRecogniser(
        network, network.config, place.name, file.path, file.sha256, place.licence, file.head, notes
    )


def load_discriminator(path: str | Path) -> PatchDiscriminator:
    """The discriminator of a training checkpoint or of a file of its own. Raises as `load_generator`."""
    return layouts.build_discriminator(read_checkpoint(path, kind="discriminator"))


def save_weights(
    path: str | Path, models: Mapping[str, nn.Module], head: Mapping[str, Any], *, precision: str = "fp32"
) -> str:
    """Writes one safetensors file atomically: temporary name, fsync, rename, fsync of the folder.

    Args:
        path: final name.
        models: `model`, and optionally `pose`.
        head: JSON values that describe the file; `config` is what loading needs.
        precision: of floating-point tensors: `fp32`, `fp16` or `bf16`.

    Returns:
        the file's sha256.

    Raises:
        CheckpointError: a value that is not finite, or that overflows in `precision`.
        DiskFull, OutputFolderError: a file of that name that was there before is untouched.
    """
    path = Path(path)
    dtype = DTYPES[one_of("precision", precision, DTYPES)]
    prefixes = {"model": "", "pose": "pose_model."}
    tensors = {
        prefixes[part] + key: _stored(path, key, value, dtype)
        for part, module in models.items()
        for key, value in module.state_dict().items()
    }
    content = save(tensors, {"head": json.dumps(dict(head), sort_keys=True)})
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def convert(source: str | Path, target: str | Path, *, precision: str = "fp32") -> str:
    """Turns weights into one safetensors file that carries configuration and origin, or into a published `.pth`.

    Args:
        source: any file that `load_generator` or `load_recogniser` reads, or a checkpoint of a training, whose
            averaged weights are taken.
        target: a `.safetensors` name, or `.pth` for the layout that the published code loads
            (`{"model_vec2face": ...}`; a recogniser's is its bare state dict).
        precision: as in `save_weights`.

    Returns:
        the new file's sha256.

    Raises:
        CheckpointError: a source that cannot be read, or a discriminator.
    """
    file = read_checkpoint(source)
    kind = layouts.kind_of(file)
    if kind == "discriminator":
        raise CheckpointError(f"{file.path}: holds a discriminator; only generators and recognisers convert.")
    origin = {"source": file.path.name, "source_sha256": file.sha256}
    if file.place not in (".", "model_vec2face"):
        origin["source_place"] = file.place
    kept = {key: value for key, value in file.head.items() if key not in ("loop", "world")}
    if kind == "recogniser":
        recogniser = layouts.build_recogniser(file)
        if Path(target).suffix == ".pth":
            if set(recogniser.config.to_json()) & {"shortcut", "inner_norm", "gate", "channels"}:
                raise CheckpointError(
                    f"{file.path}: has the layout of AdaFace's networks, which a .pth in insightface's names cannot "
                    "state; convert it to .safetensors."
                )
            if recogniser.config.blur:
                raise CheckpointError(
                    f"{file.path}: blurs before its strides, which a .pth cannot state: its reader would compute other "
                    "features. Convert it to .safetensors."
                )
            return _write_pth(
                Path(target), recogniser.state_dict(), DTYPES[one_of("precision", precision, DTYPES)]
            )
        head = {**kept, **origin, "kind": "iresnet", "config": recogniser.config.to_json()}
        return save_weights(target, {"model": recogniser}, head, precision=precision)
    generator = layouts.build_generator(file)
    head = {**kept, **origin, "kind": "vec2face", "config": generator.config.to_json()}
    models: dict[str, nn.Module] = {"model": generator}
    if "pose" in file.parts:
        models["pose"] = layouts.build_pose(file)
    if Path(target).suffix == ".pth":
        names = {"model": "model_vec2face", "pose": "pose_model"}
        content = {names[part]: module.state_dict() for part, module in models.items()}
        return _write_pth(Path(target), content, DTYPES[one_of("precision", precision, DTYPES)])
    return save_weights(target, models, head, precision=precision)


def _write_pth(path: Path, content: Mapping[str, Any], dtype: torch.dtype) -> str:
    """A zip of tensors and ordered dictionaries only, so that `weights_only=True` reads it; its sha256."""

    def stored(value: Any) -> Any:
        if isinstance(value, Mapping):
            return OrderedDict((key, stored(item)) for key, item in value.items())
        return _stored(path, "a tensor", value, dtype)

    with replacing(path, 0) as temporary:
        torch.save({key: stored(value) for key, value in content.items()}, temporary)
    return file_sha256(path)


def _read(place: Located, kind: str) -> CheckpointFile:
    named = place.path.with_name(f"{place.path.name}#{place.entry}") if place.entry else place.path
    file = read_checkpoint(named, kind=kind)
    if place.sha256 is not None and file.sha256 != place.sha256:
        raise CheckpointError(f"{place.path}: changed while it was read.")
    return file


def _stored(path: Path, key: str, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if not value.is_floating_point():
        return value.detach().cpu().contiguous()
    stored = value.detach().cpu().to(dtype, copy=True, memory_format=torch.contiguous_format)
    if not bool(torch.isfinite(stored).all()):
        raise CheckpointError(f"{path}: {key} is not finite as {dtype}; nothing was written.")
    return stored

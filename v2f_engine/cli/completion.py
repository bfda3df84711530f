"""What a shell offers where a value is one of a few names: `v2f generate --format <TAB>`.

The names stand here once more, for completing must not import the rooms that know them: a shell waits for it at every
key. `tests/test_completion.py` holds every line against the room's own table. Where a path may stand as well, the
names are offered first, and the shell completes files once what is typed begins none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

GENERATORS = ("mini", "vec2face", "vec2face-plus", "vec2face-plus-pose")
RECOGNISERS = ("mini", "arcface-r100-glint360k", "magface-r100-glint360k")
RECIPES_OF_RECOGNISERS = (
    "rendered", "published", "published-cosface", "published-adaface", "mended", "mended-cosface", "mended-adaface",
)  # fmt: skip
PRESETS = (
    "rendered", "sharp", "published-2024", "published-2025", "plus", "mended-2024", "mended-2025", "mended-plus",
)  # fmt: skip
EXPORTED = ("fp32", "fp16", "bf16", "int8", "fp8")

VALUES: Mapping[str, tuple[str, ...]] = {
    "--model": GENERATORS,
    "--recogniser": RECOGNISERS,
    "--steer-recogniser": RECOGNISERS,
    "--device": ("auto", "cpu", "cuda"),
    "--precision": ("auto", "fp32", "bf16", "fp16"),
    "--runner": ("auto", "cuda_graph", "eager", "onnx", "tensorrt", "tensorrt-rtx"),
    "--masks": ("generate", "demo", "train", "plus-train", "plus-generate"),
    "--source": ("auto", "mini", "gaussian"),
    "--backend": ("auto", "reference", "native", "cupy"),
    "--format": ("imagefolder", "webdataset", "lmdb", "recordio", "parquet", "null"),
    "--jpeg-encoder": ("simplejpeg", "pillow"),
    "--rounding": ("nearest", "truncate"),
    "--sigma-shares": ("drawn", "exact"),
    "--reference-identity": ("auto", "image", "folder", "column"),
    "--executor": ("auto", "inline", "local", "ray", "slurm"),
    "--by": ("steering", "pose-model"),
    "--covariance": ("own", "pooled"),
    "--steer": ("images", "identities", "both"),
    "--steering": ("ours", "published-2024", "published-2025", "plus"),
    "--landmark-heights": ("auto", "rendered", "published"),
    "--length": ("centres", "images"),
    "--shrinkage": ("0", "oas"),
    "--on-bad": ("refuse", "skip"),
    "--channels": ("rgb", "bgr"),
    "--depth": ("iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200"),
    "--margin": ("arcface", "arcface-published", "cosface", "adaface"),
    "--preset": PRESETS,
    "--size": ("mini", "base", "large", "huge"),
    "--part": ("generator", "decoder"),
    "--opset": ("20", "21"),
    "--target": ("sm75", "sm80", "sm86", "sm89", "sm120"),
    "--curve": ("as-published", "exact"),
    "--order": ("average", "below"),
    "--table": (
        "verification", "challenging", "ijb", "leakage", "separability", "consistency", "other", "all",
    ),
    "--against": ("HSFace10K", "CASIA-WebFace"),
    "train recogniser --recipe": RECIPES_OF_RECOGNISERS,
    "train pose --recipe": ("rendered", "published"),
    "train recogniser --stepping": ("eager", "graph"),
    "train generator --stepping": ("eager", "compiled", "graph"),
    "--select": ("centre", "diversity", "quality", "vector"),
    "--select-recogniser": RECOGNISERS,
    "select --by": ("centre", "diversity", "quality", "vector"),
    "select --format": ("imagefolder", "webdataset", "lmdb", "recordio", "parquet"),
    "convert --format": ("imagefolder", "webdataset", "lmdb", "recordio", "parquet"),
    "render --world": ("1", "2"),
    "render --format": ("imagefolder", "webdataset", "lmdb", "recordio", "parquet"),
    "convert --precision": ("fp32", "fp16", "bf16"),
    "evaluate table --format": ("text", "markdown", "html", "latex", "csv", "json"),
    "export onnx --precision": EXPORTED,
    "export tensorrt --precision": EXPORTED,
    "export tensorrt-rtx --precision": EXPORTED,
    "train estimator name": ("pose", "quality"),
    "bench what": ("machine", "ops", "ladder", "compare", "writers", "reject", "train", "gpu", "tune"),
}  # fmt: skip
"""Option -> names; `COMMAND OPTION` where a command knows others."""


def values_of(command: str, parameter: Any) -> tuple[str, ...]:
    """What may stand for a parameter of a command; empty where anything may."""
    names = [*parameter.opts, parameter.name or ""]
    own = [VALUES[key] for key in (f"{command} {name}" for name in names) if key in VALUES]
    return own[0] if own else next((VALUES[name] for name in parameter.opts if name in VALUES), ())


def add_to(commands: Mapping[str, Any]) -> None:
    """Gives the parameters of these (words -> command) their names to complete."""
    for words, command in commands.items():
        for parameter in command.params:
            if names := values_of(words, parameter):
                parameter._custom_shell_complete = _offering(names)


def _offering(names: tuple[str, ...]) -> Callable[[Any, Any, str], list[str]]:
    def complete(context: Any, parameter: Any, begun: str) -> list[str]:
        return [name for name in names if name.startswith(begun)]

    return complete

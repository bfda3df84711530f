"""The "IR" networks of AdaFace, CVLface, face.evoLVe, TFace and InsightFace_Pytorch, as an `IResNet`.

They are the same residual units under other names: `input_layer`, `body.N.res_layer`, `output_layer`. Two things
differ from insightface's: the first unit of the first stage keeps its width and takes every second pixel as its
shortcut where the other projects, and the last norm has no weight or bias. face.evoLVe and InsightFace_Pytorch
have no norm between a unit's first convolution and its PReLU; the IR-SE ones gate each unit's branch.
AdaFace's network returns (feature / length, length); ours the feature itself.
Sources: net.py of mk-minchul/AdaFace, models/iresnet/model.py of mk-minchul/CVLface, model.py of
TreB1eN/InsightFace_Pytorch, backbone/model_irse.py of ZhaoJ9014/face.evoLVe.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from v2f_engine.models.checkpoint_file import CheckpointFile
from v2f_engine.models.pth import Tensors, refuse

ANCHOR = "body.0.res_layer.0.weight"
_STEM = {"input_layer.0": "conv1", "input_layer.1": "bn1", "input_layer.2": "prelu"}
_UNITS = {
    True: {"0": "bn1", "1": "conv1", "2": "bn2", "3": "prelu", "4": "conv2", "5": "bn3", "6": "attn"},
    False: {"0": "bn1", "1": "conv1", "2": "prelu", "3": "conv2", "4": "bn3", "5": "attn"},
}
"""Whether there is a norm behind the first convolution -> index in `res_layer` -> name in a block."""
_UNIT = re.compile(r"body\.(\d+)\.(res_layer|shortcut_layer)\.(\w+)\.(.+)")


def is_ir(tensors: Tensors) -> bool:
    return ANCHOR in tensors


def from_ir(file: CheckpointFile) -> tuple[Tensors, dict[str, Any]]:
    """(tensors under the names of `IResNet`, what they say of its shape beside the sizes).

    Names without a counterpart stay as they are, for the strict fit to refuse.

    Raises:
        CheckpointError: units of three convolutions (IR-152, IR-200), or not four stages.
    """
    tensors = file.parts["model"]
    first = tensors.get("body.0.res_layer.1.weight")
    if first is not None and first.ndim == 4 and first.shape[2] == 1:
        refuse(
            file.path,
            "its keys look like IR-152 or IR-200 of AdaFace (units of three convolutions); expected units of two, as "
            "in IR-18, 34, 50, 101",
        )
    normed = "body.0.res_layer.2.running_mean" in tensors
    places = _places(file, normed)
    last = next(
        (k for k, v in tensors.items() if re.fullmatch(r"output_layer\.\d+\.weight", k) and v.ndim == 2), ""
    )
    index = int(last.split(".")[1]) if last else 3
    ends = {"output_layer.0": "bn2", f"output_layer.{index}": "fc", f"output_layer.{index + 1}": "features"}
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        unit = _UNIT.fullmatch(name)
        stem, _, rest = name.rpartition(".")
        if unit is None or int(unit[1]) not in places:
            renamed[f"{(_STEM | ends).get(stem, stem)}.{rest}" if stem else name] = tensor
        elif unit[2] == "shortcut_layer":
            renamed[f"{places[int(unit[1])]}.downsample.{unit[3]}.{unit[4]}"] = tensor
        else:
            part = "attn" if unit[3] == "se_block" else _UNITS[normed].get(unit[3], unit[3])
            renamed[f"{places[int(unit[1])]}.{part}.{unit[4]}"] = tensor
    width = renamed["features.running_mean"].shape if "features.running_mean" in renamed else ()
    renamed.setdefault("features.weight", torch.ones(width))
    renamed.setdefault("features.bias", torch.zeros(width))
    gated = any(".attn." in name for name in renamed)
    return renamed, {
        "shortcut": "projected" if "layer1.0.downsample.0.weight" in renamed else "subsampled",
        "inner_norm": normed,
        "gate": "branch" if gated else "shortcut",
        "channels": "bgr" if is_adaface(file) else "rgb",
    }


def _places(file: CheckpointFile, normed: bool) -> dict[int, str]:
    """Number in `body` -> `layerS.U`: a stage begins where the width changes."""
    convolution = {True: 4, False: 3}[normed]
    places: dict[int, str] = {}
    width, stage, unit = -1, 0, 0
    for number in range(len(file.parts["model"])):
        kernel = file.parts["model"].get(f"body.{number}.res_layer.{convolution}.weight")
        if kernel is None:
            break
        if len(kernel) != width:
            width, stage, unit = len(kernel), stage + 1, 0
        places[number] = f"layer{stage}.{unit}"
        unit += 1
    if stage != 4:
        refuse(
            file.path,
            f"its keys look like an IR network (AdaFace, CVLface), of which {len(places)} units in {stage} stages of "
            "rising width are there; expected four stages, as in IR-18, 34, 50, 101",
        )
    return places


def is_adaface(file: CheckpointFile) -> bool:
    """Whether AdaFace's own trainer wrote the file: `model.` beside `head.kernel`. It trains on BGR pixels."""
    return file.place.split(".")[-1] == "model" and any(name.startswith("head.kernel") for name in file.aside)

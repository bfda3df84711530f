"""Networks that are no recogniser of this engine, told by their keys, so that the refusal can call them by name."""

from __future__ import annotations

import re
from collections.abc import Iterable

FOREIGN = (
    ("CVLface's ViT with KPRPE, which also needs landmarks", (r"patch_embed\.proj\.weight", r"\.rpe_[qkv]\.")),
    ("CVLface's Swin with KPRPE, which also needs landmarks", (r"cpb_mlp|relative_position", r"\.rpe_[qkv]\.")),
    ("a part-fViT of CVLface", (r"(^|\.)mobilenet\.", r"patch_emb(ed)?\.")),
    ("a Swin transformer", (r"relative_position_bias_table|cpb_mlp",)),
    ("a vision transformer (ViT)", (r"patch_embed\.proj\.weight|cls_token|pos_embed(ding)?$",)),
    ("facenet-pytorch's InceptionResnetV1", (r"(^|\.)conv2d_1a\.conv\.weight", r"(^|\.)repeat_1\.")),
    ("TreB1eN's or CVLface's MobileFaceNet", (r"(^|\.)conv_6_dw\.|(^|\.)conv2_dw\.",)),
    ("insightface's MobileFaceNet", (r"(^|\.)layers\.0\.layers\.0\.",)),
    ("an EdgeFace (EdgeNeXt)", (r"(^|\.)stages\.0\.blocks\.0\.",)),
    ("a GhostFaceNet", (r"ghost\d?\.primary_conv\.",)),
    ("SphereFace's network", (r"(^|\.)conv1_1\.weight", r"(^|\.)relu1_1\.weight")),
    ("LightCNN", (r"(^|\.)conv1\.filter\.weight",)),
    ("VGGFace", (r"(^|\.)conv_1_1\.weight",)),
    ("RepVGG or 6DRepNet", (r"\.rbr_dense\.|\.rbr_reparam\.",)),
    ("torchvision's VGG16 (as for LPIPS)", (r"^features\.0\.weight", r"^classifier\.0\.weight")),
)  # fmt: skip
"""What to call it -> patterns each of which some key must match; the first entry that fits speaks."""
SUPPORTED = (
    "iresnet18, 34, 50, 100, 200 of insightface and MagFace (with or without SE), IR and IR-SE 18, 34, 50, 101 of "
    "AdaFace, CVLface and face.evoLVe, in .pth or safetensors; any network in .onnx"
)


def foreign_name(names: Iterable[str]) -> str:
    """What the keys look like, or ""."""
    names = list(names)
    for what, patterns in FOREIGN:
        if all(any(re.search(pattern, name) for name in names) for pattern in patterns):
            return what
    if any(re.search(r"(^|\.)layer1\.0\.conv1\.weight$", n) for n in names) and not any(
        "prelu" in n for n in names
    ):
        return "torchvision's ResNet"
    return ""

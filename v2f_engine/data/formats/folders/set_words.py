"""Words in names of folders and archives that tell one set from another: splits, and folders that are no person."""

from __future__ import annotations

import re

SPLITS = frozenset(
    (
        *("train", "training", "trainset", "validation", "valid", "val", "dev", "test", "testing", "testset"),
        *("eval", "evaluation", "holdout"),
    )
)
"""Words that name a split, as the Hugging Face Hub and the field's own downloads have them."""
CONTAINERS = frozenset(
    (
        *("images", "image", "imgs", "img", "pictures", "photos", "faces", "data", "dataset", "aligned"),
        *("cropped", "masks", "labels"),
    )
)
"""Folders that hold everything: none is a person's name."""
_WORDS = re.compile(r"[A-Za-z]+")
_DIGITS = re.compile(r"\d+")


def split_word(name: str) -> str:
    """The split that a name speaks of, `""` where it speaks of none: `imagenet-val-000012.tar` gives `val`."""
    return next((word for word in _WORDS.findall(name.lower()) if word in SPLITS), "")


def holds_everything(name: str) -> bool:
    """Whether a folder of this name is no person but a split or a container: `images`, `train`, `test2017`."""
    words = _WORDS.findall(name.lower())
    split = any(word in SPLITS for word in words) and all(
        word in SPLITS or word in CONTAINERS for word in words
    )
    return split or name.lower() in CONTAINERS  # `img_0` may be a person


def stem_of(name: str) -> str:
    """What an archive's name says besides numbers and endings: `web4m-000012.tar.gz` gives `web-m`."""
    base = name.rpartition("/")[2]
    return "-".join(_WORDS.findall(_DIGITS.sub(" ", base.partition(".")[0]))).lower()

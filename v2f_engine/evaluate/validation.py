"""Verification sets that a training is validated on: opened, decoded to the last picture before it begins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2f_engine.data.verification import VerificationSet, check_pictures, open_verification_set
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.evaluate.verification import FOLDS, check_labels, measure_verification

ENDINGS = (".bin", ".bin.xz")
RESERVED = ("step", "mean", "eer", "deviations", "best")
"""Names of other things in a line of the log."""


@dataclass(frozen=True)
class VerificationSets:
    """Sets by name.

    Args:
        sets: in the order asked for.
        digests: of pictures and labels, one a set.
    """

    sets: tuple[VerificationSet, ...]
    digests: tuple[str, ...]

    @classmethod
    def opened(cls, paths: Sequence[Path], pictures: Path | None = None) -> VerificationSets:
        """Opens sets and decodes every picture once.

        Args:
            paths: sets as `open_verification_set` takes them, or folders of `.bin` files.
            pictures: folder of the pictures of lists of pairs.

        Raises:
            ConfigError: two sets of one name. DatasetError, VectorError: a set that is missing or damaged, or cannot
            be measured; which, and at which picture.
        """
        found = [each for path in paths for each in _expanded(path)]
        check_pictures(found, pictures)
        sets, digests, names = [], [], set(RESERVED)
        for path in found:
            one = open_verification_set(path, pictures)
            if one.name in names:
                raise ConfigError(
                    f"{path}: a line of the validation has one {one.name!r}, and there would be two. Give the file"
                    " another name."
                )
            names.add(one.name)
            check_labels(one.same, FOLDS if one.folds is None else len(one.folds), one.name)
            digest = hashlib.sha256(one.same.tobytes())
            for images in one.batches():
                digest.update(images.tobytes())
            sets.append(one)
            digests.append(digest.hexdigest())
        return cls(tuple(sets), tuple(digests))

    def described(self) -> dict[str, Any]:
        """Pairs and digest of each set."""
        return {
            one.name: {"pairs": len(one.same), "sha256": digest}
            for one, digest in zip(self.sets, self.digests, strict=True)
        }

    def measure(self, model: nn.Module, precision: torch.dtype | None) -> Mapping[str, tuple[float, float]]:
        """Set -> (accuracy, deviation over folds), by the published protocol."""
        reader = model if precision is None else _Autocast(model, precision).eval()
        found = [measure_verification(one, reader) for one in self.sets]
        return {one.name: (one.accuracy, one.deviation) for one in found}


class _Autocast(nn.Module):
    """A network in another precision."""

    def __init__(self, model: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, self.precision):
            features: torch.Tensor = self.model(images)
        return features


def _expanded(path: Path) -> list[Path]:
    """The sets of a folder of `.bin` files; else the path itself."""
    if not path.is_dir() or (path / "issame.txt").is_file():
        return [path]
    found = sorted(each for each in path.iterdir() if each.name.endswith(ENDINGS))
    found += sorted(each for each in path.iterdir() if each.is_dir() and (each / "issame.txt").is_file())
    if not found:
        raise DatasetError(
            f"{path}: expected verification sets (.bin, .bin.xz, or folders of one .npy and issame.txt), found none."
        )
    return found

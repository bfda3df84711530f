"""Pictures without a folder per person whose names say who they show: `{identity}_{number}.png`.

IDiff-Face's `split_identity_blocks.py` writes so (github.com/fdbtrs/IDiff-Face, numbers from 0), LFW's names read alike
(numbers from 1). Names of cameras and of rendered frames look the same, so the numbers of each identity must be all of
0, 1, 2, ... or 1, 2, 3, ...: else nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NAME = re.compile(r"(.+)_(\d{1,9})")


@dataclass(frozen=True)
class FlatNames:
    """What a flat folder's names say.

    Args:
        identities: of each name; empty where they cannot be read so.
        numbers: of each name.
        why_not: why they cannot, for messages.
        several: identities of which those names that follow the pattern have two and more, gaps or not.
    """

    identities: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    why_not: str = ""
    several: tuple[str, ...] = ()


def read_flat_names(names: Sequence[str]) -> FlatNames:
    """Identity and number of each picture, where all names follow `{identity}_{number}` without a gap.

    Args:
        names: base names with their endings.
    """
    found = [_NAME.fullmatch(name.rpartition(".")[0]) for name in names]
    pairs = [(match[1], int(match[2])) for match in found if match is not None]
    numbers: dict[str, list[int]] = {}
    for identity, number in pairs:
        numbers.setdefault(identity, []).append(number)
    several = tuple(identity for identity, held in numbers.items() if len(held) > 1)
    unlike = [name for name, match in zip(names, found, strict=True) if match is None]
    if unlike:
        return FlatNames(
            why_not=f"{len(unlike)} of {len(names)} names are not {{identity}}_{{number}}: {unlike[0]}",
            several=several,
        )
    for identity, held in sorted(numbers.items()):
        if sorted(held) not in (list(range(len(held))), list(range(1, len(held) + 1))):
            return FlatNames(
                why_not=f"the {len(held)} numbers of {identity!r} are not all of 0, 1, 2, ... or 1, 2, 3, ...: "
                f"{sorted(held)[:6]}",
                several=several,
            )
    return FlatNames(
        tuple(identity for identity, _ in pairs), tuple(number for _, number in pairs), several=several
    )

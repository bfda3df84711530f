"""In which shares groups are wanted, and whose turn each place of a table is.

A table of n people is the beginning of every larger one, so counts of n cannot be rounded anew for each n: the largest
remainder may take a person from a group when one more is asked for (the Alabama paradox; Balinski and Young 1975). So
places are dealt one after the other, such that of the first n, for every n, a group has its share rounded down or up:
never a whole person away, and exactly its share wherever that is whole. Person j of a group of share s may stand in
places `floor((j - 1) / s) + 1` to `ceil(j / s)`, and of those that may stand the most urgent does: earliest deadline
first fills such windows whenever shares add up to 1 (Baruah, Cohen, Plaxton and Varvel 1996). In whole numbers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import whole_number
from v2f_engine.errors import ConfigError

LOOSE = Fraction(1, 100)
"""How far shares may add up to something else than 1: six of 0.167 do to 1.002."""
LONGEST = 40
"""Characters of a share: more digits than a float has, and no bomb."""
EQUAL = "equal"

MixLike = str | Mapping[str, Any]


def parts_of_mix(asked: MixLike | None, names: Sequence[str], counts: Sequence[int]) -> tuple[int, ...]:
    """What is asked for, as whole-number parts without a common factor, one for each of `names`.

    Args:
        asked: `"young:0.5,old:0.5"`, or the mapping; shares that add up to 1 (within `LOOSE`), or whole numbers, which
            are parts: `"young:1,old:3"`. A group that is not named has none. A name that holds a comma stands in
            quotes with its share: `'"Asia, south:0.5",old:0.5'`. `"equal"`: all alike. None: `counts`.
        names: of all groups.
        counts: people that each was fitted on.

    Raises:
        ConfigError: no mix, an unknown group, one named twice, shares that are none or do not add up.
    """
    if asked is None:
        return _without_factor(counts)
    if isinstance(asked, str) and asked.strip() == EQUAL and EQUAL not in names:
        return (1,) * len(names)
    if not isinstance(asked, str | Mapping):
        raise ConfigError(
            f"mix (--mix): expected NAME:SHARE,NAME:SHARE, or a dict of names and shares, found {asked!r:.60}."
        )
    pairs = list(asked.items()) if isinstance(asked, Mapping) else _pairs(asked)
    shares: dict[str, Fraction] = {}
    for name, told in pairs:
        if name not in names:
            known = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
            raise ConfigError(f"mix (--mix): no group {name!r} in this source; it has {known}.")
        if name in shares:
            raise ConfigError(f"mix (--mix): group {name!r} is named twice. Give each group one share.")
        shares[name] = _share(name, told)
    total = sum(shares.values())
    if not total:
        raise ConfigError(
            f"mix (--mix): expected NAME:SHARE,NAME:SHARE with a share above 0, found {asked!r:.80}."
        )
    whole = all(share.denominator == 1 for share in shares.values())
    if not whole and abs(total - 1) > LOOSE:
        raise ConfigError(
            f"mix (--mix): the shares add up to {float(total):.6g}; expected 1, or whole numbers, which are parts: "
            f"{words_of_mix(names[:3], (1, 1, 1)[: len(names)])}. Is a group missing?"
        )
    common = math.lcm(*(share.denominator for share in shares.values()))
    return _without_factor([int(shares.get(name, Fraction(0)) * common) for name in names])


def words_of_mix(names: Sequence[str], parts: Sequence[int]) -> str:
    """A mix as `parts_of_mix` reads it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(
        [f"{name}:{part}" for name, part in zip(names, parts, strict=True) if part]
    )
    return text.getvalue()


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        cells = next(csv.reader([text], strict=True, skipinitialspace=True), [])
    except csv.Error as error:
        raise ConfigError(
            f"mix (--mix): expected NAME:SHARE,NAME:SHARE, found {text!r:.80} ({error})."
        ) from error
    found = [cell.rpartition(":") for cell in cells]
    if not found or not all(colon and name.strip() for name, colon, _ in found):
        raise ConfigError(
            f"mix (--mix): expected NAME:SHARE,NAME:SHARE or `{EQUAL}`, found {text!r:.80}. A name with a comma stands "
            'in quotes with its share: "NAME:SHARE".'
        )
    return [(name.strip(), share) for name, _, share in found]


def _share(name: str, told: Any) -> Fraction:
    """A share as it is written: 0.1 is a tenth, not its float."""
    text = str(told).strip()
    try:
        if (
            isinstance(told, bool)
            or len(text) > LONGEST
            or "/" in text
            or abs(int(text.lower().partition("e")[2] or 0)) > 12
        ):
            raise ValueError(text)
        share = Fraction(text)
        if share < 0:
            raise ValueError(text)
    except ValueError as error:
        raise ConfigError(
            f"mix (--mix): group {name!r}: expected a share from 0 such as 0.25, or a whole number of parts, found "
            f"{text[:LONGEST]!r}."
        ) from error
    return share


def _without_factor(counts: Sequence[int]) -> tuple[int, ...]:
    factor = math.gcd(*counts) or 1
    return tuple(int(count) // factor for count in counts)


def order_of_mix(parts: Sequence[int], n: int) -> NDArray[np.int64]:
    """int64 `[n]`: the group of each place; of the first m, for every m, each group has its share of m, down or up.

    Args:
        parts: whole numbers from 0, of each group; not all 0.
        n: places, from 0.

    Of two equally urgent groups the one that stands first in `parts` has the earlier place. The order repeats after
    as many places as the parts add up to.
    """
    whole_number("n", n)
    total = sum(parts)
    period = min(n, total)
    found = np.empty(period, np.int64)
    waiting = [
        (1, group, 1) for group, part in enumerate(parts) if part
    ]  # (first place, group, which of its people)
    ready: list[tuple[int, int, int]] = []
    for place in range(1, period + 1):
        while waiting and waiting[0][0] <= place:
            _, group, person = heappop(waiting)
            heappush(ready, (-(-person * total // parts[group]), group, person))
        _, group, person = heappop(ready)
        found[place - 1] = group
        heappush(waiting, (person * total // parts[group] + 1, group, person + 1))
    return found if period == n else np.resize(found, n)

"""Which members of a tar shard make one sample, by the names that webdataset gives them: `key.jpg`, `key.cls`.

webdataset and Hugging Face group neighbours with one key; the first refuses a name that repeats, the second overwrites.
Tools that take a picture's base name for the key (HaiyuWu's `imagelist2webdataset.py`) write neighbours of several
people with one key; here a repeated name begins a new sample where all samples of such runs then hold the same members
in the same order. Members that lie apart belong together by their key where each name is there once. Everything else is
refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from v2f_engine.data.formats.account import EXAMPLES, Tally
from v2f_engine.data.formats.tar.members import Member
from v2f_engine.data.formats.tar.shard_members import IMAGE_TYPES, NO_FACES, Part, Shard
from v2f_engine.errors import DatasetError


class Sample(NamedTuple):
    """A picture, the member that labels it, and further members of the same sample by their type."""

    key: str
    image: Member
    label: Member
    others: tuple[Part, ...]


def samples_of(shard: Shard, tally: Tally) -> list[Sample]:
    """The samples of a labelled shard, in the order of their pictures.

    Raises:
        DatasetError: pictures without label or labels without picture, several pictures with one label, or repeated
            names that do not fall into samples; with counts and names.
    """
    try:
        found = _found(shard)
    except (
        DatasetError
    ):  # base names with dots that repeat among neighbours: the key then ends at the last dot
        longer = replace(shard, parts=tuple(map(_longer_key, shard.parts)))
        if longer.parts == shard.parts:
            raise
        again: list[tuple[Sequence[Part], list[Sample]]] = []
        with suppress(DatasetError):
            again = _found(longer)
        if not again:
            raise
        found = again
    ordered: list[Sample] = []
    for members, made in found:
        for number, sample in enumerate(made):
            ordered.append(sample)
            tally.image(parts=len(members) - len(made) if number == 0 else 0)
        if not made:
            tally.asides("members of no sample", (part.member.name for part in members))
    _refuse_lone(shard, [part for members, made in found if not made for part in members], ordered)
    return sorted(ordered, key=lambda sample: sample.image.offset)


def _refuse_lone(shard: Shard, lone: Sequence[Part], samples: Sequence[Sample]) -> None:
    """Raises where a `.json` or `.txt` without picture is called as the samples are: its picture is missing."""
    labels = [part for part in lone if part.type == shard.kind]
    shapes = {_shape(sample.key) for sample in samples} if labels else set()
    lost = [part.member.name for part in labels if _shape(part.key) in shapes]
    if lost:
        raise DatasetError(
            f"{shard.where}: {len(lost)} .{shard.kind} have no picture, such as {', '.join(lost[:EXAMPLES])}; found "
            f"{len(samples)} whole samples. Restore the pictures, or take away what labels none."
        )


def _shape(key: str) -> str:
    """A key without what differs from sample to sample: `p12/img_003` gives `a0/a_0`."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", key))


def _longer_key(part: Part) -> Part:
    return part._replace(key=f"{part.key}.{_stem(part.sub)}".rstrip("."), sub="")


def _found(shard: Shard) -> list[tuple[Sequence[Part], list[Sample]]]:
    """(members, samples they make) of each group of a shard."""
    found: list[tuple[Sequence[Part], list[Sample]]] = []
    apart: dict[str, list[Part]] = {}
    neither: list[list[Part]] = []
    for group in _groups(shard):
        samples = _whole(group, shard.kind)
        if samples is None:
            apart.setdefault(group[0].key, []).extend(group)
        elif samples:
            found.append((group, samples))
        else:
            neither.append(group)
    for group in neither:
        if group[0].key in apart:
            apart[group[0].key] += group
        else:
            found.append((group, []))
    return found + _joined(shard, apart, found)


def _groups(shard: Shard) -> list[list[Part]]:
    """Neighbours with one key; a name that repeats among them begins a new group."""
    groups: list[list[Part]] = []
    names: set[tuple[str, str]] = set()
    shapes: Counter[tuple[tuple[str, str], ...]] = Counter()
    run: list[list[Part]] = []
    repeats = ""

    def close() -> None:
        if len(run) > 1:
            shapes.update(tuple((part.sub, part.type) for part in group) for group in run)
        groups.extend(run)
        run.clear()

    for part in shard.parts:
        if run and part.key != run[-1][-1].key:
            close()
        if not run or (part.sub, part.type) in names:
            repeats = part.member.name if run else repeats
            run.append([])
            names = set()
        run[-1].append(part)
        names.add((part.sub, part.type))
    close()
    if len(shapes) > 1:
        said = "; ".join(
            f"{count} of {', '.join('.'.join(filter(None, name)) for name in shape)}"
            for shape, count in shapes.most_common(EXAMPLES)
        )
        raise DatasetError(
            f"{shard.where}: the name {repeats!r} repeats among neighbours, and they do not fall into samples of "
            f"equal members ({said}): which label belongs to which picture cannot be known. Write the shard again "
            "with a key of its own for each sample, such as the picture's path."
        )
    return groups


def _whole(group: Sequence[Part], kind: str) -> list[Sample] | None:
    """The samples that a group makes; `[]` where it has neither picture nor label, None where it is not whole."""
    if len(group) == 2:  # nearly all
        first, second = group
        if first.type in IMAGE_TYPES and second.type == kind and not first.sub and not second.sub:
            return [Sample(first.key, first.member, second.member, ())]
    pictures = [p for p in group if p.type in IMAGE_TYPES and not NO_FACES & set(p.sub.split("."))]
    labels = [p for p in group if p.type == kind]
    if not pictures and (not labels or kind in ("json", "txt")):
        return []
    if len(pictures) == 1 and len(labels) == 1:
        others = tuple(p for p in group if p is not pictures[0] and p is not labels[0])
        return [Sample(group[0].key, pictures[0].member, labels[0].member, others)]
    # keys with dots: `img.0001.jpg`, `img.0001.cls`; or `img.0001.jpg.cls`
    by_sub = {_stem(p.sub): p.member for p in labels}
    subs = [p.sub for p in pictures]
    if not pictures or len(by_sub) < len(labels) or len(set(subs)) < len(subs) or set(subs) != set(by_sub):
        return None
    beside = {
        sub: tuple(p for p in group if p.type not in IMAGE_TYPES and p.type != kind and p.sub == sub)
        for sub in subs
    }
    return [Sample(f"{p.key}.{p.sub}".rstrip("."), p.member, by_sub[p.sub], beside[p.sub]) for p in pictures]


def _stem(sub: str) -> str:
    """`0001.jpg` of `0001.jpg.cls` is the picture `0001`."""
    stem, _, last = sub.rpartition(".")
    return stem if last in IMAGE_TYPES else sub


def _joined(
    shard: Shard, apart: dict[str, list[Part]], whole: Sequence[tuple[Sequence[Part], list[Sample]]]
) -> list[tuple[Sequence[Part], list[Sample]]]:
    """Samples whose members lie apart: joined by key where every name of that key is there once."""
    joined: list[tuple[Sequence[Part], list[Sample]]] = []
    if not apart:
        return joined
    taken = Counter(group[0].key for group, made in whole if made)
    faults: list[str] = []
    for key, parts in apart.items():
        names = [(part.sub, part.type) for part in parts]
        samples = None if len(set(names)) < len(names) or taken[key] else _whole(parts, shard.kind)
        if samples is None:
            held = Counter(".".join(filter(None, name)) for name in names)
            counted = ", ".join(
                f"{name} x {count}" if count > 1 else name for name, count in sorted(held.items())
            )
            faults.append(f"{key!r} has {counted}{' beside whole samples of that key' if taken[key] else ''}")
        else:
            joined.append((parts, samples))
    if faults:
        raise DatasetError(
            f"{shard.where}: {len(faults)} of {len(apart) + len(taken)} keys are no whole samples: "
            f"{'; '.join(faults[:EXAMPLES])}. Expected one image (jpg or png) and one {shard.kind} for each key. "
            "Restore the missing member, or write the shard again with one picture and one key for each sample."
        )
    return joined

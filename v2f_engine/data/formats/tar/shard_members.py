"""The members of a tar shard by their names, as webdataset takes them apart: `key.type`, `key.sub.type`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from v2f_engine.data.formats.account import Tally
from v2f_engine.data.formats.folders.container_files import HIDDEN
from v2f_engine.data.formats.tar.links import no_file, with_links
from v2f_engine.data.formats.tar.members import FILE, FOLDER, Member
from v2f_engine.data.gate.pictures import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_hidden
from v2f_engine.errors import DatasetError

IMAGE_TYPES = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)
UNREAD_TYPES = frozenset(suffix[1:] for suffix in UNREAD_SUFFIXES)
LABEL_TYPES = ("cls", "class", "label", "identity", "id", "json", "txt")
"""Endings that may hold a sample's label, the most telling first; the first that a shard has is meant."""
NO_FACES = frozenset(("seg", "mask", "depth", "landmark", "landmarks", "parsing", "normal"))
"""Words before a picture's ending that say it shows something else of the face: `key.seg.png`."""


_PLAIN = IMAGE_TYPES | {"cls"}
"""Types of nearly all members."""


class Part(NamedTuple):
    """A member by its name: `key.sub.type`; `sub` is empty in most."""

    key: str
    sub: str
    type: str
    member: Member


@dataclass(frozen=True)
class Shard:
    """The members of a shard, sorted out.

    Args:
        where: the archive, for messages.
        parts: members with an ending, in order.
        kind: the type that labels, of `LABEL_TYPES`; `""` where none could.
    """

    where: str
    parts: tuple[Part, ...]
    kind: str

    @property
    def labelled(self) -> bool:
        """Whether some key has a picture and a member that may label it."""
        pictures = {part.key for part in self.parts if part.type in IMAGE_TYPES}
        return any(part.type == self.kind and part.key in pictures for part in self.parts)


def part_of(member: Member) -> Part | None:
    """A member's name taken apart as webdataset does: the key ends at the first dot of the last part of the path."""
    name = member.name
    start = name.rfind("/") + 1
    dot = name.find(".", start)
    if dot <= start:
        return None
    sub, _, type = name[dot + 1 :].lower().rpartition(".")
    return Part(name[:dot], sub, type, member)


def shard_of(members: Iterable[Member], where: str, tally: Tally) -> Shard:
    """Sorts out a shard's members; what is no sample's is set aside.

    Raises:
        DatasetError: a picture or label that is a link, a device or sparse; pictures that no decoder reads.
    """
    parts: list[Part] = []
    for member in with_links(members):
        part = part_of(member)
        usual = part is not None and part.type in _PLAIN and member.kind == FILE and member.name[:2] != "__"
        if part is not None and usual and not is_hidden(member.name):
            parts.append(part)
            continue
        meta = member.name.startswith("__") and "__" in member.name[2:].partition("/")[0]
        if member.kind == FOLDER:
            tally.aside("folders", member.name or ".")
        elif is_hidden(member.name):
            tally.aside(HIDDEN, member.name)
        elif meta:
            tally.aside("members about the shard", member.name)
        elif member.kind != FILE:
            if part is not None and part.type in (*IMAGE_TYPES, *UNREAD_TYPES, *LABEL_TYPES):
                raise no_file(member, where)
            tally.aside("links and devices", member.name)
        elif part is None:
            tally.aside("members without an ending", member.name)
        elif part.type in UNREAD_TYPES and not NO_FACES & set(part.sub.split(".")):
            raise DatasetError(
                f"{where}: {member.name!r} is a picture of a kind that is not read; expected "
                f"{', '.join(IMAGE_SUFFIXES)}. Convert the pictures."
            )
        else:
            parts.append(part)
    types = {part.type for part in parts}
    kind = next((each for each in LABEL_TYPES if each in types), "")
    return Shard(where, tuple(parts), kind)

"""Links inside a tar: one to a file of the same archive holds that file's bytes, others lose a picture."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from v2f_engine.data.formats.tar.members import FILE, FOLDER, LINK, POINTER, Member
from v2f_engine.errors import DatasetError


def with_links(members: Iterable[Member]) -> list[Member]:
    """The members, a link to a file among them made a file: it holds that one's bytes."""
    listed = list(members)
    if all(member.kind in (FILE, FOLDER) for member in listed):
        return listed
    files = {member.name: member for member in listed if member.kind == FILE}
    return [_followed(member, files) if member.kind in (LINK, POINTER) else member for member in listed]


def _followed(link: Member, files: Mapping[str, Member]) -> Member:
    if link.kind == LINK and link.size:  # POSIX lets it carry the data
        return link._replace(kind=FILE)
    start = posixpath.dirname(link.name) if link.kind == POINTER else ""
    target = files.get(posixpath.normpath(posixpath.join(start, link.link)))
    return link if target is None else Member(link.name, target.offset, target.size)


def no_file(member: Member, where: str) -> DatasetError:
    """What to say of a picture or label that is no file."""
    target = f" to {member.link!r}, which is no file of this archive" if member.link else ""
    return DatasetError(
        f"{where}: {member.name!r} is a {member.kind}{target}; expected the file itself. Pack it again with links "
        "followed (tar -h) and without --sparse."
    )

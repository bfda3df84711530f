"""Tars of people's folders, compressed or not, one or several parts: `person/000.jpg` without labels beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from v2f_engine.data.formats.account import Tally
from v2f_engine.data.formats.folders.archives import Tars, open_tars, refuse_shared
from v2f_engine.data.formats.folders.container_files import Names
from v2f_engine.data.formats.folders.folder_dataset import FolderDataset
from v2f_engine.data.formats.folders.people import people_of
from v2f_engine.data.formats.tar.blobs import Blob
from v2f_engine.data.formats.tar.links import no_file, with_links
from v2f_engine.data.formats.tar.members import FILE, FOLDER, Member, scan
from v2f_engine.data.gate.pictures import is_picture, suffix_of
from v2f_engine.errors import DatasetError

_HEAD = 4096


class TarFolders(FolderDataset):
    """Reads pictures out of tars by position; labels are the ranks of the sorted folder names, over all tars.

    Args:
        path: a tar, or a folder that holds some.
        split: which of several sets in them.

    Raises:
        DatasetError: a damaged tar, pictures that are links to outside, and as in `people_of`.
    """

    def __init__(self, path: Path, split: str | None = None, tars: Tars | None = None) -> None:
        super().__init__(path, "webdataset", split)
        tars = tars or open_tars(path, split)
        self._blobs = tars.blobs
        tally = Tally("members", remarks=tars.remarks)
        found = [(place, member) for place, blob in enumerate(self._blobs) for member in _files(blob, tally)]

        def head(row: int) -> bytes:
            place, member = found[row]
            return self._blobs[place].read(member.offset, min(_HEAD, member.size))

        labels = [member.name for _, member in found if suffix_of(member.name) == ".cls"]
        if labels:
            raise DatasetError(
                f"{path}: {len(labels)} labels such as {labels[0]!r}, and shards without any: expected samples "
                "with a label each, or folders of people."
            )
        people = people_of(
            Names(path, [member.name for _, member in found], head, whole_paths=True), tally, tars.inside
        )
        rows = people.rows.tolist()
        self._places = np.array([found[row][0] for row in rows], np.int64)
        self._members = [found[row][1] for row in rows]
        refuse_shared(
            path, [blob.path for blob in tars.blobs], self._places, people.labels, people.class_names
        )
        self.found(people)

    def where(self, index: int) -> str:
        return f"{self._blobs[int(self._places[index])].path}: {self._members[index].name}"

    def data(self, index: int) -> bytes:
        member = self._members[index]
        return self._blobs[int(self._places[index])].read(member.offset, member.size)


def _files(blob: Blob, tally: Tally) -> list[Member]:
    """The regular files of a tar; folders are set aside, and what is neither where no picture is lost."""
    found: list[Member] = []
    for member in with_links(scan(blob)):
        if member.kind == FILE:
            found.append(member)
        elif member.kind == FOLDER:
            tally.aside("folders", member.name or ".")
        elif is_picture(member.name):
            raise no_file(member, str(blob.path))
        else:
            tally.aside("links and devices", member.name)
    return found

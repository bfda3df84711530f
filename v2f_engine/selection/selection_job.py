"""The work of `v2f select`: what is read of a source, what is said of its images, and what is kept of them.

What is said of the images of a shard outlives a kill in `.v2f/scores/`, a file a shard, with its sha256 before it.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine import disk
from v2f_engine.atomic import write_file
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.layout import IDENTITIES, SCORES, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing.convert import Conversion
from v2f_engine.data.writing.write import OnProgress
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.selection.csv_table import csv_of
from v2f_engine.selection.judges import ROWS, Judges, joined, refuse_dead
from v2f_engine.selection.rule import Rule, Tally

SOURCE_IMAGE = "source_image"
"""Attribute: the number of an image among those that were first made of its person, by which it is made again alone."""
SHOWN = 5


class Selection(Conversion):
    """One selection: the source's records that a rule keeps, in the order of the new set.

    Args:
        source: what is chosen from.
        rule: which images are kept.
        judges: what reads them.

    Raises:
        DatasetError: people with too few images, or pictures that may not pass.
        ConfigError, VectorError: own vectors are asked for that the source does not have, or of another recogniser.
    """

    anew = "`v2f convert --resize`"

    def __init__(self, source: Dataset, rule: Rule, judges: Judges) -> None:
        super().__init__(source, None, False)
        self.rule, self.judges = rule, judges
        self._all = self.counts
        self._refuse_few()
        self.counts = np.minimum(self._all, rule.keep)
        self._vectors = _vectors_of(source, judges) if "vector" in rule.reads else None
        self._choices: dict[int, NDArray[np.void]] = {}
        self._root: Path | None = None
        self._manifest: Manifest | None = None
        self._progress: OnProgress | None = None
        self._judged = 0

    def settle(self, root: Path, manifest: Manifest, progress: OnProgress | None) -> None:
        """Where what is known of the images is kept until the set is whole, by which shards, and who hears of it."""
        self._root, self._manifest, self._progress = root, manifest, progress

    def _refuse_few(self) -> None:
        fewest = self.rule.fewest
        few = np.flatnonzero(self._all < fewest)
        if not len(few):
            return
        names = self.source.class_names

        def called(identity: int) -> str:
            label = self.label(identity)
            name = names[label] if names is not None and label < len(names) else f"label {label}"
            return f"{name} ({self._all[identity]})"

        shown = ", ".join(map(called, few[:SHOWN].tolist())) + (", ..." if len(few) > SHOWN else "")
        raise DatasetError(
            f"{self.source.path}: {len(few):,} of {len(self._all):,} people have fewer than {fewest} images: {shown}. "
            f"Keep fewer (--keep), or say how few may stay as they are: --at-least {int(self._all.min())}."
        )

    @property
    def tally(self) -> Tally | None:
        """What became of all images; None while they are not all judged."""
        if len(self._choices) < len(self.counts):
            return None
        return Tally.of([self._choices[identity] for identity in range(len(self.counts))], self.rule.keep)

    def writing(self, progress: OnProgress | None) -> OnProgress | None:
        """`progress` of the images that are written, after all that were judged."""
        if progress is None:
            return None
        judged = int(self._all.sum())
        return lambda done, total: progress(judged + done, judged + total)

    def choice(self, identity: int) -> NDArray[np.void]:
        """What `Rule.choose` says of an identity of the new set."""
        if identity not in self._choices:
            assert self._manifest is not None
            self.judge(identity // self._manifest.plan.identities_per_shard)
        return self._choices[identity]

    def judge(self, number: int) -> None:
        """Judges all images that shard `number` is chosen from, or reads what was said of them before."""
        assert self._root is not None, "settled before the first image is asked for"
        assert self._manifest is not None
        people = self._manifest.plan.shard(number).identities
        place = self._root / WORK / SCORES / f"shard-{number:06d}.npy"
        table = self._read(place, people)
        if table is None:
            table = np.concatenate(self._chosen(people))
            disk.make_folder(place.parent)
            write_file(place, _stamped(table), "main")
        ends = np.cumsum(self._all[people.start : people.stop])
        self._choices |= dict(zip(people, np.split(table, ends[:-1]), strict=True))
        self._judged += int(ends[-1])
        if self._progress is not None:
            self._progress(self._judged, int(self._all.sum() + self.counts.sum()))

    def _read(self, place: Path, people: range) -> NDArray[np.void] | None:
        """What an interrupted run left, if it is whole: it was made of the same settings, or the folder is refused."""
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            return None
        if data[:64] != hashlib.sha256(data[64:]).hexdigest().encode():
            return None
        table = np.load(io.BytesIO(data[64:]), allow_pickle=False)
        images = int(self._all[people.start : people.stop].sum())
        return table if table.dtype == self.rule.kinds and len(table) == images else None

    def _chosen(self, people: range) -> list[NDArray[np.void]]:
        """The choices of some people. Pixels of `ROWS` images and the features of these people are in memory."""
        rows = np.concatenate([self.source_rows(identity) for identity in people])
        parts = [self.judges(self.source.images(rows[i : i + ROWS])) for i in range(0, len(rows), ROWS)]
        whole = joined(parts)
        where = f"{self.source.path}: label {self.label(people[0])} and on"
        refuse_dead(whole.features, whole.pixels, where)
        failed = self._failed(rows)
        choices, start = [], 0
        for identity in people:
            part = slice(start, start + int(self._all[identity]))
            start = part.stop
            known: dict[str, Any] = whole.part(part)
            if self._vectors is not None:
                known["vector"] = self._vectors[self.label(identity)]
            name = f"{self.source.path}: label {self.label(identity)}"
            images = np.arange(self._all[identity])
            person = self.rule.person(name, images, failed=None if failed is None else failed[part], **known)
            choices.append(self.rule.choose(person))
        return choices

    def _failed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """bool `[B]`: images of which the source itself says that they failed."""
        if self.attributes is None or "failed" not in (self.attributes.dtype.names or ()):
            return None
        return np.asarray(self.attributes["failed"][rows] > 0)

    def rows(self, identity: int) -> NDArray[np.int64]:
        choice = self.choice(identity)
        kept: NDArray[np.int64] = self.source_rows(identity)[choice["image"][choice["kept"]]]
        return kept

    def attributes_of(self, identity: int, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        choice = self.choice(identity)
        kept = choice[choice["kept"]]
        before = super().attributes_of(identity, rows)
        scores = {f"score_{name}": kept[name].astype(np.float32) for name in self.rule.by}
        return {SOURCE_IMAGE: kept["image"].astype(np.float32), **before, **scores}

    def csv(self) -> bytes:
        """What was kept and dropped of all images, and why."""
        people = range(len(self.counts))
        return csv_of(
            ((identity, self.label(identity), self.choice(identity)) for identity in people), self.rule
        )


def _stamped(table: NDArray[np.void]) -> bytes:
    """An array's file with the sha256 of its bytes before it."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, table, version=(1, 0), allow_pickle=False)
    return hashlib.sha256(buffer.getvalue()).hexdigest().encode() + buffer.getvalue()


def _vectors_of(source: Dataset, judges: Judges) -> NDArray[np.float32]:
    """The vectors that a generated set was made from, float32 `[identities, D]`.

    Raises:
        ConfigError: no generated set, or judged by another recogniser than the one whose features its vectors are.
    """
    from v2f_engine.attributes.control import JUDGES
    from v2f_engine.vectors.identities import Identities

    path = source.path / IDENTITIES
    model = None if source.manifest is None else source.manifest.settings.get("model")
    if not path.is_file() or not isinstance(model, dict):
        raise ConfigError(
            f"{source.path}: criterion 'vector' needs the vectors that its people were made from, {IDENTITIES}, which "
            "sets of `v2f generate` have and this one has not. 'centre' needs none."
        )
    usual = JUDGES.get(str(model.get("name")))
    reads = "" if judges.recogniser is None else str(judges.recogniser.describe()["name"])
    if usual is not None and reads != usual.recogniser:
        raise ConfigError(
            f"{source.path}: its vectors are features of {usual.recogniser!r}, and the images are read by {reads!r}: "
            f"cosines between the two mean nothing. Give --recogniser {usual.recogniser}, or choose by 'centre'."
        )
    return Identities.load(path).vectors

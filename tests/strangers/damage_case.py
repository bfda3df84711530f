"""What may be answered when a set was damaged, and the set that is to be: known without any reader of ours."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from all_layouts import Layout
from containers import Contents, Entry
from people_given import Groups, People, groups


@dataclass(frozen=True)
class Expected:
    """What a reader may answer.

    Args:
        data: the people that may be given; none: only an error is right.
        must: an error is wrong.
    """

    data: tuple[Groups, ...]
    must: bool = False


@dataclass
class Case:
    """A layout of random people, to be damaged.

    Args:
        layout: of LAYOUTS.
        folder: an empty one, for the set alone.
        people: encoded pictures, no two alike.
        rng: decides everything.
    """

    layout: Layout
    folder: Path
    people: list[list[bytes]]
    rng: random.Random
    path: Path = field(default_factory=Path)

    @property
    def own(self) -> bool:
        return self.layout.name.startswith("ours")

    def make(self, people: People | None = None) -> None:
        self.path = self.layout.maker(self.folder, self.people if people is None else people)

    @cached_property
    def contents(self) -> Contents:
        return Contents(self.path, self.layout.family)

    @cached_property
    def who(self) -> dict[bytes, int]:
        return {data: person for person, pictures in enumerate(self.people) for data in pictures}

    @property
    def pictures(self) -> list[Entry]:
        """Files and members that are pictures of the set."""
        return [
            entry
            for entry in self.contents.held
            if entry.data in self.who and not re.search(r"@eaDir|\.txt$|contact_sheet", entry.name)
        ]

    def one(self) -> Entry:
        return self.rng.choice(self.pictures)

    def files(self, *patterns: str) -> list[Path]:
        """Files of the set, without hidden ones."""
        found = {path for pattern in patterns for path in self.folder.rglob(pattern) if path.is_file()}
        return sorted(path for path in found if not path.name.startswith("."))

    # What is right afterwards.

    def whole(self, *, must: bool = False) -> Expected:
        """Nothing was lost. A set of ours knows its files by hash, so it may always refuse strange ones."""
        return Expected((groups(self.people),), must)

    def only(self, *data: Groups) -> Expected:
        """One of these; of a set of ours only what was written."""
        return Expected(tuple(each for each in data if not self.own or each == groups(self.people)))

    def believed(self, data: Groups) -> Expected:
        """That; a set of ours knows what was written."""
        return self.whole() if self.own else self.only(data)

    def without(self, *pictures: bytes) -> Groups:
        return groups([[data for data in held if data not in pictures] for held in self.people])

    def alone(self, picture: bytes) -> Groups:
        """That picture as a person of its own."""
        return sorted([*self.without(picture), [picture]])

    def moved(self, picture: bytes, person: int) -> Groups:
        """That picture as one of another person's, who may be new."""
        if person >= len(self.people):
            return self.alone(picture)
        held = [[data for data in pictures if data != picture] for pictures in self.people]
        held[person].append(picture)
        return groups(held)


Damage = Callable[[Case], Expected | None]
"""None where it does not apply."""

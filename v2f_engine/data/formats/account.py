"""What a container holds, and what its reader makes of it: nothing may be missing without a stated reason.

A reader counts while it scans (`Tally`): every member is used, or set aside for a reason that the format states (a
system's file, a range record, a label of a picture), or it is the fault that stops the reading. `v2f inspect` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from v2f_engine.errors import DatasetError

EXAMPLES = 3
"""Names given per reason: enough to find them, few enough to read."""


@dataclass(frozen=True)
class Aside:
    """Members that are no images of the set, and why.

    Args:
        reason: in a few words, e.g. `"hidden files"`, `"records of the identities' ranges"`.
        count: how many.
        examples: the names of the first `EXAMPLES`.
    """

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """A dataset's books.

    Args:
        unit: what the container holds: `"files"`, `"members"`, `"records"`, `"keys"`, `"rows"`, `"lines"`.
        held: how many it holds in all.
        images: how many of them are images that the reader returns.
        parts: how many belong to those images without being one (labels, features, landmark pictures).
        identities: distinct labels.
        aside: the others, by reason.
        remarks: what a user has to know of how it was read (`"labels of list.txt"`, `"split train of train, test"`).
    """

    unit: str
    held: int
    images: int
    identities: int
    parts: int = 0
    aside: tuple[Aside, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """Members of which nobody knows what became of them; 0 in a sound reader."""
        return self.held - self.images - self.parts - sum(each.count for each in self.aside)

    def remarked(self, *remarks: str) -> Account:
        """The same books with further remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))

    def told(self) -> list[str]:
        """What a user should see unasked: members set aside, and remarks; empty where everything is plain."""
        return self.lines()[1:] if self.aside or self.remarks else []

    def check(self, path: Path) -> Account:
        """Itself, when it balances.

        Raises:
            DatasetError: it holds more or less than what is returned and set aside.
        """
        if self.missing:
            raise DatasetError(
                f"{path}: {self.missing} of {self.held} {self.unit} are unaccounted for: {'; '.join(self.lines())}. "
                "Nothing was read, since pictures or people would be missing."
            )
        return self

    def lines(self) -> list[str]:
        """For people, one fact each."""
        said = [f"{self.held} {self.unit}: {self.images} images of {self.identities} identities"]
        if self.parts:
            said.append(f"{self.parts} {self.unit} that belong to these images (labels, features)")
        said += [f"{each.count} {each.reason} (such as {', '.join(each.examples)})" for each in self.aside]
        return [*said, *self.remarks]


@dataclass
class Tally:
    """Counts what a reader meets."""

    unit: str
    held: int = 0
    images: int = 0
    parts: int = 0
    remarks: list[str] = field(default_factory=list)
    _aside: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def image(self, parts: int = 0) -> None:
        """One member is an image, and `parts` others belong to it."""
        self.held += 1 + parts
        self.images += 1
        self.parts += parts

    def aside(self, reason: str, *names: str) -> None:
        """These members are set aside for `reason`."""
        self.held += len(names)
        self._counts[reason] = self._counts.get(reason, 0) + len(names)
        examples = self._aside.setdefault(reason, [])
        examples += names[: EXAMPLES - len(examples)]

    def asides(self, reason: str, names: Iterable[str]) -> None:
        for name in names:
            self.aside(reason, name)

    def close(self, identities: int) -> Account:
        """The account of what was counted."""
        aside = tuple(
            Aside(reason, count, tuple(self._aside[reason])) for reason, count in sorted(self._counts.items())
        )
        one = ("all labels are equal: one person",) if identities == 1 and self.images > 1 else ()
        return Account(
            self.unit, self.held, self.images, identities, self.parts, aside, (*self.remarks, *one)
        )

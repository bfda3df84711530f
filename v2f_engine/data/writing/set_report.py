"""What every report about a set has: whether it is whole, and the set itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from v2f_engine.data.formats import open_dataset
from v2f_engine.data.formats.dataset import Dataset


class SetReport:
    """Gives a report with `complete` and its set's folder the rest; `_place` names the field of the folder."""

    _place: ClassVar[str] = "path"

    if TYPE_CHECKING:  # a property here would become the default of a field of that name

        @property
        def complete(self) -> bool: ...

    @property
    def status(self) -> str:
        """`complete` or `stopped`."""
        return "complete" if self.complete else "stopped"

    @property
    def dataset(self) -> Dataset:
        """The set, opened.

        Raises:
            DatasetError: it is not finished, or the null format, which stores nothing.
        """
        return open_dataset(getattr(self, self._place))

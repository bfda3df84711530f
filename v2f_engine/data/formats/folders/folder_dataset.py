"""What a folder, a zip and a tar of people offer alike, once it is known who is on which picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.formats.account import Account
from v2f_engine.data.formats.dataset import Dataset
from v2f_engine.data.formats.folders.people import People


class FolderDataset(Dataset):
    """A `Dataset` whose class names are folders. `__init__` of a container ends with `found`."""

    def found(self, people: People) -> None:
        """Keeps who is on which picture."""
        self._labels, self._classes, self._account = people.labels, people.class_names, people.account

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    @property
    def class_names(self) -> list[str]:
        """Folder of each label, below what all share."""
        return self._classes

    def account(self) -> Account:
        return self._account

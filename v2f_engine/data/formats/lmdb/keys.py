"""Which keys of a stranger's LMDB are records: what its own entries say, held against what stands in the tree.

`__keys__` and `__len__` are msgpack (HaiyuWu's and Vec2Face's writers); without `__len__` every key that begins with no
`__` is a record, numbers in their order.
"""

from __future__ import annotations

from v2f_engine.data.formats.account import EXAMPLES
from v2f_engine.data.formats.lmdb.entries import unpack_value
from v2f_engine.data.formats.lmdb.tree_reader import TreeReader
from v2f_engine.errors import DatasetError

KEYS, LENGTH, CLASSES = b"__keys__", b"__len__", b"__classnum__"


def is_about(key: bytes) -> bool:
    """Whether an entry says something of the set and is no record."""
    return key.startswith(b"__")


def stated_length(tree: TreeReader) -> int | None:
    """What `__len__` says; None where there is none.

    Raises:
        DatasetError: no count, or more than the file holds.
    """
    count = _count(tree, LENGTH, 0)
    if (
        count is not None and count > tree.entries
    ):  # a cut-off __keys__ or __len__ would show here, not after an epoch
        raise DatasetError(f"{tree.path}: __len__ says {count}, the file holds {tree.entries} entries.")
    return count


def stated_classes(tree: TreeReader) -> int | None:
    """What `__classnum__` says: the published writer puts the largest label + 1 there; None where there is none.

    Raises:
        DatasetError: no count.
    """
    return _count(tree, CLASSES, 1)


def _count(tree: TreeReader, key: bytes, least: int) -> int | None:
    """The number under `key`; None where there is none. Raises DatasetError: no count, or below `least`."""
    value = tree.get(key, limit=64)
    if value is None:
        return None
    count = unpack_value(value, f"{tree.path}: {key!r}")
    if type(count) is not int or count < least:
        raise DatasetError(f"{tree.path}: expected a count under {key!r}, found {count!r:.40}.")
    return count


def stated_keys(tree: TreeReader, count: int) -> tuple[bytes, ...] | None:
    """`count` keys as `__keys__` lists them; None where they are 0, 1, 2, ...

    Raises:
        DatasetError: no list of keys, or another number of records under them than `count`.
    """
    value = tree.get(KEYS)
    if value is None:
        return None
    keys = unpack_value(value, f"{tree.path}: __keys__")
    if not isinstance(keys, tuple) or len(keys) < count or not all(type(key) is bytes for key in keys):
        found = f"{len(keys)} entries" if isinstance(keys, tuple) else type(keys).__name__
        raise DatasetError(f"{tree.path}: __keys__ is not a list of {count} keys, as __len__ says: {found}.")
    if len(set(keys)) < len(keys):
        raise DatasetError(
            f"{tree.path}: __keys__ lists {len(keys) - len(set(keys))} of {len(keys)} keys twice."
        )
    more = [key for key in keys[count:] if tree.find(key) is not None]
    if more:
        raise DatasetError(
            f"{tree.path}: __len__ says {count}, __keys__ lists {len(keys)}, and {len(more)} of those behind are "
            "records, such as "
            f"{more[0]!r:.40}: which is right? Write __len__ anew."
        )
    keys = keys[:count]
    return None if all(key == b"%d" % index for index, key in enumerate(keys)) else keys


def found_keys(tree: TreeReader) -> tuple[bytes, ...]:
    """All keys of a file without `__len__`: numbers in their order, else as the tree has them.

    Raises:
        DatasetError: none.
    """
    keys = [key for key, _ in tree.items() if not is_about(key)]
    if not keys:
        raise DatasetError(f"{tree.path}: {tree.entries} entries and no record.")
    numbers = all(key.isdigit() and len(key) < 19 for key in keys)
    return tuple(sorted(keys, key=int) if numbers else keys)


def unnamed(
    tree: TreeReader, keys: tuple[bytes, ...] | None, count: int
) -> tuple[list[bytes], list[bytes], int]:
    """(entries about the set, records that no list names, named records that do not exist), by a walk over the tree."""
    about, others, met = [], [], 0
    named = None if keys is None else frozenset(keys)
    for key, _ in tree.items():  # noqa: PERF102 -- no dict
        if is_about(key):
            about.append(key)
        elif (
            key in named
            if named is not None
            else key.isdigit() and key == b"%d" % int(key[:18]) and int(key) < count
        ):
            met += 1
        else:
            others.append(key)
    return about, others, count - met


def refuse_unnamed(tree: TreeReader, others: list[bytes], missing: int, count: int) -> None:
    """Raises DatasetError where records and what is said of them differ."""
    if others:
        names = ", ".join(repr(key)[:40] for key in others[:EXAMPLES])
        raise DatasetError(
            f"{tree.path}: {len(others)} entries that neither __keys__ nor __len__ ({count}) name, such as {names}: "
            "pictures would be "
            "missing. Write these entries anew."
        )
    if missing:
        raise DatasetError(
            f"{tree.path}: {missing} of {count} records do not exist: there is no entry under their keys."
        )

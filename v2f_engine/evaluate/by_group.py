"""How a set does group by group: people who are unique, images that are alike, and errors, within each group.

Everybody is compared with everybody of the same group, which is where people are alike. A share of fewer than `FEWEST`
trials is not told: by the rule of three, which ISO/IEC 19795-1 uses, 300 trials without an error leave a rate of up to
1 % possible (95 % confidence), and of fewer ones nothing useful is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.data.records.card import group_names
from v2f_engine.errors import DatasetError, VectorError
from v2f_engine.evaluate.consistency import measure_consistency
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.groups import IMPOSTORS, named_groups
from v2f_engine.evaluate.source import FeatureSource
from v2f_engine.scores import equal_error_rate, genuine_impostor
from v2f_engine.vectors.separability import separability_curve

OWN = "group"
"""Attribute of the images of people who were sampled by groups."""
FEWEST = 300
"""Trials below which a share is `too few`: identities, images, or pairs of one person, whichever the share is of."""


@dataclass(frozen=True)
class Group:
    """One group; a share is None where there are fewer than `FEWEST` trials of it.

    Args:
        name: of the group.
        identities, images, genuine_pairs: how many.
        unique_share: identities whose centre is above the threshold with no earlier one of the group; of identities.
        pair_cosine: mean cosine of two images of one person; of pairs of one person.
        own_nearest: images nearest to their own person's centre; of images.
        eer: equal error rate within the group; of pairs of one person.
        accuracy: pairs of one person and as many of two that the threshold tells right; of pairs of one person.
    """

    name: str
    identities: int
    images: int
    genuine_pairs: int
    unique_share: float | None
    pair_cosine: float | None
    own_nearest: float | None
    eer: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ByGroup:
    """All groups.

    Args:
        column: what they are by.
        threshold: cosine above which two are one person.
        fewest: `FEWEST`.
        groups: in the order of their names.
    """

    column: str
    threshold: float
    fewest: int
    groups: tuple[Group, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def measure_by_group(
    table: FeatureTable, groups: Sequence[str], *, column: str, threshold: float, seed: int = 0
) -> ByGroup:
    """Measures each group alone.

    Args:
        table: features and identities.
        groups: name of each image's group `[N]`.
        column: what they are by.
        threshold: cosine above which two are one person.
        seed: of the pairs of two people that are drawn.

    Raises:
        VectorError: another number of names than images.
    """
    names = np.asarray(groups, str)
    if names.shape != (len(table),):
        raise VectorError(f"expected {len(table)} group names, one an image, found {list(names.shape)}.")
    found = [_measured(table, names == name, str(name), threshold, seed) for name in np.unique(names)]
    return ByGroup(column, threshold, FEWEST, tuple(found))


def _measured(table: FeatureTable, own: NDArray[np.bool_], name: str, threshold: float, seed: int) -> Group:
    counts = np.unique(table.labels[own], return_counts=True)[1]
    pairs, people = int((counts * (counts - 1) // 2).sum()), len(counts)
    if people < 2:  # nobody of the group to be compared with, and no table of one person
        return Group(name, people, int(own.sum()), pairs, None, None, None, None, None)
    part = FeatureTable(table.features[own], table.labels[own])
    unique = alike = nearest = eer = accuracy = None
    if people >= FEWEST:
        unique = separability_curve(part.centres, threshold=threshold).share
    if counts.max() > 1:
        if min(pairs, len(part)) >= FEWEST:
            told = measure_consistency(part)
            alike, nearest = told.pair_cosine, told.own_nearest
        if pairs >= FEWEST:
            genuine, impostor = genuine_impostor(part.features, part.labels, impostors=IMPOSTORS, seed=seed)
            eer = equal_error_rate(genuine, impostor)[0]
            accuracy = float((genuine > threshold).mean() + (impostor <= threshold).mean()) / 2
    return Group(name, people, len(part), pairs, unique, alike, nearest, eer, accuracy)


def own_groups(source: FeatureSource) -> list[str] | None:
    """The group of each image of a set whose people were sampled by groups; None for any other set."""
    table = None if source.dataset is None else source.dataset.attributes()
    if table is None or OWN not in (table.dtype.names or ()) or not _names(source):
        return None
    return groups_of(source, OWN)


def groups_of(source: FeatureSource, attribute: str) -> list[str]:
    """The group of each image by an attribute; the groups that people were sampled by have their own names.

    Raises:
        DatasetError, ConfigError: no such attribute; or a group that the set's manifest does not name.
    """
    values = source.attribute(attribute)
    names = _names(source) if attribute == OWN else []
    if not names:
        return named_groups(values)
    places = np.asarray(values)
    if not np.isin(places, np.arange(len(names))).all():
        raise DatasetError(
            f"{source.name}: its manifest names {len(names)} groups, and an image's attribute {OWN!r} is none of them. "
            "See which file is broken: v2f verify."
        )
    return [names[int(place)] for place in places]


def column_of(source: FeatureSource) -> str:
    """What the people of a set were sampled by, such as `age`."""
    manifest = None if source.dataset is None else source.dataset.manifest
    return OWN if manifest is None else str(manifest.settings["identities"]["mix"].get("column", OWN))


def _names(source: FeatureSource) -> list[str]:
    manifest = None if source.dataset is None else source.dataset.manifest
    return [] if manifest is None else group_names(manifest.settings)

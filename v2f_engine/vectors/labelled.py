"""Statistics of several groups in one file: who they are by a label column, such as age, region or glasses.

Each group is a multivariate normal of its own, fitted as `statistics` fits one of everybody. A group of n rows has a
covariance of rank n - 1: with fewer rows than components its people would all lie in the few directions of those rows,
nearly copies of them. Such a fit is refused by the group's name, and asks for shrinkage or for one covariance of all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import one_of
from v2f_engine.errors import VectorError
from v2f_engine.vectors.files import (
    read_tensors,
    reading,
    rows_told,
    share_told,
    text_told,
    write_tensors,
)
from v2f_engine.vectors.group_names import check_names
from v2f_engine.vectors.statistics import Float32, Moments, Statistics, statistics_of

FORMAT = "v2f-statistics/2"
FEWEST = 10
"""Rows of a group: its mean is off the true one by 1 / n of the variance, a tenth at 10; of one row it is a person."""
COVARIANCES = ("own", "pooled")
"""Of each group its own, or one of all: how people differ from the mean of their group."""
SHOWN = 8


@dataclass(frozen=True)
class LabelledStatistics:
    """A multivariate normal a group.

    Args:
        column: what the groups are by: the name of the label's column, several joined by `/`.
        names: of the groups, ascending.
        groups: their statistics, of one dimension and one number of components.
        pooled: whether they share one covariance.
        origin: what was fitted, for people.

    Raises:
        VectorError: names that are none, or statistics that do not fit together.
    """

    column: str
    names: tuple[str, ...]
    groups: tuple[Statistics, ...]
    pooled: bool = False
    origin: str = ""

    def __post_init__(self) -> None:
        check_names(self.names, "groups")
        if list(self.names) != sorted(self.names) or len(self.names) != len(self.groups):
            raise VectorError(
                f"groups: expected {len(self.groups)} ascending names, found {list(self.names)[:SHOWN]}."
            )
        if len({one.factor.shape for one in self.groups}) > 1:
            raise VectorError("groups: statistics of different dimensions or numbers of components.")

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows that each group was fitted on."""
        return tuple(one.count for one in self.groups)

    @cached_property
    def together(self) -> Statistics:
        """Everybody, groups in the shares of their counts: mean and covariance of the mixture of normals."""
        share = np.array(self.counts) / sum(self.counts)
        mean = sum(s * one.mean for s, one in zip(share, self.groups, strict=True))
        covariance = sum(
            s * (one.covariance + np.outer(one.mean - mean, one.mean - mean))
            for s, one in zip(share, self.groups, strict=True)
        )
        found = Statistics(
            mean, covariance, sum(self.counts), np.zeros((len(mean), 1), np.float32), origin=self.origin
        )
        return found.with_components(len(mean))

    @cached_property
    def sha256(self) -> str:
        """Hash of what decides a sample: names, means and factors."""
        told = [[name, one.sha256] for name, one in zip(self.names, self.groups, strict=True)]
        return hashlib.sha256(f"{FORMAT} {json.dumps(told)}".encode()).hexdigest()


def fit_groups(
    blocks: Iterable[tuple[int, Float32]],
    groups: Sequence[str],
    *,
    column: str = "group",
    covariance: str = "own",
    components: int | None = None,
    shrinkage: float | str = 0.0,
    origin: str = "",
) -> LabelledStatistics:
    """Fits a mean and a covariance to each group of a stream of features.

    Args:
        blocks: (first row, float32 rows `[N, D]`), each row a person.
        groups: name of each row's group `[N]`.
        column: what the groups are by.
        covariance: in `COVARIANCES`.
        components, shrinkage, origin: as in `statistics.fit_statistics`, of every group; or of a pooled one.

    Raises:
        VectorError: another number of names than rows, names that cannot be groups, or a group of too few rows: fewer
            than `FEWEST`, or too few for its components without shrinkage. The message names them.
        ConfigError: components, shrinkage or covariance out of range.
    """
    one_of("covariance", covariance, COVARIANCES)
    what = f"{origin or 'features'} by {column}"
    check_names(list(dict.fromkeys(groups)), what)
    names = sorted(set(groups))
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places[name] for name in groups], np.int64)
    moments: list[Moments] = []
    done = 0
    for first, rows in blocks:
        done = first + len(rows)
        if done > len(codes):
            continue
        moments = moments or [Moments(rows.shape[1]) for _ in names]
        own = codes[first:done]
        for place in np.unique(own):
            moments[place].add(rows[own == place])
    if done != len(codes):
        raise VectorError(
            f"{what}: {done:,} rows of features and {len(codes):,} groups; expected a group for every row."
        )
    dimension = moments[0].scatter.shape[0]
    wanted = dimension if components is None else components
    _refuse_few(what, names, moments, covariance, wanted, bare=shrinkage in (0, 0.0))
    if covariance == "own":
        fitted = [
            statistics_of(
                one, components=components, shrinkage=shrinkage, origin=f"{name}, {origin}",
                what=f"{what}: group {name!r}: ",
            )
            for name, one in zip(names, moments, strict=True)
        ]  # fmt: skip
        return LabelledStatistics(column, tuple(names), tuple(fitted), origin=origin)
    within = Moments(dimension)
    within.count = sum(one.count for one in moments) - len(moments) + 1  # one mean a group instead of one
    within.scatter = sum((one.scatter for one in moments), np.zeros((dimension, dimension)))
    shared = statistics_of(
        within, components=components, shrinkage=shrinkage, origin=origin, what=f"{what}: "
    )
    fitted = [
        Statistics(
            one.mean, shared.covariance, one.count, shared.factor, shared.shrinkage, f"{name}, {origin}"
        )
        for name, one in zip(names, moments, strict=True)
    ]
    return LabelledStatistics(column, tuple(names), tuple(fitted), True, origin)


def _refuse_few(
    what: str, names: list[str], moments: list[Moments], covariance: str, components: int, *, bare: bool
) -> None:
    """Raises VectorError for groups that their rows cannot carry."""
    counts = {name: one.count for name, one in zip(names, moments, strict=True)}
    tiny = [f"{name!r} ({count})" for name, count in counts.items() if count < FEWEST]
    if tiny:
        raise VectorError(
            f"{what}: {len(tiny)} of {len(names)} groups have fewer than {FEWEST} rows: {_some(tiny)}. The mean of "
            "so few is nearly one of them. Join groups, leave their rows out, or put numbers into ranges."
        )
    if not bare:
        return
    if covariance == "pooled":
        rank = sum(counts.values()) - len(counts)
        if rank < components:
            raise VectorError(
                f"{what}: a pooled covariance of {sum(counts.values())} rows in {len(counts)} groups has rank {rank}, "
                f"below {components} components. Give --components {rank} or fewer, or --shrinkage oas."
            )
        return
    few = [f"{name!r} ({count})" for name, count in counts.items() if count - 1 < components]
    if few:
        raise VectorError(
            f"{what}: {len(few)} of {len(names)} groups have too few rows for a covariance of {components} "
            f"components, which takes {components + 1}: {_some(few)}. Their people would lie in as few directions as "
            "there are rows. Give --covariance pooled (each its own mean, one covariance of all), --shrinkage oas, or "
            f"--components {min(counts.values()) - 1} or fewer."
        )


def _some(told: list[str]) -> str:
    return ", ".join(told[:SHOWN]) + (", ..." if len(told) > SHOWN else "")


def save_labelled(path: str | Path, statistics: LabelledStatistics) -> None:
    """Writes a safetensors file, atomically: `mean` `[G, D]`, `covariance` `[C, D, D]` and `factor` `[C, D, K]`, where
    C is the number of groups G, or 1 where they share one; names and counts in its metadata.

    Raises:
        DiskFull, OutputFolderError: it cannot be written.
    """
    held = statistics.groups[:1] if statistics.pooled else statistics.groups
    tensors: dict[str, NDArray[Any]] = {
        "mean": np.stack([one.mean for one in statistics.groups]),
        "covariance": np.stack([one.covariance for one in held]),
        "factor": np.stack([one.factor for one in held]),
    }
    about = {
        "column": statistics.column,
        "names": list(statistics.names),
        "counts": list(statistics.counts),
        "shrinkage": [one.shrinkage for one in statistics.groups],
        "origin": statistics.origin,
        "pooled": statistics.pooled,
    }
    about["sha256"] = _sha256(tensors, about)
    write_tensors(path, tensors, {"format": FORMAT, "about": json.dumps(about, sort_keys=True)})


def load_labelled(path: str | Path) -> LabelledStatistics:
    """Reads what `save_labelled` wrote.

    Raises:
        VectorError: missing, truncated, foreign, changed, not finite, or parts that do not fit.
    """
    tensors, metadata = read_tensors(path, FORMAT)
    again = "Fit them again: v2f ids fit --groups."
    with reading(path, again):
        about = json.loads(metadata["about"])
        expected = text_told(about.pop("sha256"), "sha256")
        mean, covariance, factor = (tensors[name] for name in ("mean", "covariance", "factor"))
        names, counts, shrinkage = about["names"], about["counts"], about["shrinkage"]
        column, origin = (text_told(about[name], name) for name in ("column", "origin"))
        pooled = bool(about["pooled"])
        count, dimension = mean.shape
        held = 1 if pooled else count
        types = [array.dtype.name for array in (mean, covariance, factor)]
        shapes = (covariance.shape, factor.shape[:2], factor.ndim)
        fit = types == ["float64", "float64", "float32"] and shapes == (
            (held, dimension, dimension), (held, dimension), 3,
        )  # fmt: skip
        listed = all(isinstance(told, list) and len(told) == count for told in (names, counts, shrinkage))
        if not fit or not listed or not 1 <= factor.shape[2] <= dimension:
            raise VectorError(
                f"{path}: names, means, covariances and factors do not fit each other: {types}, {shapes}. {again}"
            )
        if not all(np.isfinite(array).all() for array in (mean, covariance, factor)):
            raise VectorError(f"{path}: statistics are not finite. {again}")
        if _sha256(tensors, about) != expected:
            raise VectorError(
                f"{path}: contents do not match their sha256 {expected[:12]}; the file was changed."
            )
        groups = [
            Statistics(
                mean[g], covariance[g % held], rows_told(counts[g], "counts"), factor[g % held],
                share_told(shrinkage[g], "shrinkage"), f"{names[g]}, {origin}",
            )
            for g in range(count)
        ]  # fmt: skip
        return LabelledStatistics(column, tuple(names), tuple(groups), pooled, origin)


def _sha256(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {json.dumps(about, sort_keys=True)}".encode())
    for name in ("mean", "covariance", "factor"):
        array = tensors[name]
        digest.update(f"{name} {array.shape} {array.dtype.name}".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()

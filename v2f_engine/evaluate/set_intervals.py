"""The interval of every measure of a set, by resampling its identities once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from v2f_engine.evaluate.consistency import Consistency
from v2f_engine.evaluate.dcface import Uniqueness
from v2f_engine.evaluate.features import FeatureTable
from v2f_engine.evaluate.intervals import FEWEST, Interval, of_number, of_quantile, of_rate, too_few, wilson
from v2f_engine.evaluate.resample import (
    ErrorRates,
    ImpostorMoments,
    Moments,
    Ratio,
    moments,
    ratios,
    resamples_of,
    weights,
)
from v2f_engine.evaluate.separability import Separability
from v2f_engine.scores import TELLING, threshold_at_fmr

RATES = (1e-2, 1e-3, 1e-4)
"""False-match rates at which the true-match rate is told."""
JACKKNIFED = 20_000
"""Identities up to which it is looked who is like whom, one by one left out."""
DEGENERATE = 2.0
"""What leaving one out finds where pairs are alike by chance alone, in trials an identity: taken for larger sets."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Extra:
    """What belongs to images beside their features, such as angles.

    Args:
        values: name -> (float `[N]`, identity of each as a place, int64 `[N]`); its mean and its deviation are told.
        shares: name -> (bool `[N]`, places): the share of true ones.
    """

    values: Mapping[str, tuple[NDArray[np.floating], NDArray[np.int64]]] = field(default_factory=dict)
    shares: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.int64]]] = field(default_factory=dict)


def true_match_name(rate: float) -> str:
    """Name of the true-match rate at a false-match rate."""
    return f"true_match_at_{rate:g}"


def set_intervals(
    table: FeatureTable,
    apart: Separability,
    alike: Consistency,
    three: Uniqueness,
    *,
    extra: Extra = Extra(),  # frozen
    seed: int = 0,
    resamples: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Interval]:
    """Name -> interval of 95 %, under the names that the record of a report has.

    Args:
        table: that was measured.
        apart, alike, three: what was measured of it.
        extra: further values of its images.
        seed: of the draws; the same seed gives the same intervals.
        resamples: how many; `resamples_of` by default.
        progress: called with (resamples done, in all).
    """
    numbers, places = np.unique(table.labels, return_inverse=True)
    identities, images = len(numbers), np.bincount(places).astype(np.int64)
    pairs_of_each = images * (images - 1) // 2
    owners = np.repeat(np.arange(identities), pairs_of_each)
    strangers = places[apart.impostor_rows]
    told = tuple(rate for rate in RATES if len(apart.impostor) * rate >= TELLING)
    errors = ErrorRates(
        (apart.genuine, owners), (apart.impostor, strangers), images, rates=told, near=apart.eer
    )
    genuine = moments(apart.genuine, owners, identities)
    impostor = ImpostorMoments.of(apart.impostor, strangers)
    more = {name: moments(values, who, identities) for name, (values, who) in extra.values.items()}
    means = {
        "pair_cosine": _spread(alike.per_identity, np.ones(len(alike.members)), alike.members, identities),
        "rest_cosine": _spread(alike.rest_sums, alike.counts, alike.members, identities),
    }
    shares = {
        "own_nearest": _spread(alike.own_sums, alike.counts, alike.members, identities),
        "false_non_match_rate": _of_each(apart.genuine <= apart.threshold, owners, identities),
        **{name: _of_each(flags, who, identities) for name, (flags, who) in extra.shares.items()},
    }
    if three.per_identity is not None:
        shares["consistent"] = Ratio(three.per_identity, np.ones(identities))

    def statistics(drawn: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        rates = errors(drawn)
        found = {"eer": rates[:, 0], **{true_match_name(r): rates[:, 1 + n] for n, r in enumerate(told)}}
        one, other = genuine(drawn), impostor(drawn)
        found |= {"genuine_mean": one[0], "impostor_mean": other[0]}
        found["fdr"] = (one[0] - other[0]) ** 2 / np.maximum(one[1] + other[1], 1e-12)
        found |= ratios({**means, **shares}, drawn)
        for name, values in more.items():
            mean, variance = values(drawn)
            found |= {name: mean, f"{name}_deviation": np.sqrt(variance)}
        return found

    whole = {
        name: float(value[0]) for name, value in statistics(np.ones((1, identities), np.float32)).items()
    }
    count = resamples_of(identities) if resamples is None else resamples
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in whole}
    done = 0
    for drawn in weights(identities, count, seed):
        for name, values in statistics(drawn).items():
            parts[name].append(values)
        done += len(drawn)
        if progress is not None:
            progress(done, count)
    measured = _measured(apart, alike, three, shares, more)
    paired = int((pairs_of_each > 0).sum())
    rates = {"eer", *shares, *(true_match_name(rate) for rate in told)}
    found = {}
    for name, several in parts.items():
        resampled = np.concatenate(several)
        people = _people(name, extra, paired, identities)
        value = measured.get(name, whole[name])
        if name in rates:
            found[name] = of_rate(value, resampled, people)
        else:
            found[name] = of_number(value, resampled, whole[name], people)
    for rate in set(RATES) - set(told):
        if len(apart.impostor) * rate >= 1:
            value = measured[true_match_name(rate)]
            why = f"too few pairs of two people: {len(apart.impostor):,}, {TELLING / rate:,.0f} needed"
            found[true_match_name(rate)] = too_few(value, identities, "wilson", why)
    for name, share in (("pair_cosine_p05", 0.05), ("pair_cosine_p95", 0.95)):
        found[name] = of_quantile(float(getattr(alike, name)), alike.per_identity, share)
    return found | _unique(table, apart, three)


def _spread(
    sums: NDArray[np.floating], counts: NDArray[np.float64], members: NDArray[np.int64], identities: int
) -> Ratio:
    """A mean over some of the identities, which others bring nothing to."""
    both = np.zeros((2, identities))
    both[0, members], both[1, members] = sums, counts
    return Ratio(both[0], both[1])


def _of_each(flags: NDArray[np.bool_], who: NDArray[np.int64], identities: int) -> Ratio:
    counts = np.bincount(who, minlength=identities).astype(np.float64)
    sums = np.bincount(who, flags.astype(np.float64), minlength=identities).astype(np.float64)
    return Ratio(sums, counts)


def _measured(
    apart: Separability,
    alike: Consistency,
    three: Uniqueness,
    shares: Mapping[str, Ratio],
    more: Mapping[str, Moments],
) -> dict[str, float]:
    """The values that the intervals are around, as their own functions measured them."""
    names = ("eer", "fdr", "genuine_mean", "impostor_mean", "false_non_match_rate")
    found = {name: float(getattr(apart, name)) for name in names}
    of_identity = ("pair_cosine", "rest_cosine", "own_nearest")
    found |= {name: float(getattr(alike, name)) for name in of_identity}
    found["consistent"] = three.consistent
    for rate in RATES:
        if len(apart.impostor) * rate >= 1:
            found[true_match_name(rate)] = float(
                (apart.genuine >= threshold_at_fmr(apart.impostor, rate)).mean()
            )
    for name, ratio in shares.items():
        found.setdefault(name, float(ratio.sums.sum() / max(1.0, ratio.counts.sum())))
    return found


def _people(name: str, extra: Extra, paired: int, identities: int) -> int:
    """How many identities tell a measure."""
    for known in (*extra.values, *extra.shares):
        if name in (known, f"{known}_deviation"):
            return len(np.unique((extra.values.get(known) or extra.shares[known])[1]))
    return identities if name in ("impostor_mean", "consistent") else paired


def _unique(table: FeatureTable, apart: Separability, three: Uniqueness) -> dict[str, Interval]:
    """Of the shares of unique identities. People drawn twice would be repeats, so one is left out at a time."""
    trials = len(apart.repeated) / unique_trials(table.centres, apart.threshold, apart.repeated)
    found = {}
    for name, share in (("unique_share", apart.unique_share), ("unique", three.unique)):
        known = apart.identities >= FEWEST
        found[name] = (
            Interval(share, *wilson(share, max(1.0, trials)), apart.identities, "wilson")
            if known
            else too_few(share, apart.identities, "wilson")
        )
    return found


def unique_trials(
    centres: NDArray[np.float32], threshold: float, repeated: NDArray[np.bool_], block: int = 512
) -> float:
    """Identities a trial of the unique share: 1 where each is judged by itself, 2 where pairs are alike by chance.

    The jackknife's variance over that of independent trials. It is never too small on average (Efron and Stein 1981).

    Args:
        centres: float32 `[I, D]`, in the order in which earlier ones count.
        threshold: cosine above which two are one.
        repeated: bool `[I]`.
        block: rows compared at a time.
    """
    identities = len(centres)
    if identities > JACKKNIFED:
        return DEGENERATE
    units = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    freed = np.zeros(identities)
    rows = np.flatnonzero(repeated)
    for start in range(0, len(rows), block):
        some = rows[start : start + block]
        like = units[some] @ units.T > threshold
        like &= np.arange(identities) < some[:, None]
        once = like.sum(axis=1) == 1
        np.add.at(freed, like[once].argmax(axis=1), 1)  # were that one not there, this one would be unique
    unique = int((~repeated).sum())
    without = (unique - ~repeated + freed) / (identities - 1)
    variance = (identities - 1) / identities * float(((without - without.mean()) ** 2).sum())
    share = unique / identities
    return max(1.0, variance / max(share * (1 - share) / identities, 1e-18)) if 0 < share < 1 else 1.0

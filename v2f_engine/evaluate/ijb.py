"""IJB-B and IJB-C: images to media to templates, pairs of templates, TPR at FPR.

Protocol of the published scripts: a feature is that of the image plus that of its mirror image, not normalised, times
the detector's score where scores are used; the features of one medium are averaged, the media of one template summed,
the sum scaled to norm 1; a pair's score is the cosine of its templates.

The rates are read off a ROC curve, and there are two. The public scripts (SOTA-FR `eval_ijb.py`, insightface
`onnx_ijbc.py` and `eval_ijbc.py`, AdaFace, CVLface, MagFace) call scikit-learn's `roc_curve(label, score)`, which
leaves out points between two steps in one direction (`drop_intermediate=True`), and take the point nearest to the rate:
with few pairs that point may lie far from it. `as-published` does the same; `exact` has every point.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.config import one_of
from v2f_engine.data.gate.tables import read_columns
from v2f_engine.errors import DatasetError, VectorError
from v2f_engine.models.feature_health import judge_features

FPRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
HEADLINE = 1e-4
AS_PUBLISHED, EXACT = "as-published", "exact"
CURVES = (AS_PUBLISHED, EXACT)
"""What the rates are read off: the points that scikit-learn keeps by default, or all of them."""
PAIR_BLOCK = 100_000


@dataclass(frozen=True)
class IjbProtocol:
    """The files of one IJB protocol.

    Args:
        names: `[N]` image file names, in the order of the files.
        templates, media: int64 `[N]`, template and medium of each image.
        pairs: int64 `[P, 2]`, templates compared.
        same: bool `[P]`.
        landmarks: float32 `[N, 5, 2]` in pixels of the loose crops, or None.
        scores: float32 `[N]` of the face detector, or None.

    Raises:
        DatasetError: lengths that do not fit, pairs of one kind only, or a pair of a template without images.
    """

    names: tuple[str, ...]
    templates: NDArray[np.int64]
    media: NDArray[np.int64]
    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]
    landmarks: NDArray[np.float32] | None = None
    scores: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.templates) == len(self.media):
            raise DatasetError(
                f"{len(self.names)} names for {len(self.templates)} rows of templates and media."
            )
        unknown = np.setdiff1d(self.pairs, self.templates)
        if len(unknown):
            raise DatasetError(
                f"The pairs name {len(unknown)} templates without an image, among them {unknown[:5].tolist()}."
            )
        if self.same.all() or not self.same.any():
            kind = "genuine" if self.same.all() else "impostors"
            raise DatasetError(f"All {len(self.same)} pairs of the protocol are {kind}; expected both.")


def read_protocol(meta: str | Path, name: str | None = None) -> IjbProtocol:
    """Reads `<name>_face_tid_mid.txt`, `<name>_template_pair_label.txt` and `<name>_name_5pts_score.txt`.

    Args:
        meta: their folder.
        name: `ijbb` or `ijbc`; by default the only one there.

    Raises:
        DatasetError: a file is missing, a line is broken (its number is given), or the files do not agree.
    """
    meta = Path(meta)
    if name is None:
        found = sorted(
            path.name.removesuffix("_face_tid_mid.txt") for path in meta.glob("*_face_tid_mid.txt")
        )
        if len(found) != 1:
            raise DatasetError(f"{meta}: expected one *_face_tid_mid.txt, found {found}; give the name.")
        name = found[0]
    who = read_columns(meta / f"{name}_face_tid_mid.txt", "image template medium", (str, int, int))
    pairs = read_columns(meta / f"{name}_template_pair_label.txt", "template template label", (int, int, int))
    labels = np.asarray(pairs[2])
    if not np.isin(labels, (0, 1)).all():
        raise DatasetError(f"{meta}: {name}_template_pair_label.txt: labels other than 0 and 1.")
    places = meta / f"{name}_name_5pts_score.txt"
    landmarks = scores = None
    if places.is_file():
        columns = read_columns(places, "image x1 y1 .. x5 y5 score", (str, *[float] * 11))
        if [Path(item).name for item in columns[0]] != [Path(item).name for item in who[0]]:
            raise DatasetError(
                f"{places}: its images are not those of {name}_face_tid_mid.txt, in that order."
            )
        values = np.asarray(columns[1:], np.float32).T
        landmarks, scores = values[:, :10].reshape(-1, 5, 2), values[:, 10]
    return IjbProtocol(
        tuple(who[0]),
        np.asarray(who[1], np.int64),
        np.asarray(who[2], np.int64),
        np.stack([np.asarray(pairs[0], np.int64), np.asarray(pairs[1], np.int64)], axis=1),
        labels == 1,
        landmarks,
        scores,
    )


def template_features(
    features: NDArray[np.floating[Any]],
    templates: NDArray[np.int64],
    media: NDArray[np.int64],
    scores: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(template numbers ascending `[T]`, unit features `[T, D]`).

    Args:
        features: `[N, D]`, mirrored features summed, un-normalised.
        templates, media: int64 `[N]`; media are numbered within their template.
        scores: weights of the images, or None.

    Raises:
        VectorError: another number of rows, rows that are not finite or all the same, a template that sums to nothing.
    """
    if not len(features) == len(templates) == len(media):
        raise VectorError(
            f"{len(features):,} features for {len(templates):,} images of the protocol; expected one a line of "
            "*_face_tid_mid.txt, in its order."
        )
    judge_features(features).check("IJB features")
    rows = features.astype(np.float64)
    if scores is not None:
        rows = rows * scores[:, None]
    pairs, medium = np.unique(np.stack([templates, media], 1), axis=0, return_inverse=True)
    medium = medium.reshape(-1)
    sums = np.zeros((len(pairs), rows.shape[1]))
    np.add.at(sums, medium, rows)
    means = sums / np.bincount(medium)[:, None]
    numbers, place = np.unique(pairs[:, 0], return_inverse=True)
    totals = np.zeros((len(numbers), rows.shape[1]))
    np.add.at(totals, place.reshape(-1), means)
    norm = np.linalg.norm(totals, axis=1, keepdims=True)
    if not norm.all():
        raise VectorError(f"Templates {numbers[norm[:, 0] == 0][:5].tolist()} sum to nothing.")
    return numbers, totals / norm


@dataclass(frozen=True)
class Ijb:
    """One protocol through one recogniser.

    Args:
        templates, pairs, genuine_pairs: how many.
        curve: of `CURVES`, what the rates are read off.
        tpr: share of genuine pairs accepted, by false-positive rate (as text).
        headline: TPR at FPR 1e-4, the number papers quote.
        scores, same: cosine float64 and label of each pair.
    """

    templates: int
    pairs: int
    genuine_pairs: int
    curve: str
    tpr: dict[str, float]
    headline: float
    scores: NDArray[np.float64] = field(repr=False)
    same: NDArray[np.bool_] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key not in ("scores", "same")}


def measure_ijb(
    features: NDArray[np.floating[Any]],
    protocol: IjbProtocol,
    *,
    use_scores: bool = True,
    curve: str = AS_PUBLISHED,
) -> Ijb:
    """TPR at FPR of a protocol.

    Args:
        features: `[N, D]` in the protocol's order, mirrored features summed, un-normalised.
        protocol: from `read_protocol`.
        use_scores: weigh images by the detector's score, where the protocol has them.
        curve: of `CURVES`.

    Raises:
        VectorError: as in `template_features`; or pairs of one kind only. ConfigError: another curve.
    """
    one_of("curve", curve, CURVES)
    numbers, units = template_features(
        features, protocol.templates, protocol.media, protocol.scores if use_scores else None
    )
    places = np.searchsorted(numbers, protocol.pairs)
    scores = np.empty(len(places), np.float64)  # as published: float32 would tie pairs that differ by 1e-8
    for start in range(0, len(places), PAIR_BLOCK):
        part = places[start : start + PAIR_BLOCK]
        scores[start : start + PAIR_BLOCK] = np.einsum("nd,nd->n", units[part[:, 0]], units[part[:, 1]])
    tpr = tpr_at_fpr(scores, protocol.same, FPRS, curve=curve)
    return Ijb(
        len(numbers),
        len(scores),
        int(protocol.same.sum()),
        curve,
        {f"{fpr:g}": value for fpr, value in zip(FPRS, tpr, strict=True)},
        tpr[FPRS.index(HEADLINE)],
        scores,
        protocol.same,
    )


def tpr_at_fpr(
    scores: NDArray[np.floating[Any]],
    same: NDArray[np.bool_],
    fprs: tuple[float, ...],
    *,
    curve: str = AS_PUBLISHED,
) -> list[float]:
    """Of the flipped curve the point nearest each rate; of points equally near the one with the larger rates.

    Args:
        scores, same: `[P]` each.
        fprs: false-positive rates.
        curve: of `CURVES`.

    Raises:
        VectorError: pairs of one kind only. ConfigError: another curve.
    """
    one_of("curve", curve, CURVES)
    if same.all() or not same.any():
        raise VectorError(f"All {len(same)} pairs are {'genuine' if same.all() else 'impostors'}.")
    false, true = roc_counts(scores, same)
    if curve == AS_PUBLISHED:
        kept = turning_points(false, true)
        false, true = false[kept], true[kept]
    tpr = np.append(0.0, true / true[-1])[::-1]
    fpr = np.append(0.0, false / false[-1])[::-1]
    return [float(tpr[int(np.argmin(np.abs(fpr - rate)))]) for rate in fprs]


def roc_counts(
    scores: NDArray[np.floating[Any]], same: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(impostors, genuine pairs) at or above each distinct score, the highest score first: int64 `[S]` each."""
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], same[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return np.cumsum(~truth)[last], np.cumsum(truth)[last]


def turning_points(false: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool `[S]`: the first point, the last, and those between two unequal steps.

    What `drop_intermediate=True` of scikit-learn's `roc_curve` keeps (1.9, `sklearn/metrics/_ranking.py`): a point goes
    where both counts' second difference is 0. That is stricter than "on a straight line": of equal slopes with steps of
    other lengths, as ties make them, the point stays.
    """
    kept = np.ones(len(false), np.bool_)
    kept[1:-1] = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    return kept

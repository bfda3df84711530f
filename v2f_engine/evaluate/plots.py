"""Pictures of measurements, as PNG files or as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.errors import ConfigError, OutputFolderError
from v2f_engine.evaluate.separability import Separability

if TYPE_CHECKING:
    from v2f_engine.evaluate.consistency import Consistency
    from v2f_engine.evaluate.ijb import Ijb
    from v2f_engine.evaluate.leakage import Leakage
    from v2f_engine.evaluate.verification import Verification

GENUINE, IMPOSTOR = "#0072b2", "#d55e00"
"""Blue and vermilion of Okabe and Ito: told apart by readers with any colour vision."""
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")


def plot_histograms(measured: Mapping[str, Separability], path: str | Path, *, bins: int = 120) -> None:
    """Genuine and impostor cosines of each named dataset, one above the other on the same axis.

    Raises:
        ConfigError: nothing to draw.
        OutputFolderError: the file cannot be written.
    """
    if not measured:
        raise ConfigError("A histogram needs at least one measured dataset, found none.")
    low = min(float(min(m.genuine.min(), m.impostor.min())) for m in measured.values())
    edges = np.linspace(axis_start(low), 1.0, bins + 1)
    figure = _figure(7.5, 0.6 + 2.7 * len(measured))
    rows = figure.subplots(len(measured), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, m) in zip(rows, measured.items(), strict=True):
        two_histograms(axes, m.genuine, m.impostor, edges)
        axes.axvline(m.eer_threshold, color="0.3", linewidth=1)
        axes.axvline(m.threshold, color="0.3", linewidth=1, linestyle="--")
        top = axes.get_ylim()[1]
        axes.text(m.eer_threshold, top * 0.97, " EER", va="top", fontsize=8, color="0.3")
        axes.text(m.threshold, top * 0.85, " threshold", va="top", fontsize=8, color="0.3")
        axes.set_title(
            f"{name}: EER {100 * m.eer:.2f} %, unique identities {100 * m.unique_share:.1f} % "
            f"of {m.identities:,} at cosine {m.threshold:.2f}",
            fontsize=10,
        )
    rows[-1].set_xlabel("cosine of two images' features")
    _save(figure, path)


def axis_start(lowest: float | np.floating[Any]) -> float:
    """Where an axis of cosines begins: the tenth below the lowest, so never at its end."""
    return min(0.9, float(np.floor(lowest * 10) / 10))


def two_histograms(
    axes: Any, genuine: NDArray[np.float32], impostor: NDArray[np.float32], edges: NDArray[np.float64]
) -> None:
    """Densities of genuine and impostor cosines."""
    for scores, colour, kind in (
        (impostor, IMPOSTOR, "different people"),
        (genuine, GENUINE, "same person"),
    ):
        label = f"{kind}, {len(scores):,} pairs"
        axes.hist(scores, edges, density=True, color=colour, alpha=0.55, label=label)
    axes.set_ylabel("density")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=8, frameon=False)


def plot_consistency(measured: Consistency, path: str | Path) -> None:
    """How alike the images of an identity are, over identities."""
    figure = _figure(7.0, 3.6)
    axes = figure.subplots()
    edges = np.linspace(axis_start(measured.per_identity.min()), 1.0, 81)
    axes.hist(np.minimum(measured.per_identity, 1.0), edges, color=GENUINE, alpha=0.75)
    for value, text in ((measured.pair_cosine, "mean"), (measured.pair_cosine_p05, "5 %")):
        axes.axvline(value, color="0.3", linewidth=1)
        axes.text(value, axes.get_ylim()[1] * 0.96, f" {text} {value:.3f}", va="top", fontsize=8, color="0.3")
    axes.set_xlabel("mean cosine of an identity's image pairs")
    axes.set_ylabel("identities")
    axes.set_title(
        f"{measured.identities:,} identities; {100 * measured.own_nearest:.1f} % of images nearest to "
        "their own centre",
        fontsize=10,
    )
    axes.grid(alpha=0.25)
    _save(figure, path)


def plot_leakage(measured: Leakage, path: str | Path) -> None:
    """Top-1 cosines of the synthetic rows, with the thresholds."""
    figure = _figure(7.0, 3.6)
    axes = figure.subplots()
    edges = np.linspace(axis_start(measured.cosine.min()), 1.0, 101)
    axes.hist(np.minimum(measured.cosine, 1.0), edges, color=GENUINE, alpha=0.75)
    axes.set_yscale("log")
    for above in measured.above:
        axes.axvline(above.threshold, color=IMPOSTOR, linewidth=1)
        axes.text(
            above.threshold, axes.get_ylim()[1] * 0.7, f" {above.what}: {above.count:,} above", fontsize=8,
            rotation=90, va="top",
        )  # fmt: skip
    axes.set_xlabel(f"cosine with the nearest of {measured.gallery:,} gallery rows")
    axes.set_ylabel("synthetic rows")
    axes.grid(alpha=0.25)
    _save(figure, path)


def plot_verification(measured: Sequence[Verification], path: str | Path) -> None:
    """ROC of each set, false-match rate on a logarithmic axis."""
    figure = _figure(6.4, 4.6)
    axes = figure.subplots()
    for colour, m in zip(SERIES * len(measured), measured, strict=False):
        label = f"{m.name}: {100 * m.accuracy:.2f} % ± {100 * m.deviation:.2f}"
        axes.step(*roc(m.genuine, m.impostor), color=colour, label=label, where="post")
    roc_axes(axes)
    _save(figure, path)


def plot_ijb(measured: Ijb, path: str | Path) -> None:
    """ROC of the templates, with the points that papers quote."""
    figure = _figure(6.4, 4.6)
    axes = figure.subplots()
    axes.step(
        *roc(measured.scores[measured.same], measured.scores[~measured.same]), color=GENUINE, where="post"
    )
    fprs = [float(rate) for rate in measured.tpr]
    label = f"TPR at FPR 1e-4, {measured.curve}: {100 * measured.headline:.2f} %"
    axes.plot(fprs, list(measured.tpr.values()), "o", color=IMPOSTOR, label=label)
    roc_axes(axes)
    _save(figure, path)


def roc(
    genuine: NDArray[np.floating[Any]], impostor: NDArray[np.floating[Any]], points: int = 2000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false-match rates, true-match rates) at up to `points` thresholds spread over the impostors' ranks."""
    g, i = np.sort(genuine), np.sort(impostor)
    ranks = np.unique(np.geomspace(1, len(i), min(points, len(i))).astype(np.int64))
    thresholds = i[len(i) - ranks]
    false = (len(i) - np.searchsorted(i, thresholds, side="left")) / len(i)
    true = (len(g) - np.searchsorted(g, thresholds, side="left")) / len(g)
    return false.astype(np.float64), true.astype(np.float64)


def roc_axes(axes: Any) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("false-match rate")
    axes.set_ylabel("true-match rate")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def png_bytes(figure: Any, dpi: int = 120) -> bytes:
    """The figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi, format="png")
    return stream.getvalue()


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: str | Path) -> None:
    try:
        Path(path).write_bytes(png_bytes(figure))
    except OSError as error:
        raise OutputFolderError(f"{path}: cannot be written ({error.strerror}).") from error

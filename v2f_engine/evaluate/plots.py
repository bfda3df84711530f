"""Pictures of measurements, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from v2f_engine.errors import ConfigError, OutputFolderError
from v2f_engine.evaluate.separability import Separability

GENUINE, IMPOSTOR = "#0072b2", "#d55e00"
"""Blue and vermilion of Okabe and Ito: told apart by readers with any colour vision."""


def plot_histograms(measured: Mapping[str, Separability], path: str | Path, *, bins: int = 120) -> None:
    """Genuine and impostor cosines of each named dataset, one above the other on the same axis.

    Raises:
        ConfigError: nothing to draw.
        OutputFolderError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not measured:
        raise ConfigError("A histogram needs at least one measured dataset, found none.")
    low = min(float(min(m.genuine.min(), m.impostor.min())) for m in measured.values())
    edges = np.linspace(np.floor(low * 10) / 10, 1.0, bins + 1)
    figure = Figure(figsize=(7.5, 0.6 + 2.7 * len(measured)), layout="constrained")
    rows = figure.subplots(len(measured), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, m) in zip(rows, measured.items(), strict=True):
        for scores, colour, kind in (
            (m.impostor, IMPOSTOR, "different people"),
            (m.genuine, GENUINE, "same person"),
        ):
            axes.hist(
                scores, edges, density=True, color=colour, alpha=0.55, label=f"{kind}, {len(scores):,} pairs"
            )
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
        axes.set_ylabel("density")
        axes.grid(alpha=0.25)
        axes.legend(loc="upper left", fontsize=8, frameon=False)
    rows[-1].set_xlabel("cosine of two images' features")
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise OutputFolderError(f"{path}: cannot be written ({error.strerror}).") from error

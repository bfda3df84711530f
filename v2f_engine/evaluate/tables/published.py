"""Figures that others have published of training sets, each with its source. Nothing here was measured by us.

Accuracies are percent, as the source states them. Trainers differ (IR-SE-50 or IR-50; ArcFace, AdaFace or CosFace), so
differences below about 0.3 between sources mean nothing. What no source states is not there: nothing is estimated, and
what was read off a plot says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from v2f_engine.evaluate.tables.columns import AVERAGE, FIVE, FOUR, IJBC, TWINS, Column, unique_at


@dataclass(frozen=True)
class Cited:
    """A source: how it is called, where it is, and in which revision or when it was read."""

    name: str
    url: str
    revision: str


VEC2FACE = Cited("Vec2Face README", "https://github.com/HaiyuWu/Vec2Face", "read at 9d9fa8c")
PLUS = Cited("Vec2Face+ README", "https://github.com/HaiyuWu/Vec2Face_plus", "read at 7aea100")
PAGE = Cited("Vec2Face project page", "https://haiyuwu.github.io/vec2face.github.io/", "read in 2025")
PLUS_PLOT = Cited(
    "Vec2Face+ README, figure acc.png", "https://github.com/HaiyuWu/Vec2Face_plus", "read at 7aea100"
)
SEPARABLE = Cited("Vec2Face, figure of separability", "https://arxiv.org/abs/2409.02979", "ICLR 2025")
ZOO = Cited(
    "SOTA-FR model zoo", "https://github.com/HaiyuWu/SOTA-Face-Recognition-Train-and-Test", "read at b8c42fe"
)
INSIGHTFACE = Cited(
    "arcface_torch README",
    "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch",
    "read at 7fadd42",
)
VIGFACE = Cited("VIGFace README", "https://github.com/kim1102/VIGFace", "read at 22c5806")
ADMIS = Cited("ADMIS README", "https://github.com/zzzweakman/CVPR24_FRCSyn_ADMIS", "read in March 2025")
CEMIFACE = Cited("CemiFace README", "https://github.com/szlbiubiubiu/CemiFace", "read at cc4e375")
VARIFACE = Cited("arXiv 2412.06235", "https://arxiv.org/abs/2412.06235", "version 2")
BEYOND = Cited("arXiv 2510.17372", "https://arxiv.org/abs/2510.17372", "October 2025")


@dataclass(frozen=True)
class Figure:
    """One published number, in the unit of its column.

    Args:
        value, source: what, and who says so.
        off_plot: read off a drawing, to about 1 % of its axis, not off a printed number.
        computed: the mean of the row's own figures, where its source states none.
    """

    value: float
    source: Cited
    off_plot: bool = False
    computed: bool = False


@dataclass(frozen=True)
class Row:
    """What is published of one training set, in one table.

    Args:
        name: of the set, once in a table.
        people, images: of the set, as the source says; None where it does not.
        figures: by column; what is missing is not known.
        source: of all of them.
        photographs: of real people: best figures are sought among generated sets only.
        note: what a reader should know of this row.
    """

    name: str
    people: int | None
    images: int | None
    source: Cited
    figures: Mapping[Column, Figure] = field(default_factory=dict)
    photographs: bool = False
    note: str = ""

    @property
    def average(self) -> float | None:
        """Of the five sets, percent; None where nobody states it."""
        found = self.figures.get(AVERAGE)
        return None if found is None else found.value

    @property
    def accuracy(self) -> tuple[float, ...] | None:
        """Percent on the five sets, or None where the average alone is stated."""
        found = [self.figures[column].value for column in FIVE if column in self.figures]
        return tuple(found) if len(found) == len(FIVE) else None


K, M = 1_000, 1_000_000
Five = tuple[float, float, float, float, float]


def _row(
    name: str,
    people: int | None,
    images: int | None,
    source: Cited,
    five: Five | None,
    average: float | None = None,
    *,
    photographs: bool = False,
    off_plot: bool = False,
    note: str = "",
) -> Row:
    figures = {} if five is None else {c: Figure(v, source) for c, v in zip(FIVE, five, strict=True)}
    if average is not None:
        figures[AVERAGE] = Figure(average, source, off_plot=off_plot)
    elif five is not None:
        figures[AVERAGE] = Figure(sum(five) / len(five), source, computed=True)
    return Row(name, people, images, source, figures, photographs, note)


VERIFICATION = (
    _row("SynFace", 10 * K, 500 * K, VEC2FACE, (91.93, 75.03, 70.43, 61.63, 74.73), 74.75),
    _row("GANDiffFace", 10 * K, 500 * K, VIGFACE, (90.77, 73.27, 72.32, 66.35, 74.68), 75.48),
    _row("SFace", None, 600 * K, VEC2FACE, (91.87, 73.86, 73.20, 71.68, 77.93), 77.71),
    _row(
        "IDnet", None, 500 * K, VEC2FACE, (92.58, 75.40, 74.25, 63.88, 79.90), 79.13,
        note="its source states 79.13 beside five figures whose mean is 77.20",
    ),
    _row("ExFaceGAN", None, 500 * K, VEC2FACE, (93.50, 73.84, 71.60, 78.92, 82.98), 80.17),
    _row("SFace2", None, 600 * K, VEC2FACE, (95.60, 77.11, 74.60, 77.37, 83.40), 81.62),
    _row("Langevin-DisCo", None, 600 * K, VEC2FACE, (96.60, 73.89, 74.77, 80.70, 87.77), 82.75),
    _row(
        "DigiFace", 10 * K, M, VEC2FACE, (95.40, 87.40, 78.87, 76.97, 78.62), 83.45,
        note="VIGFace's README gives the same figures for 0.5M images",
    ),
    _row("IDiff-Face, trainer of ADMIS", 10 * K, None, ADMIS, (97.10, 82.00, 76.65, 78.40, 86.32), 84.09),
    _row("DigiFace 110K", 110 * K, None, PLUS_PLOT, None, 86.3, off_plot=True),
    _row("IDiff-Face", 10 * K, 500 * K, VEC2FACE, (98.00, 85.47, 80.45, 86.43, 90.65), 88.20),
    _row("HyperFace", 10 * K, 500 * K, VIGFACE, (98.50, 88.83, 84.23, 86.53, 89.40), 89.50),
    _row("DCFace", 10 * K, 500 * K, VEC2FACE, (98.55, 85.33, 82.62, 89.70, 91.60), 89.56),
    _row("ID³", 10 * K, 500 * K, PLUS, (97.68, 86.84, 82.77, 91.00, 90.73), 89.80),
    _row("DCFace, trainer of ADMIS", 10 * K, None, ADMIS, (98.60, 88.21, 83.33, 88.18, 91.38), 89.94),
    _row("DCFace 1.2M", 60 * K, 1200 * K, VIGFACE, (98.58, 88.61, 85.07, 90.97, 92.82), 91.21),
    _row("HyperFace 50K", 50 * K, None, PLUS_PLOT, None, 91.5, off_plot=True),
    _row("Arc2Face", 10 * K, 500 * K, VEC2FACE, (98.81, 91.87, 85.16, 90.18, 92.63), 91.73),
    _row("HSFace10K", 10 * K, 500 * K, VEC2FACE, (98.87, 88.97, 85.47, 93.12, 93.57), 92.00),
    _row("ADMIS Syn_10k", 10 * K, 500 * K, ADMIS, (99.17, 92.79, 87.67, 89.42, 91.43), 92.09),
    _row(
        "CemiFace", 10 * K, 500 * K, PLUS, (99.03, 91.06, 87.65, 91.33, 92.42), 92.30,
        note="its paper's set, by AdaFace; VIGFace's README gives CPLFW 87.62",
    ),
    _row("HSFace20K", 20 * K, M, VEC2FACE, (98.87, 89.87, 86.13, 93.85, 93.65), 92.47),
    _row("VIGFace(S)", 10 * K, 500 * K, VIGFACE, (99.02, 95.09, 87.72, 90.95, 90.00), 92.56),
    _row("CemiFace, repository", None, 500 * K, CEMIFACE, None, 92.71),
    _row("HSFace100K", 100 * K, 5 * M, VEC2FACE, (99.25, 90.36, 86.75, 94.38, 94.12), 92.97),
    _row("Arc2Face 1.2M", 60 * K, 1200 * K, VIGFACE, (98.92, 94.58, 86.45, 92.45, 93.33), 93.14),
    _row("HSFace200K", 200 * K, 10 * M, VEC2FACE, (99.23, 90.81, 87.30, 94.22, 94.52), 93.22),
    _row("CemiFace 1.2M", 60 * K, 1200 * K, VIGFACE, (99.22, 92.84, 88.86, 92.13, 93.03), 93.22),
    _row("CemiFace 1.0M, repository", None, M, CEMIFACE, None, 93.26),
    _row("CemiFace 1.2M, repository", None, 1200 * K, CEMIFACE, None, 93.46),
    _row("HSFace300K", 300 * K, 15 * M, VEC2FACE, (99.30, 91.54, 87.70, 94.45, 94.58), 93.52),
    _row("ADMIS Syn_30k", 30 * K, 1500 * K, ADMIS, (99.52, 94.66, 89.75, 91.78, 93.13), 93.77),
    _row("VFace10K", 10 * K, 500 * K, PLUS, (99.35, 93.56, 88.03, 94.33, 94.17), 93.89),
    _row("VariFace", None, 500 * K, VARIFACE, None, 94.05, note="its 0.5M images are inferred from its comparison"),
    _row("VFace20K", 20 * K, M, PLUS, (99.40, 94.23, 89.10, 95.58, 94.67), 94.60),
    _row("VIGFace(B)", 60 * K, 1200 * K, VIGFACE, (99.48, 97.07, 90.15, 93.62, 92.88), 94.64),
    _row("VFace100K", 100 * K, 4 * M, PLUS, (99.52, 95.09, 90.23, 95.17, 94.38), 94.88),
    _row("VIGFace(L)", 120 * K, 6 * M, VIGFACE, (99.33, 97.31, 91.12, 93.82, 92.95), 94.91),
    _row("VFace300K", 300 * K, 12 * M, PLUS, (99.57, 94.80, 90.43, 95.17, 94.70), 94.93),
    _row("VariFace, any size", None, None, VARIFACE, None, 95.67),
    _row(
        "CASIA-WebFace, older page", None, 490 * K, PAGE, (99.42, 96.56, 89.73, 94.08, 93.32), 94.62,
        photographs=True,
    ),
    _row("CASIA-WebFace, trainer of 2510.17372", None, 490 * K, BEYOND, None, 94.70, photographs=True),
    _row("CASIA-WebFace", 10_500, 490 * K, VEC2FACE, (99.38, 96.91, 89.78, 94.50, 93.35), 94.79, photographs=True),
    _row(
        "CASIA-WebFace, trainer of VIGFace", 10_500, 490 * K, VIGFACE, (99.40, 96.63, 90.23, 94.68, 93.70), 94.93,
        photographs=True,
    ),
    _row(
        "CASIA-WebFace, trainer of ADMIS", 10_500, 490 * K, ADMIS, (99.43, 97.40, 90.23, 94.80, 93.55), 95.08,
        photographs=True,
    ),
    _row(
        "CASIA-WebFace + HSFace10K", 20_500, 990 * K, PAGE, (99.58, 97.06, 90.58, 95.62, 94.67), 95.50,
        photographs=True,
    ),
    _row("WebFace4M", 206 * K, 4 * M, PLUS_PLOT, None, 97.2, photographs=True, off_plot=True),
    _row("MS1MV2, ArcFace-R100", 85 * K, 5_800 * K, ZOO, (99.80, 98.49, 93.35, 98.00, 96.05), photographs=True),
    _row("WebFace4M, ArcFace-R100", 206 * K, 4 * M, ZOO, (99.77, 99.21, 94.25, 97.85, 96.12), photographs=True),
    _row("Glint360K, ArcFace-R100", 360 * K, 17 * M, ZOO, (99.82, 99.07, 94.68, 98.30, 96.15), photographs=True),
)  # fmt: skip
"""LFW, CFP-FP, CPLFW, AgeDB-30 and CALFW, then the average that the source states."""

_SIZES: Mapping[str, tuple[int | None, int | None, bool]] = {
    row.name: (row.people, row.images, row.photographs) for row in VERIFICATION
}


def _known(
    name: str, source: Cited, values: Mapping[Column, float], *, note: str = "", off_plot: bool = False
) -> Row:
    """A row of another table about a set of `VERIFICATION`."""
    people, images, photographs = _SIZES[name]
    figures = {column: Figure(value, source, off_plot=off_plot) for column, value in values.items()}
    return Row(name, people, images, source, figures, photographs, note)


def _four(name: str, hadrian: float, eclipse: float, sllfw: float, doppelver: float, note: str = "") -> Row:
    values = zip(FOUR, (hadrian, eclipse, sllfw, doppelver), strict=True)
    return _known(name, VEC2FACE, dict(values), note=note)


def _zoo(name: str, hadrian: float, eclipse: float, twins: float) -> Row:
    return _known(name, ZOO, {FOUR[0]: hadrian, FOUR[1]: eclipse, TWINS: twins})


VFACES = ("VFace10K", "VFace20K", "VFace100K", "VFace300K")
FAMILY = ("HSFace10K", "HSFace20K", "HSFace100K", "HSFace200K", "HSFace300K", *VFACES)
"""The sets of the talk's own systems: in every table, whatever is known of them."""

CHALLENGING = (
    _four("HSFace10K", 69.47, 64.55, 92.87, 86.91),
    _four("HSFace20K", 75.22, 67.55, 94.37, 88.91),
    _four("HSFace100K", 80.00, 70.35, 95.58, 90.39),
    _four("HSFace200K", 79.85, 71.12, 95.70, 89.86),
    _four("HSFace300K", 81.55, 71.35, 95.95, 90.49),
    *[_known(name, PLUS, {}) for name in VFACES],
    _four(
        "CASIA-WebFace", 77.82, 68.52, 96.95, 95.11,
        note="the project page prints Eclipse 71.12, HSFace200K's, where the README has 68.52",
    ),
    _zoo("MS1MV2, ArcFace-R100", 91.72, 81.80, 68.28),
    _zoo("WebFace4M, ArcFace-R100", 91.78, 83.20, 71.73),
    _zoo("Glint360K, ArcFace-R100", 95.68, 84.12, 84.67),
)  # fmt: skip
"""Hadrian (facial hair), Eclipse (exposure), SLLFW and DoppelVer (look-alikes), ND-Twins."""


def _insightface(name: str, people: int, images: int, at_1e4: float, at_1e5: float) -> Row:
    values = {IJBC[-4]: Figure(at_1e4, INSIGHTFACE), IJBC[-5]: Figure(at_1e5, INSIGHTFACE)}
    return Row(name, people, images, INSIGHTFACE, values, photographs=True)


def _nothing(*names: str) -> tuple[Row, ...]:
    """Rows of which no figure is known here."""
    return tuple(_known(name, PLUS if name in VFACES else VEC2FACE, {}) for name in names)


IJB = (
    *_nothing(*FAMILY, "CASIA-WebFace"),
    _insightface("MS1MV2, ArcFace-R50", 85 * K, 5_800 * K, 95.97, 94.07),
    _insightface("MS1MV3, ArcFace-R50", 93 * K, 5_100 * K, 96.37, 94.47),
    _insightface("MS1MV2, ArcFace-R100", 85 * K, 5_800 * K, 96.37, 94.27),
    _insightface("MS1MV3, ArcFace-R100", 93 * K, 5_100 * K, 96.85, 95.02),
    _insightface("Glint360K, ArcFace-R50", 360 * K, 17 * M, 97.16, 95.81),
    _insightface("WebFace4M, ArcFace-R100", 206 * K, 4 * M, 97.19, 95.48),
    _insightface("Glint360K, ArcFace-R100", 360 * K, 17 * M, 97.55, 96.38),
)
"""True-match rates at false-match rates."""

LEAKAGE = _nothing(*FAMILY)
"""Shares of identity pairs above 0.5 and 0.7."""


def _unique(name: str, at: str, ten: float | None, two_hundred: float | None = None) -> Row:
    people, images, photographs = _SIZES[at]
    values = {unique_at(10 * K): ten, unique_at(200 * K): two_hundred}
    figures = {c: Figure(v, SEPARABLE, off_plot=True) for c, v in values.items() if v is not None}
    return Row(name, people, images, SEPARABLE, figures, photographs)


SEPARABILITY = (
    _unique("SynFace", "SynFace", 1),
    _unique("DigiFace", "DigiFace", 65),
    _unique("SFace", "SFace", 270),
    _unique("IDiff-Face", "IDiff-Face", 1_400),
    _unique("DCFace", "DCFace", 7_300),
    _unique("Arc2Face", "Arc2Face 1.2M", 9_100, 95_000),
    _unique("HSFace (Vec2Face)", "HSFace200K", 10_000, 190_000),
    _unique("WebFace4M", "WebFace4M", 10_000, 185_000),
)
"""Identities of the first N whose centre has no earlier one above cosine 0.40."""

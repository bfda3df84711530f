"""Accuracies of compared training sets as their authors and others published them. Nothing here was measured by us.

Percent on LFW, CFP-FP, CPLFW, AgeDB-30 and CALFW, then the average the source states. Trainers differ (IR-SE-50 with
ArcFace, AdaFace or CosFace), so differences below about 0.3 between sources mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cited:
    """A source: how it is called, where it is, and in which revision it was read."""

    name: str
    url: str
    revision: str


SETS = ("LFW", "CFP-FP", "CPLFW", "AgeDB-30", "CALFW")

VEC2FACE = Cited("Vec2Face README", "https://github.com/HaiyuWu/Vec2Face", "9d9fa8c")
PLUS = Cited("Vec2Face+ README", "https://github.com/HaiyuWu/Vec2Face_plus", "7aea100")
VIGFACE = Cited("VIGFace README", "https://github.com/kim1102/VIGFace", "22c5806")
ADMIS = Cited("ADMIS README", "https://github.com/zzzweakman/CVPR24_FRCSyn_ADMIS", "March 2025")
CEMIFACE = Cited("CemiFace README", "https://github.com/szlbiubiubiu/CemiFace", "cc4e375")
VARIFACE = Cited("arXiv 2412.06235", "https://arxiv.org/abs/2412.06235", "v2")


@dataclass(frozen=True)
class Published:
    """One published row.

    Args:
        name, images: of the set; images as the source says.
        accuracy: percent on SETS, or None where the source gives the average only.
        average: percent, as the source states it (IDnet's is not the mean of its row).
        source: where it was read.
    """

    name: str
    images: str
    accuracy: tuple[float, float, float, float, float] | None
    average: float
    source: Cited


ROWS = (
    Published("SynFace", "0.5 M", (91.93, 75.03, 70.43, 61.63, 74.73), 74.75, VEC2FACE),
    Published("GANDiffFace", "0.5 M", (90.77, 73.27, 72.32, 66.35, 74.68), 75.48, VIGFACE),
    Published("SFace", "0.6 M", (91.87, 73.86, 73.20, 71.68, 77.93), 77.71, VEC2FACE),
    Published("IDnet", "0.5 M", (92.58, 75.40, 74.25, 63.88, 79.90), 79.13, VEC2FACE),
    Published("ExFaceGAN", "0.5 M", (93.50, 73.84, 71.60, 78.92, 82.98), 80.17, VEC2FACE),
    Published("SFace2", "0.6 M", (95.60, 77.11, 74.60, 77.37, 83.40), 81.62, VEC2FACE),
    Published("Langevin-DisCo", "0.6 M", (96.60, 73.89, 74.77, 80.70, 87.77), 82.75, VEC2FACE),
    Published("DigiFace", "1 M", (95.40, 87.40, 78.87, 76.97, 78.62), 83.45, VEC2FACE),
    Published("IDiff-Face", "0.5 M", (98.00, 85.47, 80.45, 86.43, 90.65), 88.20, VEC2FACE),
    Published("HyperFace", "0.5 M", (98.50, 88.83, 84.23, 86.53, 89.40), 89.50, VIGFACE),
    Published("DCFace", "0.5 M", (98.55, 85.33, 82.62, 89.70, 91.60), 89.56, VEC2FACE),
    Published("ID³", "0.5 M", (97.68, 86.84, 82.77, 91.00, 90.73), 89.80, PLUS),
    Published("DCFace", "1.2 M", (98.58, 88.61, 85.07, 90.97, 92.82), 91.21, VIGFACE),
    Published("Arc2Face", "0.5 M", (98.81, 91.87, 85.16, 90.18, 92.63), 91.73, VEC2FACE),
    Published("HSFace10K (Vec2Face)", "0.5 M", (98.87, 88.97, 85.47, 93.12, 93.57), 92.00, VEC2FACE),
    Published("ADMIS Syn_10k", "0.5 M", (99.17, 92.79, 87.67, 89.42, 91.43), 92.09, ADMIS),
    Published("CemiFace (paper)", "0.5 M", (99.03, 91.06, 87.65, 91.33, 92.42), 92.30, PLUS),
    Published("HSFace20K (Vec2Face)", "1.0 M", (98.87, 89.87, 86.13, 93.85, 93.65), 92.47, VEC2FACE),
    Published("VIGFace(S)", "0.5 M", (99.02, 95.09, 87.72, 90.95, 90.00), 92.56, VIGFACE),
    Published("CemiFace (repository)", "0.5 M", None, 92.71, CEMIFACE),
    Published("Arc2Face", "1.2 M", (98.92, 94.58, 86.45, 92.45, 93.33), 93.14, VIGFACE),
    Published("HSFace300K (Vec2Face)", "15 M", (99.30, 91.54, 87.70, 94.45, 94.58), 93.52, VEC2FACE),
    Published("ADMIS Syn_30k", "1.5 M", (99.52, 94.66, 89.75, 91.78, 93.13), 93.77, ADMIS),
    Published("VFace10K (Vec2Face+)", "0.5 M", (99.35, 93.56, 88.03, 94.33, 94.17), 93.89, PLUS),
    Published("VariFace", "0.5 M", None, 94.05, VARIFACE),
    Published("VFace20K (Vec2Face+)", "1.0 M", (99.40, 94.23, 89.10, 95.58, 94.67), 94.60, PLUS),
    Published("VIGFace(B)", "1.2 M", (99.48, 97.07, 90.15, 93.62, 92.88), 94.64, VIGFACE),
    Published("VIGFace(L)", "6.0 M", (99.33, 97.31, 91.12, 93.82, 92.95), 94.91, VIGFACE),
    Published("VFace300K (Vec2Face+)", "12 M", (99.57, 94.80, 90.43, 95.17, 94.70), 94.93, PLUS),
    Published("CASIA-WebFace (photographs)", "0.49 M", (99.38, 96.91, 89.78, 94.50, 93.35), 94.79, VEC2FACE),
    Published("VariFace", "unconstrained", None, 95.67, VARIFACE),
)

"""Shape classes for which a CPU has another backend than the rest of the op, in bf16 and without gradients.

Measured on one Zen 4 core (AVX512_BF16, no AMX), torch 2.13, ms an image, `torch` first; the convolutions with their
norm and residual. They are those of the published decoder; every other shape, `mini`'s among them, keeps its bits.
Where a CPU has AMX its library has sixteen times the products a cycle, and none of this was measured there.
"""

from __future__ import annotations

from collections.abc import Mapping

from v2f_kernels._tuned import Pick

MEASURED = {
    "conv3x3": {
        "C=512 O=512 HW=7": (1.00, 0.71),
        "C=512 O=256 HW=14": (2.18, 1.14),
        "C=256 O=256 HW=14": (1.24, 0.58),
        "C=256 O=256 HW=28": (4.97, 2.23),
        "C=256 O=128 HW=56": (9.17, 4.89),
        "C=128 O=128 HW=56": (4.54, 2.54),
        "C=128 O=128 HW=112": (18.20, 10.50),
    },
    "upsample_conv3x3_folded": {
        "C=512 HW=7": (2.49, 1.19),
        "C=256 HW=14": (1.99, 1.20),
        "C=256 HW=28": (7.95, 4.78),
        "C=128 HW=56": (7.85, 5.35),
    },
}
NEEDS, SPOILS = "avx512_bf16", "amx_bf16"


def cpu_shapes(
    precision: str, gradients: bool, flags: frozenset[str], no_extension: str
) -> dict[str, Mapping[str, Pick]]:
    """op -> shape class -> what runs there; empty where the measurement says nothing.

    Args:
        precision: `fp32` or `bf16`.
        gradients: whether they will be asked for.
        flags: features of the CPU.
        no_extension: why the compiled extension is missing; empty where it is here.
    """
    if precision != "bf16" or gradients or NEEDS not in flags or SPOILS in flags or no_extension:
        return {}
    return {
        op: {
            shape: Pick("winograd", f"{ours} ms an image, torch {torch}")
            for shape, (torch, ours) in rows.items()
        }
        for op, rows in MEASURED.items()
    }

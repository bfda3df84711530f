"""Kernels that no table of `tuned/` chooses, until a card decides: contenders of ops, and an op of their own.

    conv3x3        the 3x3 convolution with its norm, bias, residual and statistics in one kernel: 1.4 to 2.3 times
                   the time of cuDNN's on an H200, in fp16; bf16 and training have not been measured
    conv3x3_flat   the same op as `triton_flat`: operands by the tensor memory accelerator from rows with shared zero
                   borders; unmeasured
    gelu_linear    linear and exact GELU in one kernel: the whole network is 2 % faster with cuBLAS on an H200; and the
                   same as a graph of cuDNN (`cudnn`) and by quack-kernels (`quack`), both unmeasured
    perturb        noise around identity vectors, given or drawn in the kernel, and
    philox         random numbers: an engine draws on the host, where it needs them, ahead of the device
    conv3x3_fp8    `conv3x3_flat` with e4m3 operands, an op of its own; `bench.generation.fp8` admits or refuses it;
                   unmeasured

They are built as what `kernels/` holds, pass the same gates and tests, and take part in every contest. `enlist` says so
for this process: from then on `op.backend("triton")` finds them, by each name of `CONTENDERS`. A table cannot choose
them, since whoever installs the package has none of this; what wins moves to `kernels/v2f_kernels/<op>/`, with a line
in its `__init__.py`.
"""

from __future__ import annotations

from v2f_kernels._op import CANDIDATES, PACKAGES

CONTENDERS = {
    "conv3x3": {
        "triton": "bench.candidates.conv3x3.triton_op:conv3x3",
        "triton_flat": "bench.candidates.conv3x3_flat.triton_op:conv3x3",
    },
    "gelu_linear": {
        "triton": "bench.candidates.gelu_linear.triton_op:gelu_linear",
        "cudnn": "bench.candidates.gelu_linear.cudnn_graph:gelu_linear",
        "quack": "bench.candidates.gelu_linear.quack_gemm:gelu_linear",
    },
    "perturb": {"triton": "bench.candidates.perturb.triton_op:perturb"},
    "perturb_drawn": {"triton": "bench.candidates.perturb.triton_op:perturb_drawn"},
    "philox_draw": {"triton": "bench.candidates.philox.triton_op:draw"},
}
"""Op -> name -> `"module:function"`."""


def enlist() -> None:
    """Makes all of them known to their ops, the compile gate and the check of machine code; again does nothing."""
    if __name__ not in PACKAGES:
        PACKAGES.append(__name__)
    for op, named in CONTENDERS.items():
        CANDIDATES.setdefault(op, {}).update(named)

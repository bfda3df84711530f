"""What the machine code of the decoder's and the random kernels must and must not contain."""

import re

import pytest

pytestmark = pytest.mark.aot


def sass(op, case, target=90):
    from v2f_kernels._triton.aot import compiling, ops_under_gate
    from v2f_kernels._triton.inspection import cuobjdump

    with compiling(target) as record:
        ops_under_gate()[op][case]()
    return {compiled.name: cuobjdump("--dump-sass", compiled.binary.asm["cubin"]) for compiled in record}


@pytest.mark.parametrize("target", [80, 90, 120])
def test_normals_use_no_fused_multiply_add(target):
    """One FFMA would change bits: the contract rounds products and sums apart."""
    code = sass("philox", "normal", target)["draw_kernel"]
    assert len(re.findall(r"\bFMUL\b", code)) > 20
    assert not re.findall(r"\bFFMA\b", code)


@pytest.mark.parametrize("target", [80, 90, 120])
def test_perturbation_rounds_the_product_before_the_sum(target):
    """In PTX: the machine code of an fp64 division holds an FFMA of its own."""
    from v2f_kernels._triton.aot import compiling, ops_under_gate

    for case in ("512 given", "512 drawn"):
        with compiling(target) as record:
            ops_under_gate()["perturb"][case]()
        ptx = record[0].binary.asm["ptx"]
        assert "mul.rn.f32 p, " in ptx
        assert not re.findall(r"fma\.rn\.f32|add\.rn\.f32x2", ptx)
        assert "div.rn.f64" in ptx
        assert "sqrt.rn.f64" in ptx


@pytest.mark.parametrize("case", ["forward 128@112 float16", "forward 256@56 float16"])
def test_norm_reads_and_writes_16_bytes_at_a_time(case):
    code = sass("group_norm_silu", case)
    for kernel in ("moments_kernel", "apply_kernel"):
        assert re.findall(r"LDG\.E[.\w]*\.128", code[kernel])
    assert re.findall(r"STG\.E[.\w]*\.128", code["apply_kernel"])


def test_convolution_copies_asynchronously():
    code = sass("conv3x3", "128->128@112 float16")["conv3x3_kernel"]
    assert re.findall(r"LDGSTS\.E[.\w]*\.128", code)
    assert "HGMMA.64x128x16.F32" in code

"""The lint of machine code on made-up listings: each kind of register, each excuse, and what is no listing."""

from __future__ import annotations

import pytest
from v2f_kernels._triton import machine_code
from v2f_kernels._triton.machine_code import ListingNotUnderstood, findings

Line = tuple[str, dict[str, str]]
"""An instruction, and its marks by register: `^` written, `v` read, `x` both, `:` alive."""


def listing(*lines: Line, entry: bool = True, wide: int = 0) -> str:
    """As `nvdisasm -c -lrm narrow` prints it; registers of a kind stand in order, `wide` ordinary ones at least."""
    names = {name for _, marks in lines for name in marks}
    kinds = {"GPR": "R", "PRED": "P", "UGPR": "UR", "UPRED": "UP"}
    numbers = {
        kind: range(
            max([int(n.removeprefix(head)) for n in names if n.rstrip("0123456789") == head] + [wide]) + 1
        )
        for kind, head in kinds.items()
    }
    shown = {
        kind: span
        for kind, span in numbers.items()
        if kind == "GPR" or len(span) > 1 or f"{kinds[kind]}0" in names
    }

    def row(code: str, cells: list[str]) -> str:
        return f"{code:<60}// |" + "|".join(cells) + "|"

    def head(power: int) -> list[str]:
        sign = " # " if power == 0 else "   "
        return [
            sign
            + "".join(str(n // 10**power % 10) if n >= 10**power or power == 0 else " " for n in span)
            + "  "
            for span in shown.values()
        ]

    rows = [row("", [f" {kind:<{len(span) + 4}}" for kind, span in shown.items()])]
    rows += [row("", head(power)) for power in (2, 1, 0)]
    rows += [
        row(f'.text.kernel: .other kernel,@"STO_CUDA_{"ENTRY" if entry else "FUNC"}"', [" "] * len(shown))
    ]
    for index, (text, marks) in enumerate(lines):
        cells = [
            " 7 " + "".join(marks.get(f"{kinds[kind]}{n}", " ") for n in span) + "  "
            for kind, span in shown.items()
        ]
        predicate, _, rest = text.rpartition("@@")
        rows.append(row(f"        /*{16 * index:04x}*/  {predicate:>12} {rest} ;", cells))
    return '\t.headerflags\t@"SM90"\n\n\t.section\t.text.kernel,"ax",@progbits\n' + "\n".join(rows) + "\n"


def flagged(*lines: Line, **how: int) -> list[str]:
    return [one.register for one in findings(listing(*lines, **how))]


def test_a_uniform_register_that_is_read_before_it_is_written() -> None:
    """The fault: UR7 is read at 10 and only then written."""
    found = findings(
        listing(
            ("S2UR UR8, SR_CTAID.X", {"UR8": "^", "UR7": ":"}),
            ("UIADD3 UR6, UP0, UR7, 0x20, URZ", {"UR6": "^", "UR7": "v", "UP0": "^"}),
            ("UIADD3.X UR7, UR7, -0x3ffffff0, URZ, UP0, !UPT", {"UR7": "x", "UP0": "v"}),
        )
    )
    assert [str(one) for one in found] == [
        "UR7 is read and never written before: /*0010*/ UIADD3 UR6, UP0, UR7, 0x20, URZ"
    ]


@pytest.mark.parametrize("name", ["R0", "R7", "R123", "P3", "UR0", "UR12", "UP1"])
def test_every_kind_of_register_is_judged(name: str) -> None:
    rest = {"R1": "^"} if name != "R1" else {}
    alive = [("NOP", {name: ":", **rest}), ("MOV", {name: "v"})]
    at_once = [("MOV", {name: "v", **rest})]
    sound = [("MOV", {name: "^", **rest}), ("MOV", {name: "v"})]
    assert flagged(*alive) == [name]
    assert flagged(*at_once) == [name]
    assert flagged(*sound) == []


def test_all_halves_of_a_wide_operand_are_judged() -> None:
    """LDG reads the pair R2, R3 and a descriptor in UR4, UR5; one of each was never written."""
    lines = [
        ("ULDC UR4, c[0x0][0x208]", {"UR4": "^", "UR5": ":", "R2": ":"}),
        ("MOV R3, RZ", {"R3": "^", "R2": ":", "UR4": ":", "UR5": ":"}),
        (
            "LDG.E.128 R8, desc[UR4][R2.64]",
            {"R2": "v", "R3": "v", "UR4": "v", "UR5": "v", "R8": "^", "R9": "^"},
        ),
    ]
    assert flagged(*lines) == ["R2", "UR5"]


@pytest.mark.parametrize(
    "branch", [("@!P3@@LDS R4, [R8]", {"R4": "^", "R8": "v"}), ("LDS R4, [R8]", {"R4": "^"})]
)
def test_a_write_above_excuses_the_read(branch: Line) -> None:
    """`@!P3 LDS R4`, or a jump around it, then a read of R4: where it was not loaded, the result counts for nothing."""
    first = ("@P3@@BRA `(.L_x_1)", {"R8": "^", "R4": ":"})
    read = ("SHFL.BFLY PT, R5, R4, 0x1, 0x1f", {"R4": "v", "R5": "^"})
    assert flagged(first, branch, read) == []
    assert flagged(first, read, branch) == ["R4"]
    assert flagged(first, ("LDS R6, [R8]", {"R6": "^", "R8": "v", "R4": ":"}), read) == ["R4"]


def test_a_merge_of_halves_excuses_itself_alone() -> None:
    first = ("MOV R42, RZ", {"R42": "^", "R75": ":"})
    assert flagged(first, ("PRMT R75, R42, 0x7632, R75", {"R42": "v", "R75": "x"})) == []
    assert flagged(first, ("IADD3 R75, R42, R75, RZ", {"R42": "v", "R75": "x"})) == ["R75"]
    assert flagged(first, ("PRMT R7, R42, 0x7632, R75", {"R42": "v", "R7": "^", "R75": "v"})) == ["R75"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("LOP3.LUT R140, R140, 0xffefffff, RZ, 0xc0, !PT", []),  # one bit cleared
        ("LOP3.LUT R140, R140, 0xffeffffe, RZ, 0xc0, !PT", ["R140"]),  # two
        ("LOP3.LUT R140, R140, 0xffefffff, RZ, 0xfc, !PT", ["R140"]),  # or
    ],
)
def test_one_bit_cleared_in_place_is_a_predicate_put_aside(text: str, left: list[str]) -> None:
    first = ("MOV R42, RZ", {"R42": "^", "R140": ":"})
    assert flagged(first, (text, {"R140": "x"})) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("R2P PR, R23, 0x11", []),
        ("R2P PR, R23.B1, 0x10", []),
        ("R2P PR, R23, R5", []),
        ("R2P PR, R23, 0x1", ["P4"]),
        ("IADD3 R5, R23, 0x11, RZ", ["P4"]),
    ],
)
def test_registers_moved_to_predicates_count_as_writes(text: str, left: list[str]) -> None:
    """The disassembler marks no predicate at `R2P`; 0x11 means P0 and P4."""
    lines = [("S2R R23, SR_TID.X", {"R23": "^", "P4": ":", "R5": "^"}), (text, {"R23": "v", "P4": ":"})]
    assert flagged(*lines, ("@!P4@@STS [RZ], R23", {"R23": "v", "P4": "v"})) == left


FOUR = {"UR20": "v", "UR21": "v", "UR22": "v", "UR23": "v"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("HGMMA.64x16x16.F32 R24, R48, gdesc[UR20].tnspB, R24, gsb0", []),
        ("QGMMA.64x64x32.F32.E4M3.E4M3 R24, R48.reuse, gdesc[UR20], R24, gsb0", []),
        ("HGMMA.64x16x16.F32 R24, gdesc[UR20], R24, !UPT", ["UR20", "UR21"]),
        ("HGMMA.64x16x16.F32 R24, R48, gdesc[UR18], R24, gsb0", ["UR20", "UR21"]),
    ],
)
def test_a_product_with_its_first_operand_in_registers_reads_one_descriptor(
    text: str, left: list[str]
) -> None:
    first = ("UMOV UR22, URZ", {"UR22": "^", "UR23": "^", "UR20": ":", "UR21": ":"})
    assert flagged(first, (text, FOUR)) == left


def test_the_descriptor_it_does_read_is_judged() -> None:
    first = ("UMOV UR20, URZ", {"UR20": "^", "UR21": "^", "UR22": ":", "UR23": ":"})
    assert flagged(first, ("HGMMA.64x16x16.F32 R24, R48, gdesc[UR20], R24", FOUR)) == ["UR22", "UR23"]


def test_a_read_elsewhere_of_a_register_that_such_a_product_names() -> None:
    product = ("HGMMA.64x16x16.F32 R24, R48, gdesc[UR20], R24", FOUR)
    first = ("UMOV UR22, URZ", {"UR22": "^", "UR23": "^", "UR20": ":", "UR21": "^"})
    read, written = ("UIADD3 UR4, UR20, 0x2, URZ", {"UR20": "v"}), ("UMOV UR20, URZ", {"UR20": "^"})
    assert flagged(first, product, read) == ["UR20"]
    assert flagged(first, product, written, read) == []


def test_the_fields_of_the_newer_disassembler_are_cut_off() -> None:
    """On sm_120 a line goes on with `&req={0} &wr=0x0 ?trans1;`."""
    (found,) = findings(
        listing(("SHFL.BFLY PT, R7, R0, 0x1, 0x1f     &req={0} &wr=0x0 ?trans1", {"R0": "v"}))
    )
    assert found.instruction == "SHFL.BFLY PT, R7, R0, 0x1, 0x1f"


def test_registers_of_three_digits_stand_in_their_own_columns() -> None:
    """A wrong column would call R10 or R0 what is R100."""
    assert flagged(("NOP", {"R100": ":"}), ("MOV", {"R100": "v"}), wide=120) == ["R100"]


def test_a_device_function_may_read_what_its_caller_wrote() -> None:
    text = listing(("MOV R5, R4", {"R4": "v", "R5": "^"}), entry=False)
    with pytest.raises(ListingNotUnderstood, match="expected an nvdisasm listing of a kernel"):
        findings(text)
    assert findings(text + "\n" + listing(("MOV R5, RZ", {"R5": "^"}))) == ()


@pytest.mark.parametrize("text", ["", "no such file", listing(("NOP", {"R0": "^"})).replace("// |", "//")])
def test_what_is_no_listing_is_never_found_sound(text: str) -> None:
    with pytest.raises(ListingNotUnderstood):
        findings(text)


def test_an_unknown_kind_of_register_is_refused() -> None:
    text = listing(("NOP", {"R0": "^", "UR0": "^"})).replace("UGPR", "XGPR")
    with pytest.raises(ListingNotUnderstood, match="XGPR"):
        findings(text)


def test_no_disassembler_is_an_error_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")

    class Gone:
        @property
        def nvdisasm(self) -> object:
            raise RuntimeError("Cannot find nvdisasm")

    monkeypatch.setattr(triton.knobs, "nvidia", Gone())
    with pytest.raises(machine_code.DisassemblerMissing, match="TRITON_NVDISASM_PATH"):
        machine_code.lint(b"")


def test_a_file_that_the_disassembler_cannot_read_is_an_error() -> None:
    pytest.importorskip("triton")
    with pytest.raises(machine_code.DisassemblerMissing, match="cannot read this"):
        machine_code.lint(b"no machine code")

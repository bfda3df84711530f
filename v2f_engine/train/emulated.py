"""A training in bf16 on a CPU that has none takes many times as long as in fp32: that is said at its start."""

from __future__ import annotations

from v2f_engine.machine import NO_BF16, Machine, precision_of
from v2f_engine.train.loop import Loop


def bf16_here(device: str) -> bool:
    """Whether bf16 is multiplied in hardware on `cpu`, or the device is no CPU."""
    return not device.startswith("cpu") or precision_of("auto", "cpu", Machine.look())[0] == "bf16"


def say_if_emulated(bf16: bool, device: object, loop: Loop) -> None:
    """One line of rank 0's progress where `bf16` is emulated.

    An EPYC with AVX2 alone reads 11 images/s with the embedded recogniser in bf16, 131 in fp32 (one core, torch 2.13).
    """
    if bf16 and loop.group.first and not bf16_here(str(device)):
        loop.say(
            f"bf16 is emulated here and many times as slow as fp32 ({NO_BF16}): give --fp32, or bf16=False in Python; "
            "a training that has begun goes on in the other precision"
        )

"""The assembler under Triton: which version is in use, which versions are known to be wrong, and the newer one beside.

Triton 3.6 brings two: `ptxas` 12.8.93 for capabilities below 10.0 and `ptxas-blackwell` 12.9.86 from there on
(`get_ptxas` in triton/backends/nvidia/compiler.py). `TRITON_PTXAS_PATH` replaces the former and
`TRITON_PTXAS_BLACKWELL_PATH` the latter. The version is part of the key of Triton's cache, so a kernel found there was
made by the version in use.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from v2f_kernels._op import BackendUnavailable

KNOWN_BAD: Mapping[str, str] = MappingProxyType(
    {
        "12.8.93": "for sm_90 it builds descriptors from uniform registers that nothing has written (attention with "
        "its head split in two, H100, 2026-11-27: wrong columns, NaN, illegal addresses; 12.9.86 and 13.5.37 are right "
        "on the same PTX); others met it too, https://github.com/fla-org/flash-linear-attention/pull/1262"
    }
)
"""Version -> what was seen. Code of such a version is linted before its first launch (`_triton.guard`)."""


class PtxasMissing(BackendUnavailable):
    """Triton, or the assembler it should use, is not on this machine."""


def ptxas_version(capability: int) -> str:
    """Version of the assembler that Triton uses for a capability such as 90, e.g. `12.8.93`.

    Raises:
        PtxasMissing: no Triton, or no assembler that runs.
    """
    return _version(ptxas_path(capability))


def ptxas_path(capability: int) -> Path:
    """The assembler that Triton uses for a capability.

    Raises:
        PtxasMissing: no Triton, or no assembler that runs.
    """
    try:
        from triton.backends.nvidia.compiler import get_ptxas

        return Path(get_ptxas(capability).path)
    except (ImportError, RuntimeError) as error:
        raise PtxasMissing(f"no ptxas for sm_{capability}: {error}; install triton") from error


def newer_ptxas() -> Path:
    """The newest assembler that Triton brings along, which it keeps for Blackwell.

    Raises:
        PtxasMissing: as `ptxas_path`.
    """
    return ptxas_path(100)


def newer_version() -> str:
    """Version of `newer_ptxas`."""
    return _version(newer_ptxas())


def assemble(ptx: str, capability: int, tool: Path, *, fused_multiply_add: bool = True) -> bytes:
    """Machine code of a PTX text by `tool`, with the options of Triton's `make_cubin`.

    Raises:
        PtxasMissing: the assembler fails; the message has its own.
    """
    from triton.backends.nvidia.compiler import sm_arch_from_capability

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx)
        options = ["-lineinfo", *([] if fused_multiply_add else ["--fmad=false"])]
        options.append(f"--gpu-name={sm_arch_from_capability(capability)}")
        done = subprocess.run(
            [tool, *options, source, "-o", target], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PtxasMissing(f"{tool} cannot assemble for sm_{capability}: {done.stderr.strip()[:300]}")
        return target.read_bytes()


def versions() -> str:
    """Both assemblers in words, for `v2f env` and results, each known to be bad marked so.

    Raises:
        PtxasMissing: as `ptxas_path`.
    """
    told = {"sm_80, sm_90": ptxas_version(90), "sm_100 and later": ptxas_version(100)}
    return "; ".join(f"{version}{_mark(version)} for {targets}" for targets, version in told.items())


def _mark(version: str) -> str:
    return " (known to be bad: its code is linted before it runs)" if version in KNOWN_BAD else ""


@cache
def _version(tool: Path) -> str:
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\bV(\d+\.\d+\.\d+)", said)
    if match is None:
        raise PtxasMissing(
            f"{tool}: expected a ptxas that tells its version (V12.8.93), found {said.strip()[:200]!r}"
        )
    return match[1]

"""Kernels by an assembler that is known to be bad are linted before their first launch, and refused if flagged.

Triton calls `kernel_load_start_hook` when a compiled kernel, fresh or from its cache, is about to be loaded onto a
device: once a kernel and process, before anything runs, with the files it came from. `watch` puts a check there. The
check costs about 0.4 s a kernel, the disassembler's time; its verdict is kept beside the kernel in Triton's cache, so
that the next process reads 100 bytes instead. Kernels of other packages, which the same hook sees, are let through.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from v2f_kernels._errors import V2FError
from v2f_kernels._op import PACKAGES, BackendUnavailable
from v2f_kernels._triton.machine_code import RULES, DisassemblerMissing, ListingNotUnderstood, lint
from v2f_kernels._triton.ptxas import KNOWN_BAD, newer_ptxas, newer_version, ptxas_version

VERDICT = "v2f_machine_code.json"
"""Beside the kernel: {"rules": 1, "sha256": of the machine code, "findings": [...]}."""
_verdicts: dict[str, list[str]] = {}


class MachineCodeRefused(BackendUnavailable):
    """A kernel whose machine code reads registers that nothing wrote; not launched. The message has the way out."""


class MachineCodeUnchecked(V2FError, RuntimeWarning):
    """A kernel by an assembler known to be bad runs unchecked, because its machine code could not be read."""


@cache
def watch() -> None:
    """Checks every kernel from now on; further calls do nothing.

    Raises:
        BackendUnavailable: this Triton has no such hook, and its assembler is known to be bad.
    """
    from triton import __version__, knobs

    hook: Any = getattr(knobs.runtime, "kernel_load_start_hook", None)
    if hasattr(hook, "add"):
        hook.add(before_load)
    elif (version := ptxas_version(90)) in KNOWN_BAD:
        raise BackendUnavailable(
            f"Triton {__version__} has no kernel_load_start_hook, so code of ptxas {version} cannot be checked before "
            f"it runs, and that version is known to be bad: {KNOWN_BAD[version]}. {way_out()}, or install triton 3.6"
        )


def before_load(module: Any, function: Any, name: str, metadata_group: Mapping[str, str], hash: str) -> None:
    """Triton's hook. `metadata_group`: file name -> path of everything the compiler kept of this kernel.

    Raises:
        MachineCodeRefused: a known bad assembler made it, and it is flagged.
    """
    if not _ours(name):
        return
    files = {Path(file).suffix: Path(path) for file, path in metadata_group.items()}
    if ".cubin" not in files:
        return  # not for an NVIDIA GPU
    metadata = json.loads(files[".json"].read_text())
    version = ptxas_version(int(metadata["target"]["arch"]))
    if version not in KNOWN_BAD:
        return
    if hash not in _verdicts:
        _verdicts[hash] = _verdict(name, version, files[".cubin"])
    if _verdicts[hash]:
        raise MachineCodeRefused(
            f"{name} for sm_{metadata['target']['arch']}, {metadata['num_warps']} warps, was not launched. Expected "
            f"machine code that reads only what it wrote; found, by ptxas {version}: {'; '.join(_verdicts[hash])}. "
            f"That version is known to be bad: {KNOWN_BAD[version]}. {way_out()}, or choose another backend for this op"
        )


def way_out() -> str:
    """What to do about a bad assembler, in words."""
    return (
        f"Set TRITON_PTXAS_PATH={newer_ptxas()} (version {newer_version()}, which Triton brings along) or to the ptxas "
        "of CUDA 13.3 or later"
    )


def _ours(name: str) -> bool:
    """Whether a loaded module of `PACKAGES` holds a kernel of this name."""
    from triton.runtime.jit import JITFunction

    heads = tuple(f"{package}." for package in PACKAGES)
    return any(
        f"{place}.".startswith(heads) and isinstance(getattr(module, name, None), JITFunction)
        for place, module in list(sys.modules.items())
    )


def _verdict(name: str, version: str, cubin: Path) -> list[str]:
    """Findings in words: those kept beside the kernel, or new ones, which are then kept there."""
    code = cubin.read_bytes()
    mark = {"rules": RULES, "sha256": hashlib.sha256(code).hexdigest()}
    kept = cubin.with_name(VERDICT)
    try:
        told = json.loads(kept.read_text())
        if {key: told[key] for key in mark} == mark:
            return [str(line) for line in told["findings"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or half a file: judge again
    try:
        found = [str(one) for one in lint(code)]
    except (DisassemblerMissing, ListingNotUnderstood) as error:
        warnings.warn(
            f"{name}: runs without a check of its machine code, by ptxas {version}, which is known to be bad "
            f"({KNOWN_BAD[version]}): {error}. {way_out()}",
            MachineCodeUnchecked,
            stacklevel=2,
        )
        return []
    half = kept.with_name(f"{VERDICT}.{os.getpid()}")
    try:
        half.write_text(json.dumps({**mark, "findings": found}))
        half.replace(kept)
    except OSError:
        half.unlink(missing_ok=True)  # a cache that cannot be written to: every process judges for itself
    return found

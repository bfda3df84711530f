"""Which model a runner gets: weights, an exported file, or weights that are exported for it first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from v2f_engine.errors import ConfigError
from v2f_engine.runtime.artefact import ServedModel, is_artefact, open_artefact, served_model

if TYPE_CHECKING:
    from v2f_engine.options import EngineOptions


def file_runner(model: str | Path, runner: str, precision: str) -> tuple[ServedModel, str, int | None]:
    """(model inside, runner, largest batch) of an exported file.

    Raises:
        ModelNotFound, ArtefactError: see `runtime.artefact.open_artefact`.
        ConfigError: another runner or precision than the file's.
    """
    path = Path(model)
    sidecar = open_artefact(path)
    if runner not in ("auto", sidecar.kind):
        raise ConfigError(f"{path}: runs as runner {sidecar.kind!r}, asked for {runner!r}.")
    if precision not in ("auto", sidecar.precision):
        raise ConfigError(f"{path}: was exported in {sidecar.precision}, asked for {precision}.")
    largest = max((high for _, _, high in sidecar.profiles), default=None)
    return served_model(path, sidecar), sidecar.kind, largest


def exported_for(asked: EngineOptions, device: str) -> ServedModel:
    """The model as an ONNX file, exported on first use; `auto` is fp32 on a CPU, where onnxruntime has no bf16,
    and fp16 on a GPU. Raises as `export.onnx.cached_onnx`."""
    from v2f_engine.export.onnx import cached_onnx

    precision = asked.precision
    if precision == "auto":
        precision = "fp16" if device.startswith("cuda") else "fp32"
    return cached_onnx(asked.model, precision, asked.schedule, fetch=asked.fetch)


__all__ = ["exported_for", "file_runner", "is_artefact"]

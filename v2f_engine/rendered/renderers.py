"""Who draws scenes: the numba kernels on this core, or plain torch, many at a time, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from v2f_engine.config import one_of
from v2f_engine.errors import ConfigError
from v2f_engine.rendered.head import Array
from v2f_engine.rendered.picture import draw
from v2f_engine.rendered.scene import Scene

RENDERERS = ("numba", "torch")
"""The first is the default and the reference."""


def _one_by_one(scenes: Sequence[Scene]) -> list[Array]:
    return [draw(scene) for scene in scenes]


def known_renderer(renderer: str, device: str) -> str:
    """The device on which `renderer` draws, by torch's name: `cpu` or `cuda:N`.

    Args:
        renderer: of `RENDERERS`.
        device: `cpu`, `cuda` or `cuda:N`; numba's kernels know `cpu` alone.

    Raises:
        ConfigError: another renderer or device. BackendUnavailable: a GPU that is not there.
    """
    one_of("renderer", renderer, RENDERERS)
    if renderer == "numba":
        if device != "cpu":
            raise ConfigError(
                f"device: renderer 'numba' draws on 'cpu', found {device!r}; renderer 'torch' on a GPU"
            )
        return device
    from v2f_engine.machine import Machine, device_of

    return device_of(device, Machine.look())[1]


def drawing(renderer: str, device: str) -> Callable[[Sequence[Scene]], list[Array]]:
    """What draws scenes of one world by this renderer: pictures uint8 `[112, 112, 3]`. As `known_renderer`."""
    where = known_renderer(renderer, device)
    if renderer == "numba":
        return _one_by_one
    from v2f_engine.rendered import batched

    return partial(batched.draw, device=where)

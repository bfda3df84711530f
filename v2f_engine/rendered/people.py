"""The public face of rendered people: make a person, render images, render many in several processes.

Every image is a function of (seed, identity, image) and of nothing else: batch size, order and the number of
processes do not change a pixel.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from v2f_engine.batch import ImageBatch
from v2f_engine.config import between, one_of
from v2f_engine.errors import ConfigError, V2FError
from v2f_engine.orphans import end_with_parent
from v2f_engine.rendered.facial_hair import BEARDS
from v2f_engine.rendered.person import Person, draw_person
from v2f_engine.rendered.renderers import RENDERERS, drawing, known_renderer
from v2f_engine.rendered.scene import SCENES_AT_ONCE, assemble
from v2f_engine.rendered.worlds import WORLD_VERSION, known_world

_AHEAD = 4
"""Identities under way per process: enough to keep all busy, few enough to keep memory small."""


def _integer(value: object, name: str, lowest: int, highest: int) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not lowest <= int(value) <= highest
    ):
        raise ConfigError(f"{name}: expected an integer in {lowest} .. {highest}, found {value!r}")
    return int(value)


def make_person(
    seed: int,
    identity: int,
    *,
    world: int = WORLD_VERSION,
    age: float | None = None,
    beard: str | None = None,
) -> Person:
    """All that is fixed for one identity (about 0.05 s).

    Args:
        seed: the world, 0 .. 2**64 - 1. Worlds of different seeds share nobody.
        identity: 0 .. 2**32 - 2.
        world: which of `worlds.WORLDS`; the newest has nicer people, an older one stays as it was.
        age: 17 .. 75 years, instead of the person's own: the same person earlier or later in life.
        beard: a kind in `facial_hair.BEARDS`, instead of the person's own; changes nothing of women.

    Raises:
        ConfigError: a number out of range, an unknown world or kind of beard.
    """
    if age is not None:
        between("age", age, 17, 75)
    if beard is not None:
        one_of("beard", beard, [kind for kind, *_ in BEARDS])
    return draw_person(
        _integer(seed, "seed", 0, 2**64 - 1),
        _integer(identity, "identity", 0, 2**32 - 2),
        world=known_world(world),
        age=age,
        beard=beard,
    )


def render_person(
    person: Person, images: Iterable[int], *, renderer: str = RENDERERS[0], device: str = "cpu"
) -> ImageBatch:
    """Images of one person, in the order asked for (about 12 ms each).

    Args:
        person: from `make_person`.
        images: image numbers, 0 .. 2**32 - 1; pose, light and expression follow from the number.
        renderer: `numba`, the reference, or `torch`, which draws 16 images at once with the same operations on a
            CPU and a GPU: a value in 10,000 differs by a grey level. On a CPU it is 20 times slower.
        device: where `torch` draws: `cpu`, `cuda` or `cuda:N`.

    Returns:
        A batch whose attributes are `yaw`, `pitch`, `roll` (degrees; roll is what alignment left over),
        `expression` (strength, 0..1), `light_azimuth`, `light_elevation` (degrees from the camera's side),
        `light_intensity`, `ambient`, `blur` (sigma in pixels), `glasses`, `hat` (0 or 1), `age` (years) and
        `gender` (0 female .. 1 male).

    Raises:
        ConfigError: no image number, or one out of range; an unknown renderer or device.
        BackendUnavailable: a GPU that is not there.
    """
    numbers = [_integer(i, "images", 0, 2**32 - 1) for i in images]
    if not numbers:
        raise ConfigError("images: expected at least one image number, found none")
    draw, told, pictures = drawing(renderer, device), [], []
    for at in range(0, len(numbers), SCENES_AT_ONCE):
        scenes = [assemble(person, i) for i in numbers[at : at + SCENES_AT_ONCE]]
        pictures += draw(scenes)
        told += [scene.attributes for scene in scenes]
    return ImageBatch(
        images=np.stack(pictures),
        identity=np.full(len(told), person.identity, np.int64),
        image=np.array(numbers, np.int64),
        attributes={k: np.array([a[k] for a in told], np.float32) for k in told[0]},
    )


def _task(seed: int, identity: int, count: int, world: int, renderer: str, device: str) -> ImageBatch:
    person = draw_person(seed, identity, world=world)
    return render_person(person, range(count), renderer=renderer, device=device)


def render_people(
    seed: int,
    identities: Iterable[int],
    images_per_id: int,
    processes: int = 1,
    *,
    world: int = WORLD_VERSION,
    renderer: str = RENDERERS[0],
    device: str = "cpu",
) -> Iterator[ImageBatch]:
    """One batch per identity, in the given order; arguments are checked at the call, not at the first batch.

    Args:
        seed: as `make_person`.
        identities: identity numbers, e.g. `range(0, 1500)`; read lazily.
        images_per_id: images 0 .. images_per_id - 1 of each.
        processes: worker processes (spawned, so call from under `if __name__ == "__main__":` in a script);
            1 renders in this process.
        world: as `make_person`.
        renderer, device: as `render_person`. Each process draws on the GPU by itself, with a context and memory of
            its own, since drawing the persons and assembling scenes stays on the cores.

    Raises:
        ConfigError: a number out of range, an unknown world, renderer or device.
        BackendUnavailable: a GPU that is not there.
        V2FError: a worker process was killed; the message names the identity that was waited for.
    """
    seed = _integer(seed, "seed", 0, 2**64 - 1)
    known_world(world)
    count = _integer(images_per_id, "images_per_id", 1, 2**32)
    workers = _integer(processes, "processes", 1, 4096)
    numbers = (_integer(i, "identities", 0, 2**32 - 2) for i in identities)
    known_renderer(renderer, device)
    how = (count, world, renderer, device)
    if workers == 1:
        return (_task(seed, i, *how) for i in numbers)
    return _in_processes(seed, numbers, workers, how)


def _begin(parent: int) -> None:
    """First act of a rendering process: Ctrl-C is its parent's business, and it does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)


def _in_processes(
    seed: int, numbers: Iterator[int], workers: int, how: tuple[int, int, str, str]
) -> Iterator[ImageBatch]:
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(os.getpid(),),
    )
    waiting: deque[tuple[int, Future[ImageBatch]]] = deque()
    try:
        for i in numbers:
            waiting.append((i, pool.submit(_task, seed, i, *how)))
            if len(waiting) >= _AHEAD * workers:
                yield waiting[0][1].result()
                waiting.popleft()
        while waiting:
            yield waiting[0][1].result()
            waiting.popleft()
    except BrokenProcessPool as error:
        where = f" while identity {waiting[0][0]} was being waited for" if waiting else ""
        raise V2FError(
            f"a rendering process died{where}: out of memory, killed from outside, or the calling script has "
            'no `if __name__ == "__main__":`; render on from there, no image depends on what was done before'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

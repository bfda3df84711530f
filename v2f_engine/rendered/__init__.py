"""Rendered people: an offline training world of faces of nobody, from CC0 assets (extra `[rendered]`).

A software renderer on the CPU: MakeHuman's CC0 head (see `assets/people/PROVENANCE.md`) is morphed, given
procedural skin, brows, beard, hair and eyes, posed, lit, rasterised at twice the size with a shadow map, and
aligned exactly to the ArcFace 112 template from its own 3-D landmarks.

    from v2f_engine.rendered import make_person, render_person, render_people

    batch = render_person(make_person(seed=101, identity=7), range(16))
    for batch in render_people(seed=101, identities=range(1500), images_per_id=16, processes=2): ...

Numbers measured on these images are to be called numbers on rendered people.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from v2f_kernels._extras import install

from v2f_engine.errors import MissingDependency

if TYPE_CHECKING:
    from v2f_engine.rendered.people import make_person, render_people, render_person
    from v2f_engine.rendered.person import Person
    from v2f_engine.rendered.renderers import RENDERERS
    from v2f_engine.rendered.worlds import WORLD_VERSION, WORLDS

__all__ = ["RENDERERS", "WORLDS", "WORLD_VERSION", "Person", "make_person", "render_people", "render_person"]

_HOME = {
    "RENDERERS": "renderers",
    "WORLDS": "worlds",
    "WORLD_VERSION": "worlds",
    "Person": "person",
    "make_person": "people",
    "render_person": "people",
    "render_people": "people",
}


def __getattr__(name: str) -> Any:
    """Load on first use: numba and opencv are an optional extra, and slow to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name in ("numba", "cv2", "llvmlite"):
            raise MissingDependency(
                f"rendering people needs {error.name}; install it with: {install('rendered')}"
            ) from error
        raise

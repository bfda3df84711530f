"""v2f_engine: face-recognition training sets of people who do not exist.

    import v2f_engine as v2f

    report = v2f.generate(n_ids=1000, images_per_id=50, out="faces", seed=0)

    engine = v2f.Engine.load("mini")
    identities = engine.sample_identities(1000, seed=0)
    for batch in engine.images(identities, images_per_id=50, seed=0):
        batch.images    # uint8 [B, 112, 112, 3]

Names are imported when they are first used, so `import v2f_engine` costs neither torch nor a GPU.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from v2f_engine.threads import settled
from v2f_engine.version import VERSION

if TYPE_CHECKING:
    from v2f_engine.batch import ImageBatch as ImageBatch
    from v2f_engine.pipeline import Engine as Engine
    from v2f_engine.pipeline import GenerateReport as GenerateReport
    from v2f_engine.pipeline import generate as generate
    from v2f_engine.pipeline import repair as repair
    from v2f_engine.vectors.sampling import Identities as Identities
    from v2f_engine.vectors.sampling import sample_identities as sample_identities

__version__ = VERSION

settled()  # threads wait as they should only if that is said before torch is loaded

_HOMES = {
    "Engine": "v2f_engine.pipeline",
    "GenerateReport": "v2f_engine.pipeline",
    "generate": "v2f_engine.pipeline",
    "repair": "v2f_engine.pipeline",
    "Identities": "v2f_engine.vectors.sampling",
    "sample_identities": "v2f_engine.vectors.sampling",
    "ImageBatch": "v2f_engine.batch",
}

__all__ = [
    "Engine",
    "GenerateReport",
    "Identities",
    "ImageBatch",
    "__version__",
    "generate",
    "repair",
    "sample_identities",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module 'v2f_engine' has no attribute {name!r}; it offers {', '.join(sorted(_HOMES))}"
        )
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

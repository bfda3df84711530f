"""v2f_engine: face-recognition training sets of people who do not exist.

    import v2f_engine as v2f

    report = v2f.generate(n_ids=1000, images_per_id=50, out="faces", seed=0)

    engine = v2f.Engine.load("mini")
    identities = engine.sample_identities(1000, seed=0)
    for batch in engine.images(identities, images_per_id=50, seed=0):
        batch.images    # uint8 [B, 112, 112, 3]

    faces = v2f.open_dataset("faces")
    image, label = faces[0]

Names are imported when they are first used, so `import v2f_engine` costs neither torch nor a GPU. The tour is
docs/python.md.
"""

from __future__ import annotations

import sys

try:
    from importlib import import_module
    from typing import TYPE_CHECKING, Any

    from v2f_engine.threads import settled
    from v2f_engine.version import VERSION
except KeyboardInterrupt:
    if sys.argv[0].rpartition("/")[2] not in ("v2f", "-m"):  # a program of somebody else
        raise
    print("stopped by SIGINT; nothing was begun.", file=sys.stderr)  # noqa: T201
    raise SystemExit(130) from None

if TYPE_CHECKING:
    from v2f_engine import errors as errors
    from v2f_engine.attributes.control import AttributeControl as AttributeControl
    from v2f_engine.batch import ImageBatch as ImageBatch
    from v2f_engine.data.formats import open_dataset as open_dataset
    from v2f_engine.data.formats.dataset import Dataset as Dataset
    from v2f_engine.data.records.verify import verify_dataset as verify_dataset
    from v2f_engine.data.training.training_set import open_training_set as open_training_set
    from v2f_engine.data.writing.convert import convert_dataset as convert_dataset
    from v2f_engine.errors import V2FError as V2FError
    from v2f_engine.models.vec2face import Vec2Face as Vec2Face
    from v2f_engine.pipeline import Engine as Engine
    from v2f_engine.pipeline import GenerateReport as GenerateReport
    from v2f_engine.pipeline import generate as generate
    from v2f_engine.pipeline import load_identities as load_identities
    from v2f_engine.pipeline import repair as repair
    from v2f_engine.pipeline.makers.posed import PoseCondition as PoseCondition
    from v2f_engine.pipeline.selected import ChoiceOptions as ChoiceOptions
    from v2f_engine.selection.chosen_set import select_dataset as select_dataset
    from v2f_engine.selection.rule import Rule as Rule
    from v2f_engine.vectors.growth import extend_identities as extend_identities
    from v2f_engine.vectors.perturbation import Perturbation as Perturbation
    from v2f_engine.vectors.sampling import Identities as Identities
    from v2f_engine.vectors.sampling import sample_identities as sample_identities

__version__ = VERSION

settled()  # threads wait as they should only if that is said before torch is loaded

_HOMES = {
    "AttributeControl": "v2f_engine.attributes.control",
    "ChoiceOptions": "v2f_engine.pipeline.selected",
    "Dataset": "v2f_engine.data.formats.dataset",
    "Engine": "v2f_engine.pipeline",
    "GenerateReport": "v2f_engine.pipeline",
    "Identities": "v2f_engine.vectors.sampling",
    "ImageBatch": "v2f_engine.batch",
    "Perturbation": "v2f_engine.vectors.perturbation",
    "PoseCondition": "v2f_engine.pipeline.makers.posed",
    "Rule": "v2f_engine.selection.rule",
    "V2FError": "v2f_engine.errors",
    "Vec2Face": "v2f_engine.models.vec2face",
    "convert_dataset": "v2f_engine.data.writing.convert",
    "extend_identities": "v2f_engine.vectors.growth",
    "generate": "v2f_engine.pipeline",
    "load_identities": "v2f_engine.pipeline",
    "open_dataset": "v2f_engine.data.formats",
    "open_training_set": "v2f_engine.data.training.training_set",
    "repair": "v2f_engine.pipeline",
    "sample_identities": "v2f_engine.vectors.sampling",
    "select_dataset": "v2f_engine.selection.chosen_set",
    "verify_dataset": "v2f_engine.data.records.verify",
}
"""Name -> module; `errors` is a module itself."""

__all__ = [
    "AttributeControl",
    "ChoiceOptions",
    "Dataset",
    "Engine",
    "GenerateReport",
    "Identities",
    "ImageBatch",
    "Perturbation",
    "PoseCondition",
    "Rule",
    "V2FError",
    "Vec2Face",
    "__version__",
    "convert_dataset",
    "errors",
    "extend_identities",
    "generate",
    "load_identities",
    "open_dataset",
    "open_training_set",
    "repair",
    "sample_identities",
    "select_dataset",
    "verify_dataset",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("v2f_engine.errors")
    if name not in _HOMES:
        raise AttributeError(
            f"module 'v2f_engine' has no attribute {name!r}; it offers {', '.join(sorted(_HOMES))}"
        )
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""Generation: identities in, an iterable of finished image batches out; writing them is someone else's job.

    options -> identities -> draws -> maker (plain, posed, steered) -> finish -> ImageBatch -> shards (data)

Every random number is keyed by (seed, purpose, identity, image), and every decoding call has the same
number of rows, so an image's bytes depend neither on the batch size asked for, nor on the order, nor on
what a resumed run had already written.
"""

from v2f_engine.pipeline.engine import COMPUTE_BATCH, Engine
from v2f_engine.pipeline.generate_report import GenerateReport
from v2f_engine.pipeline.generation import generate
from v2f_engine.pipeline.given import identities_from, load_identities
from v2f_engine.pipeline.shard_source import repair

__all__ = [
    "COMPUTE_BATCH",
    "Engine",
    "GenerateReport",
    "generate",
    "identities_from",
    "load_identities",
    "repair",
]

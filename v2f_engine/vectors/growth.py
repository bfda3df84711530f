"""A finished table goes on: its own identities are the rejection's state, and only candidates after them are drawn.

A table of n is the first n candidates of its stream that survive, in order; so what it holds, and the number of the
candidate after its last identity, is all that a larger table depends on. Nothing that is there is drawn again but a
few rows, to see that the stream is still the one that they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.arguments import COUNT, FUNCTION, GALLERY, VECTORS_OR_PATH, WORD, takes
from v2f_engine.config import whole_number
from v2f_engine.errors import ConfigError, V2FError, VectorError
from v2f_engine.vectors.growth_plan import plan_extension
from v2f_engine.vectors.identities import PART_OF, Identities, table_of
from v2f_engine.vectors.planner import budget_for
from v2f_engine.vectors.sampling import BLOCK, PLANNED_FROM, IdentityStream, Progress
from v2f_engine.vectors.sources import MINI, GaussianSource, VectorSource, find_source
from v2f_engine.vectors.statistics import Statistics

STREAM = frozenset({"source", "source_sha256", "seed", "max_cosine", "exclude", "candidates_drawn"})
"""What a table says of the stream that it was sampled from; all of it is needed to go on."""
BESIDE = frozenset({"calibration", "model", "rescaled"})
"""What it may say beside: where the threshold came from, for which model, that the source was rescaled."""
OTHERWISE: Mapping[str, str] = {
    "faces": "it was proven on its faces, and who was dropped there is not in it, so nobody knows from the table alone "
    "whom the next identity would collide with. `v2f ids prove` with a larger number makes the larger table",
    PART_OF: "its rows were chosen from a table: extend that one, and choose from the result",
    "rescaled_to": "its vectors were given and rescaled, not sampled: there is no stream to go on with",
    "held_apart": "its vectors were given, not sampled: there is no stream to go on with",
    "packed": "its vectors were moved apart (v2f ids pack), so they are no candidates of its stream. Extend the table "
    "that was packed, and pack the larger one",
    "noise": "its images are keyed by candidate, as those of a proven table are: `v2f ids prove` with a larger number "
    "makes the larger one",
    "mix": "it is of a source with groups, whose candidates are drawn in turn. Sample the larger number anew (v2f ids "
    "sample): its first rows are this table",
}
"""Part of a provenance -> why such a table cannot go on, and what to do."""
TIMES = ", times "
"""Before the factor, in the name of a source that was rescaled (`people.Rescaled`)."""
LOOKED_AT = 16
"""Rows that are drawn again, to see that this machine's stream is the table's."""


@takes(
    table=VECTORS_OR_PATH, n=COUNT, exclude=GALLERY, max_candidates=COUNT, backend=WORD, block=COUNT,
    progress=FUNCTION,
)  # fmt: skip
def extend_identities(
    table: Identities | str | Path | NDArray[Any],
    n: int,
    *,
    source: str | Path | Statistics | VectorSource = "auto",
    exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
    max_candidates: int | None = None,
    backend: str = "auto",
    block: int = BLOCK,
    progress: Progress | None = None,
) -> Identities:
    """A table with more identities: the same as if `n` had been asked for at once, in the time of the new ones.

    Args:
        table: what `sample_identities` gave, or the file that it was saved to.
        n: identities in all, at least as many as the table has; with as many it is the table.
        source: `"auto"` finds the Gaussian, `mini`'s statistics and those of the model that the table names; a file of
            `v2f ids fit` has to be named again.
        exclude: the real people that the table was kept apart from, the same rows in the same order.
        max_candidates, backend, block, progress: as in `sample_identities`; the candidates of the table count.

    Returns:
        `Identities`: its first rows are the table's, to the bit, and its hash that of a table made at once.

    Raises:
        VectorError: a table that no stream goes on with: proven, chosen from, given, or not of this stream.
        ConfigError: fewer than it has; another source, or other real people, than it was made with.
        SaturationError: as in `sample_identities`.
    """
    held = table_of(table)
    n = whole_number("number of identities", n, 1)
    if n < len(held):
        raise ConfigError(
            f"The table has {len(held):,} identities, and {n:,} in all were asked for. Expected at least as many; the "
            f"first {n:,} of it are table[:{n}]."
        )
    stream = stream_of(held, source=source, exclude=exclude, backend=backend, block=block)
    if max_candidates is not None:
        max_candidates = whole_number("max_candidates", max_candidates, 1)
    budget = budget_for(n, max_candidates)
    if n > len(held) and n >= PLANNED_FROM and stream.max_cosine is not None:
        plan_extension(held, n, stream.source, backend=backend, max_candidates=budget).refuse_if_saturated()
    larger = stream.take(n, max_candidates=budget, progress=progress)
    told = {**held.provenance, "candidates_drawn": larger.provenance["candidates_drawn"]}
    return Identities(larger.vectors, larger.candidate, told)


def stream_of(
    table: Identities,
    *,
    source: str | Path | Statistics | VectorSource = "auto",
    exclude: str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]] | None = None,
    backend: str = "auto",
    block: int = BLOCK,
) -> IdentityStream:
    """The stream that a table was sampled from, behind its last identity.

    Raises:
        VectorError, ConfigError: as `extend_identities`.
    """
    refuse_without_stream(table)
    told = table.provenance
    found = source_of(table, source)
    excluded = told["exclude"]
    if excluded is None and exclude is not None:
        raise ConfigError(
            "The table was kept apart from no real people, so nobody looked whether its own resemble those given now "
            "(exclude, --exclude). Leave them out, or sample a new table."
        )
    if excluded is not None and exclude is None:
        raise ConfigError(
            f"The table was kept apart from {excluded['rows']:,} real people (sha256 {excluded['sha256'][:12]}), which "
            "are not in it. Name the same files again: exclude, --exclude."
        )
    stream = IdentityStream(
        source=found,
        seed=told["seed"],
        max_cosine=told["max_cosine"],
        exclude=exclude,
        exclude_cosine=None if excluded is None else excluded["cosine"],
        backend=backend,
        block=block,
    )
    now = None if stream.shield is None else stream.shield.describe()
    if now is not None and now != excluded:
        raise ConfigError(
            f"exclude: the table was kept apart from {excluded['rows']:,} real people with sha256 "
            f"{excluded['sha256'][:12]}, found {now['rows']:,} with {now['sha256'][:12]}. Give the same files in the "
            "same order; those of another set need a new table."
        )
    _refuse_another_stream(table, found)
    stream.go_on(table.vectors, table.candidate)
    return stream


def refuse_without_stream(table: Identities) -> None:
    """Raises VectorError for a table that was not sampled, or is no longer as it was."""
    told = table.provenance
    for name, why in OTHERWISE.items():
        if name in told:
            raise VectorError(f"The table cannot be extended: {why}.")
    missing, unknown = sorted(STREAM - told.keys()), sorted(told.keys() - STREAM - BESIDE)
    if missing:
        raise VectorError(
            f"The table cannot be extended: it was not sampled (its source is {told.get('source', 'not told')!r:.80}, "
            f"and it says nothing of {', '.join(missing)}). Only what `v2f ids sample` made has a stream to go on with."
        )
    drawn, cosine = told["candidates_drawn"], told["max_cosine"]
    if type(drawn) is not int or type(told["seed"]) is not int or not isinstance(cosine, int | float | None):
        raise VectorError(
            "The table cannot be extended: what it says of its stream is not what this program writes."
        )
    if unknown:
        raise VectorError(
            f"The table cannot be extended: this version does not know what {', '.join(unknown)} in it means."
        )
    last = int(table.candidate[-1]) + 1 if len(table) else 0
    ordered = bool((np.diff(table.candidate) > 0).all())
    if not len(table) or table.rows is not None or not ordered or last != told["candidates_drawn"]:
        raise VectorError(
            "The table cannot be extended: its identities are not those of its stream, in order and to the last "
            f"(expected candidates that rise to {told['candidates_drawn'] - 1:,}, found {len(table):,} rows that end "
            f"with {last - 1:,}). Extend the table that it was made from."
        )


def source_of(table: Identities, source: str | Path | Statistics | VectorSource = "auto") -> VectorSource:
    """What a table was sampled from: found by what it says of it, or given again and compared with that.

    Raises:
        ConfigError: another source, or one that has to be named.
    """
    name, expected = table.provenance["source"], table.provenance["source_sha256"]
    if not (isinstance(source, str) and source == "auto"):
        found = find_source(source)
        if found.sha256 != expected:
            raise ConfigError(
                f"source: the table was sampled from {name!r} (sha256 {expected[:12]}), found {found.name!r} (sha256 "
                f"{found.sha256[:12]}). Give that one, or sample a new table."
            )
        return found
    for known in (*_known(table), *_scaled(str(name), _known(table))):
        if known.sha256 == expected:
            return known
    raise ConfigError(
        f"source: the table was sampled from {name!r} (sha256 {expected[:12]}), of which it holds the hash alone. Name "
        "the file again (source, --source), or the model that has it (--model)."
    )


def _known(table: Identities) -> Sequence[VectorSource]:
    """Sources that need not be named: the Gaussian, the embedded one, and that of the model in the table."""
    from v2f_engine.models.registry import locate
    from v2f_engine.vectors.people import People

    found: list[VectorSource] = [GaussianSource(table.shape[1])]
    if MINI.is_file():
        found.append(find_source("mini"))
    if (model := table.provenance.get("model")) not in (None, "mini"):
        try:
            found.append(People.of(locate(str(model), "generator")).require_source())
        except (V2FError, OSError):
            return found
    return found


def _scaled(name: str, known: Sequence[VectorSource]) -> Sequence[VectorSource]:
    """Those sources times the factor that a table names (`gaussian, times 1.07774`); the hash decides which it is."""
    from v2f_engine.vectors.people import rescaled_source

    try:
        factor = float(name.rpartition(TIMES)[2])
    except ValueError:
        return ()
    return [rescaled_source(source, factor) for source in known] if TIMES in name else ()


def _refuse_another_stream(table: Identities, source: VectorSource) -> None:
    """Draws some identities again: the hash names the source, this looks at what it gives."""
    rows = np.unique(np.linspace(0, len(table) - 1, LOOKED_AT).astype(np.int64))
    seed = table.provenance["seed"]
    for row in rows.tolist():
        again = source.candidates(seed, int(table.candidate[row]), 1)[0]
        if not np.array_equal(again, table.vectors[row]):
            raise VectorError(
                f"The table cannot be extended: identity {row} is not candidate {int(table.candidate[row]):,} of "
                f"{source.name!r} with seed {seed} as it is drawn here. The table was changed, or another version or "
                "machine draws otherwise; sample a new one."
            )

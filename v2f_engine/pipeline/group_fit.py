"""Statistics a group, of people wherever their features lie: centres, features of images with labels, or faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2f_engine.pipeline.group_labels import read_groups
from v2f_engine.pipeline.labelled import centres_of, labels_itself
from v2f_engine.vectors.centres import Centres
from v2f_engine.vectors.gate import DIMENSION, check_vectors
from v2f_engine.vectors.labelled import LabelledStatistics, fit_groups
from v2f_engine.vectors.repeats import Repeats
from v2f_engine.vectors.statistics import length_factor
from v2f_engine.vectors.streams import parts_of, stream

Progress = Callable[[int, int], None]


def fit_grouped(
    features: Sequence[str | Path] = (),
    *,
    groups: str | Path,
    columns: Sequence[str],
    labels: str | Path | None = None,
    images: str | Path | None = None,
    recogniser: str | Path = "mini",
    length: str = "centres",
    covariance: str = "own",
    components: int | None = None,
    shrinkage: float | str = 0.0,
    dimension: int | None = DIMENSION,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> LabelledStatistics:
    """Fits a mean and a covariance to the people of each group.

    Args:
        features: a row a person, or features of images, whose means are taken as `labelled.centres_of` does.
        groups, columns: as in `group_labels.read_groups`. Of rows that are people it has a line a row; of images a line
            a person, whose label it has in a column.
        labels: whose each row is; see `labelled.centres_of`.
        images, recogniser: a dataset of faces instead of features, and what looks at them.
        length: as in `statistics.fit_centres`, of means.
        covariance, components, shrinkage: as in `vectors.labelled.fit_groups`.
        dimension: entries a feature must have; None takes any.
        progress: called with (rows done, rows in all).
        say: told how people and groups were matched.

    Warns:
        V2FWarning: rows that show one person again and again.

    Raises:
        VectorError, DatasetError, ConfigError: as named; a group of too few people by its name.
    """
    table = read_groups(groups, columns)
    how = {"column": table.column, "covariance": covariance, "components": components, "shrinkage": shrinkage}
    if images is not None:
        from v2f_engine.pipeline.references import face_centres

        found = face_centres(images, recogniser, progress=progress)
        origin = f"{Path(images).name} through {found.recogniser}, {len(found.labels)} people"
        return _of_centres(found.centred, table.of_people(found.labels, say), length, origin, how)
    if labels is not None or labels_itself(features):
        means = centres_of(features, labels, dimension=dimension, progress=progress, say=say)
        origin = f"{len(means)} people of {', '.join(Path(path).name for path in features)}"
        return _of_centres(means, table.of_people(means.people, say), length, origin, how)
    parts = parts_of([str(path) for path in features], dimension=dimension)
    total = sum(len(array) for _, array in parts)
    names = table.of_rows(total)
    origin = ", ".join(Path(name).name for name, _ in parts[:3]) + (", ..." if len(parts) > 3 else "")
    repeats = Repeats(total)

    def blocks() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first, rows in stream(parts):
            if progress is not None:
                progress(first, total)
            repeats.add(first, rows)
            yield first, rows

    fitted = fit_groups(blocks(), names, origin=origin, **how)  # type: ignore[arg-type]
    repeats.warn(origin, fitted.together.mean, fitted.together.factor)
    return fitted


def _of_centres(
    centres: Centres, names: list[str], length: str, origin: str, how: Mapping[str, object]
) -> LabelledStatistics:
    rows = (
        (first, check_vectors(block, "centres", dimension=None, allow_duplicates=True, first=first))
        for first, block in centres.rows(length_factor(centres, length))
    )
    return fit_groups(rows, names, origin=origin, **how)  # type: ignore[arg-type]

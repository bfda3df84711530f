"""More images of each person than are kept: made, judged, and the best of them written (`v2f generate --make 80`).

A shard's people are whole in it, so each is chosen from when its last image is made. The made images are those of a run
that makes as many and chooses none; `source_image` is an image's number among them, by which it is made again alone. A
run costs `make / keep` times the images, and the judges' calls of each that is made. Judges see the pixels as they are
made, before they are encoded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.config import between, whole_number
from v2f_engine.errors import ConfigError
from v2f_engine.pipeline.finish import rebatched
from v2f_engine.selection.judges import ROWS, Judged, Judges, joined, refuse_dead
from v2f_engine.selection.rule import Rule, Tally
from v2f_engine.selection.selection_job import SOURCE_IMAGE
from v2f_engine.vectors.identities import Identities

if TYPE_CHECKING:
    from v2f_engine.models.weights import LoadedModel
    from v2f_engine.runtime.artefact import ServedModel

MOST = 2**24
"""Images made of a person: their numbers are kept as float32."""


@dataclass(frozen=True)
class ChoiceOptions:
    """Of `make` images of each person the best are written, as many as `ImageOptions.images_per_id` says.

    Args:
        make: images of each person that are made.
        by, min_cosine, duplicate_cosine: which are kept, see `selection.rule.Rule`.
        recogniser: a name or path; by default the one whose features the model's vectors are, where that is known, else
            `mini`.
        quality_model: see `selection.judges.Judges.open`.

    Raises:
        ConfigError: as `Rule`, or more made than can be numbered.
    """

    make: int
    by: tuple[str, ...] = ("centre",)
    min_cosine: float | None = None
    duplicate_cosine: float | None = None
    recogniser: str | Path | None = None
    quality_model: str | Path = "quality"

    def __post_init__(self) -> None:
        object.__setattr__(self, "make", whole_number("make", self.make, 1))
        between("make", self.make, 1, MOST)
        object.__setattr__(self, "by", Rule(1, self.by, self.min_cosine, self.duplicate_cosine).by)

    def rule(self, keep: int) -> Rule:
        """The rule that keeps so many.

        Raises:
            ConfigError: more than are made.
        """
        if keep > self.make:
            raise ConfigError(
                f"{keep} images of each person are kept (--images or --keep) of {self.make} that are made (--make): "
                "expected as many made or more."
            )
        return Rule(keep, self.by, self.min_cosine, self.duplicate_cosine)

    def open(self, keep: int, loaded: LoadedModel | ServedModel, device: str) -> Choosing:
        """Loads the judges.

        Args:
            keep: images of each person that are written.
            loaded: the generator.
            device: where the judges compute.

        Raises:
            ConfigError: own vectors are asked for that are another recogniser's.
            ModelNotFound, CheckpointError, MissingDependency, BackendUnavailable: as named.
        """
        from v2f_engine.attributes.control import JUDGES, MINI

        rule = self.rule(keep)
        usual = None if loaded.licence == "unknown" else JUDGES.get(loaded.name)  # a path may have any name
        recogniser = self.recogniser or (usual or MINI).recogniser
        judges = Judges.open(rule, recogniser, self.quality_model, device=device)
        if "vector" in rule.reads and usual is not None and judges.recogniser is not None:
            used = str(judges.recogniser.describe()["name"])
            if used != usual.recogniser:
                raise ConfigError(
                    f"the vectors of {loaded.name!r} are features of {usual.recogniser!r}, and the images are read by "
                    f"{used!r}: cosines between the two mean nothing. Leave --select-recogniser out, or choose by "
                    "'centre'."
                )
        return Choosing(self, rule, judges)

    @classmethod
    def from_manifest(
        cls, told: Mapping[str, Any], recogniser: str | None = None, quality_model: str | None = None
    ) -> ChoiceOptions:
        """What `Choosing.describe` told; networks given by path have to be named again."""
        reads = recogniser or told.get("recogniser", {}).get("name")
        quality = quality_model or told.get("quality", {}).get("name", "quality")
        cosines = (told.get("min_cosine"), told.get("duplicate_cosine"))
        return cls(told["make"], tuple(told["by"]), *cosines, reads, quality)


@dataclass(frozen=True)
class Choosing:
    """`ChoiceOptions` with its rule and its judges loaded.

    Args:
        asked, rule, judges: see `ChoiceOptions`.
        counted: what became of the images that were made here until now; replaced as people are chosen from.
    """

    asked: ChoiceOptions
    rule: Rule
    judges: Judges
    counted: list[Tally] = field(default_factory=list, compare=False)

    @property
    def tally(self) -> Tally | None:
        """What became of all images that this object chose among; None before the first."""
        return self.counted[0] if self.counted else None

    def describe(self) -> dict[str, Any]:
        """What decides which images are kept, for manifests."""
        return {"make": self.asked.make, **self.rule.describe(), **self.judges.describe()}

    def chosen(self, made: Iterable[ImageBatch], table: Identities) -> Generator[ImageBatch]:
        """The kept images of each person, numbered anew; a batch holds the people whose last image a call judged.

        Args:
            made: `make` images of each person, in order of (identity, image), in batches of any size.
            table: the people.

        Raises:
            VectorError: features that cannot be chosen by; the message names person and image.
        """
        make = self.asked.make
        held: list[tuple[ImageBatch, Judged]] = []
        for batch in rebatched(iter(made), ROWS):
            judged = self.judges(batch.images)
            refuse_dead(judged.features, judged.pixels, f"identity {batch.identity[0]} and on")
            held.append((batch, judged))
            whole = sum(len(one) for one, _ in held) // make
            if not whole:
                continue
            pictures, said = _joined([one for one, _ in held]), joined([two for _, two in held])
            parts = [slice(first * make, (first + 1) * make) for first in range(whole)]
            yield _joined([self._best(pictures[part], said.part(part), table) for part in parts])
            rest = said.part(slice(whole * make, None))
            left = Judged(rest.get("features"), rest.get("qualities"), rest["pixels"])
            held = [(pictures[whole * make :], left)] if len(left.pixels) else []

    def _best(self, person: ImageBatch, known: dict[str, NDArray[Any]], table: Identities) -> ImageBatch:
        rule, identity = self.rule, int(person.identity[0])
        if "vector" in rule.reads:
            known["vector"] = table.vectors[identity]
        failed = person.attributes["failed"] > 0 if "failed" in person.attributes else None
        choice = rule.choose(rule.person(f"identity {identity}", person.image, failed=failed, **known))
        tally = Tally.of([choice], rule.keep)
        self.counted[:] = [tally if self.tally is None else self.tally + tally]
        kept = choice["kept"]
        best = person[np.flatnonzero(kept)]
        scores = {f"score_{name}": choice[name][kept].astype(np.float32) for name in rule.by}
        numbers = {SOURCE_IMAGE: best.image.astype(np.float32)}
        order = np.arange(len(best), dtype=np.int64)
        return ImageBatch(best.images, best.identity, order, {**best.attributes, **numbers, **scores})


def chosen_of(
    choosing: Choosing | None, made: Iterable[ImageBatch], table: Identities
) -> Iterable[ImageBatch]:
    """The images that are written: all that are made, or those that are chosen among them."""
    return made if choosing is None else choosing.chosen(made, table)


def _joined(batches: list[ImageBatch]) -> ImageBatch:
    first = batches[0]
    if len(batches) == 1:
        return first
    return ImageBatch(
        np.concatenate([one.images for one in batches]),
        np.concatenate([one.identity for one in batches]),
        np.concatenate([one.image for one in batches]),
        {name: np.concatenate([one.attributes[name] for one in batches]) for name in first.attributes},
    )

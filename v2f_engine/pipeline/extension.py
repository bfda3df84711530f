"""`generate` of more people into a finished set: which people, whether that can be, and the manifest of the larger set.

Images depend on their own identity alone (its vector, its key, the settings), so those of the first people are what
they would be in a set made at once, and are not made again. What counts over all people at once cannot grow: refused.
How the folder changes: `data.writing.grow`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from v2f_engine.data.layout import IDENTITIES, MANIFEST, RUN, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.writing.grow import grown
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.options import IdentityOptions
from v2f_engine.vectors.growth import extend_identities
from v2f_engine.vectors.identities import Identities

COUNTED = frozenset({"count", "table_hash", "candidates_drawn"})
"""What a larger table of the same stream says otherwise than the smaller one."""


@dataclass(frozen=True)
class Held:
    """A set that gets more people.

    Args:
        root: its folder.
        manifest: of the finished set, or, where an extension was interrupted, of the larger set it is becoming.
        finished: which of the two.
        asked: the people that it is to have.
    """

    root: Path
    manifest: Manifest
    finished: bool
    asked: IdentityOptions

    @classmethod
    def at(cls, root: Path, asked: IdentityOptions) -> Held:
        """Looks at the set, before anything is loaded.

        Raises:
            ConfigError: no set, one that is not finished, one that cannot grow, or a threshold that it does not have.
        """
        manifest, finished = manifest_at(root)
        held = cls(root, manifest, finished, asked)
        held._refuse_counted_over_all()
        if asked.fmr is not None or asked.calibration is not None:
            raise ConfigError(
                f"{root}: its people keep the distance that it was begun with; fmr and calibration (--fmr, "
                "--calibration) would be another. Leave them out."
            )
        told = manifest.settings["identities"].get("max_cosine")
        if asked.identities is None and asked.max_cosine not in (None, told):
            raise ConfigError(
                f"{root}: no two of its people are as similar as {told}, found max_cosine {asked.max_cosine:g} "
                "(--max-cosine). Leave it out."
            )
        return held

    def _refuse_counted_over_all(self) -> None:
        settings = self.manifest.settings
        if "model" not in settings or not self.manifest.plan.uniform:
            raise ConfigError(f"{self.root}: only a set that `v2f generate` made can be extended.")
        if settings.get("sigma_shares", "drawn") != "drawn":
            raise ConfigError(
                f"{self.root}: its noise levels were dealt out over all of its images (--sigma-shares exact), so with "
                "more people each of them would have another. Such a set does not grow; make the larger one anew."
            )
        if "nearest_sha256" in settings["perturbation"]:
            raise ConfigError(
                f"{self.root}: how far its images lie from a person depends on how near the next person is (a guarded "
                "cone), so new people would change images of those that are there. Such a set does not grow; make the "
                "larger one anew."
            )

    def identities(self, settled: IdentityOptions, seed: int) -> Identities:
        """The larger table: the set's own goes on, or a given one that begins with it.

        Args:
            settled: options with what the model decides.
            seed: of the run; the table has its own.

        Raises:
            ConfigError, VectorError, SaturationError: as `vectors.growth.extend_identities`; given vectors that do not
                begin with the set's own.
            DatasetError: the set's own table is another one.
        """
        own = self._own()
        if settled.identities is None:
            assert settled.n_ids is not None, "checked at birth"
            if settled.n_ids < len(own):
                raise ConfigError(
                    f"{self.root}: has {len(own):,} people; {settled.n_ids:,} in all were asked for (--ids). A set "
                    "grows, it does not shrink."
                )
            return own if settled.n_ids == len(own) else extend_identities(
                own, settled.n_ids, source=self._source(own, settled), exclude=settled.exclude
            )  # fmt: skip
        given = settled.identities
        table = given if isinstance(given, Identities) else Identities.from_vectors(given, dimension=None)
        if settled.n_ids not in (None, len(table)):
            raise ConfigError(
                f"n_ids is {settled.n_ids} but {len(table)} identities were given; leave n_ids out."
            )
        both = min(len(own), len(table))
        same = len(table) >= len(own) and np.array_equal(table.vectors[:both], own.vectors)
        if not (same and np.array_equal(table.keys[:both], own.keys)):
            raise ConfigError(
                f"{self.root}: expected vectors that begin with its own {len(own):,}, as `v2f ids sample --extend "
                f"{self.root / IDENTITIES}` makes them; found {len(table):,} that do not: its images are not of them."
            )
        return table

    def _source(self, own: Identities, settled: IdentityOptions) -> Any:
        """What new people are drawn from: what is typed; else the model's source, where that is the table's, too."""
        source: Any = settled.source
        same = getattr(source, "sha256", None) == own.provenance.get("source_sha256")
        return source if same or self.asked.source != "auto" else "auto"

    def _own(self) -> Identities:
        own = Identities.load(self.root / IDENTITIES)
        expected = self.manifest.settings["identities"]["table_hash"]
        if self.finished and own.table_hash != expected:
            raise DatasetError(
                f"{self.root / IDENTITIES}: has hash {own.table_hash[:12]}, expected {expected[:12]}. Restore the "
                "file; `v2f verify` says what else was changed."
            )
        return own

    def larger(self, asked: Manifest, images_per_shard: int | None) -> Manifest:
        """The manifest to write, of the one that a new set of these options would have.

        Raises:
            ConfigError, OutputFolderError: as `grow.grown`; another size than an interrupted extension is to have.
        """
        plan, mine = asked.plan, self.manifest.plan
        if plan.identities == mine.identities:
            return replace(asked, plan=mine, grown=self.manifest.grown)
        if not self.finished:
            raise ConfigError(
                f"{self.root}: is being extended to {mine.identities:,} people, found {plan.identities:,} (--ids). "
                f"Finish that first, `v2f resume {self.root}`, then extend it again."
            )
        per_shard = None if images_per_shard is None else max(1, images_per_shard // mine.images_per_id)
        given = self.asked.identities is not None

        def may_differ(name: str) -> bool:
            part = name.removeprefix("settings.identities.")
            return part != name and (given or part in COUNTED)

        return grown(
            self.manifest, asked, None if per_shard == mine.identities_per_shard else per_shard, may_differ
        )


def manifest_at(root: Path) -> tuple[Manifest, bool]:
    """(manifest, whether the set is finished) of a set that is to be extended, or is being extended.

    Raises:
        ConfigError: there is no such set.
        DatasetError: its manifest was changed.
    """
    if (root / MANIFEST).is_file():
        return Manifest.load(root / MANIFEST), True
    if (root / WORK / RUN).is_file():
        begun = Manifest.load(root / WORK / RUN)
        if begun.grown:
            return begun, False
        raise ConfigError(
            f"{root}: is not finished yet. `v2f resume {root}` finishes it; then it can be extended."
        )
    raise ConfigError(f"{root}: expected a finished set to extend, found no {MANIFEST} there.")

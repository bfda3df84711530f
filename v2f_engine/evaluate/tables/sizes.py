"""How many people and images a measured set has, where its results do not say."""

from __future__ import annotations

from pathlib import Path

from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.errors import V2FError

SUFFIX = ".evaluation"


def size_beside(result: Path) -> tuple[int, int] | None:
    """(people, images) of the set that lies beside a result's folder, `SET` beside `SET.evaluation/RESULT`.

    None where there is none of this engine, or a broken one: its figures are shown all the same.
    """
    folder = result.absolute().parent
    if not folder.name.endswith(SUFFIX):
        return None
    manifest = folder.with_name(folder.name.removesuffix(SUFFIX)) / MANIFEST
    if not manifest.is_file():
        return None
    try:
        found = Manifest.load(manifest)
    except V2FError:
        return None
    return found.plan.identities, found.images

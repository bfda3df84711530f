"""`repair`: the broken shards of a generated dataset, made again from its manifest alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from v2f_engine.batch import ImageBatch
from v2f_engine.data.layout import ATTACHED, MANIFEST
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.mend_manifest import mend_manifest
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.data.writing.repair import repair_dataset
from v2f_engine.errors import DatasetError
from v2f_engine.scale.shard import encoder_of


def repair(
    path: str | Path, *, model: str | None = None, device: str = "auto", fetch: bool = False
) -> tuple[int, ...]:
    """Makes the broken shards of a finished dataset again; intact ones are not touched.

    Args:
        path: folder of a dataset that `generate` made.
        model: name or path of its model; by default the name in the manifest.
        device: where to compute; of the kind that made it.
        fetch: allow a download of published weights.

    Returns:
        Numbers of the shards that were made again.

    Raises:
        DatasetError: no finished dataset of `generate`, a lost identity table, or other software here (with the
            differences): the broken files are then left as they are.
        OutputFolderError, DiskFull, ModelNotFound, CheckpointError, BackendUnavailable: as named.
    """
    root = Path(path)
    if (root / MANIFEST).is_file():
        mend_manifest(root)
    report = verify_dataset(root)
    lost = sorted(report.broken_names & ATTACHED)
    if lost:
        raise DatasetError(
            f"{root}: {', '.join(lost)} is broken, and the images come from it. Run the `v2f generate` command that "
            "made the dataset: it has the vectors, and mends everything."
        )
    manifest = Manifest.load(root / MANIFEST)
    opened: list[Callable[[range], Iterable[ImageBatch]]] = []

    def make(identities: range) -> Iterable[ImageBatch]:
        if not opened:  # a model is loaded only if a shard is broken
            from v2f_engine.pipeline.shard_source import open_images

            opened.append(open_images(manifest, root, device, model=model, fetch=fetch))
        return opened[0](identities)

    return repair_dataset(root, make, encoder_of(manifest))

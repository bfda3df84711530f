"""A generated dataset from its manifest alone: its images, for workers of an executor, and its repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2f_engine.arguments import PATH, SWITCH, WORD, takes
from v2f_engine.batch import ImageBatch
from v2f_engine.data.layout import ATTACHED, IDENTITIES, MANIFEST
from v2f_engine.data.records.manifest import Manifest, flat
from v2f_engine.data.records.mend_manifest import mend_manifest
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.data.writing.repair import repair_dataset
from v2f_engine.errors import ConfigError, DatasetError
from v2f_engine.models.mask_schedule import MaskSchedule
from v2f_engine.models.registry import names
from v2f_engine.options import EngineOptions, ImageOptions
from v2f_engine.pipeline.engine import Engine
from v2f_engine.pipeline.selected import ChoiceOptions, chosen_of
from v2f_engine.scale.shard import encoder_of
from v2f_engine.vectors.identities import Identities

OPEN = "v2f_engine.pipeline.shard_source:open_images"
"""This module's `scale.job.OpenSource`, by name."""


def open_images(
    manifest: Manifest,
    root: Path,
    device: str = "auto",
    *,
    model: str | None = None,
    fetch: bool = False,
    recogniser: str | None = None,
    quality_model: str | None = None,
) -> Callable[[range], Iterable[ImageBatch]]:
    """A function from a range of identities to their images, exactly as the manifest describes them.

    Args:
        manifest: of a generated dataset, finished or not.
        root: its folder, which holds the identity table.
        device: where to compute; the kind of device that the manifest names, whichever number.
        model: name or path; by default the name in the manifest, which for a path is not enough.
        fetch: allow a download of published weights.
        recogniser, quality_model: of a set that was chosen from more images; by default the names in the manifest.

    Raises:
        DatasetError: the manifest is not of a generated dataset; the identity table is another one; or this
            machine's model, kernels or precision differ from the manifest's (the differences are listed).
        ConfigError: a steered dataset, which only the command that made it can continue.
        ModelNotFound, CheckpointError, BackendUnavailable: as `Engine.load`.
    """
    asked = manifest.settings
    if not {"seed", "identities", "perturbation", "model", "masks", "runner"} <= asked.keys():
        raise DatasetError(f"{root}: not made by `v2f generate`; its settings are {sorted(asked)}.")
    if "attributes" in asked:
        raise ConfigError(
            f"{root} is steered to attributes, which is done in one process: run the `v2f generate` command that "
            "made it again; it makes missing and broken shards."
        )
    masks, runner = asked["masks"], asked["runner"]
    kind = str(runner["device"]).split(":")[0]
    engine = Engine.open(
        EngineOptions(
            model or asked["model"]["name"],
            device=device if device.split(":")[0] == kind else kind,
            precision=runner["precision"],
            masks=MaskSchedule(masks["min"], masks["mean"], masks["std"], masks["max"]),
            compute_batch=runner["batch_size"],
            runner=runner["runner"],
            fetch=fetch,
            rounding=asked.get("rounding", "nearest"),
        )
    )
    _refuse_other(root, asked, engine.describe())
    table = Identities.load(root / IDENTITIES)
    if table.table_hash != asked["identities"]["table_hash"]:
        raise DatasetError(
            f"{root / IDENTITIES}: has hash {table.table_hash[:12]}, expected "
            f"{asked['identities']['table_hash'][:12]}. Restore the file, or run `v2f generate` again as before."
        )
    images = ImageOptions.from_manifest(manifest.plan.images_per_id, asked, root)
    choosing = None
    if "selection" in asked:
        _refuse_unnamed(root, asked["selection"], {"recogniser": recogniser, "quality": quality_model})
        choice = ChoiceOptions.from_manifest(asked["selection"], recogniser, quality_model)
        here = str(engine.runner.describe().get("device", "cpu"))
        choosing = choice.open(images.images_per_id, engine.loaded, here)
        _refuse_other(root, asked, {"selection": choosing.describe()})
        images = replace(images, images_per_id=choice.make)
    return lambda identities: chosen_of(choosing, engine.batches(table, images, identities), table)


@takes(path=PATH, model=PATH, device=WORD, fetch=SWITCH)
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
        _refuse_chosen(root)
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
            opened.append(open_images(manifest, root, device, model=model, fetch=fetch))
        return opened[0](identities)

    return repair_dataset(root, make, encoder_of(manifest))


def _refuse_chosen(root: Path) -> None:
    """Raises DatasetError for a set that `v2f select` chose from another, which that command mends."""
    told = Manifest.load(root / MANIFEST).settings
    if "selection" in told and "converted_from" in told:
        raise DatasetError(
            f"{root}: chosen from another set by `v2f select`. The same command again makes broken files anew, byte "
            "for byte, and leaves whole ones alone."
        )


def _refuse_unnamed(root: Path, told: Mapping[str, Any], given: Mapping[str, str | None]) -> None:
    """Raises DatasetError where images were chosen by a file of the user's, whose hash alone the manifest has."""
    known = {"quality", *names("recogniser")}
    for judge, path in given.items():
        name = told.get(judge, {}).get("name", "quality")
        if path is None and name not in known:
            option = "--select-recogniser" if judge == "recogniser" else "--select-quality-model"
            raise DatasetError(
                f"{root}: its images were chosen by {name!r}, a file of which the manifest has the hash alone. Run the "
                f"`v2f generate` command that made the set, with {option} FILE: it makes broken shards again."
            )


def _refuse_other(root: Path, asked: dict[str, Any] | Any, here: dict[str, Any]) -> None:
    there, now = flat({key: asked[key] for key in here}), flat(here)
    for text in (there, now):  # the number of a GPU is no setting
        if text.get("runner.device", "").startswith('"cuda'):
            text["runner.device"] = '"cuda"'
    differing = [
        f"{name} is {there.get(name, 'absent')} there, {now.get(name, 'absent')} here"
        for name in sorted(there.keys() | now.keys())
        if there.get(name) != now.get(name)
    ]
    if differing:
        raise DatasetError(
            f"{root}: this machine would make other bytes: {'; '.join(differing)}. Use the model, versions and kind "
            "of device that began the dataset."
        )

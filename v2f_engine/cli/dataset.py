"""`v2f convert`, `verify`, `repair`, `features` and `inspect`: datasets and weights after they were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import Fetch, Split, tell
from v2f_engine.cli.outputs import Overwrite, claimed, would_write
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, result, say
from v2f_engine.models.file_hash import is_weights

if TYPE_CHECKING:
    from v2f_engine.models.embedder import Embedder


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="a dataset, a verification set or list of pairs, or weights (.pth, .safetensors)"
        ),
    ],
    target: Annotated[
        Path, typer.Argument(help="folder of the new dataset, a .bin of pairs, or a .safetensors file")
    ],
    format: Annotated[str, typer.Option(help="format of the new dataset")] = "webdataset",
    split: Split = None,
    resize: Annotated[
        bool,
        typer.Option(
            "--resize", help="encode anew, at 112x112, what is of another size or codec; else refused"
        ),
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="folder of the pictures that a list of pairs names")
    ] = None,
    precision: Annotated[str, typer.Option(help="of the new weights: fp32, fp16, bf16")] = "fp32",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Convert a dataset to another format, pairs to a .bin, or a published checkpoint to safetensors."""
    if is_weights(source):
        from v2f_engine.models.weights import convert as convert_weights

        if dry_run:
            room = source.stat().st_size if source.is_file() else 0
            say_plan(would_write(overwrite, target, endings=(".safetensors", ".pth"), room=room), out=target)
            return
        with claimed(overwrite, target, endings=(".safetensors", ".pth")):
            digest = convert_weights(source, target, precision=precision)
            result(out=target, sha256=digest, precision=precision)
            say(f"{target}  sha256 {digest}")
        return
    if target.suffix == ".bin":
        from v2f_engine.data.verification import check_pictures
        from v2f_engine.data.writing.convert_pairs import convert_pairs

        check_pictures([source], images)
        if dry_run:
            say_plan(would_write(overwrite, target), out=target)
            return
        with claimed(overwrite, target):
            pairs = convert_pairs(source, target, images, resize=resize)
            result(out=target, pairs=pairs.pairs, same=pairs.same)
        tell(source, pairs.told)
        say(f"{pairs.pairs:,} pairs in {target}, {pairs.same:,} of one person")
        return
    from v2f_engine.data.writing.convert import convert_dataset, foresee_conversion

    if dry_run:
        seen, lines = foresee_conversion(source, target, format, split=split, resize=resize)
        tell(source, lines)
        say_plan(seen.lines(), **vars(seen))
        return
    with progress_bar("convert", "images") as progress:
        report = convert_dataset(source, target, format, split=split, resize=resize, progress=progress)
    tell(source, report.told)
    result(
        out=target, format=report.format, images=report.images, written=report.images_written,
        identities=report.identities, manifest=report.manifest,
    )  # fmt: skip
    if report.images_written:
        say(f"{report.images_written:,} images in {target}, {report.images:,} in all")
    else:
        say(f"already complete, {report.images:,} images in {target}")


def verify(
    dataset: Annotated[Path, typer.Argument(help="folder of a dataset")],
    full: Annotated[
        bool, typer.Option("--full/--fast", help="every sha256, or existence and sizes only")
    ] = True,
) -> None:
    """Check every file of a dataset against its manifest; a single flipped bit is found."""
    from v2f_engine.data.records.verify import verify_dataset
    from v2f_engine.errors import DatasetError

    report = verify_dataset(dataset, "full" if full else "fast")
    result(
        dataset=dataset, sound=not (report.broken or report.faults or report.misleading), shards=report.shards,
        files=report.files, bytes=report.bytes, broken=report.broken, broken_files=report.broken_names,
        faults=report.faults, strays=report.strays, misleading=report.misleading,
    )  # fmt: skip
    shards = f"{report.shards:,} {'shard' if report.shards == 1 else 'shards'}"
    say(f"{shards}, {report.files:,} files checked, {len(report.broken)} broken")
    for fault in report.faults:
        say(f"  {fault}")
    for name in report.strays:
        loaders = ", and loaders read it as one" if name in report.misleading else ""
        say(f"  {name}: none of the set's files{loaders}")
    if report.broken or report.faults:
        raise DatasetError(
            f"{dataset}: broken. `v2f repair {dataset}`, or the command that made it, makes the broken shards again."
        )
    if report.misleading:
        raise DatasetError(
            f"{dataset}: all of its own files are as recorded, and {len(report.misleading)} that loaders would read "
            f"with them are not its own: {', '.join(report.misleading[:5])}. Move them out of the folder."
        )


def repair(
    dataset: Annotated[Path, typer.Argument(help="folder of a dataset that `v2f generate` made")],
    model: Annotated[str | None, typer.Option(help="its model, if that was a path")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda; the kind that made it")] = "auto",
    fetch: Fetch = False,
) -> None:
    """Make exactly the broken shards of a dataset again, byte for byte."""
    from v2f_engine.pipeline.shard_source import repair as mend

    made = mend(dataset, model=model, device=device, fetch=fetch)
    from v2f_engine.data.layout import MANIFEST
    from v2f_engine.data.records.manifest import Manifest

    shards = Manifest.load(dataset / MANIFEST).plan.shards
    result(dataset=dataset, shards=shards, repaired=made)
    say(
        f"{len(made)} of {shards} shards made again: {', '.join(map(str, made))}; all bytes are as recorded"
        if made
        else f"{shards} shards, nothing to repair"
    )


def features(
    dataset: Annotated[Path, typer.Argument(help="a dataset of aligned faces in any format")],
    out: Annotated[
        Path | None, typer.Option(help=".npy of features, or .lmdb in the published training layout")
    ] = None,
    overwrite: Overwrite = False,
    recogniser: Annotated[
        str, typer.Option(help="mini, a published name, or a path: .pth, .safetensors, .onnx")
    ] = "mini",
    mask: Annotated[Path | None, typer.Option(help=".npy of row numbers: only these rows")] = None,
    split: Split = None,
    channels: Annotated[str | None, typer.Option(help="rgb (default) or bgr (AdaFace, MagFace)")] = None,
    mean: Annotated[float | None, typer.Option(help="of the pixels, in grey levels; default 127.5")] = None,
    std: Annotated[float | None, typer.Option(help="of the pixels, in grey levels; default 127.5")] = None,
    on_bad: Annotated[
        str,
        typer.Option(
            help="an unreadable image, a feature not finite or zero: refuse (name it), skip (NaN, note it)"
        ),
    ] = "refuse",
    batch: Annotated[int, typer.Option(help="images a call")] = 128,
    threads: Annotated[int, typer.Option(help="that decode images")] = 1,
    bf16: Annotated[bool, typer.Option(help="convolutions in bfloat16 (torch recognisers)")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="write nothing; say how far faint stripes turn the first faces' features"
        ),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Extract the features of every image; after a kill the same command goes on."""
    from v2f_engine.data.training.features_file import RECORD
    from v2f_engine.errors import ConfigError
    from v2f_engine.models.embedder import open_embedder
    from v2f_engine.train.extract import foresee_features, store_features

    if probe:
        embedder = open_embedder(recogniser, channels=channels, mean=mean, std=std, device=device, bf16=bf16)
        for told in embedder.notes:
            note(f"{recogniser}: {told}")
        _probe(dataset, embedder, mask, split, on_bad, batch)
        return
    if out is None:
        raise ConfigError("Give --out, a name that ends in .npy or .lmdb, or --probe, which writes nothing.")
    if dry_run:
        embedder = open_embedder(recogniser, channels=channels, mean=mean, std=std, device=device, bf16=bf16)
        foreseen = foresee_features(
            dataset, out, embedder, subset=mask, split=split, on_bad=on_bad, batch=batch
        )
        places = would_write(
            overwrite, out, out.with_suffix(RECORD), endings=(".npy", ".lmdb"), room=foreseen.bytes
        )
        say_plan([*places, *foreseen.lines()], out=out, **vars(foreseen))
        return
    with claimed(overwrite, out, out.with_suffix(RECORD), endings=(".npy", ".lmdb")):
        embedder = open_embedder(recogniser, channels=channels, mean=mean, std=std, device=device, bf16=bf16)
        for told in embedder.notes:
            note(f"{recogniser}: {told}")
        with progress_bar("features", "images") as progress:
            record = store_features(
                dataset,
                out,
                embedder,
                subset=mask,
                split=split,
                told=lambda lines: tell(dataset, lines),
                on_bad=on_bad,
                batch=batch,
                threads=threads,
                progress=progress,
            )
        result(
            out=out, images=record["dataset"]["rows"], dim=record["dim"],
            recogniser=record["recogniser"], bad=record["bad"],
        )  # fmt: skip
    used = record["recogniser"]
    bad = record["bad"]
    say(
        f"{record['dataset']['rows']} images, {record['dim']} numbers each, in {out}: {used['name']}, "
        f"{used['channels']}, (x - {used['mean']:g}) / {used['std']:g}, {_of_bad(bad)}"
    )


def _probe(
    dataset: Path, embedder: Embedder, mask: Path | None, split: str | None, on_bad: str, batch: int
) -> None:
    """Says the stripe response of a recogniser on the first faces of a dataset."""
    from v2f_engine.data.training.training_set import open_training_set
    from v2f_engine.models.stripe_response import FACES, stripe_response

    data = open_training_set(
        dataset, None, mask, split=split, on_bad=on_bad, with_features=False, with_landmarks=False
    )
    tell(dataset, data.told())
    images = data.read(range(min(FACES, len(data)))).images
    with progress_bar("stripes", "images") as progress:
        found = stripe_response(embedder, images, batch=batch, progress=progress)
    used = embedder.describe()
    result(recogniser=used, stripes=found.to_json(), bad=data.bad.report())
    say(
        f"{used['name']}: cosine of a face's feature with and without stripes of {found.levels:g} grey levels, "
        f"mean of {found.images} faces"
    )
    for line in found.lines():
        say(line)


def _of_bad(bad: Mapping[str, Any]) -> str:
    """`0 bad rows`, or how many of which kind."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(bad["by_kind"].items()))
    return f"{bad['count']:,} bad rows" + (f": {kinds}" if kinds else "")


def inspect(
    file: Annotated[Path, typer.Argument(help="a stranger's weights, vectors, images, pairs or dataset")],
    split: Split = None,
) -> None:
    """Read a stranger's file in a process of its own, with limited memory, and say whether it is sound."""
    from v2f_engine.data.inspect_file import inspect_file

    found = inspect_file(file, split=split)
    result(file=file, sound=found.sound, summary=found.summary, account=found.account)
    say(f"{'sound' if found.sound else 'NOT sound'}: {found.summary}")
    for line in found.account:
        say(f"  {line}")
    if not found.sound:
        result(error="NotSound", message=found.summary)
        raise typer.Exit(1)

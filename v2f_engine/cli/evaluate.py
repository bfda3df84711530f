"""`v2f evaluate`: every table of the field as a command; JSON, and a picture beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.progress import progress_bar

if TYPE_CHECKING:
    from v2f_engine.evaluate.source import FeatureSource
    from v2f_engine.models.weights import LoadedRecogniser

app = typer.Typer(
    help="Measure datasets and recognisers: separability, consistency, leakage, verification, IJB, report.",
    no_args_is_help=True,
)

Data = Annotated[Path, typer.Argument(help="a dataset in any format, or a .npy of features [N,D]")]
Labels = Annotated[Path | None, typer.Option(help=".npy of integers [N] beside features")]
Recogniser = Annotated[str, typer.Option(help="reads images: mini, a published name, or a path to weights")]
PerId = Annotated[int | None, typer.Option("--images", help="at most so many images of each identity")]
Threshold = Annotated[
    float | None, typer.Option(help="cosine above which two are one person; by default the recogniser's own")
]
Reference = Annotated[
    Path | None, typer.Option(help="dataset of known people on which the threshold is calibrated at --fmr")
]
Bf16 = Annotated[bool, typer.Option("--bf16", help="recogniser in bfloat16: faster on CPUs that have it")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1")]


def loader(name: str, device: str = "cpu") -> Callable[[], LoadedRecogniser]:
    """The recogniser, loaded once and only when images need it."""
    held: list[LoadedRecogniser] = []

    def load() -> LoadedRecogniser:
        if not held:
            from v2f_engine.models.weights import load_recogniser

            held.append(load_recogniser(name))
            held[0].model.to(device)
        return held[0]

    return load


@contextmanager
def reading(
    path: Path, recogniser: Callable[[], LoadedRecogniser], **options: Any
) -> Iterator[FeatureSource]:
    from v2f_engine.evaluate.source import open_source

    with progress_bar(f"read {path.name}", "images") as progress:
        source = open_source(path, recogniser=recogniser, progress=progress, **options)
    yield source


def limit(
    threshold: float | None,
    reference: Path | None,
    fmr: float,
    recogniser: str,
    load: Callable[[], LoadedRecogniser],
    images: int | None,
    bf16: bool,
) -> tuple[float, str]:
    """(cosine, where it comes from): given, calibrated, or the recogniser's own."""
    from v2f_engine.evaluate.separability import calibrate
    from v2f_engine.models.registry import locate

    if threshold is not None:
        return threshold, "given"
    if reference is not None:
        with reading(reference, load, images_per_id=images, bf16=bf16) as known:
            found = calibrate(known.table(), fmr)
        return found.threshold, f"false-match rate {fmr:g} on {reference.name}, {found.pairs:,} pairs"
    return locate(recogniser, "recogniser").max_cosine, f"the limit of {recogniser}"


def save(path: Path, record: dict[str, Any]) -> None:
    import json

    from v2f_engine.atomic import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
    typer.echo(f"{path}  {path.with_suffix('.png').name}")


@app.command()
def separability(
    data: Data,
    labels: Labels = None,
    recogniser: Recogniser = "mini",
    images: PerId = None,
    threshold: Threshold = None,
    reference: Reference = None,
    fmr: float = 1e-4,
    radius: Annotated[float, typer.Option(help="DCFace's r: distance within which two are one")] = 0.3,
    real: Annotated[
        Path | None,
        typer.Option(help="real images for DCFace's diversity; measured in this recogniser's features"),
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="attribute to break the errors down by, e.g. gender")
    ] = None,
    bf16: Bf16 = False,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="JSON; a PNG beside it")] = Path("separability.json"),
) -> None:
    """Are the identities apart: unique ones over prefixes, EER, FMR100, FDR, DCFace's U, C and D."""
    from dataclasses import replace

    from v2f_engine.evaluate.dcface import measure_diversity, measure_uniqueness
    from v2f_engine.evaluate.groups import measure_groups, named_groups
    from v2f_engine.evaluate.plots import plot_histograms
    from v2f_engine.evaluate.separability import measure_separability
    from v2f_engine.vectors.separability import separability_curve

    load = loader(recogniser, device)
    cosine, why = limit(threshold, reference, fmr, recogniser, load, images, bf16)
    with reading(data, load, labels=labels, images_per_id=images, bf16=bf16) as source:
        table = source.table()
    measured = measure_separability(table, threshold=cosine)
    curve = separability_curve(table.centres, threshold=cosine, step=max(1, measured.identities // 50))
    three = measure_uniqueness(table, radius=radius)
    if real is not None:
        with reading(real, load, images_per_id=images, bf16=bf16) as others:
            three = replace(three, diverse=measure_diversity(table.features, table.labels, others.features))
    record: dict[str, Any] = {
        "data": str(data),
        "recogniser": source.recogniser,
        "threshold_from": why,
        **measured.to_json(),
        "dcface": three.to_json(),
        "curve": {"first": curve.first.tolist(), "unique": curve.unique.tolist()},
    }
    if groups is not None:
        record["groups"] = measure_groups(
            table, named_groups(attribute(source, groups)), threshold=cosine
        ).to_json()
    save(out, record)
    plot_histograms({source.name: measured}, out.with_suffix(".png"))
    typer.echo(
        f"{measured.identities:,} identities, {measured.images:,} images: EER {100 * measured.eer:.2f} %, "
        f"FMR100 {100 * measured.fmr100:.2f} %, unique {100 * measured.unique_share:.2f} % at cosine {cosine:.3f} "
        f"({why}), FDR {measured.fdr:.2f}, U {three.unique:.3f} C {three.consistent:.3f}"
    )


def attribute(source: FeatureSource, name: str) -> Any:
    """One column of a dataset's attributes, for the rows that were read."""
    from v2f_engine.config import one_of
    from v2f_engine.errors import DatasetError

    table = None if source.dataset is None else source.dataset.attributes()
    if table is None:
        raise DatasetError(f"{source.name} has no attributes to break down by.")
    names = [column for column in table.dtype.names or () if column not in ("identity", "image")]
    return table[one_of("attribute", name, names)][source.rows]


@app.command()
def consistency(
    data: Data,
    labels: Labels = None,
    recogniser: Recogniser = "mini",
    images: PerId = None,
    bf16: Bf16 = False,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="JSON; a PNG beside it")] = Path("consistency.json"),
) -> None:
    """Is each identity itself: cosines within identities, and images nearest to their own centre."""
    from v2f_engine.evaluate.consistency import measure_consistency
    from v2f_engine.evaluate.plots import plot_consistency

    with reading(data, loader(recogniser, device), labels=labels, images_per_id=images, bf16=bf16) as source:
        measured = measure_consistency(source.table())
    save(out, {"data": str(data), "recogniser": source.recogniser, **measured.to_json()})
    plot_consistency(measured, out.with_suffix(".png"))
    typer.echo(
        f"{measured.identities:,} identities: mean pair cosine {measured.pair_cosine:.3f} "
        f"(5 % of identities below {measured.pair_cosine_p05:.3f}), "
        f"{100 * measured.own_nearest:.2f} % of images nearest to their own centre"
    )


@app.command()
def leakage(
    synthetic: Data,
    gallery: Annotated[
        Path, typer.Argument(help="real people: a dataset, or a .npy of features of any size")
    ],
    gallery_labels: Annotated[
        Path | None, typer.Option(help=".npy of integers beside gallery features; else each row is a person")
    ] = None,
    recogniser: Recogniser = "mini",
    images: PerId = None,
    threshold: Annotated[list[float] | None, typer.Option(help="cosines to report; 0.5 and 0.7")] = None,
    fmr: Annotated[
        float | None,
        typer.Option(
            help="rate at which a threshold is calibrated on the gallery; 0: none; the lowest it can tell"
        ),
    ] = None,
    worst: Annotated[int, typer.Option(help="pairs listed, and pictured where there are images")] = 24,
    backend: Annotated[str, typer.Option(help="auto, native, reference or cupy: speed only")] = "auto",
    bf16: Bf16 = False,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="JSON; PNGs beside it")] = Path("leakage.json"),
) -> None:
    """Is a real person among the generated: every image against every gallery row, top-1 cosine, streamed."""
    from v2f_engine.evaluate.leakage import PUBLISHED, lowest_rate, measure_leakage
    from v2f_engine.evaluate.pictures import picture_pairs
    from v2f_engine.evaluate.plots import plot_leakage

    load = loader(recogniser, device)
    with reading(synthetic, load, images_per_id=images, bf16=bf16) as made:
        pass
    with reading(gallery, load, labels=gallery_labels, images_per_id=images, bf16=bf16) as real:
        pass
    rate = lowest_rate(len(real.features), real.labels) if fmr is None else fmr or None
    with progress_bar("compare", "rows") as progress:
        measured = measure_leakage(
            made.features,
            real.features,
            thresholds=tuple(threshold or PUBLISHED),
            fmr=rate,
            gallery_labels=real.labels,
            worst=worst,
            backend=backend,
            progress=progress,
        )
    save(
        out,
        {"synthetic_set": str(synthetic), "gallery_set": str(gallery), "recogniser": made.recogniser or real.recogniser,
         **measured.to_json()},
    )  # fmt: skip
    plot_leakage(measured, out.with_suffix(".png"))
    sheet = out.with_name(out.stem + "_worst.png")
    if picture_pairs(made, real, measured.worst, sheet):
        typer.echo(f"worst pairs  {sheet}")
    for above in measured.above:
        chance = "" if above.by_chance is None else f", by chance {100 * above.by_chance:.3g} %"
        typer.echo(
            f"above {above.threshold:.3f} ({above.what}): {above.count:,} of {measured.synthetic:,} "
            f"= {100 * above.share:.4g} %{chance}"
        )
    for row, other, cosine in measured.worst[:5]:
        typer.echo(f"  synthetic {row} - gallery {other}: {cosine:.4f}")


@app.command()
def verification(
    sets: Annotated[list[Path], typer.Argument(help=".bin, .bin.xz, or .npy with issame.txt")],
    recogniser: Recogniser = "mini",
    bf16: Bf16 = False,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="JSON; a PNG beside it")] = Path("verification.json"),
) -> None:
    """A recogniser on LFW, CFP-FP, AgeDB and the like: mirrored features summed, ten folds."""
    from v2f_engine.data.verification import open_verification_set
    from v2f_engine.evaluate.plots import plot_verification
    from v2f_engine.evaluate.verification import measure_verification

    opened = [open_verification_set(path) for path in sets]
    loaded = loader(recogniser, device)()
    measured = []
    for pairs in opened:
        with progress_bar(pairs.name, "images") as progress:
            measured.append(measure_verification(pairs, loaded.model, bf16=bf16, progress=progress))
    average = sum(m.accuracy for m in measured) / len(measured)
    told = {"name": loaded.name, "sha256": loaded.sha256}
    save(out, {"recogniser": told, "average": average, "sets": [m.to_json() for m in measured]})
    plot_verification(measured, out.with_suffix(".png"))
    for m in measured:
        typer.echo(
            f"{m.name:20} {100 * m.accuracy:6.2f} % ± {100 * m.deviation:4.2f}  {m.pairs:,} pairs, "
            f"EER {100 * m.eer:.2f} %, VAL {100 * m.val:.2f} % at FAR {m.far:.1e}"
        )
    typer.echo(f"{'average':20} {100 * average:6.2f} %")


@app.command()
def ijb(
    meta: Annotated[Path, typer.Argument(help="folder of *_face_tid_mid.txt and *_template_pair_label.txt")],
    features: Annotated[
        Path | None, typer.Option(help=".npy [N,D] in the protocol's order, mirrored features summed")
    ] = None,
    crops: Annotated[Path | None, typer.Option(help="folder of the images (loose_crop)")] = None,
    name: Annotated[str | None, typer.Option(help="ijbb or ijbc, where both lie in the folder")] = None,
    recogniser: Recogniser = "mini",
    scores: Annotated[bool, typer.Option(help="weigh images by the detector's score")] = True,
    bf16: Bf16 = False,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="JSON; a PNG beside it")] = Path("ijb.json"),
) -> None:
    """IJB-B and IJB-C: images to media to templates, TPR at FPR."""
    from v2f_engine.errors import ConfigError
    from v2f_engine.evaluate.ijb import measure_ijb, read_protocol
    from v2f_engine.evaluate.plots import plot_ijb
    from v2f_engine.vectors.streams import open_vectors

    protocol = read_protocol(meta, name)
    if (features is None) == (crops is None):
        raise ConfigError("Give either --features, extracted before, or --crops, the images.")
    if features is not None:
        rows: Any = open_vectors(features, dimension=None)
    else:
        from v2f_engine.evaluate.crops import read_crops

        assert crops is not None
        loaded = loader(recogniser, device)()
        with progress_bar("read", "images") as progress:
            rows = read_crops(protocol, crops, loaded.model, bf16=bf16, progress=progress)
    measured = measure_ijb(rows, protocol, use_scores=scores)
    save(out, {"protocol": str(meta), **measured.to_json()})
    plot_ijb(measured, out.with_suffix(".png"))
    typer.echo(f"{measured.templates:,} templates, {measured.pairs:,} pairs")
    for fpr, tpr in measured.tpr.items():
        typer.echo(f"TPR at FPR {fpr:>6}: {100 * tpr:6.2f} %")


@app.command()
def report(
    data: Annotated[Path, typer.Argument(help="a dataset in any format")],
    recogniser: Recogniser = "mini",
    images: PerId = None,
    threshold: Threshold = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="known people, measured beside it; the threshold is calibrated on them at --fmr"),
    ] = None,
    fmr: float = 1e-4,
    gallery: Annotated[
        Path | None, typer.Option(help="real people who must not be in it, for leakage")
    ] = None,
    accuracy: Annotated[
        list[str] | None,
        typer.Option(help="NAME=verification.json of a recogniser trained on it; may be repeated"),
    ] = None,
    card: Annotated[bool, typer.Option(help="write the measures into the dataset's card")] = True,
    bf16: Bf16 = False,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="HTML; a JSON beside it")] = Path("report.html"),
) -> None:
    """Everything about a dataset on one page: faces, separability, leakage, accuracy beside published sets, origin."""
    import json
    import shlex
    import sys

    from v2f_engine.atomic import write_atomically
    from v2f_engine.data.records.card import write_card
    from v2f_engine.evaluate.report import make_report, page

    accuracies = [_accuracy(text) for text in accuracy or ()]
    load = loader(recogniser, device)
    options: dict[str, Any] = {"images_per_id": images, "bf16": bf16}
    known = None
    if reference is not None:
        with reading(reference, load, **options) as known:
            pass
    if threshold is None and known is not None:
        from v2f_engine.evaluate.separability import calibrate

        found = calibrate(known.table(), fmr)
        cosine, why = found.threshold, f"false-match rate {fmr:g} on {known.name}, {found.pairs:,} pairs"
    else:
        cosine, why = limit(threshold, None, fmr, recogniser, load, images, bf16)
    with reading(data, load, **options) as source:
        pass
    real = None
    if gallery is not None:
        with reading(gallery, load, **options) as real:
            pass
    made = make_report(
        source,
        threshold=cosine,
        threshold_from=why,
        gallery=real,
        reference=known,
        fmr=fmr if threshold is None and known is not None else None,
        accuracy=accuracies,
        command=shlex.join(["v2f", *sys.argv[1:]]),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page(made).encode())
    write_atomically(out.with_suffix(".json"), (json.dumps(made.record, sort_keys=True) + "\n").encode())
    typer.echo(f"{out}  {out.stat().st_size / 1e6:.1f} MB   {out.with_suffix('.json').name}")
    manifest = None if source.dataset is None else source.dataset.manifest
    if card and manifest is not None and data.is_dir():
        typer.echo(f"{write_card(data, manifest, card_measures(made.record))}")


def card_measures(record: dict[str, Any]) -> dict[str, str]:
    """What the dataset card says of a report."""
    apart, alike = record["separability"], record["consistency"]
    told = {
        "recogniser": f"{record['recogniser'].get('name')} {record['recogniser'].get('sha256', '')[:12]}",
        "threshold": f"cosine {record['threshold']:.3f} ({record['threshold_from']})",
        "unique identities": f"{100 * apart['unique_share']:.2f} % of {apart['identities']:,}",
        "equal error rate": f"{100 * apart['eer']:.2f} %, {apart['images']:,} images",
        "mean pair cosine within identities": f"{alike['pair_cosine']:.3f}",
        "images nearest to their own identity": f"{100 * alike['own_nearest']:.2f} %",
    }
    if record["leakage"] is None:
        return {**told, "leakage": "not measured"}
    leaks = record["leakage"]
    for above in leaks["above"]:
        told[f"leakage above {above['threshold']:.3f}"] = (
            f"{above['count']:,} of {leaks['synthetic']:,} images against {leaks['gallery']:,} rows of "
            f"{leaks['gallery_name']} ({above['what']})"
        )
    return told


def _accuracy(text: str) -> dict[str, Any]:
    import json

    from v2f_engine.errors import ConfigError

    name, _, path = text.partition("=")
    try:
        record = json.loads(Path(path).read_text())
        sets = [
            {key: item[key] for key in ("name", "accuracy", "deviation", "pairs")} for item in record["sets"]
        ]
        return {"name": name, "average": float(record["average"]), "sets": sets}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--accuracy {text!r}: expected NAME=FILE, the JSON of `v2f evaluate verification`; {error!r}."
        ) from error

"""`v2f evaluate`: every table of the field as a command; JSON, and a picture beside it. Here: of datasets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.flags import Split, grouped, tell
from v2f_engine.cli.outputs import Overwrite, beside, claimed
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, result, say

if TYPE_CHECKING:
    from v2f_engine.evaluate.source import FeatureSource
    from v2f_engine.models.embedder import Reader

app = typer.Typer(
    help="Measure datasets and recognisers: separability, consistency, leakage, verification, IJB, report.",
    no_args_is_help=True,
)

Data = Annotated[Path, typer.Argument(help="a dataset in any format, or a file of features [N,D]")]
Out = Annotated[
    Path | None,
    typer.Option(help="JSON, pictures beside it; in DATA.evaluation/ next to the data by default"),
]
Labels = Annotated[Path | None, typer.Option(help=".npy of integers [N] beside features")]


@dataclass(frozen=True)
class ReaderFlags:
    """What reads images."""

    recogniser: Annotated[
        str | None,
        typer.Option(
            help="reads images: mini (default), a published name, or a path: .pth, .safetensors, .onnx"
        ),
    ] = None
    channels: Annotated[
        str | None, typer.Option(help="of the recogniser's pixels: rgb (default) or bgr (AdaFace, MagFace)")
    ] = None
    mean: Annotated[
        float | None, typer.Option(help="of the recogniser's pixels, in grey levels; default 127.5")
    ] = None
    std: Annotated[
        float | None, typer.Option(help="of the recogniser's pixels, in grey levels; default 127.5")
    ] = None
    bf16: Annotated[
        bool, typer.Option("--bf16", help="recogniser in bfloat16: faster on CPUs that have it")
    ] = False
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu"

    @property
    def judge(self) -> str:
        """The recogniser that reads images."""
        return self.recogniser or "mini"

    @cached_property
    def loaded(self) -> Reader:
        """The recogniser, opened once and only when images need it; what it says of its file goes to stderr."""
        from v2f_engine.models.embedder import open_reader

        reader = open_reader(
            self.judge,
            channels=self.channels,
            mean=self.mean,
            std=self.std,
            device=self.device,
            bf16=self.bf16,
        )
        for told in reader.notes:
            note(f"{self.judge}: {told}")
        return reader


@dataclass(frozen=True)
class SetFlags(ReaderFlags):
    """What reads the images of datasets, and how many of them."""

    images_per_id: Annotated[
        int | None, typer.Option("--images", help="at most so many images of each identity")
    ] = None

    split: Split = None

    def read(self, path: Path, labels: Path | None = None, split: str | None = None) -> FeatureSource:
        """Features of a dataset's images, or those of a file; `split` is of what is measured alone."""
        from v2f_engine.evaluate.source import open_source

        with progress_bar(f"read {path.name}", "images") as progress:
            return open_source(
                path,
                recogniser=lambda: self.loaded,
                labels=labels,
                images_per_id=self.images_per_id,
                split=split,
                told=lambda lines: tell(path, lines),
                bf16=self.bf16,
                progress=progress,
            )


@dataclass(frozen=True)
class ThresholdFlags:
    """The cosine at which two are one person."""

    threshold: Annotated[
        float | None,
        typer.Option(
            help="cosine above which two are one person; by default the limit of the recogniser that read them"
        ),
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option(
            help="known people, a dataset or a file of their features, on whom the threshold is calibrated at --fmr"
        ),
    ] = None
    fmr: Annotated[float, typer.Option(help="false-match rate of --reference")] = 1e-4

    def check_first(self, data: Path, sets: SetFlags) -> None:
        """Refuses what gives no threshold before anything is read through a network.

        Raises:
            ConfigError: a reference of too few people, the message names the lowest rate that it can tell; or features
                of which nobody says who read them.
        """
        from v2f_engine.data import open_dataset
        from v2f_engine.evaluate.separability import check_pairs
        from v2f_engine.evaluate.source import is_vectors

        if self.threshold is not None:
            return
        if self.reference is None:
            self.limit(data, sets, None)
        elif not is_vectors(self.reference):
            check_pairs(open_dataset(self.reference).labels, self.fmr, str(self.reference))

    def limit(self, data: Path, sets: SetFlags, known: FeatureSource | None) -> tuple[float, str]:
        """(cosine, where it comes from): given, calibrated on `known`, or the limit of who read the features."""
        from v2f_engine.evaluate.separability import calibrate_source, stated_limit
        from v2f_engine.evaluate.source import is_vectors, read_by
        from v2f_engine.models.registry import PUBLISHED, locate

        if self.threshold is not None:
            return self.threshold, "given"
        if known is not None:
            found = calibrate_source(known, self.fmr)
            return found.threshold, f"false-match rate {self.fmr:g} on {known.name}, {found.pairs:,} pairs"
        if sets.recogniser not in (
            None,
            *PUBLISHED,
        ):  # a published name may be said of features without its weights
            locate(sets.judge, "recogniser")
        reader = sets.recogniser or (read_by(data).get("name") if is_vectors(data) else sets.judge)
        return stated_limit(reader, data)


def save(path: Path, record: dict[str, Any]) -> None:
    """Writes a measurement, and gives it to whoever asked for `--json`."""
    import json

    from v2f_engine.atomic import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
    result(out=path, picture=path.with_suffix(".png"), **record)
    say(f"{path}  {path.with_suffix('.png').name}")


@app.command()
@grouped
def separability(
    data: Data,
    *,
    labels: Labels = None,
    sets: SetFlags,
    apart: ThresholdFlags,
    radius: Annotated[float, typer.Option(help="DCFace's r: distance within which two are one")] = 0.3,
    real: Annotated[
        Path | None,
        typer.Option(help="real images for DCFace's diversity; measured in this recogniser's features"),
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="attribute to break the errors down by, e.g. gender")
    ] = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Are the identities apart: unique ones over prefixes, EER, FMR100, FDR, DCFace's U, C and D."""
    from dataclasses import replace

    from v2f_engine.evaluate.by_group import groups_of, measure_by_group
    from v2f_engine.evaluate.dcface import measure_diversity, measure_uniqueness
    from v2f_engine.evaluate.groups import measure_groups
    from v2f_engine.evaluate.plots import plot_histograms
    from v2f_engine.evaluate.separability import measure_separability
    from v2f_engine.vectors.separability import separability_curve

    out = out or beside(data, "separability.json")
    with claimed(overwrite, out, out.with_suffix(".png")):
        apart.check_first(data, sets)
        known = sets.read(apart.reference) if apart.threshold is None and apart.reference else None
        cosine, why = apart.limit(data, sets, known)
        source = sets.read(data, labels, sets.split)
        table = source.table()
        measured = measure_separability(table, threshold=cosine)
        curve = separability_curve(table.centres, threshold=cosine, step=max(1, measured.identities // 50))
        three = measure_uniqueness(table, radius=radius)
        if real is not None:
            diverse = measure_diversity(table.features, table.labels, sets.read(real).features)
            three = replace(three, diverse=diverse)
        record: dict[str, Any] = {
            "data": str(data),
            "recogniser": source.recogniser,
            "threshold_from": why,
            **measured.to_json(),
            "dcface": three.to_json(),
            "curve": {"first": curve.first.tolist(), "unique": curve.unique.tolist()},
        }
        if groups is not None:
            names = groups_of(source, groups)
            record["groups"] = measure_groups(table, names, threshold=cosine).to_json()
            record["by_group"] = measure_by_group(table, names, column=groups, threshold=cosine).to_json()
        save(out, record)
        plot_histograms({source.name: measured}, out.with_suffix(".png"))
    told = "of too few pairs" if measured.fmr100 is None else f"{100 * measured.fmr100:.2f} %"
    say(
        f"{measured.identities:,} identities, {measured.images:,} images: EER {100 * measured.eer:.2f} %, "
        f"FMR100 {told}, unique {100 * measured.unique_share:.2f} % at cosine {cosine:.3f} "
        f"({why}), FDR {measured.fdr:.2f}, U {three.unique:.3f} C {three.consistent:.3f}"
    )


@app.command()
@grouped
def consistency(
    data: Data,
    *,
    labels: Labels = None,
    sets: SetFlags,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Is each identity itself: cosines within identities, and images nearest to their own centre."""
    from v2f_engine.evaluate.consistency import measure_consistency
    from v2f_engine.evaluate.plots import plot_consistency

    out = out or beside(data, "consistency.json")
    with claimed(overwrite, out, out.with_suffix(".png")):
        source = sets.read(data, labels, sets.split)
        measured = measure_consistency(source.table())
        save(out, {"data": str(data), "recogniser": source.recogniser, **measured.to_json()})
        plot_consistency(measured, out.with_suffix(".png"))
    say(
        f"{measured.identities:,} identities: mean pair cosine {measured.pair_cosine:.3f} "
        f"(5 % of identities below {measured.pair_cosine_p05:.3f}), "
        f"{100 * measured.own_nearest:.2f} % of images nearest to their own centre"
    )


@app.command()
@grouped
def leakage(
    synthetic: Data,
    gallery: Annotated[
        Path, typer.Argument(help="real people: a dataset, a file of features of any size, or a table")
    ],
    *,
    labels: Labels = None,
    gallery_labels: Annotated[
        Path | None, typer.Option(help=".npy of integers beside gallery features; else each row is a person")
    ] = None,
    sets: SetFlags,
    threshold: Annotated[list[float] | None, typer.Option(help="cosines to report; 0.5 and 0.7")] = None,
    fmr: Annotated[
        float | None,
        typer.Option(
            help="rate at which a threshold is calibrated on the gallery; 0: none; the lowest it can tell"
        ),
    ] = None,
    worst: Annotated[int, typer.Option(help="pairs listed, and pictured where there are images")] = 24,
    backend: Annotated[str, typer.Option(help="auto, native, reference or cupy: speed only")] = "auto",
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Is a real person among the generated: every row against every gallery row, streamed; pairs, people and rows."""
    from v2f_engine.evaluate.leakage import PUBLISHED, lowest_rate, measure_leakage
    from v2f_engine.evaluate.pictures import picture_pairs
    from v2f_engine.evaluate.plots import plot_leakage

    out = out or beside(synthetic, "leakage.json")
    sheet = out.with_name(out.stem + "_worst.png")
    with claimed(overwrite, out, out.with_suffix(".png"), sheet):
        made, real = sets.read(synthetic, labels, sets.split), sets.read(gallery, gallery_labels)
        rate = lowest_rate(len(real.features), real.labels) if fmr is None else fmr or None
        with progress_bar("compare", "rows") as progress:
            measured = measure_leakage(
                made.features,
                real.features,
                thresholds=tuple(threshold or PUBLISHED),
                fmr=rate,
                labels=made.labels,
                gallery_labels=real.labels,
                worst=worst,
                backend=backend,
                progress=progress,
            )
        about = {
            "synthetic_set": str(synthetic),
            "gallery_set": str(gallery),
            "synthetic_kind": made.kind,
            "gallery_kind": real.kind,
            "recogniser": made.recogniser or real.recogniser,
        }
        save(out, {**about, **measured.to_json()})
        plot_leakage(measured, out.with_suffix(".png"))
        if picture_pairs(made, real, measured.worst, sheet):
            say(f"worst pairs  {sheet}")
    if measured.same_set:
        say(
            "Both sides are one set: every row is its own nearest, so the shares of rows say nothing of leakage; of "
            "the pairs those of a row or person with itself are left out, and each other pair counts twice."
        )
    for above in measured.above:
        say(f"above {above.threshold:.3f} ({above.what})")
        chance = "" if above.by_chance is None else f"; by chance {100 * above.by_chance:.3g} %"
        for pairs, what in (
            (above.pairs, "pairs of rows, as published where a row is an identity"),
            (above.centres, "pairs of people by their centres, as published"),
            (above.people, "pairs of people by any two of their rows"),
        ):
            if pairs is not None:
                say(f"  {100 * pairs.share:9.4g} %  {pairs.count:,} of {pairs.total:,} {what}")
        say(
            f"  {100 * above.share:9.4g} %  {above.count:,} of {measured.synthetic:,} synthetic rows have a gallery "
            f"row above{chance}"
        )
    for row, other, cosine in measured.worst[:5]:
        say(f"  synthetic {row} - gallery {other}: {cosine:.4f}")

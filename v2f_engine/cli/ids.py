"""`v2f ids`: identity vectors — centres, fit, plan, sample, check; `prove` is in a file of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import Backend, Exclude, Judge, Mix, RateFlags, Rescale, grouped
from v2f_engine.cli.growth import Extend, Extended
from v2f_engine.cli.outputs import Overwrite, claimed, would_write
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, result, say
from v2f_engine.cli.work import WorkFlags

if TYPE_CHECKING:
    from v2f_engine.vectors.people import People
    from v2f_engine.vectors.planner import IdentityPlan
    from v2f_engine.vectors.sources import VectorSource

app = typer.Typer(
    help="Identity vectors: sample them, fit their statistics, plan and check separability.",
    no_args_is_help=True,
)


@dataclass(frozen=True)
class StreamFlags:
    """A stream of separable vectors as typed."""

    source: Annotated[
        str, typer.Option(help="auto (of the model), mini, gaussian, or a file of `v2f ids fit`")
    ] = "auto"
    model: Annotated[
        str | None,
        typer.Option(help="the generator that will make them: its own statistics and limit; mini by default"),
    ] = None
    mix: Mix = None
    rescale: Rescale = False
    max_cosine: Annotated[
        float | None,
        typer.Option(
            help="no two are as similar as this; by default the model's limit, 0.3 for other sources"
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="of the candidates")] = 0
    backend: Backend = "auto"

    @cached_property
    def people(self) -> People | None:
        """Of the model, where one is named."""
        from v2f_engine.pipeline.given import people_of

        return None if self.model is None else people_of(self.model)

    @cached_property
    def found(self) -> VectorSource:
        """What is sampled, in its mix; a source that the model does not know is refused."""
        from v2f_engine.vectors.sources import find_source, mixed_source

        if self.people is None:
            return mixed_source(find_source("mini" if self.source == "auto" else self.source), self.mix)
        if self.source == "auto":
            return mixed_source(self.people.require_source(), self.mix)
        return self.people.admitted_source(mixed_source(find_source(self.source), self.mix), self.rescale)

    @property
    def limit(self) -> float:
        from v2f_engine.models.registry import MAX_COSINE, locate

        if self.max_cosine is not None:
            return self.max_cosine
        if self.people is not None:
            return self.people.max_cosine
        return locate("mini", "generator").max_cosine if self.source in ("auto", "mini") else MAX_COSINE


@app.command()
@grouped
def sample(
    n_ids: Annotated[int, typer.Argument(metavar="count", help="identities to keep")],
    stream: StreamFlags,
    rate: RateFlags,
    out: Annotated[
        Path, typer.Option(help="table of identities: .safetensors, or .npy for the vectors alone")
    ] = Path("identities.safetensors"),
    overwrite: Overwrite = False,
    exclude: Exclude = None,
    extend: Extend = None,
    dry_run: DryRun = False,
) -> None:
    """Sample separable identity vectors."""
    from v2f_engine.vectors.growth import extend_identities
    from v2f_engine.vectors.identities import BYTES_PER_IDENTITY, ENDINGS
    from v2f_engine.vectors.sampling import sample_identities

    held = None if extend is None else Extended.of(extend, stream)
    if dry_run:
        from v2f_engine.vectors.mix_plan import plan_request

        places = would_write(overwrite, out, endings=ENDINGS, room=BYTES_PER_IDENTITY * max(0, n_ids))
        known = rate.calibrated(stream.max_cosine)
        limit = stream.limit if known is None else known.threshold
        plan = (
            plan_request(n_ids, stream.found, limit, seed=stream.seed, backend=stream.backend)
            if held is None
            else held.plan(n_ids, stream.backend)
        )
        plan.refuse_if_saturated()
        facts = [(line[:12].strip(), line[12:]) for line in plan.lines()]
        say_plan([*places, *facts], out=out, identities=n_ids, seconds=plan.seconds, memory=plan.memory,
                 candidates=plan.candidates, max_candidates=plan.max_candidates)  # fmt: skip
        return
    with claimed(overwrite, out, endings=ENDINGS, room=BYTES_PER_IDENTITY * max(0, n_ids)):
        known = rate.calibrated(stream.max_cosine)
        source = stream.found if held is None else held.source
        with progress_bar("sample", "identities") as progress:
            if held is not None:
                table = extend_identities(
                    held.table,
                    n_ids,
                    source=source,
                    exclude=rate.excluded(exclude),
                    backend=stream.backend,
                    progress=lambda kept, n, drawn: progress(kept, n),
                )
            else:
                table = sample_identities(
                    n_ids,
                    max_cosine=stream.limit,
                    calibration=known,
                    seed=stream.seed,
                    source=source,
                    exclude=rate.excluded(exclude),
                    backend=stream.backend,
                    progress=lambda kept, n, drawn: progress(kept, n),
                )
        if held is None and stream.people is not None:
            table = replace(table, provenance={**table.provenance, "model": stream.people.model})
        table.save(out)
        drawn = table.provenance["candidates_drawn"]
        limit = table.provenance["max_cosine"]
        result(
            out=out, identities=len(table), candidates=drawn, max_cosine=limit, hash=table.table_hash,
            source={"name": source.name, "sha256": source.sha256}, provenance=table.provenance,
            groups=table.group_counts,
        )  # fmt: skip
    apart = "no distance kept" if limit is None else f"every cosine below {limit:.4g}"
    say(f"{len(table)} identities of {drawn} candidates in {out}, {apart}, hash {table.table_hash[:12]}")
    if held is not None:
        say(f"the first {len(held.table)} are those of {extend}, to the bit")
    say(f"identities     {source.name}, sha256 {source.sha256[:12]}")
    if table.group_counts:
        say(f"groups         {', '.join(f'{name} {count:,}' for name, count in table.group_counts.items())}")


Labels = Annotated[
    Path | None,
    typer.Option(
        help="whose each row is: .npy or text of a label a row, a table with a label column, or the dataset itself"
    ),
]
Length = Annotated[
    str,
    typer.Option(
        help="of people's means: centres (as they are, as published) or images (as long as an image's)"
    ),
]


@app.command()
def centres(
    features: Annotated[
        list[Path],
        typer.Argument(
            help="features of images: files [N,512], a list or folders of .npy, or a training LMDB that holds them"
        ),
    ],
    labels: Labels = None,
    out: Annotated[
        Path,
        typer.Option(help="centres [people,512], .npy; a table of who is in which row lies beside as .csv"),
    ] = Path("centres.npy"),
    overwrite: Overwrite = False,
    mask: Annotated[
        Path | None, typer.Option(help=".npy of row numbers: only these rows and their people")
    ] = None,
    people: Annotated[
        int | None, typer.Option(help="how many there must be; by default what an LMDB says of itself")
    ] = None,
    unit: Annotated[
        bool, typer.Option("--unit", help="features are normalised before they are averaged")
    ] = False,
    on_bad: Annotated[
        str, typer.Option(help="rows that are not finite or zero: refuse (name them), skip (leave them out)")
    ] = "refuse",
) -> None:
    """Mean feature of each person, in one pass over images of any number."""
    from v2f_engine.pipeline.labelled import centres_of
    from v2f_engine.vectors.centres import TABLE

    table = out.with_suffix(TABLE)
    with claimed(overwrite, out, table, endings=(".npy",)):
        with progress_bar("centres", "rows") as progress:
            found = centres_of(
                features, labels, mask=mask, people=people, unit=unit, on_bad=on_bad,
                progress=progress, say=progress.say,
            )  # fmt: skip
        found.save(out)
        lengths, counts = found.lengths, found.images
        result(
            out=out, table=table, people=len(found), images=counts.sum(), fewest=counts.min(), most=counts.max(),
            left_out=found.left_out, length_of_images=found.length, length_of_centres=lengths.mean(),
        )  # fmt: skip
    say(
        f"{out}: {len(found):,} people of {counts.sum():,} images, {counts.min()} to {counts.max()} each "
        f"(median {int(sorted(counts.tolist())[len(counts) // 2])}), {found.left_out} rows left out"
    )
    say(
        f"lengths        images {found.length:.4g}, centres {lengths.mean():.4g} in the mean; {table} has each"
    )


@app.command()
def fit(
    features: Annotated[
        list[Path] | None,
        typer.Argument(
            help="a row a person: files of centres [N,512], or folders of .npy, in order; with --labels a row an "
            "image; or what holds labels itself: a list or folders of .npy, a training LMDB"
        ),
    ] = None,
    labels: Labels = None,
    images: Annotated[
        Path | None, typer.Option(help="a dataset of faces to fit on, instead of features")
    ] = None,
    recogniser: Judge = "mini",
    out: Annotated[Path, typer.Option(help="statistics, .safetensors")] = Path("statistics.safetensors"),
    overwrite: Overwrite = False,
    length: Length = "centres",
    components: Annotated[int | None, typer.Option(help="PCA components; all by default")] = None,
    shrinkage: Annotated[str, typer.Option(help="0..1 or `oas`")] = "0",
    groups: Annotated[
        Path | None,
        typer.Option(
            help="a table with a header (CSV): each person's group; every group gets a fit of its own"
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="of --groups: what people are grouped by, such as age; of several, each combination"
        ),
    ] = None,
    covariance: Annotated[
        str,
        typer.Option(
            help="of --groups: own, or pooled (one of all, about each group's mean) for few rows a group"
        ),
    ] = "own",
) -> None:
    """Fit mean and covariance to people: their centres, or images' features or faces whose means are taken first."""
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.labelled import centres_of, labels_itself
    from v2f_engine.pipeline.references import fit_faces
    from v2f_engine.vectors.statistics import fit_centres, fit_files, save_statistics

    try:
        share = shrinkage if shrinkage == "oas" else float(shrinkage)
    except ValueError as error:
        raise ConfigError(f"--shrinkage: expected 0..1 or `oas`, found {shrinkage!r}.") from error
    if bool(features) == (images is not None):
        raise ConfigError("Give either .npy files of features or --images DATASET.")
    averaged = images is not None or labels is not None or labels_itself(features or [])
    if length != "centres" and not averaged:
        raise ConfigError(
            "--length says nothing of rows that are people already: give --labels, or leave it out."
        )
    with claimed(overwrite, out, endings=(".safetensors",)):
        if groups is not None:
            _fit_groups(
                out,
                features=features or [],
                groups=groups,
                columns=column or [],
                labels=labels,
                images=images,
                recogniser=recogniser,
                length=length,
                covariance=covariance,
                components=components,
                shrinkage=share,
            )
            return
        with progress_bar("fit", "images" if images else "rows") as progress:
            if images is not None:
                statistics = fit_faces(
                    images,
                    recogniser,
                    length=length,
                    components=components,
                    shrinkage=share,
                    progress=progress,
                )
            elif averaged:
                means = centres_of(features or [], labels, progress=progress, say=progress.say)
                origin = f"{len(means)} people of {', '.join(path.name for path in features or [])}"
                statistics = fit_centres(
                    means, length=length, components=components, shrinkage=share, origin=origin
                )
            else:
                statistics = fit_files(
                    [str(path) for path in features or []],
                    components=components,
                    shrinkage=share,
                    progress=progress,
                )
        save_statistics(out, statistics)
        result(
            out=out, rows=statistics.count, effective_dimension=statistics.effective_dimension,
            cosine_dimension=statistics.cosine_dimension, length=statistics.length,
            components=statistics.components, shrinkage=statistics.shrinkage, sha256=statistics.sha256,
        )  # fmt: skip
    say(
        f"{out}: {statistics.count} rows, effective dimension {statistics.effective_dimension:.1f} "
        f"(of cosines {statistics.cosine_dimension:.1f}), length {statistics.length:.3g}, "
        f"{statistics.components_told}, shrinkage {statistics.shrinkage:.3g}, sha256 {statistics.sha256[:12]}"
    )


def _fit_groups(out: Path, **asked: Any) -> None:
    """`fit --groups`: statistics a group, in one file."""
    from v2f_engine.pipeline.group_fit import fit_grouped
    from v2f_engine.vectors.labelled import save_labelled

    with progress_bar("fit", "images" if asked["images"] else "rows") as progress:
        found = fit_grouped(**asked, progress=progress, say=progress.say)
    save_labelled(out, found)
    counts = dict(zip(found.names, found.counts, strict=True))
    result(
        out=out, rows=sum(found.counts), column=found.column, groups=counts, pooled=found.pooled,
        length=found.together.length, components=found.groups[0].components,
        shrinkage={name: one.shrinkage for name, one in zip(found.names, found.groups, strict=True)},
        sha256=found.sha256,
    )  # fmt: skip
    say(
        f"{out}: {sum(found.counts):,} rows in {len(counts)} groups by {found.column}, "
        f"{'one covariance' if found.pooled else 'each its own covariance'}, length {found.together.length:.3g}, "
        f"{found.groups[0].components_told}, sha256 {found.sha256[:12]}"
    )
    for name, one in zip(found.names, found.groups, strict=True):
        say(
            f"  {name}: {one.count:,} rows, effective dimension {one.effective_dimension:.1f}, "
            f"length {one.length:.3g}, shrinkage {one.shrinkage:.3g}"
        )


@app.command()
@grouped
def plan(
    n_ids: Annotated[int, typer.Argument(metavar="count", help="identities wanted")],
    stream: StreamFlags,
    rate: RateFlags,
    work: WorkFlags,
    max_candidates: Annotated[int | None, typer.Option(help="budget; 20 an identity by default")] = None,
    plot: Annotated[Path | None, typer.Option(help="saturation curve as PNG")] = None,
    overwrite: Overwrite = False,
    extend: Extend = None,
) -> None:
    """Predict candidates, time, memory and disk of all work on identities, before running it."""
    from v2f_engine.pipeline.whole_plan import plan_work
    from v2f_engine.vectors.mix_plan import plan_request
    from v2f_engine.vectors.plots import plot_saturation

    with claimed(overwrite, plot, tells=True):
        held = None if extend is None else Extended.of(extend, stream)
        if held is not None:
            made: IdentityPlan = held.plan(n_ids, stream.backend, max_candidates)
        else:
            known = rate.calibrated(stream.max_cosine)
            made = plan_request(
                n_ids,
                stream.found,
                stream.limit if known is None else known.threshold,
                seed=stream.seed,
                backend=stream.backend,
                max_candidates=max_candidates,
            )
        files = {} if held is None else {"files_seconds": held.files_s(n_ids)}
        for line in (*made.lines(), *([] if held is None else [held.line(n_ids)])):
            say(line)
        whole = plan_work(
            made,
            stream.found if held is None else held.source,
            work.asked(stream.model or (held.model if held is not None else None) or "mini", stream.rescale),
            None if held is None else held.table,
            sum(files.values()),
            note,
        )
        told = {**made.to_json(), **files}
        result(plot=plot, feasible=made.feasible, plan=told, **whole.to_json())
        for line in whole.lines():
            say(line)
        if plot is not None:
            plot_saturation(made, plot)
            say(f"saturation curve  {plot}")
    made.refuse_if_saturated()


@app.command()
@grouped
def check(
    vectors: Annotated[
        list[Path],
        typer.Argument(help="files [N,512] of centres, or tables of `v2f ids sample`; one curve each"),
    ],
    rate: RateFlags,
    threshold: Annotated[
        float | None,
        typer.Option(help="cosine above which two are one; 0.40 as published for arcface-r100-glint360k"),
    ] = None,
    step: Annotated[int, typer.Option(help="prefixes of so many more are counted and drawn")] = 1000,
    plot: Annotated[Path | None, typer.Option(help="curve as PNG")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Published separability: identities with no earlier one above the threshold, over prefixes."""
    from v2f_engine.vectors.plots import plot_separability
    from v2f_engine.vectors.separability import PUBLISHED_THRESHOLD, separability_curve
    from v2f_engine.vectors.streams import open_vectors

    with claimed(overwrite, plot, tells=True):
        known = rate.calibrated(threshold)
        if known is not None:
            limit, why = known.threshold, f"false-match rate {known.fmr:g} on {known.origin}"
        elif threshold is not None:
            limit, why = threshold, "given"
        else:
            limit, why = PUBLISHED_THRESHOLD, "as published, for features of arcface-r100-glint360k"
        stems = [path.stem for path in vectors]
        curves, told = {}, dict[str, Any]()
        for path in vectors:
            rows = open_vectors(path)
            name = path.stem if stems.count(path.stem) == 1 else str(path)
            with progress_bar(f"check {name}", "pairs") as progress:
                curve = curves[name] = separability_curve(rows, threshold=limit, step=step, progress=progress)
            told[name] = {
                "identities": len(rows), "unique_share": curve.share,
                "first": curve.first, "unique": curve.unique,
            }  # fmt: skip
            result(threshold=limit, threshold_from=why, curves=told, plot=plot)
            for first, unique in zip(curve.first.tolist(), curve.unique.tolist(), strict=True):
                say(f"{name}: {unique:,} unique identities of the first {first:,}")
            say(
                f"{f'{name}: ' * (len(vectors) > 1)}{curve.share:.4%} of {len(rows)} identities are unique at cosine "
                f"{limit:.4g} ({why})"
            )
        if plot is not None:
            plot_separability(curves, plot)
            say(f"curves  {plot}")

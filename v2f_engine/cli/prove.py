"""`v2f ids prove`: identities that stay apart on their faces, not only as vectors."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.dry_run import DryRun, say_plan
from v2f_engine.cli.flags import (
    Backend,
    EngineFlags,
    Exclude,
    NoiseFlags,
    RateFlags,
    Rescale,
    Source,
    grouped,
)
from v2f_engine.cli.outputs import Overwrite, claimed, would_write
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say


@dataclass(frozen=True)
class VectorFlags:
    """Where the vectors come from."""

    source: Source = "auto"
    max_cosine: Annotated[
        float | None, typer.Option(help="threshold between vectors; the model's own limit by default")
    ] = None
    exclude: Exclude = None
    rescale: Rescale = False


@dataclass(frozen=True)
class ProofFlags:
    """How far a proof may go, and where it is written."""

    image_cosine: Annotated[
        float | None, typer.Option(help="threshold between faces; the recogniser's own limit by default")
    ] = None
    max_rounds: Annotated[int, typer.Option(help="give up after so many rounds")] = 20
    max_made: Annotated[
        int | None, typer.Option(help="make no more identities than this; 10 an identity by default")
    ] = None
    backend: Backend = "auto"


@dataclass(frozen=True)
class FileFlags:
    """What is written."""

    out: Annotated[
        Path, typer.Option(help="table of identities, .safetensors, for `v2f generate --vectors`")
    ] = Path("proven.safetensors")
    report: Annotated[Path | None, typer.Option(help="JSON; OUT with .json by default")] = None
    plot: Annotated[Path | None, typer.Option(help="PNG; OUT with .png by default")] = None
    features: Annotated[Path | None, typer.Option(help="write the features of the kept as .npy")] = None
    overwrite: Overwrite = False


@grouped
def prove(
    n_ids: Annotated[int, typer.Argument(metavar="count", help="identities to prove")],
    files: FileFlags,
    engine: EngineFlags,
    vectors: VectorFlags,
    rate: RateFlags,
    noise: NoiseFlags,
    bounds: ProofFlags,
    images_per_id: Annotated[int, typer.Option("--images", help="images looked at of each identity")] = 1,
    dry_run: DryRun = False,
) -> None:
    """Keep the identities whose generated faces a recogniser tells apart; the same command resumes.

    With the same seed, noise levels, masks, model and runner, `v2f generate --vectors OUT` makes exactly the
    images that were looked at here first. Finished pieces wait in OUT.work until the table is written.
    """
    from v2f_engine.atomic import write_atomically
    from v2f_engine.options import EngineOptions, IdentityOptions, ImageOptions
    from v2f_engine.pipeline.proof import ProofOptions, run
    from v2f_engine.vectors.files import save_npy
    from v2f_engine.vectors.identities import BYTES_PER_IDENTITY
    from v2f_engine.vectors.plots import plot_proof

    out = files.out
    work, room = out.with_suffix(".work"), BYTES_PER_IDENTITY * max(0, n_ids)
    report, plot = files.report or out.with_suffix(".json"), files.plot or out.with_suffix(".png")
    written = (out, report, plot, files.features)

    def asked() -> tuple[EngineOptions, IdentityOptions, ImageOptions, ProofOptions]:
        known = rate.calibrated(bounds.image_cosine, images_per_id)
        return (
            engine.options,
            IdentityOptions(
                n_ids,
                None,
                vectors.source,
                vectors.max_cosine,
                exclude=rate.excluded(vectors.exclude),
                rescale=vectors.rescale,
            ),
            ImageOptions(images_per_id, noise.seed, noise.around),
            ProofOptions(
                recogniser=rate.recogniser,
                image_cosine=bounds.image_cosine if known is None else known,
                max_rounds=bounds.max_rounds,
                max_made=bounds.max_made,
                backend=bounds.backend,
            ),
        )

    if dry_run:
        from v2f_engine.pipeline.proof_foreseen import foresee_proof

        lines = would_write(files.overwrite, *written, endings=(".safetensors",), room=room)
        seen = foresee_proof(*asked(), work)
        about = {name: value for name, value in vars(seen).items() if name != "plan"}
        say_plan([*lines, *seen.lines()], out=out, plan=seen.plan.to_json(), **about)
        return
    with claimed(files.overwrite, *written, endings=(".safetensors",), room=room):
        with progress_bar("prove", "images") as progress:
            proof = run(*asked(), work, progress)
        # The table first: it is what was asked for, and pictures have more ways to fail.
        if proof.table is not None:
            proof.table.save(out)
        write_atomically(report, (json.dumps(proof.to_json(), indent=1) + "\n").encode())
        if files.features is not None:
            save_npy(files.features, proof.features)
        plot_proof(proof, plot)
        before, after = proof.before, proof.after
        result(out=out, report=report, plot=plot, features=files.features, **proof.to_json())
        say(
            f"before  {before.repeated:,} of the first {before.identities:,} identities have a face like an earlier "
            f"one's (cosine {proof.max_cosine:.4g} or more); {before.rejected:,} would have to go"
        )
        say(
            f"after   {after.repeated:,} of {after.identities:,}, in {len(proof.rounds)} rounds and {proof.made:,} "
            f"identities made into images; most similar pair {float(after.nearest.max()):.4f}"
        )
        say(f"report  {report}")
        say(f"plot    {plot}")
        if files.features is not None:
            say(f"features  {files.features}")
        table = proof.require()
        shutil.rmtree(work, ignore_errors=True)  # only now: until everything is written they are all there is
    say(f"table   {out}, hash {table.table_hash[:12]}")

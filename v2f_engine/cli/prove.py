"""`v2f ids prove`: identities that stay apart on their faces, not only as vectors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated

import typer

from v2f_engine.cli.calibration import Judge, Known, Rate, calibrated
from v2f_engine.cli.generate import numbers
from v2f_engine.cli.ids import Exclude
from v2f_engine.cli.progress import progress_bar


def prove(
    count: Annotated[int, typer.Argument(help="identities to prove")],
    out: Annotated[Path, typer.Option(help="table of identities, for `v2f generate --vectors`")] = Path(
        "proven.safetensors"
    ),
    report: Annotated[Path | None, typer.Option(help="JSON; OUT with .json by default")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG; OUT with .png by default")] = None,
    features: Annotated[Path | None, typer.Option(help="write the features of the kept as .npy")] = None,
    model: Annotated[str, typer.Option(help="mini, vec2face, vec2face-plus, or a path to weights")] = "mini",
    recogniser: Judge = "mini",
    images: Annotated[int, typer.Option(help="images looked at of each identity")] = 1,
    source: Annotated[
        str, typer.Option(help="auto (the model's own statistics), gaussian, or a file")
    ] = "auto",
    max_cosine: Annotated[
        float | None, typer.Option(help="threshold between vectors; the model's own limit by default")
    ] = None,
    image_cosine: Annotated[
        float | None, typer.Option(help="threshold between faces; the recogniser's own limit by default")
    ] = None,
    fmr: Rate = None,
    calibration: Known = None,
    exclude: Exclude = None,
    sigma: Annotated[str, typer.Option(help="noise levels around an identity")] = "0.3,0.5,0.7",
    sigma_weights: Annotated[str, typer.Option(help="how often each level is drawn")] = "0.4,0.4,0.2",
    target_cosine: Annotated[
        str | None, typer.Option(help="levels as cosine to the identity instead of sigma, e.g. 0.9,0.8")
    ] = None,
    masks: Annotated[
        str, typer.Option(help="mask schedule: generate, demo, train, plus-generate")
    ] = "generate",
    seed: Annotated[int, typer.Option(help="decides every vector, mask and image")] = 0,
    max_rounds: Annotated[int, typer.Option(help="give up after so many rounds")] = 20,
    max_made: Annotated[
        int | None, typer.Option(help="make no more identities than this; 10 an identity by default")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16")] = "auto",
    runner: Annotated[str, typer.Option(help="what decodes; auto by default")] = "auto",
    backend: Annotated[str, typer.Option(help="rejection backend: auto, reference, native, cupy")] = "auto",
    fetch: Annotated[bool, typer.Option(help="let huggingface_hub download published weights")] = False,
) -> None:
    """Keep the identities whose generated faces a recogniser tells apart; the same command resumes.

    With the same seed, noise levels, masks, model and runner, `v2f generate --vectors OUT` makes exactly the
    images that were looked at here first. Finished pieces wait in OUT.work until the table is had.
    """
    import numpy as np

    from v2f_engine.atomic import write_atomically
    from v2f_engine.pipeline.proof import prove as run
    from v2f_engine.vectors.perturbation import Perturbation
    from v2f_engine.vectors.plots import plot_proof

    perturbation = (
        Perturbation(numbers(sigma, "--sigma"), numbers(sigma_weights, "--sigma-weights"))
        if target_cosine is None
        else Perturbation.target_cosine(*numbers(target_cosine, "--target-cosine"))
    )
    known = calibrated(image_cosine, fmr, calibration, recogniser, images)
    with progress_bar("prove", "images") as progress:
        proof = run(
            count,
            model=model,
            recogniser=recogniser,
            source=source,
            max_cosine=max_cosine,
            image_cosine=image_cosine if known is None else known,
            images_per_id=images,
            perturbation=perturbation,
            seed=seed,
            exclude=list(exclude) if exclude else None,
            max_rounds=max_rounds,
            max_made=max_made,
            device=device,
            precision=precision,
            masks=masks,
            runner=runner,
            backend=backend,
            fetch=fetch,
            work=out.with_suffix(".work"),
            progress=progress,
        )
    report, plot = report or out.with_suffix(".json"), plot or out.with_suffix(".png")
    write_atomically(report, (json.dumps(proof.to_json(), indent=1) + "\n").encode())
    plot_proof(proof, plot)
    before, after = proof.before, proof.after
    typer.echo(
        f"before  {before.repeated:,} of the first {before.identities:,} identities have a face like an earlier "
        f"one's (cosine {proof.max_cosine:.4g} or more); {before.rejected:,} would have to go"
    )
    typer.echo(
        f"after   {after.repeated:,} of {after.identities:,}, in {len(proof.rounds)} rounds and {proof.made:,} "
        f"identities made into images; most similar pair {float(after.nearest.max()):.4f}"
    )
    typer.echo(f"report  {report}")
    typer.echo(f"plot    {plot}")
    if features is not None:
        held = io.BytesIO()
        np.save(held, proof.features)
        write_atomically(features, held.getvalue())
        typer.echo(f"features  {features}")
    table = proof.require()
    table.save(out)
    typer.echo(f"table   {out}, hash {table.table_hash[:12]}")

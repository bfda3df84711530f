"""`v2f evaluate verification` and `ijb`: recognisers on the field's protocols."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from v2f_engine.cli.evaluate import ReaderFlags, save
from v2f_engine.cli.flags import grouped
from v2f_engine.cli.outputs import Overwrite, beside, claimed
from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import result, say


@grouped
def verification(
    sets: Annotated[
        list[Path], typer.Argument(help=".bin, .bin.xz, .npy with issame.txt, or a list of pairs (--images)")
    ],
    *,
    images: Annotated[
        Path | None, typer.Option(help="folder of the pictures that a list of pairs names")
    ] = None,
    reader: ReaderFlags,
    out: Annotated[
        Path | None, typer.Option(help="JSON, a PNG beside it; in RECOGNISER.evaluation/ by default")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """A recogniser on LFW, CFP-FP, AgeDB and the like: mirrored features summed, ten folds."""
    import json

    from v2f_engine.atomic import write_atomically
    from v2f_engine.data.verification import check_pictures, open_verification_set
    from v2f_engine.errors import DatasetError
    from v2f_engine.evaluate.plots import plot_verification
    from v2f_engine.evaluate.verification import (
        Unmeasured,
        Verification,
        measure_each,
        measure_verification,
    )

    out = out or beside(reader.judge, "verification.json")
    check_pictures(sets, images)
    with claimed(overwrite, out, out.with_suffix(".png")):
        loaded = reader.loaded

        def measure(path: Path) -> Verification:
            pairs = open_verification_set(path, images)
            with progress_bar(pairs.name, "images") as progress:
                m = measure_verification(pairs, loaded.model, bf16=reader.bf16, progress=progress)
            say(
                f"{m.name:20} {100 * m.accuracy:6.2f} % ± {100 * m.deviation:4.2f}  {m.pairs:,} pairs, "
                f"EER {100 * m.eer:.2f} %, VAL {100 * m.val:.2f} % at FAR {m.far:.1e}"
            )
            say(
                f"{'':20} interpolated as published: VAL {100 * m.val_interpolated:.2f} % "
                f"± {100 * m.val_interpolated_deviation:4.2f} at FAR {m.far_interpolated:.1e}"
            )
            for line in pairs.told():
                say(f"{'':20} {line}")
            return m

        def keep(measured: list[Verification], failed: list[Unmeasured]) -> None:
            if not measured:
                return
            record: dict[str, Any] = {
                "recogniser": {"name": loaded.name, "sha256": loaded.sha256},
                "average": sum(m.accuracy for m in measured) / len(measured),
                "sets": [m.to_json() for m in measured],
            }
            if failed:
                record["failed"] = [{"set": str(each.path), "error": str(each.error)} for each in failed]
            write_atomically(out, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
            result(out=out, picture=out.with_suffix(".png"), **record)

        measured, failed = measure_each(sets, measure, keep)
        if failed and len(sets) == 1:
            raise failed[0].error
        if measured:
            plot_verification(measured, out.with_suffix(".png"))
            average = sum(m.accuracy for m in measured) / len(measured)
            say(f"{'average':20} {100 * average:6.2f} %" + f" of {len(measured)} sets" * bool(failed))
            say(f"{out}  {out.with_suffix('.png').name}")
        if failed:
            kept = f" The others are in {out}." if measured else ""
            each = "\n".join(f"  {one.error}" for one in failed)
            raise DatasetError(
                f"{len(failed)} of {len(sets)} sets could not be measured:\n{each}\n{kept}".rstrip()
            )


@grouped
def ijb(
    meta: Annotated[Path, typer.Argument(help="folder of *_face_tid_mid.txt and *_template_pair_label.txt")],
    *,
    features: Annotated[
        Path | None, typer.Option(help=".npy [N,D] in the protocol's order, mirrored features summed")
    ] = None,
    crops: Annotated[Path | None, typer.Option(help="folder of the images (loose_crop)")] = None,
    name: Annotated[str | None, typer.Option(help="ijbb or ijbc, where both lie in the folder")] = None,
    reader: ReaderFlags,
    scores: Annotated[bool, typer.Option(help="weigh images by the detector's score")] = True,
    curve: Annotated[
        str,
        typer.Option(
            help="as-published: the points that scikit-learn's roc_curve keeps, as the public scripts; exact: all"
        ),
    ] = "as-published",
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON, a PNG beside it; in FEATURES.evaluation/ or RECOGNISER.evaluation/ by default"
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """IJB-B and IJB-C: images to media to templates, TPR at FPR."""
    from v2f_engine.config import one_of
    from v2f_engine.data.gate.resize import Resized
    from v2f_engine.errors import ConfigError
    from v2f_engine.evaluate.ijb import CURVES, measure_ijb, read_protocol
    from v2f_engine.evaluate.plots import plot_ijb
    from v2f_engine.vectors.streams import open_vectors

    if (features is None) == (crops is None):
        raise ConfigError("Give either --features, extracted before, or --crops, the images.")
    one_of("curve", curve, CURVES)
    out = out or beside(features or reader.judge, "ijb.json")
    with claimed(overwrite, out, out.with_suffix(".png")):
        protocol = read_protocol(meta, name)
        resized = Resized(len(protocol.names))
        if features is not None:
            rows: Any = open_vectors(features, dimension=None)
        else:
            from v2f_engine.evaluate.crops import read_crops

            assert crops is not None
            with progress_bar("read", "images") as progress:
                rows = read_crops(
                    protocol,
                    crops,
                    reader.loaded.model,
                    bf16=reader.bf16,
                    progress=progress,
                    resized=resized,
                )
        measured = measure_ijb(rows, protocol, use_scores=scores, curve=curve)
        which = name or next(meta.glob("*_face_tid_mid.txt")).name.removesuffix("_face_tid_mid.txt")
        save(out, {"protocol": str(meta), "set": which, **measured.to_json(), **resized.record()})
        plot_ijb(measured, out.with_suffix(".png"))
    say(f"{measured.templates:,} templates, {measured.pairs:,} pairs; ROC {curve}")
    if resized.counts:
        say(resized.line())
    for fpr, tpr in measured.tpr.items():
        say(f"TPR at FPR {fpr:>6}: {100 * tpr:6.2f} %")

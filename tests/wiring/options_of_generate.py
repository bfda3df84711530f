"""What each option of `v2f generate` changes: two command lines an option, and the difference that its help promises.

A claim is held for real by `test_options_of_generate.py`, and an option without a row fails there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMAGES = "other images of the same people"
SOME = "some other images of the same people"
PEOPLE = "other people, so other images"
MORE = "more of the same: what both hold is equal"
NEARLY = "the same images but for their last bits"
LAYOUT = "the same images, kept otherwise"
NOTHING = "the same bytes: only speed, place or permission differ"


@dataclass(frozen=True)
class Row:
    """One option.

    Args:
        words: a command line with it, after the stem.
        claim: what differs between the two.
        says: settings of the manifest that differ, by the beginning of their names; `encoder` among them.
        beside: the other command line, without it or with another value.
        slow: it takes more than two seconds.
    """

    words: str
    claim: str
    says: tuple[str, ...] = ()
    beside: str = "--ids 2 --source gaussian"
    slow: bool = False


STEM = "generate --images 2 --model {small} --device cpu --compute-batch 2"
SIX = "--ids 6 --source gaussian --max-cosine 0.06"
FACES = "--references {faces} --rescale"


def plain(words: str, claim: str, *says: str) -> Row:
    """Beside two people of the Gaussian source."""
    return Row(f"--ids 2 --source gaussian {words}", claim, says)


STEERED = "--ids 2 --source gaussian --iterations 4 --steer-rate 1 --steer-recogniser {reader}"
"""A rate ten times the usual: in so few steps another way is then seen."""


def steered(words: str, *, beside: str = "--quality 30", also: str = "", slow: bool = True) -> Row:
    """Beside another steering; a vector that no step brings nearer stays, so some image may be the same."""
    return Row(f"{STEERED} {words} {also}", SOME, ("attributes",), f"{STEERED} {beside} {also}", slow)


CHOSEN = "--ids 3 --source gaussian --make 8"


def chosen(words: str, *, beside: str = "") -> Row:
    """Beside another choice among eight images."""
    return Row(f"{CHOSEN} {words}", SOME, ("selection",), f"{CHOSEN} {beside}")


POSED = "--ids 2 --model mini-pose --by pose-model"

ROWS: Mapping[str, tuple[Row, ...]] = {
    "--ids": (Row("--ids 3 --source gaussian", MORE, ("identities",)),),
    "--images": (plain("--images 3", MORE),),
    "--make": (plain("--make 4", SOME, "selection"),),
    "--select": (chosen("--select diversity"),),
    "--select-recogniser": (chosen("--select-recogniser {other_reader}"),),
    "--select-min-cosine": (chosen("--select quality --select-min-cosine 0.8", beside="--select quality"),),
    "--select-duplicate-cosine": (chosen("--select-duplicate-cosine 0.6"),),
    "--select-quality-model": (
        chosen("--select quality --select-quality-model {reader}", beside="--select quality"),
    ),
    "--vectors": (Row("--vectors {vectors}", PEOPLE, ("identities",)),),
    "--references": (Row(FACES, PEOPLE, ("identities",)),),
    "--reference-identity": (
        Row(f"{FACES} --reference-identity image", PEOPLE, ("identities",), f"{FACES} --reference-identity folder"),
    ),
    "--recogniser": (Row(f"{FACES} --recogniser {{other_reader}}", PEOPLE, ("identities",), FACES),),
    "--source": (Row("--ids 2 --source {statistics}", PEOPLE, ("identities",)),),
    "--mix": (
        Row(
            "--ids 2 --source {grouped} --mix young:1", PEOPLE, ("identities",),
            "--ids 2 --source {grouped} --mix old:1",
        ),
    ),
    "--max-cosine": (Row("--ids 6 --source gaussian --max-cosine 0.02", PEOPLE, ("identities",), SIX),),
    "--exclude": (Row(f"{SIX} --exclude {{others}}", PEOPLE, ("identities",), SIX),),
    "--fmr": (
        Row(
            "--ids 6 --source gaussian --fmr 0.3 --calibration {known}", PEOPLE, ("identities",),
            "--ids 6 --source gaussian --fmr 0.05 --calibration {known}",
        ),
    ),
    "--calibration": (
        Row(
            "--ids 12 --source gaussian --fmr 0.4 --calibration {others}", PEOPLE, ("identities",),
            "--ids 12 --source gaussian --fmr 0.4 --calibration {known}",
        ),
    ),
    "--rescale": (Row("--vectors {vectors} --rescale", PEOPLE, ("identities",), "--vectors {vectors}"),),
    "--model": (plain("--model mini", IMAGES, "model", "identities"),),
    "--masks": (plain("--masks train", IMAGES, "masks"), plain("--masks 0.7", IMAGES, "masks")),
    "--sigma": (plain("--sigma 0.1,0.2,0.4", IMAGES, "perturbation"),),
    "--sigma-weights": (plain("--sigma-weights 0,0,1", IMAGES, "perturbation"),),
    "--target-cosine": (plain("--target-cosine 0.9,0.6", IMAGES, "perturbation"),),
    "--perturbation": (
        plain("--perturbation cone:0.6", IMAGES, "perturbation"),
        Row(
            "--ids 2 --source gaussian --perturbation cone:0.6,unguarded", IMAGES, ("perturbation",),
            "--ids 2 --source gaussian --perturbation cone:0.6",
        ),
        plain("--perturbation sigma:0.3,0.5,0.7", NOTHING),
    ),
    "--seed": (plain("--seed 7", PEOPLE, "identities", "seed"),),
    "--device": (plain("--device auto", NOTHING),),
    "--precision": (
        Row(
            "--ids 2 --source gaussian --precision bf16", IMAGES, ("runner",),
            "--ids 2 --source gaussian --precision fp32",
        ),
    ),
    "--runner": (plain("--runner eager", NOTHING),),
    "--fetch": (plain("--fetch", NOTHING),),
    "--compute-batch": (plain("--compute-batch 3", NEARLY, "runner.batch_size"),),
    "--out": (plain("", NOTHING),),
    "--format": (plain("--format webdataset", LAYOUT),),
    "--images-per-shard": (plain("--images-per-shard 2", LAYOUT),),
    "--jpeg-quality": (plain("--jpeg-quality 60", IMAGES, "encoder"),),
    "--jpeg-encoder": (plain("--jpeg-encoder pillow", IMAGES, "encoder"),),
    "--rounding": (plain("--rounding truncate", IMAGES, "rounding"),),
    "--mask-batch": (plain("--mask-batch 4", IMAGES, "mask_batch"),),
    "--sigma-shares": (plain("--sigma-shares exact", SOME, "sigma_shares"),),
    "--as-published": (
        Row(
            f"{FACES} --as-published", IMAGES,
            ("perturbation", "rounding", "mask_batch", "sigma_shares", "runner", "encoder"), FACES,
        ),
    ),
    "--yaw": (
        Row(
            "--ids 2 --source gaussian --iterations 2 --steer-recogniser {reader} --yaw 40 --steer identities", IMAGES,
            ("attributes",),
        ),
        steered("--yaw 40", beside="--yaw -40"),
        Row(f"{POSED} --yaw 30", IMAGES, ("attributes",), f"{POSED} --yaw -30", slow=True),
    ),
    "--pitch": (steered("--pitch 20", beside="--pitch -20"),),
    "--quality": (steered("--quality 30", beside="--yaw 10"),),
    "--attribute": (steered(f"--attribute {'examples/brightness_attribute.py:Brightness'}=200"),),
    "--steer": (steered("--steer identities", beside="", also="--quality 30"),),
    "--iterations": (steered("--iterations 2", beside="", also="--quality 30"),),
    "--unsigned": (steered("--unsigned", beside="", also="--yaw -60"),),
    "--steering": (
        Row(
            f"{STEERED} --yaw 60 --steering plus", IMAGES, ("attributes",), f"{STEERED} --yaw 60 --steering ours",
            slow=True,
        ),
    ),
    "--steer-recogniser": (steered("--steer-recogniser {other_reader}", beside="", also="--quality 30"),),
    "--quality-model": (steered("--quality-model {reader}", beside="", also="--quality 30"),),
    "--pose-model": (steered("--pose-model {other_pose}", beside="", also="--yaw 40"),),
    "--steer-rate": (steered("--steer-rate 0.4", beside="", also="--quality 30"),),
    "--tolerance": (steered("--tolerance quality=15", beside="", also="--quality 30"),),
    "--min-cosine": (steered("--min-cosine -0.9 --quality 1", beside="--min-cosine 0.99 --quality 1"),),
    "--dead-zone": (steered("--dead-zone 1.9", beside="", also="--quality 30"),),
    "--by": (
        Row(
            f"{POSED} --yaw 30", IMAGES, ("attributes", "masks", "perturbation"), "--ids 2 --model mini-pose",
            slow=True,
        ),
    ),
    "--landmarks": (
        Row(f"{POSED} --landmarks {{pictures}}", IMAGES, ("attributes",), f"{POSED} --yaw 0", slow=True),
    ),
    "--landmark-heights": (
        Row(
            f"{POSED} --yaw 60 --landmark-heights published", IMAGES, ("attributes",),
            f"{POSED} --yaw 60 --landmark-heights rendered", slow=True,
        ),
    ),
    "--executor": (
        plain("--executor inline", NOTHING),
        Row("--ids 2 --source gaussian --executor local", NOTHING, slow=True),
    ),
    "--workers": (
        plain("--workers 1", NOTHING),
        Row(
            "--ids 2 --source gaussian --images-per-shard 2 --workers 2", NOTHING,
            beside="--ids 2 --source gaussian --images-per-shard 2", slow=True,
        ),
    ),
}  # fmt: skip
"""Option -> its rows."""

ELSEWHERE = {
    "--config": "tests/test_replay.py and tests/wiring/test_config.py: the options that a file says",
    "--dry-run": "tests/test_dry_run.py: no byte at all",
    "--json": "tests/wiring/test_saying.py: what is printed",
    "--quiet": "tests/wiring/test_saying.py: what is printed",
    "--extend": "tests/test_extension.py: a finished set with more people, its own bytes as they were",
    "--executor-option": "of Slurm and Ray alone; held by tests/scale and, as typed, by wiring_generate",
}
"""Options that nothing on one machine shows, and what holds them."""

"""The published training in miniature, from nothing: every command a user of the full recipe would type.

    python -m bench.claims.miniature_training                     into out/miniature-training, minutes on two cores
    python -m bench.claims.miniature_training --generator-steps 60 --recogniser-steps 40 --people 40     a quick look

Renders people, trains a recogniser on some of them, extracts features of others into an LMDB in the published
layout (msgpack of JPEG, feature, label), trains a generator on it with the published losses and discriminator,
generates a set of new people and measures it. The learning rate is that of short trainings: the published one
belongs to 800,000 steps. Writes times and figures to OUT/report.json and .md; the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench import ROOT, machine


def commands(o: argparse.Namespace) -> dict[str, list[str]]:
    """Name of the step -> arguments of `v2f`."""
    out = o.out
    weights = str(out / "recogniser" / "recogniser.safetensors")
    render = ["render", "--images", str(o.images), "--processes", str(o.processes)]
    return {
        "render people for the recogniser": [
            *render, "--ids", str(o.people), "--seed", "101", "--out", str(out / "people-101"),
        ],
        "render people for the generator": [
            *render, "--ids", str(o.people), "--seed", "202", "--out", str(out / "people-202"),
        ],
        "train the recogniser": [
            "train", "recogniser", str(out / "people-101"), "--steps", str(o.recogniser_steps), "--batch", "32",
            "--out", str(out / "recogniser"),
        ],
        "features into the published LMDB": [
            "features", str(out / "people-202"), "--recogniser", weights, "--bf16",
            "--out", str(out / "training.lmdb"),
        ],
        "train the generator": [
            "train", "generator", str(out / "training.lmdb"), "--preset", "mended-2025", "--size", "mini",
            "--set", "perceptual=recogniser",
            "--recogniser", weights, "--steps", str(o.generator_steps), "--batch", "16", "--base-lr", "4.9e-3",
            "--critic-width", "16", "--held-out-people", str(max(4, o.people // 10)), "--on-bad", "skip",
            "--watch-every", str(max(1, o.generator_steps // 5)), "--log-every", str(max(1, o.generator_steps // 60)),
            "--checkpoint-every", str(max(1, o.generator_steps // 6)), "--out", str(out / "generator"),
        ],
        "its checkpoint in the published layout": [
            "convert", str(out / "generator" / "generator.safetensors"), str(out / "generator" / "published.pth"),
        ],
        "statistics of features": [
            "ids", "fit", "--images", str(out / "people-202"), "--recogniser", weights,
            "--out", str(out / "ids.safetensors"),
        ],
        "generate new people": [
            "generate", "--model", str(out / "generator" / "generator.safetensors"), "--ids", str(o.generated),
            "--images", "8", "--source", str(out / "ids.safetensors"), "--max-cosine", "0.7",
            "--out", str(out / "generated"),
        ],
        "evaluate them": [
            "evaluate", "separability", str(out / "generated"), "--recogniser", weights, "--threshold", "0.7",
            "--out", str(out / "separability.json"),
        ],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/miniature-training"))
    parser.add_argument("--people", type=int, default=160, help="of each of the two sets")
    parser.add_argument("--images", type=int, default=10, help="of each person")
    parser.add_argument("--recogniser-steps", type=int, default=400)
    parser.add_argument("--generator-steps", type=int, default=900)
    parser.add_argument("--generated", type=int, default=40, help="people to generate and measure")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, help="also copy report and curves there")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, tuple[float, float]] = {}
    for name, arguments in commands(o).items():
        print(f"== {name}: v2f {' '.join(arguments)}", file=sys.stderr, flush=True)
        started, used = time.perf_counter(), os.times()
        done = subprocess.run([sys.executable, "-m", "v2f_engine", *arguments], cwd=ROOT, check=False)
        if done.returncode:
            print(
                f"{name}: exit status {done.returncode}; the same command goes on from here", file=sys.stderr
            )
            return done.returncode
        after = os.times()
        cpu = after.children_user + after.children_system - used.children_user - used.children_system
        seconds[name] = (round(time.perf_counter() - started, 1), round(cpu, 1))
    report(o, seconds)
    return 0


def report(o: argparse.Namespace, seconds: dict[str, tuple[float, float]]) -> None:
    """Times, the last line of each log, and the measurement."""

    def last(path: Path) -> dict[str, float]:
        found: dict[str, float] = json.loads(path.read_text().splitlines()[-1])
        return found

    record = {
        "environment": machine.environment("cpu"),
        "options": {k: str(v) for k, v in vars(o).items()},
        "seconds": {name: {"wall": wall, "cpu": cpu} for name, (wall, cpu) in seconds.items()},
        "total_minutes": round(sum(wall for wall, _ in seconds.values()) / 60, 1),
        "total_cpu_minutes": round(sum(cpu for _, cpu in seconds.values()) / 60, 1),
        "recogniser": last(o.out / "recogniser" / "log.jsonl"),
        "generator": last(o.out / "generator" / "log.jsonl"),
        "held_out": last(o.out / "generator" / "validation.jsonl"),
        "generated": json.loads((o.out / "separability.json").read_text()),
    }
    (o.out / "report.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = ["# The published training in miniature", ""]
    lines += [f"- {k}: {v}" for k, v in record["environment"].items()]
    lines += ["", "| step | seconds | CPU seconds |", "|---|---:|---:|"]
    lines += [f"| {name} | {wall} | {cpu} |" for name, (wall, cpu) in seconds.items()]
    spent = f"In all {record['total_minutes']} minutes, {record['total_cpu_minutes']} of one core's time."
    lines += [
        "",
        spent,
        "",
        "![loss curves](miniature_training.png)",
        "",
    ]
    for name in ("recogniser", "generator", "held_out"):
        lines.append(f"- {name}: " + ", ".join(f"{k} {v}" for k, v in record[name].items()))
    (o.out / "report.md").write_text("\n".join(lines) + "\n")
    if o.results is not None:
        o.results.mkdir(parents=True, exist_ok=True)
        for name, target in (
            ("report.json", "miniature_training.json"),
            ("report.md", "miniature_training.md"),
            ("generator/curves.png", "miniature_training.png"),
        ):
            shutil.copyfile(o.out / name, o.results / target)
    print(f"{o.out / 'report.md'}: {record['total_minutes']} minutes in all")


if __name__ == "__main__":
    sys.exit(main())

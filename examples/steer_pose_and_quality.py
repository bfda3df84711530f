"""Faces turned to an asked yaw and sharpened to an asked quality; what each image reached is recorded."""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

import v2f_engine as v2f
from v2f_engine.attributes.control import AttributeControl
from v2f_engine.attributes.targets import Verdict
from v2f_engine.data import open_dataset


def main(out: Path) -> None:
    control = AttributeControl({"yaw": "-40,0,40", "quality": 27}, iterations=12)
    report = v2f.generate(n_ids=3, images_per_id=3, out=out, attributes=control, seed=0)
    known = open_dataset(report.out).attributes()  # what is recorded of each image, by name
    for name in ("yaw", "quality"):
        goal, reached = known[f"{name}_goal"], known[name]
        print(
            f"{name:8} asked {np.unique(goal).round(1)}, missed by {np.abs(reached - goal).mean():.1f} in the mean"
        )
    print(f"identity kept: cosine {known['identity_cosine'].mean():.2f} in the mean")
    verdicts = Counter(Verdict(int(one)).name for one in known["verdict"])
    print("verdicts", dict(verdicts), "after", f"{known['iterations'].mean():.1f} iterations in the mean")
    print(report.contact_sheet)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("steered"))
    main(parser.parse_args().out)

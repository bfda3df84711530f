"""Is a set of faces fit for training? Are its people apart, each one itself, and is nobody of another set among them.

Give your own: `--set FOLDER`, in any format that `v2f inspect` reads. Without it two small sets are made, the second of
which repeats one person of the first on purpose; the check finds who.
"""

import argparse
from pathlib import Path

import numpy as np

import v2f_engine as v2f
from v2f_engine.data import open_dataset
from v2f_engine.evaluate.consistency import measure_consistency
from v2f_engine.evaluate.features import read_features
from v2f_engine.evaluate.leakage import measure_leakage
from v2f_engine.evaluate.separability import measure_separability, stated_limit
from v2f_engine.models.weights import load_recogniser


def main(out: Path, given: Path | None) -> None:
    engine = v2f.Engine.load("mini")
    people = engine.sample_identities(12, seed=0)
    if given is None:
        given = v2f.generate(identities=people.vectors[:8], images_per_id=6, out=out / "checked").out
    others = np.concatenate([people.vectors[8:], people.vectors[3:4]])  # four strangers, and person 3 again
    known = v2f.generate(identities=others, images_per_id=6, out=out / "known", seed=1).out

    judge = load_recogniser("mini").model
    checked, gallery = (read_features(open_dataset(folder), judge) for folder in (given, known))
    limit, whose = stated_limit("mini", given)
    apart = measure_separability(checked, threshold=limit)
    itself = measure_consistency(checked)
    print(
        f"{apart.identities} people, {apart.images} images; two are one person above cosine {limit:.3f} ({whose})"
    )
    print(
        f"apart    equal error rate {100 * apart.eer:.1f} %, {100 * apart.unique_share:.0f} % of the people unique"
    )
    print(f"itself   {100 * itself.own_nearest:.0f} % of the images nearest to their own person")
    leak = measure_leakage(checked.centres, gallery.centres, thresholds=(0.9,), fmr=None)
    for person, stranger, cosine in leak.worst:
        if cosine > 0.9:
            print(f"leaked   person {person} is person {stranger} of the other set: cosine {cosine:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("check_a_set"))
    parser.add_argument("--set", type=Path, help="a folder or file of faces")
    typed = parser.parse_args()
    main(typed.out, typed.set)

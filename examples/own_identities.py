"""Identities of your own: vectors from a file, and faces of reference pictures.

Vectors must have the length that the model knows: unit vectors, such as a recogniser's normed features, are refused by
name, and brought to that length on request.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import v2f_engine as v2f
from v2f_engine.errors import VectorError
from v2f_engine.pipeline import identities_from


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    engine = v2f.Engine.load("mini")
    drawn = engine.sample_identities(3, seed=7).vectors  # stands for features of your own, float32 [3, 512]
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    np.save(out / "unit.npy", unit)
    table = identities_from(vectors=out / "unit.npy")
    try:
        v2f.generate(identities=table, images_per_id=4, out=out / "refused")
    except VectorError as error:
        print("unit vectors are refused:", str(error)[:110], "...")
    report = v2f.generate(identities=table, images_per_id=4, out=out / "from_vectors", rescale=True)
    print(f"{report.images} images of {report.identities} given vectors in {report.out}")

    references = out / "references"  # stands for aligned photographs: a folder a person
    for person, images in enumerate(np.stack([b.images for b in engine.images(drawn, 3, batch_size=3)])):
        (references / f"person_{person}").mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(references / f"person_{person}" / f"{number}.png")
    people = identities_from(references=references, say=print)
    report = v2f.generate(identities=people, images_per_id=4, out=out / "from_pictures", rescale=True)
    print(f"{report.images} images of {report.identities} people of pictures in {report.out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("own_identities"))
    main(parser.parse_args().out)

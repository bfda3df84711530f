"""Result files as the commands write them, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIVE = {"lfw": 0.9912, "cfp_fp": 0.921, "cplfw": 0.8702, "agedb_30": 0.9333, "calfw": 0.9377}
FOUR = {"hadrian": 0.75125, "eclipse": 0.671, "pair_SLLFW": 0.94, "DoppelVer": 0.889}


def put(path: Path, record: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def verification(path: Path, sets: dict[str, float], name: str = "r50.safetensors") -> Path:
    rows = [{"name": key, "accuracy": value, "deviation": 0.01, "pairs": 6000} for key, value in sets.items()]
    return put(path, {"recogniser": {"name": name, "sha256": "00"}, "average": 0.5, "sets": rows})


def ijb(path: Path, letter: str = "c", headline: float = 0.87, **more: Any) -> Path:
    rates = ("1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1")
    values = (0.2, 0.7, headline, 0.9, 0.95, 0.98)
    record = {"protocol": "meta", "set": f"ijb{letter}", "templates": 8, "pairs": 28, "genuine_pairs": 4}
    return put(path, {**record, "tpr": dict(zip(rates, values, strict=True)), "headline": headline, **more})


def leakage(path: Path, **more: Any) -> Path:
    def pairs(share: float) -> dict[str, Any]:
        return {"count": 1, "total": 2, "share": share}

    above = [
        {"what": "published", "threshold": 0.5, "count": 1, "share": 0.01, "by_chance": None,
         "pairs": pairs(2e-9), "centres": pairs(1e-9), "people": pairs(3e-7)},
        {"what": "published", "threshold": 0.7, "count": 0, "share": 0.0, "by_chance": None,
         "pairs": pairs(0.0), "centres": pairs(0.0), "people": pairs(0.0)},
    ]  # fmt: skip
    record = {"synthetic_set": "x/set", "gallery_set": "real", "recogniser": {"name": "mini"}}
    return put(path, {**record, "synthetic": 100, "gallery": 50, "above": above, "worst": [], **more})


def separability(path: Path, **more: Any) -> Path:
    record = {"data": "x/set", "recogniser": {"name": "mini"}, "identities": 10_000, "images": 500_000, "eer": 0.01,
              "unique_share": 0.98, "fdr": 7.1, "threshold": 0.4, "threshold_from": "given",
              "curve": {"first": [5_000, 10_000], "unique": [4_990, 9_912]}}  # fmt: skip
    return put(path, {**record, **more})


def consistency(path: Path) -> Path:
    record = {"data": "x/set", "recogniser": {"name": "mini"}, "identities": 100, "pair_cosine": 0.6}
    return put(
        path,
        {**record, "pair_cosine_p05": 0.5, "pair_cosine_p95": 0.7, "rest_cosine": 0.75, "own_nearest": 0.99},
    )

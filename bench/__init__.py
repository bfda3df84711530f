"""Measurements, each stating its protocol: `python -m bench.FOLDER.NAME` in the root of a clone; README.md lists them.

Nothing has to be installed: the clone's own `v2f_engine` and `v2f_kernels` are measured, whatever else is there.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
sys.path[:0] = [folder for folder in (str(ROOT / "kernels"), str(ROOT)) if folder not in sys.path]

import v2f_engine  # noqa: E402, F401  before any bench loads torch: how threads wait is settled then, as in the product

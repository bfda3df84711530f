"""`load_dataset("owner/name")` of Hugging Face's real `datasets`, over sets that `v2f push` put on the fake Hub.

By hand, since `datasets` lives in an environment of its own (CONTRIBUTING says how it is made):

PYTHONPATH=.:kernels python tests/hub/by_name_check.py SETS clients-env/bin/python    # SETS/imagefolder, ...
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fake_hub import FakeHub, environment

FORMATS = ("imagefolder", "webdataset", "parquet")
ASK = """
import sys, tempfile, datasets
datasets.disable_progress_bars()
for name in sys.argv[1:]:
    for streaming in (False, True):
        with tempfile.TemporaryDirectory() as cache:
            found = datasets.load_dataset(name, split="train", streaming=streaming, cache_dir=cache)
            rows = list(found)
        column = "label" if "label" in rows[0] else "cls"
        people = len({row[column] for row in rows})
        print(f"{name}, streaming {streaming}: {len(rows)} rows, {people} people, {found.features[column].names[:2]}")
"""


def main(sets: Path, python: str) -> int:
    """Prints a line a set and way of reading; the exit status of the client."""
    with FakeHub() as hub, tempfile.TemporaryDirectory() as home:
        env = {**os.environ, **environment(hub, Path(home)), "HF_HUB_OFFLINE": "0"}
        for name in FORMATS:
            push = [
                sys.executable,
                "-m",
                "v2f_engine",
                "push",
                str(sets / name),
                f"ada/{name}",
                "--yes",
                "--quiet",
            ]
            subprocess.run(push, env=env, check=True)
        return subprocess.run(
            [python, "-c", ASK, *(f"ada/{name}" for name in FORMATS)], env=env, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

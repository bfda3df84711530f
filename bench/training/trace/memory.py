"""Memory of the three trainings over batch sizes, predicted from a trace; into bench/results/trace/memory.*.

    python -m bench.training.trace.memory

Bytes of every tensor that is alive, rounded to 512, at the moment at which they are most: parameters with buffers,
averages and optimiser slots; what forward made and backward still needs; gradients and what backward makes on the way.
Not counted: what libraries take inside (cuDNN's workspaces, copies of operands), Triton's partial sums, the allocator's
gaps, the CUDA context (about 0.5 GB). So a card shows more, and a graph keeps its pool for as long as it lives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import RESULTS, ROOT

BATCHES = (16, 32, 64, 128, 256)
NETWORKS = {
    "generator": "generator, base",
    "recogniser": "recogniser, SE-IResNet50",
    "pose": "pose model, base",
}
HOLDERS = ("parameters, buffers, optimiser", "activations", "gradients and temporaries", "peak")


def held(trainer: str, batch: int) -> dict[str, float]:
    """GB by holder at the peak; a process a trace (`__main__.py` says why)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        command = [sys.executable, "-W", "ignore", "-m", "bench.training.trace", "--trainer", trainer]
        command += ["--batch", str(batch), "--json", str(file)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, float] = json.loads(file.read_text())["now"]["GB at peak"]
        return found


def main() -> int:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = {
            words: {str(batch): pool.submit(held, trainer, batch) for batch in BATCHES}
            for trainer, words in NETWORKS.items()
        }
        found = {
            words: {batch: one.result() for batch, one in batches.items()}
            for words, batches in waiting.items()
        }
    lines = [
        "# Memory of a training step, GB at the peak: predicted, not measured\n",
        "By `python -m bench.training.trace.memory`, which says what is counted; bf16, one rank,",
        "as one CUDA graph where the training has one.\n",
        "| training | batch | " + " | ".join(HOLDERS) + " |",
        "|---|---:|" + "---:|" * len(HOLDERS),
    ]
    for network, batches in found.items():
        for batch, row in batches.items():
            values = " | ".join(f"{row.get(holder, 0.0):.2f}" for holder in HOLDERS)
            lines.append(f"| {network} | {batch} | {values} |")
    folder = RESULTS / "trace"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "memory.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

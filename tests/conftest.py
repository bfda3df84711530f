"""Common to all tests: quiet libraries, one thread per test process, GPU tests skipped with their reason."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # a bare `import onnxruntime` queues events otherwise
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in gpu_items:
        item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine; `make gpu` runs it on one"))

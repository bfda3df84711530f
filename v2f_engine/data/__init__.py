"""Datasets of faces: encode, write as shards that survive anything, read, verify, repair, convert."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2f_engine.data.convert import convert_dataset
    from v2f_engine.data.dataset import Dataset
    from v2f_engine.data.encode import Encoder
    from v2f_engine.data.formats import FORMATS
    from v2f_engine.data.manifest import Manifest
    from v2f_engine.data.plan import Plan
    from v2f_engine.data.reader import open_dataset
    from v2f_engine.data.repair import repair_dataset
    from v2f_engine.data.training_set import MemorySet, StoredSet, TrainingSet, open_training_set
    from v2f_engine.data.verify import verify_dataset
    from v2f_engine.data.write import WriteReport, write_dataset

_MODULES = {
    "FORMATS": "formats",
    "Dataset": "dataset",
    "Encoder": "encode",
    "Manifest": "manifest",
    "Plan": "plan",
    "MemorySet": "memory_set",
    "StoredSet": "stored_set",
    "TrainingSet": "training_rows",
    "WriteReport": "write",
    "convert_dataset": "convert",
    "open_dataset": "reader",
    "open_training_set": "training_set",
    "repair_dataset": "repair",
    "verify_dataset": "verify",
    "write_dataset": "write",
}

__all__ = [
    "FORMATS",
    "Dataset",
    "Encoder",
    "Manifest",
    "MemorySet",
    "Plan",
    "StoredSet",
    "TrainingSet",
    "WriteReport",
    "convert_dataset",
    "open_dataset",
    "open_training_set",
    "repair_dataset",
    "verify_dataset",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

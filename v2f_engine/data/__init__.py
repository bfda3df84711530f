"""Datasets of faces: encode, write as shards that survive anything, read, verify, repair, convert."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2f_engine.data.formats import FORMATS as FORMATS
    from v2f_engine.data.formats import open_dataset as open_dataset
    from v2f_engine.data.formats.dataset import Dataset as Dataset
    from v2f_engine.data.records.manifest import Manifest as Manifest
    from v2f_engine.data.records.plan import Plan as Plan
    from v2f_engine.data.records.verify import VerifyReport as VerifyReport
    from v2f_engine.data.records.verify import verify_dataset as verify_dataset
    from v2f_engine.data.training.memory_set import MemorySet as MemorySet
    from v2f_engine.data.training.rows import TrainingSet as TrainingSet
    from v2f_engine.data.training.stored_set import StoredSet as StoredSet
    from v2f_engine.data.training.training_set import open_training_set as open_training_set
    from v2f_engine.data.writing.convert import ConvertReport as ConvertReport
    from v2f_engine.data.writing.convert import convert_dataset as convert_dataset
    from v2f_engine.data.writing.encode import Encoder as Encoder
    from v2f_engine.data.writing.repair import repair_dataset as repair_dataset
    from v2f_engine.data.writing.write import WriteReport as WriteReport
    from v2f_engine.data.writing.write import write_dataset as write_dataset

_MODULES = {
    "ConvertReport": "writing.convert",
    "FORMATS": "formats",
    "Dataset": "formats.dataset",
    "Encoder": "writing.encode",
    "Manifest": "records.manifest",
    "MemorySet": "training.memory_set",
    "Plan": "records.plan",
    "StoredSet": "training.stored_set",
    "TrainingSet": "training.rows",
    "VerifyReport": "records.verify",
    "WriteReport": "writing.write",
    "convert_dataset": "writing.convert",
    "open_dataset": "formats",
    "open_training_set": "training.training_set",
    "repair_dataset": "writing.repair",
    "verify_dataset": "records.verify",
    "write_dataset": "writing.write",
}

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

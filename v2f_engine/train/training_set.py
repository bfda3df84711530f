"""The training set held in memory, under its old name here; see `v2f_engine.data.training_set`."""

from __future__ import annotations

from v2f_engine.data.memory_set import MemorySet as TrainingSet

__all__ = ["TrainingSet"]

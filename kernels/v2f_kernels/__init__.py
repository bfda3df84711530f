"""The hot operations of v2f_engine, a folder each: contract, reference, and kernels that must obey it."""

from v2f_kernels._errors import V2FError
from v2f_kernels._op import BackendUnavailable, Op, UnknownBackend

__all__ = ["BackendUnavailable", "Op", "UnknownBackend", "V2FError"]

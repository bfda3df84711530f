"""The hot operations of v2f_engine, one folder each: a contract, a reference, and the kernels that must obey it."""

from v2f_kernels._op import BackendUnavailable, Op, UnknownBackend

__all__ = ["BackendUnavailable", "Op", "UnknownBackend"]

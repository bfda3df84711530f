"""Every error a user can cause, by name.

A message says what was expected, what was found and what to do. `V2FError` is the root, of those of `v2f_kernels` too
(where it lives), so that `except v2f_engine.errors.V2FError` catches whatever is raised on purpose and nothing else.
The command line prints the message alone and exits with `exit_code`.
"""

from __future__ import annotations

from v2f_kernels import BackendUnavailable, UnknownBackend, V2FError

__all__ = [
    "AccuracyLoss",
    "ArtefactError",
    "BackendUnavailable",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "DiskFull",
    "HubError",
    "MissingDependency",
    "ModelNotFound",
    "NonFiniteLoss",
    "OutOfMemory",
    "OutputFolderError",
    "PhotographsRefused",
    "RowError",
    "SaturationError",
    "ShardsFailed",
    "UnknownBackend",
    "V2FError",
    "V2FWarning",
    "VectorError",
]


class V2FWarning(V2FError, UserWarning):
    """Something that can be done and is probably not meant; the command line prints it and goes on.

    Of the same root, for whoever turns warnings into errors.
    """


class ConfigError(V2FError, ValueError):
    """An option, a count or a name that cannot be used; the message names the nearest known one."""

    exit_code = 2


class VectorError(V2FError, ValueError):
    """Identity vectors or features of the wrong shape, dtype or content; the message gives row numbers."""

    hint = "float32 [N, 512] in a .npy is always read."


class RowError(V2FError, IndexError):
    """A row that a table, a batch or a dataset does not have, or what is no index at all."""


class SaturationError(V2FError):
    """More identities were asked for than the sampler can keep apart at this threshold."""


class CheckpointError(V2FError):
    """A weight file that is truncated, foreign, unsafe or does not fit; the message has the cure of its cause."""

    hint = (
        "Weights are state dicts that torch.save or safetensors wrote; `v2f inspect` says what a file holds."
    )


class ArtefactError(V2FError):
    """An exported file that is truncated, changed, without its sidecar, or of another version, GPU or use."""


class AccuracyLoss(V2FError):
    """An export whose faces are no longer the same people; the message gives the loss in cosine."""


class ModelNotFound(V2FError, LookupError):
    """A model name nobody knows, or known weights that are not on this machine."""


class DatasetError(V2FError):
    """A dataset, shard or record that is broken, or that is not what its name says."""

    hint = "`v2f inspect` says what a file or folder holds."


class HubError(V2FError):
    """The Hugging Face Hub refuses, cannot be reached, or holds something else; the message has the cure of each."""


class PhotographsRefused(V2FError):
    """Photographs without a face that could be aligned; the message counts why. All others are done."""

    exit_code = 3


class OutputFolderError(V2FError):
    """An output folder that belongs to another run, or that cannot be written."""


class DiskFull(V2FError, OSError):
    """The disk is full; the message gives bytes needed and bytes free. Committed shards are intact."""


class ShardsFailed(V2FError):
    """Shards over which workers died again and again; all others are committed. The message says why each died."""


class OutOfMemory(V2FError, MemoryError):
    """A device or this process has too little memory, and fewer rows a call do not help; the message says why."""


class MissingDependency(V2FError, ImportError):
    """An optional package is needed; the message is the install line."""


class NonFiniteLoss(V2FError, ArithmeticError):
    """A loss term became NaN or infinite; the message names the term and the batch's keys."""

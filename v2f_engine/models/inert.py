"""What a pickle of weights may name beside tensors: values, each read as a stand-in that holds and runs nothing.

Trainers leave settings, NumPy numbers, paths and dates beside their weights. None of those classes is imported:
the name is bound to a class of ours that takes any arguments and forgets them, so that reading past it is safe
whoever wrote it. Everything that is not in the table refuses the file.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from v2f_engine.errors import CheckpointError

_PLAIN = "bool bytes bytearray complex dict float frozenset int list object range set slice str tuple"
VALUES = (
    *(f"builtins.{name}" for name in _PLAIN.split()),
    "argparse.Namespace", "collections.defaultdict", "collections.deque", "copyreg._reconstructor",
    "types.SimpleNamespace", "uuid.UUID", "decimal.Decimal", "fractions.Fraction",
    "torch.torch_version.TorchVersion",
    # AdaFace's main.py hands its hyper-parameters to Lightning in this class of its own utils.py
    "utils.dotdict",
)  # fmt: skip
"""Names that are values; `builtins.getattr`, `eval` and the like are not among them."""
FAMILIES = (
    "numpy.", "pathlib.", "datetime.", "zoneinfo.", "pytz.", "omegaconf.", "easydict.", "yacs.config.", "addict.",
    "ml_collections.", "munch.", "box.", "pytorch_lightning.", "lightning.", "lightning_fabric.",
    "lightning_utilities.",
)  # fmt: skip
"""Packages whose classes hold settings, dates, paths and plain numbers."""
OPERATIONS = frozenset(
    "NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK NONE NEWFALSE NEWTRUE TUPLE TUPLE1 TUPLE2 TUPLE3 "  # noqa: SIM905
    "EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE SHORT_BINSTRING LONG1 "
    "PROTO STOP GLOBAL BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT".split()
)
"""Those that `torch.load(weights_only=True)` knows; `torch.save` writes no others."""
TRUSTED = ("torch.", "collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set",
           "builtins.bytearray", "builtins.complex")  # fmt: skip
"""Left to torch's own table, which refuses what it does not know."""


TABLES = ("collections.defaultdict", "utils.dotdict", "AttributeDict", "easydict.EasyDict", "CfgNode", "munch.Munch",
          "box.Box", "addict.addict.Dict")  # fmt: skip
"""Ends of names whose pickles go on to set items."""
SERIES = ("collections.deque", "box.BoxList")
"""Ends of names whose pickles go on to append."""


class Inert:
    """A value that was not made: holds nothing, whatever it was built with."""

    name = ""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        if cls.name.endswith(TABLES):
            return OrderedDict()
        return [] if cls.name.endswith(SERIES) else super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def stand_ins(path: Path, pickled: bytes) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """For `torch.serialization.safe_globals`: a stand-in for each value that the pickle of a `.pth` names.

    Raises:
        CheckpointError: names of functions or foreign classes; operations that no weights need; a damaged pickle.
    """
    names, other = named(path, pickled)
    for name in names:
        if not is_value(name) and not name.startswith(TRUSTED):
            refuse_object(path, name)
    if other:
        raise CheckpointError(
            f"{path}: holds more than weights (pickle operation {other}), which torch.save does not write; nothing "
            "in it was run. If you made it, save model.state_dict() with torch.save or safetensors."
        )
    return [(type("Inert", (Inert,), {"name": name}), name) for name in names if is_value(name)]


def named(path: Path, pickled: bytes) -> tuple[list[str], str]:
    """(global names in a pickle in their order, the first operation foreign to torch.save or ""); nothing is run.

    Raises:
        CheckpointError: a damaged pickle.
    """
    names: dict[str, None] = {}
    texts: list[str] = []
    other = ""
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name == "GLOBAL":
                names[_today(*str(argument).split(" ", 1))] = None
            elif operation.name == "STACK_GLOBAL" and len(texts) > 1:
                names[_today(*texts)] = None
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]
            if operation.name not in OPERATIONS:
                other = other or operation.name
    except Exception as error:  # pickletools raises ValueError, and codecs errors of several kinds
        raise CheckpointError(f"{path}: is damaged: its pickle cannot be followed ({error}).") from error
    return list(names), other


def _today(module: str, name: str) -> str:
    """The name that Python 3, and torch, look up for one that a pickle of protocol 2 has from Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def is_value(name: str) -> bool:
    return name in VALUES or name.startswith(FAMILIES)


def refuse_object(path: Path, name: str) -> NoReturn:
    """Raises CheckpointError for a file that names a function or a class of some program."""
    last = name.rpartition(".")[2]
    if last[:1].isupper():
        what = (
            "an object of that class, whose program would have to be imported and run. Where it was made, save the "
            "state dict instead of the object: torch.save(model.state_dict(), ...) or safetensors.torch.save_file"
        )
    else:
        what = (
            "a function that would be called while loading: no file of weights needs it, and it may be an attack. "
            "Nothing in it was run. Take the weights from a source you know"
        )
    raise CheckpointError(f"{path}: holds more than weights ({name}): {what}.")

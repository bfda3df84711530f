"""Where the weights stand in a checkpoint: containers within containers, prefixes before prefixes, heads beside.

A network is found by content: a key that only it has, behind any prefix, in any table of the file. What stands
before that key is the prefix, whatever wrappers it came from (`module.` of DDP, `_orig_mod.` of torch.compile,
`model.` of Lightning, `backbone.`, `features.module.` of MagFace). Everything else in the file must be known as no
part of the network (a head, an optimiser, counters), else the file is refused: a projection behind the backbone
changes the features. Two networks that differ are never mixed or chosen between in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from v2f_engine.models.inert import Inert
from v2f_engine.models.pth import Tensors, refuse

SIGNATURES = {
    "generator": ("latent_prior_proj_f.weight",),
    "recogniser": ("layer1.0.bn1.weight", "body.0.res_layer.0.weight"),
    "discriminator": ("to_logits.0.weight",),
}
"""Kind of network -> keys of which it has one and no other kind any."""
PUBLISHED = {"model_vec2face": "model", "pose_model": "pose", "model_disc": "discriminator"}
"""Entries of the files of Vec2Face and of its training -> what they hold."""
WRAPPERS = (
    "state_dict", "model", "model_state_dict", "model_state", "state_dict_backbone", "backbone", "net", "network",
    "module", "weights", "params", "encoder", "model_ema", "ema_state_dict", "state_dict_ema", "ema",
)  # fmt: skip
"""Entries that hold a network, in the order in which one without a signature is looked for."""
PREFIXES = ("module", "model", "backbone", "net", "network", "encoder", "features")
"""Tokens before keys; stripped where all keys share them. Networks with a signature need no table."""
INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""Tokens that torch.compile, FSDP, checkpointing and DeepSpeed put anywhere in a key."""
HEADS = re.compile(
    r"(^|[._])(heads?|margin|classifier|classifiers|softmax|softmax_fc|partial_fc|fc7?|kernel|kernels|criterion|loss|losses|"
    r"logits|arcface|cosface|metric_fc|product|weight_activated|prototypes|centers)([._]|$)"
)
"""Tokens of what stands behind features in training only."""
BOOKKEEPING = re.compile(
    r"(^|[._])(optim\w*|\w*sched\w*|lr|scaler|amp|loops?|callbacks?|rng\w*|random\w*|\w*_rng_state\w*|metrics?|\w*acc\w*|"
    r"epoch|step|global_step|iter|n_averaged|num_updates|decay|ema_decay|hyper_parameters|hparams|args|config|cfg|"
    r"history|log|best\w*|queue\w*|momentum\w*|grad\w*|buffers?|param_groups|state_lr\w*|state_optim\w*|t|batch_mean|"
    r"batch_std|\w*disc\w*|critic)([._]|$)"
)
"""Tokens of what a trainer needs to go on, and of rules' own counters."""
DEEPEST = 6
SHOWN = 4


@dataclass(frozen=True)
class Network:
    """One network of a file.

    Args:
        place: entries and prefix joined by dots; "." where it is the file itself.
        kind: of SIGNATURES; "" without a signature.
        tensors: under the network's own names.
        aside: names of its table that belong to no network, with shapes.
        doubtful: those of them that are neither known heads nor bookkeeping.
    """

    place: str
    kind: str
    tensors: Tensors
    aside: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """What was taken, and what is to be said about it.

    Args:
        parts: `model`, `pose`, `discriminator` -> tensors.
        place: of the model; "." where it is the file itself.
        notes: sentences for whoever reads the features: where the weights stood, what was set aside.
        aside: names beside the model in its table, with shapes.
    """

    parts: dict[str, Tensors]
    place: str = "."
    notes: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


def resolve(path: Path, content: Mapping[Any, Any], *, kind: str | None = None, entry: str = "") -> Resolved:
    """The network of a file, under its own names.

    Args:
        path: for messages.
        content: tables within tables, as `torch.save` wrote them, or the flat one of a safetensors file.
        kind: wanted, of SIGNATURES; networks of other kinds do not count as rivals then.
        entry: place of the network, where the user names it.

    Raises:
        CheckpointError: no tensors; several networks that differ; parts that cannot be told from the network's own.
    """
    tables = list(_tables(content))
    parts = {
        part: _shared_stripped(tables_of)
        for name, part in PUBLISHED.items()
        for place, tables_of in tables
        if place == (name,) and not entry
    }
    if "model" in parts:
        return Resolved(parts, "model_vec2face")
    tables = [(place, table) for place, table in tables if place not in {(name,) for name in PUBLISHED}]
    if not tables:
        if parts:
            return Resolved({"model": {}, **parts})
        _refuse_without_tensors(path, content)
    networks, tables_aside = [], []
    for place, table in tables:
        found = _networks(place, table)
        networks += found
        if not found:
            tables_aside.append(_joined(place))
    if not networks:
        return _unsigned(path, tables, parts, entry)
    rivals = _wanted(networks, kind)
    chosen = _named(path, rivals, entry) if entry else _only(path, rivals)
    doubtful = [*chosen.doubtful, *(place for place in tables_aside if not _known_aside(place))]
    if doubtful and not entry:
        refuse(
            path,
            f"beside its network ({len(chosen.tensors)} tensors at {chosen.place!r}) stand {len(doubtful)} parts that"
            f" may belong to it: {_listed(doubtful)}. Expected the network alone, or a head, an optimiser, counters"
            f" beside it. If the features are the network's own, name it: {path}#{chosen.place}",
        )
    notes = tuple(_notes(chosen, networks, tables_aside))
    return Resolved({**parts, "model": chosen.tensors}, chosen.place, notes, chosen.aside)


def _tables(
    content: Mapping[Any, Any], place: tuple[str, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """(entries that lead there, tensors by name) of every table with tensors; each object once."""
    seen = set() if seen is None else seen
    if id(content) in seen or len(place) > DEEPEST:
        return
    seen.add(id(content))
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if tensors:
        yield place, tensors
    for name, value in content.items():
        if isinstance(value, Mapping) and isinstance(name, str):
            yield from _tables(value, (*place, name), seen)


def _networks(place: tuple[str, ...], table: Tensors) -> list[Network]:
    """Every network in a table; a key belongs to the longest prefix of a network that it has."""
    cleaned = {_cleaned(name): tensor for name, tensor in table.items()}
    if len(cleaned) < len(table):  # a compiled network beside a plain one: the tokens tell them apart
        cleaned = dict(table)
    found: dict[str, str] = {}
    for kind, anchors in SIGNATURES.items():
        for name in cleaned:
            for anchor in anchors:
                if name == anchor or name.endswith("." + anchor):
                    found[name[: -len(anchor)]] = kind
    owned: dict[str, Tensors] = {prefix: {} for prefix in found}
    left: Tensors = {}
    longest = sorted(found, key=len, reverse=True)
    for name, tensor in cleaned.items():
        prefix = next((p for p in longest if name.startswith(p)), None)
        own = None if prefix is None else name[len(prefix) :]
        if own is None or (found[prefix or ""] == "recogniser" and _head_of_recogniser(own)):
            left[name] = tensor
        else:
            owned[prefix or ""][own] = tensor
    aside = tuple(f"{name} {list(tensor.shape)}" for name, tensor in left.items())
    doubtful = tuple(name for name in left if not _known_aside(name))
    return [
        Network(_joined((*place, prefix.rstrip("."))), found[prefix], tensors, aside, doubtful)
        for prefix, tensors in owned.items()
    ]


def _head_of_recogniser(name: str) -> bool:
    """Whether a key at the top of a recogniser is a head's or a counter; its own `fc` is not."""
    first = name.partition(".")[0]
    return first not in ("fc", "features") and _known_aside(first)


def _known_aside(name: str) -> bool:
    return bool(HEADS.search(name) or BOOKKEEPING.search(name))


def _cleaned(name: str) -> str:
    return ".".join(token for token in name.split(".") if token not in INSIDE)


def _wanted(networks: Sequence[Network], kind: str | None) -> list[Network]:
    """Networks of the wanted kind; without a wish all but discriminators; whatever there is, if there are none."""
    of_kind = [n for n in networks if (n.kind == kind if kind else n.kind != "discriminator")]
    return of_kind or list(networks)


def _only(path: Path, networks: Sequence[Network]) -> Network:
    """The one network, or the first of several that are equal to the last bit."""
    first = networks[0]
    for other in networks[1:]:
        differing = _differing(first.tensors, other.tensors)
        if differing:
            places = " or ".join(f"{path}#{network.place}" for network in networks)
            sizes = ", ".join(f"{n.place!r} ({n.kind}, {len(n.tensors)} tensors)" for n in networks)
            refuse(
                path,
                f"holds {len(networks)} networks: {sizes}; {differing} tensors of the first two that differ are not "
                f"equal. Say which is meant: {places}",
            )
    return first


def _differing(a: Tensors, b: Tensors) -> int:
    return len(a.keys() ^ b.keys()) + sum(not _equal(a[name], b[name]) for name in a.keys() & b.keys())


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two stranger's tensors are one; those that `read_checkpoint` would refuse are not compared."""
    if a.layout != torch.strided or b.layout != torch.strided or a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.untyped_storage().nbytes() < a.numel() * a.element_size():
        return False
    return bool(torch.equal(a, b))


def _named(path: Path, networks: Sequence[Network], entry: str) -> Network:
    """The network that the user names: its place, or tokens of it that no other place has."""
    exact = [network for network in networks if network.place == entry]
    wanted = f".{entry}."
    found = exact or [network for network in networks if wanted in f".{network.place}."]
    if len(found) != 1:
        places = ", ".join(repr(network.place) for network in networks)
        refuse(path, f"has {len(found) or 'no'} networks at {entry!r}; found networks at {places}")
    return found[0]


def _unsigned(
    path: Path, tables: Sequence[tuple[tuple[str, ...], Tensors]], parts: dict[str, Tensors], entry: str
) -> Resolved:
    """The table that wrappers point at, else the root, else the largest: for networks known by other keys."""
    by_place = {_joined(place): table for place, table in tables}
    if entry and entry not in by_place:
        refuse(path, f"has no table at {entry!r}; found {', '.join(map(repr, by_place))}")
    largest = max(by_place, key=lambda place: len(by_place[place]))
    place = next((name for name in (entry, *WRAPPERS, ".") if name in by_place), largest)
    return Resolved({**parts, "model": _shared_stripped(by_place[place])}, place)


def _shared_stripped(table: Tensors) -> Tensors:
    """A table without the tokens of wrappers that all its names begin with."""
    names = {name: _cleaned(name) for name in table}
    if len(set(names.values())) < len(names):
        return table
    while True:
        tops = {name.partition(".")[0] for name in names.values()}
        if len(tops) != 1 or not tops <= set(PREFIXES) or not all("." in name for name in names.values()):
            return {short: table[name] for name, short in names.items()}
        names = {name: short.partition(".")[2] for name, short in names.items()}


def _refuse_without_tensors(path: Path, content: Mapping[Any, Any]) -> NoReturn:
    held = [value.name for value in content.values() if isinstance(value, Inert) and value.name]
    arrays = sum(name.startswith("numpy.") for name in held)
    if arrays:
        refuse(
            path,
            f"holds no tensors but {arrays} NumPy values; expected a state dict of torch tensors: "
            "{name: torch.from_numpy(value)}",
        )
    refuse(path, f"holds no tensors under {', '.join(WRAPPERS)} or at its top; found {list(content)[:8]}")


def _notes(chosen: Network, networks: Sequence[Network], tables: Sequence[str]) -> Iterator[str]:
    if chosen.place != ".":
        yield f"weights taken from {chosen.place!r}"
    equal = [
        n.place for n in networks if n.place != chosen.place and not _differing(n.tensors, chosen.tensors)
    ]
    other = [f"{n.place} ({n.kind})" for n in networks if n.place != chosen.place and n.place not in equal]
    if equal:
        yield f"equal to the last bit: {_listed(equal)}"
    aside = [*other, *chosen.aside, *tables]
    if aside:
        yield f"set aside, not part of the network: {_listed(aside)}"


def _joined(place: Sequence[str]) -> str:
    return ".".join(token for token in place if token) or "."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

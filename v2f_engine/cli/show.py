"""`v2f show`: what a set, a training or a file is, from what it says of itself; nothing is hashed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2f_engine.cli.outputs import Overwrite, claimed
from v2f_engine.cli.saying import answer, result, say

if TYPE_CHECKING:
    from v2f_engine.data.records.manifest import Manifest


@dataclass(frozen=True)
class Shown:
    """What something is.

    Args:
        kind: `set`, `unfinished set`, `training`, `identities`, `weights`, ...
        lines: (name, words) for people.
        facts: the same and more for a script.
        options: option -> value of the command that made it, where that can be told.
        command: that command's words.
        sheet: draws its first people as PNG, where it is a set.
    """

    kind: str
    lines: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] | None = None
    command: str = ""
    sheet: Callable[[], bytes] | None = None


def show(
    place: Annotated[
        Path,
        typer.Argument(
            help="a set, finished or not; a training's folder; a table of identities, weights, a model"
        ),
    ],
    toml: Annotated[
        bool,
        typer.Option(
            "--toml", help="print the options that made it as a file for --config, and nothing else"
        ),
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="PNG of a set's first people, a row each; of an unfinished one as far as it is there"
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what something is: counts, settings, state, measures, licences, how to read it or go on with it."""
    from v2f_engine.errors import ConfigError

    shown = looked_at(place)
    result(kind=shown.kind, place=place, options=shown.options, made_by=shown.command or None, **shown.facts)
    if toml:
        if shown.options is None:
            raise ConfigError(
                f"{place}: {shown.kind} tells no options: only sets of `v2f generate` and `v2f render` and what was "
                "interrupted do."
            )
        text = as_toml(shown.command, shown.options)
        result(toml=text)
        answer(text)
        return
    if pictures is not None:
        shown = _drawn(place, shown, pictures, overwrite)
    for name, words in (("what", f"{place}: {shown.kind}"), *shown.lines):
        say(f"{name:<14} {words}")


def _drawn(place: Path, shown: Shown, out: Path, overwrite: bool) -> Shown:
    """Writes the picture of a set; what was shown, with where it is.

    Raises:
        ConfigError: no set, or one without a picture. DatasetError: a picture is broken.
    """
    from v2f_engine.atomic import write_file
    from v2f_engine.errors import ConfigError

    if shown.sheet is None:
        raise ConfigError(f"{place}: {shown.kind} has no pictures to draw. Expected a set, finished or not.")
    with claimed(overwrite, out, endings=(".png",), tells=True):
        write_file(out, shown.sheet(), "show")
        result(pictures=out)
    lines = tuple((name, words) for name, words in shown.lines if name != "pictures")
    return replace(shown, lines=(*lines, ("pictures", str(out))))


def as_toml(command: str, options: Mapping[str, Any]) -> str:
    """A file for `--config`."""
    lines = [f"[{command.replace(' ', '.')}]"]
    for name, value in options.items():
        lines.append(
            f"{name} = {json.dumps(value, ensure_ascii=False)}"
        )  # TOML has JSON's strings, numbers and lists
    return "\n".join(lines)


def looked_at(place: Path) -> Shown:
    """What is at `place`.

    Raises:
        ConfigError: nothing.
        DatasetError, VectorError, CheckpointError: it cannot be read as what it seems to be.
    """
    from v2f_engine.data.layout import MANIFEST, RUN, WORK
    from v2f_engine.errors import ConfigError

    if not os.path.lexists(place):
        raise ConfigError(f"{place}: nothing is there. Expected a set, a training's folder or a file.")
    if (place / MANIFEST).is_file():
        return _set(place)
    if (place / WORK / RUN).is_file():
        return _unfinished(place)
    if place.is_dir() and ((place / "settings.json").is_file() or (place / "checkpoints").is_dir()):
        return _training(place)
    if place.is_file():
        return _file(place)
    return _strangers(place)


def _options(manifest: Manifest, place: Path) -> tuple[dict[str, Any] | None, str, str]:
    """(options but for defaults, the command's words, why there are none)."""
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.replay import maker_of, options_of

    maker = maker_of(manifest.settings)
    try:
        told = options_of(manifest, place)
    except ConfigError as error:
        return None, maker, str(error)
    return _without_defaults(maker, told), maker, ""


def _without_defaults(command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    from v2f_engine.cli.config import by_name
    from v2f_engine.cli.resume import commands

    parameters = by_name(commands()[command])
    posed = options.get("by") == "pose-model"  # whose noise and masks have other defaults
    kept = {"sigma", "sigma-weights", "masks"} if posed else set()
    return {
        name: value
        for name, value in options.items()
        if name in kept or name in ("ids", "images") or str(value) != str(parameters[name].default)
    }


def _set(place: Path) -> Shown:
    from v2f_engine import disk
    from v2f_engine.data.layout import CARD, MANIFEST, OLD_CARD, SHEETS
    from v2f_engine.data.records.card import READ_BY
    from v2f_engine.data.records.licences import licence_chain
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.data.records.verify import verify_dataset

    manifest = Manifest.load(place / MANIFEST)
    plan, encoder = manifest.plan, manifest.encoder
    verdict = verify_dataset(place, "fast")
    chain = licence_chain(manifest.settings)
    measured = _measured(next((place / name for name in (CARD, OLD_CARD) if (place / name).is_file()), None))
    sheet = next((place / piece.name for piece in manifest.files if piece.name in SHEETS), None)
    options, maker, why = _options(manifest, place)
    each = f"{plan.images_per_id:,} each" if plan.uniform else f"up to {plan.images_per_id:,} each"
    quality = f" quality {encoder['quality']}" if "quality" in encoder else ""
    shards = f"{plan.shards:,} {'shard' if plan.shards == 1 else 'shards'}"
    files = (
        "every file is there with its size"
        if verdict.ok
        else f"{len(verdict.faults)} faults: {verdict.faults[0]}"
    )
    strays = f"; {len(verdict.strays)} strange files, {verdict.strays[0]}" if verdict.strays else ""
    lines = [
        ("people", f"{plan.identities:,}, {manifest.images:,} images ({each}), {shards}"),
        ("format", f"{manifest.format}, {str(encoder.get('codec', 'unknown')).upper()}{quality}"),
        ("size", f"{disk.in_words(verdict.bytes)} in {verdict.files:,} files"),
        ("files", f"{files}{strays}; `v2f verify {place}` compares every byte"),
        ("made by", f"v2f {maker} {_typed(options)}" if options is not None else why),
        *_made(manifest.settings, options),
        ("measured", "; ".join(measured) or f"nothing yet: `v2f evaluate report {place}`"),
        (
            "licences",
            "; ".join(f"{link['name']} ({link['part']}): {link['licence']}" for link in chain) or "none told",
        ),
        (
            "read by",
            READ_BY.get(manifest.format, "v2f").splitlines()[0].partition("#")[0].strip()
            + ", in the set's folder",
        ),
        ("pictures", str(sheet)),
    ]
    facts = {
        "identities": plan.identities, "images": manifest.images, "images_per_id": plan.images_per_id,
        "shards": plan.shards, "format": manifest.format, "encoder": dict(encoder), "bytes": verdict.bytes,
        "files": verdict.files, "faults": verdict.faults, "strays": verdict.strays, "settings": manifest.settings,
        "versions": manifest.versions, "measured": measured, "licences": chain, "contact_sheet": sheet,
        "complete": True,
    }  # fmt: skip
    return Shown("a finished set", tuple(lines), facts, options, maker, lambda: _sheet(place))


def _typed(options: Mapping[str, Any]) -> str:
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name}", str(one)]
    return shlex.join(words)


GIVEN = frozenset({"source", "vectors", "references"})
"""Options that say whose identities are made; without them they are the model's own."""


def _made(settings: Mapping[str, Any], options: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What decided the images, in a line each.

    Args:
        options: that made the set, where they are known.
    """
    if "model" in settings:
        people = settings.get("identities", {})
        yield "model", f"{settings['model']['name']}, sha256 {settings['model']['sha256'][:12]}"
        limit = people.get("max_cosine")
        apart = f", every cosine below {limit:g}" if isinstance(limit, int | float) else ""
        source = str(people.get("source", "unknown"))
        if options is not None and not GIVEN & options.keys() and people.get("source_sha256"):
            source = f"statistics of {settings['model']['name']}, sha256 {people['source_sha256'][:12]}"
        yield "identities", f"{source}, {people.get('count', '?'):,}{apart}"
    elif isinstance(origin := settings.get("converted_from"), Mapping):
        yield (
            "converted",
            f"from a {origin.get('format', 'foreign')} set of {origin.get('images', '?'):,} images",
        )


def _measured(card: Path | None) -> list[str]:
    """What a report measured, as the card says it."""
    from v2f_engine.data.records.card import MEASURED

    try:
        text = "" if card is None else card.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    section = text.partition(f"\n{MEASURED}\n")[2].partition("\n## ")[0]
    return [line[2:].strip() for line in section.splitlines() if line.startswith("- ")]


def _unfinished(place: Path) -> Shown:
    from v2f_engine.cli.config import by_name
    from v2f_engine.cli.resume import begun, commands
    from v2f_engine.data.layout import LEDGER, RUN, WORK
    from v2f_engine.data.records import ledger
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.data.writing.contact_sheet import sheet_of_samples
    from v2f_engine.data.writing.forecast import refuse_locked
    from v2f_engine.data.writing.run import DatasetRun
    from v2f_engine.errors import ConfigError, OutputFolderError

    manifest = Manifest.load(place / WORK / RUN)
    plan = manifest.plan
    records = ledger.read(place / WORK / LEDGER, plan)
    images = sum(record.count for record in records.values())
    try:
        refuse_locked(place)
        state = f"interrupted: `v2f resume {place}` goes on"
    except OutputFolderError as error:
        state = str(error)
    options, maker = None, ""
    try:
        noted = begun(place).asked
        maker = noted.command
        names = {one.name: name for name, one in by_name(commands()[maker]).items()}
        options = {names[name]: value for name, value in noted.options.items()}
    except ConfigError as error:
        state = str(error)
    lines = [
        ("people", f"{plan.identities:,}, {plan.images:,} images asked for, {manifest.format}"),
        ("there", f"{len(records):,} of {plan.shards:,} shards ({images:,} images) are committed"),
        ("state", state),
        *([("made by", f"v2f {maker} {_typed(options)}")] if options is not None else []),
        *_made(manifest.settings, options),
    ]
    facts = {
        "identities": plan.identities, "images": plan.images, "shards": plan.shards, "format": manifest.format,
        "kept_shards": len(records), "kept_images": images, "settings": manifest.settings, "complete": False,
    }  # fmt: skip

    def sheet() -> bytes:
        run = DatasetRun(place, manifest, dict(records), persistent=False)
        if not records:
            raise ConfigError(f"{place}: none of its shards is committed yet, so there is nothing to draw.")
        return sheet_of_samples(lambda number: run.samples(number) if number in records else iter(()), plan)

    return Shown("an unfinished set", tuple(lines), facts, options, maker, sheet)


def _training(place: Path) -> Shown:
    from v2f_engine.asked import NAME
    from v2f_engine.cli.resume import argv, read_command, used_up

    settings: dict[str, Any] = {}
    for path, take in ((place / "settings.json", dict),):
        try:
            settings = take(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            settings = {}
    log, validation = _last_line(place / "log.jsonl"), _last_line(place / "validation.jsonl")
    checkpoints = sorted(path.stem for path in (place / "checkpoints").glob("*.json") if path.stem.isdigit())
    weights = sorted(path.name for path in place.glob("*.safetensors"))
    noted = read_command(place / NAME)
    budget = settings.get("budget") or {}
    asked = ", ".join(f"{value:g} {name}" for name, value in budget.items() if value is not None)
    whole = used_up(place, noted)
    going = whole or (
        f"`v2f resume {place}` goes on" if noted else "repeat the command that began it to go on"
    )
    lines = [
        ("training", f"{settings.get('training', 'unknown')}, budget {asked or 'unknown'}"),
        ("step", f"{log.get('step', 0):,}: {_words(log)}" if log else "none was logged"),
        ("validation", _words(validation) or "none"),
        ("checkpoints", f"{', '.join(str(int(name)) for name in checkpoints) or 'none'}"),
        ("weights", ", ".join(weights) or "none yet"),
        ("state", going),
        *([("made by", f"v2f {shlex.join(argv(noted))}")] if noted else []),
    ]
    facts = {
        "settings": settings, "step": log.get("step", 0), "last": log, "validation": validation,
        "checkpoints": [int(name) for name in checkpoints], "weights": weights, "complete": whole is not None,
    }  # fmt: skip
    return Shown("a training's folder", tuple(lines), facts)


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a log of JSON lines."""
    from v2f_engine.train.loop import read_log

    try:
        lines = read_log(path)
    except OSError:
        return {}
    return lines[-1] if lines else {}


def _words(line: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}"
        for name, value in line.items()
        if name != "step" and isinstance(value, int | float)
    )


def _file(place: Path) -> Shown:
    """A file: by what its head says it is."""
    from v2f_engine.runtime.artefact import is_artefact
    from v2f_engine.vectors.files import kind_of
    from v2f_engine.vectors.identities import FORMAT
    from v2f_engine.vectors.statistics import FORMAT as STATISTICS

    if is_artefact(place):
        return _artefact(place)
    readers: Mapping[str, Callable[[Path], Shown]] = {FORMAT: _identities, STATISTICS: _statistics}
    kind = kind_of(place)
    if kind in readers:
        return readers[kind](place)
    if place.suffix in (".safetensors", ".pth", ".pt"):
        return _weights(place)
    if place.suffix in (".npy", ".npz"):
        return _vectors(place)
    return _strangers(place)


def _vectors(place: Path) -> Shown:
    from v2f_engine.vectors.streams import open_vectors

    rows = open_vectors(place, dimension=None)
    count, length = len(rows), rows.shape[1]
    lines = (
        ("rows", f"{count:,} of {length:,} numbers"),
        ("use", f"v2f ids check {place}; v2f ids fit {place} where a row is a person"),
    )
    return Shown("a file of vectors", lines, {"rows": count, "dimension": length})


def _identities(place: Path) -> Shown:
    from v2f_engine.vectors.identities import Identities

    table = Identities.load(place)
    about = dict(table.provenance)
    limit = about.get("max_cosine")
    apart = f", every cosine below {limit:g}" if isinstance(limit, int | float) else ""
    lines = (
        (
            "people",
            f"{len(table):,} vectors of {table.vectors.shape[1]} numbers, hash {table.table_hash[:12]}",
        ),
        ("source", f"{about.get('source', 'unknown')}{apart}"),
        ("faces", "proven on their faces" if "faces" in about else "looked at as vectors alone"),
        ("use", f"v2f generate --vectors {place}"),
    )
    return Shown(
        "a table of identities",
        lines,
        {"identities": len(table), "table_hash": table.table_hash, "provenance": about},
    )


def _statistics(place: Path) -> Shown:
    from v2f_engine.vectors.statistics import load_statistics

    found = load_statistics(place)
    lines = (
        ("rows", f"{found.count:,}, length {found.length:.4g}, sha256 {found.sha256[:12]}"),
        ("dimension", f"{found.effective_dimension:.1f} effective, {found.cosine_dimension:.1f} of cosines"),
        ("use", f"v2f generate --source {place}"),
    )
    return Shown(
        "statistics of identity vectors",
        lines,
        {"rows": found.count, "sha256": found.sha256, "length": found.length},
    )


def _weights(place: Path) -> Shown:
    from v2f_engine.models.checkpoint_file import read_checkpoint

    file = read_checkpoint(place)
    kind = str(file.head.get("kind", "weights"))
    parts = {
        part: sum(int(value.numel()) for value in tensors.values()) for part, tensors in file.parts.items()
    }
    lines = (
        ("weights", ", ".join(f"{part}: {count:,} numbers" for part, count in parts.items())),
        ("config", json.dumps(file.head.get("config", {}), default=str)),
        ("training", json.dumps(file.head.get("training", {}), default=str)),
        *(("note", words) for words in file.notes),
    )
    return Shown(f"weights ({kind})", lines, {"parts": parts, "head": dict(file.head)})


def _artefact(place: Path) -> Shown:
    from v2f_engine.runtime.artefact import open_artefact

    sidecar = open_artefact(place)
    model = sidecar.model
    lines = (
        ("model", f"{sidecar.part} of {model['name']}, {sidecar.kind}, {sidecar.precision}"),
        ("licence", str(model["licence"])),
        ("use", f"v2f generate --model {place}"),
    )
    return Shown(
        "an exported model",
        lines,
        {"model": dict(model), "precision": sidecar.precision, "runner": sidecar.kind},
    )


def _strangers(place: Path) -> Shown:
    """A set of others, as its reader accounts for it; its pictures are not decoded."""
    from v2f_engine.data.formats import open_dataset

    data = open_dataset(place)
    account = data.account()
    lines = [
        ("format", data.format),
        ("people", f"{account.identities:,}, {len(data):,} images"),
        *(("account", line) for line in account.lines()),
        ("files", f"not decoded here: `v2f inspect {place}` reads every byte"),
    ]
    facts = {
        "format": data.format,
        "images": len(data),
        "identities": account.identities,
        "account": account.lines(),
    }
    return Shown("a set of others", tuple(lines), facts, sheet=lambda: _sheet(place))


def _sheet(place: Path) -> bytes:
    from v2f_engine.data.formats import open_dataset
    from v2f_engine.data.writing.contact_sheet import sheet_of_dataset

    return sheet_of_dataset(open_dataset(place))

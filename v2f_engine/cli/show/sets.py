"""Sets: finished, unfinished, and those of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_engine.cli.show.shown import Shown, guard_lines, packed_lines, typed

if TYPE_CHECKING:
    from v2f_engine.data.records.manifest import Manifest


def finished_set(place: Path) -> Shown:
    """A set with its manifest."""
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
        *[
            ("grown", f"{one.at[:10]}, from {one.identities:,} people, {one.images:,} images")
            for one in manifest.grown
        ],
        ("format", f"{manifest.format}, {str(encoder.get('codec', 'unknown')).upper()}{quality}"),
        ("size", f"{disk.in_words(verdict.bytes)} in {verdict.files:,} files"),
        ("files", f"{files}{strays}; `v2f verify {place}` compares every byte"),
        ("made by", f"v2f {maker} {typed(options)}" if options is not None else why),
        *_made(manifest.settings, options),
        *guard_lines(manifest.settings, place),
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
        "complete": True, "grown": [one.to_json() for one in manifest.grown],
    }  # fmt: skip
    return Shown("a finished set", tuple(lines), facts, options, maker, lambda: _sheet(place))


def unfinished_set(place: Path) -> Shown:
    """A set that is being made, or was interrupted."""
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
        *([("made by", f"v2f {maker} {typed(options)}")] if options is not None else []),
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


def strangers(place: Path) -> Shown:
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


GIVEN = frozenset({"source", "vectors", "references"})
"""Options that say whose identities are made; without them they are the model's own."""


def _made(settings: Mapping[str, Any], options: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What decided the images, in a line each.

    Args:
        options: that made the set, where they are known.
    """
    from v2f_engine.errors import V2FError
    from v2f_engine.vectors.perturbation import words_of

    if "model" in settings:
        people = settings.get("identities", {})
        yield "model", f"{settings['model']['name']}, sha256 {settings['model']['sha256'][:12]}"
        limit = people.get("max_cosine")
        apart = f", every cosine below {limit:g}" if isinstance(limit, int | float) else ""
        source = str(people.get("source", "unknown"))
        if options is not None and not GIVEN & options.keys() and people.get("source_sha256"):
            source = f"statistics of {settings['model']['name']}, sha256 {people['source_sha256'][:12]}"
        yield "identities", f"{source}, {people.get('count', '?'):,}{apart}"
        yield from packed_lines(people)
        if isinstance(noise := settings.get("perturbation"), Mapping):
            try:
                words = words_of(noise)
            except V2FError as error:  # of a later version; the rest of it can be told
                words = str(error)
            yield "around them", words
    elif isinstance(origin := settings.get("converted_from"), Mapping):
        yield (
            "converted",
            f"from a set of format {origin.get('format', 'foreign')}, of {origin.get('images', '?'):,} images",
        )
    if isinstance(chosen := settings.get("selection"), Mapping):
        made = f" of {chosen['make']} made" if "make" in chosen else ""
        yield "chosen", f"the best {chosen['keep']}{made} of each person by {' and '.join(chosen['by'])}"


def _measured(card: Path | None) -> list[str]:
    """What a report measured, as the card says it."""
    from v2f_engine.data.records.card import MEASURED

    try:
        text = "" if card is None else card.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    section = text.partition(f"\n{MEASURED}\n")[2].partition("\n## ")[0]
    return [line[2:].strip() for line in section.splitlines() if line.startswith("- ")]

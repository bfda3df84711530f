"""The dataset card, `README.md`, beside every set: what it is, how it was made and is read, what it may be used for.

It follows from the manifest, so it is not among the files that the manifest vouches for. `v2f evaluate report` brings
its measures up to date and leaves the rest as it stands: people may write in it. Its head is what the Hugging Face Hub
reads (`front_matter`); whatever comes from outside is written as words (`markdown`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from v2f_engine import disk
from v2f_engine.atomic import write_file
from v2f_engine.data.layout import CARD, IMAGES, LMDB, OLD_CARD, PARQUET, SHEET
from v2f_engine.data.records.croissant import write_croissant
from v2f_engine.data.records.front_matter import front_matter
from v2f_engine.data.records.licences import licence_chain as licence_chain
from v2f_engine.data.records.licences import nobody_exists
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.markdown import code, code_cell, text

RECIPE = """IResNet-50 with squeeze-excitation, ArcFace (s 64, m 0.5), SGD with momentum 0.9, weight decay 5e-4 but not
on batch norms, 26 epochs of batch 128, learning rate 0.1 divided by 10 at epochs 12, 20 and 24, gradients clipped at 5.
Mirror images; crop, low resolution and photometric augmentation with probability 0.3 each, and RandomErasing with
probability 0.5: leaving that out cost a reader of the paper two points (HaiyuWu/Vec2Face issue 1)."""
READ_BY: Mapping[str, str] = {
    "imagefolder": f"""load_dataset(".")                            # Hugging Face datasets: columns image and label
ImageFolder("{IMAGES}")                        # torchvision, timm, insightface: the folder of the identities,
                                             # not the set's own, which holds other folders too""",
    "webdataset": """load_dataset(".")                            # Hugging Face datasets: columns jpg and cls
WebDataset("shard-{000000..NNNNNN}.tar")     # webdataset; NNNNNN is the last shard
load_dataset("webdataset", data_files="shard-*.tar")  # not data_dir=: that opens the manifest as a tar""",
    "parquet": f"""load_dataset(".")                            # Hugging Face datasets: columns image and label
read_parquet("{PARQUET}")                         # pandas, polars, pyarrow""",
    "lmdb": f"""lmdb.open("{LMDB}", subdir=False, readonly=True, lock=False)
                                             # no loader of Hugging Face reads it: v2f convert, to parquet""",
    "recordio": """get_dataloader(".", ...)                     # insightface arcface_torch: its MXFaceDataset
                                             # no loader of Hugging Face reads it: v2f convert, to parquet""",
}
"""Format -> the calls that read it, from inside the set's folder."""
HEADING, MEASURED = "# Dataset card", "## Measured"
"""Lines by which a card is known as one of ours, and what it measures is found."""


def card_text(manifest: Manifest, measured: Mapping[str, Any] | None = None) -> str:
    """The card in Markdown, with its YAML head.

    Args:
        manifest: of the finished set.
        measured: numbers to show by name; None says that nothing was measured yet.
    """
    settings = manifest.settings
    count, plan = manifest.images, manifest.plan
    chain = licence_chain(settings)
    lines = [
        *front_matter(manifest),
        "",
        HEADING,
        "",
        f"{plan.identities:,} identities, {count:,} aligned faces of 112x112 pixels, {text(_codec(manifest))}, "
        f"format {code(manifest.format)}. {_who(settings)}",
        "",
        f"![the first images of the first identities, one a row]({SHEET})",
        "",
        *_reading(manifest.format),
        "## How it was made",
        "",
        *[f"- {text(key)}: {code(value)}" for key, value in flat(settings)],
        "- software: " + code(", ".join(" ".join(pair) for pair in sorted(manifest.versions.items()))),
        "",
        "The same command, versions and kind of machine give the same bytes; `v2f verify` compares every file with its "
        "sha256 in `manifest.json`.",
        "",
        *_groups(manifest),
        "## Licence chain",
        "",
        "| part | name | licence | trained on | sha256 |",
        "|---|---|---|---|---|",
        *[
            f"| {' | '.join(text(link[name]) for name in ('part', 'name', 'licence', 'trained_on'))} "
            f"| {code_cell(link['sha256'][:12])} |"
            for link in chain
        ],
        "",
        "A licence of weights says nothing about the photographs they were trained on; whether a set made with them "
        "may be used for your purpose is for you to clear.",
        "",
        MEASURED,
        "",
        *(_measures(measured) if measured else [NOTHING_YET]),
        "",
        "## Training a recogniser on it",
        "",
        RECIPE,
        "",
        "## Limits",
        "",
        "Recognisers trained on synthetic faces are more biased and weaker on twins and large poses than those trained "
        "on photographs (Vec2Face+, arXiv 2507.17192). Measure on your own test sets before use.",
        "",
    ]
    return "\n".join(lines)


def _reading(format: str) -> list[str]:
    calls = READ_BY.get(format)
    return [] if calls is None else ["## Reading it", "", "```python", calls, "```", ""]


def group_names(settings: Mapping[str, Any]) -> list[str]:
    """Names of the groups of a set's people, by the number that is an image's attribute `group`; may be none."""
    identities = settings.get("identities")
    mix = identities.get("mix") if isinstance(identities, Mapping) else None
    names = mix.get("groups") if isinstance(mix, Mapping) else None
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def _groups(manifest: Manifest) -> list[str]:
    """Who they are, of people that were sampled by groups."""
    names = group_names(manifest.settings)
    if not names:
        return []
    identities = manifest.settings["identities"]
    counts, column = identities.get("groups", {}), str(identities["mix"].get("column", "group"))
    each = manifest.plan.images_per_id
    return [
        "## Groups",
        "",
        f"People were sampled by {code(column)}. The attribute `group` of an image is the number of its person's "
        "group, and `identities.safetensors` has it for each person. A group is what its statistics were fitted on; no "
        "image was judged for it.",
        "",
        "| number | group | people | images |",
        "|---|---|---|---|",
        *[
            f"| {number} | {text(name)} | {counts[name]:,} | {counts[name] * each:,} |"
            for number, name in enumerate(names)
            if isinstance(counts, Mapping) and isinstance(counts.get(name), int)
        ],
        "",
    ]


def _codec(manifest: Manifest) -> str:
    quality = manifest.encoder.get("quality")
    codec = str(manifest.encoder.get("codec", "unknown")).upper()
    return codec if quality is None else f"{codec} quality {quality}"


def _who(settings: Mapping[str, Any]) -> str:
    if "model" in settings:
        return "Nobody in it exists: every identity is a sampled vector."
    if "world" in settings:
        return "Nobody in it exists: all are rendered."
    if nobody_exists(settings):
        return "Nobody in it exists: it was converted from a set of made people."
    return "Converted from another set."


NOTHING_YET = (
    "Nothing yet. `v2f evaluate report` on this folder measures separability, consistency and leakage and writes them "
    "here."
)


def _measures(measured: Mapping[str, Any]) -> list[str]:
    return [f"- {text(key)}: {text(value)}" for key, value in measured.items()]


def _brought_up_to_date(card: str, measures: list[str]) -> str:
    """`card` with `measures` in its section; what it says elsewhere stays.

    Leakage that was measured earlier stays too, where its line says by which recogniser or that is still the same.
    """
    before, heading, rest = card.partition(f"\n{MEASURED}\n")
    section, after_heading, after = rest.partition("\n## ")
    held = [line for line in section.splitlines() if line.startswith("- ")]
    same_judge = held[:1] == measures[:1]
    known = {line.partition(": ")[0] for line in measures}
    leakage = [
        line
        for line in held
        if line.startswith("- leakage above ")
        and line.partition(": ")[0] not in known
        and (same_judge or "read by " in line)
    ]
    if leakage:
        measures = [line for line in measures if line != "- leakage: not measured"]
    return f"{before}{heading}\n" + "\n".join([*measures, *leakage]) + f"\n{after_heading}{after}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value) of nested settings; long lists are counted."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        elif isinstance(value, list) and len(value) > 8:
            yield name, f"{len(value)} values"
        else:
            yield name, str(value)


def write_card(
    root: Path, manifest: Manifest, measured: Mapping[str, Any] | None = None, writer: str = "card"
) -> Path:
    """Writes the card, or brings the one that is there up to date with what was `measured`; whole or not at all.

    `croissant.json` is written beside it.

    A set has one card. That of an older version, `DATASET_CARD.md`, becomes `README.md` with the head that the Hub
    reads and all that people wrote in it. A README.md that is no card of ours stays as it is; the card then keeps its
    old name.

    Returns:
        the card's path.
    """
    readme, old = _text_of(root / CARD), _text_of(root / OLD_CARD)
    theirs = readme is not None and not _is_ours(readme)
    found = next((card for card in (readme, old) if card is not None and _is_ours(card)), None)
    if found is None or measured is None:
        written = card_text(manifest, measured)
    else:
        written = _brought_up_to_date(found, _measures(measured))
        if not written.startswith("---\n") and not theirs:
            written = "\n".join([*front_matter(manifest), "", written])
    path = root / (OLD_CARD if theirs else CARD)
    write_file(path, written.encode(), writer)
    if not theirs:
        disk.remove(root / OLD_CARD)
    write_croissant(root, manifest, writer)
    return path


def _is_ours(card: str) -> bool:
    return {HEADING, MEASURED} <= set(card.splitlines())


def _text_of(path: Path) -> str | None:
    return path.read_text(errors="replace") if path.is_file() else None

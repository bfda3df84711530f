"""The dataset card, `DATASET_CARD.md`, beside every set: what it is, how it was made, what it may be used for.

It follows from the manifest, so it is not among the files that the manifest vouches for; `v2f evaluate report`
writes it again with what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from v2f_engine.atomic import write_file
from v2f_engine.data.layout import CARD
from v2f_engine.data.records.manifest import Manifest

RECIPE = """IResNet-50 with squeeze-excitation, ArcFace (s 64, m 0.5), SGD with momentum 0.9, weight decay 5e-4 but not
on batch norms, 26 epochs of batch 128, learning rate 0.1 divided by 10 at epochs 12, 20 and 24, gradients clipped at 5.
Mirror images; crop, low resolution and photometric augmentation with probability 0.3 each, and RandomErasing with
probability 0.5: leaving that out cost a reader of the paper two points (HaiyuWu/Vec2Face issue 1)."""
TRAINED_ON = {
    "mini": "rendered people of this engine's own world (CC0 assets); no photograph of anybody",
    "vec2face": "1 M photographs of 50,000 people of WebFace4M, through an extractor trained on Glint360K",
    "vec2face-plus": "photographs of WebFace4M, through an extractor trained on Glint360K",
}


def licence_chain(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every weight and asset that the settings name: `part`, `name`, `sha256`, `licence`, `trained_on`."""
    return list(_links(settings))


def _links(settings: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    from v2f_engine.models.registry import licence_of

    model = settings.get("model")
    if isinstance(model, Mapping):
        name = str(model.get("name", "unknown"))
        yield {
            "part": "generator",
            "name": name,
            "sha256": str(model.get("sha256", "unknown")),
            "licence": licence_of(name),
            "trained_on": TRAINED_ON.get(name, "not known here: ask whoever trained it"),
        }
    identities = settings.get("identities")
    if isinstance(identities, Mapping):
        yield {
            "part": "identity vectors",
            "name": str(identities.get("source", "given by the user")),
            "sha256": str(identities.get("source_sha256") or identities.get("table_hash", "unknown")),
            "licence": "as the features they were fitted to",
            "trained_on": "sampled; no vector is a person's",
        }
    if "world" in settings:
        yield {
            "part": "rendered people",
            "name": f"world {settings['world']}",
            "sha256": "made by code",
            "licence": "CC0-1.0 (assets), Apache-2.0 (code)",
            "trained_on": "nothing; see v2f_engine/assets/people/PROVENANCE.md",
        }
    source = settings.get("converted_from")
    if isinstance(source, Mapping):
        if isinstance(source.get("settings"), Mapping):
            yield from _links(source["settings"])
        else:
            yield {
                "part": "source images",
                "name": f"{source.get('format', 'unknown')} of {source.get('images', '?')} images",
                "sha256": str(source.get("files_sha256", "unknown")),
                "licence": "that of the source",
                "trained_on": "not known here",
            }


def card_text(manifest: Manifest, measured: Mapping[str, Any] | None = None) -> str:
    """The card in Markdown.

    Args:
        manifest: of the finished set.
        measured: numbers to show by name; None says that nothing was measured yet.
    """
    settings = manifest.settings
    count, plan = manifest.images, manifest.plan
    lines = [
        "# Dataset card",
        "",
        f"{plan.identities:,} identities, {count:,} aligned faces of 112x112 pixels, {_codec(manifest)}, "
        f"format `{manifest.format}`. {_who(settings)}",
        "",
        "## How it was made",
        "",
        *[f"- {key}: `{value}`" for key, value in flat(settings)],
        f"- software: `{', '.join(f'{name} {version}' for name, version in sorted(manifest.versions.items()))}`",
        "",
        "The same command, versions and kind of machine give the same bytes; `v2f verify` compares every file with its "
        "sha256 in `manifest.json`.",
        "",
        "## Licence chain",
        "",
        "| part | name | licence | trained on | sha256 |",
        "|---|---|---|---|---|",
        *[
            f"| {link['part']} | {link['name']} | {link['licence']} | {link['trained_on']} | `{link['sha256'][:12]}` |"
            for link in licence_chain(settings)
        ],
        "",
        "A licence of weights says nothing about the photographs they were trained on; whether a set made with them "
        "may be used for your purpose is for you to clear.",
        "",
        "## Measured",
        "",
        *_measured(measured),
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


def _codec(manifest: Manifest) -> str:
    quality = manifest.encoder.get("quality")
    codec = str(manifest.encoder.get("codec", "unknown")).upper()
    return codec if quality is None else f"{codec} quality {quality}"


def _who(settings: Mapping[str, Any]) -> str:
    if "model" in settings:
        return "Nobody in it exists: every identity is a sampled vector."
    if "world" in settings:
        return "Nobody in it exists: all are rendered."
    return "Converted from another set."


def _measured(measured: Mapping[str, Any] | None) -> list[str]:
    if not measured:
        return ["Nothing yet. `v2f evaluate report` on this folder measures separability, consistency and leakage and "
                "writes them here."]  # fmt: skip
    return [f"- {key}: {value}" for key, value in measured.items()]


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
    """Writes the card; replaced as a whole."""
    write_file(root / CARD, card_text(manifest, measured).encode(), writer)
    return root / CARD

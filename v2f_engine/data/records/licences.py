"""Whose licences a set carries: a link of the chain for every weight and asset that its settings name.

Weights under MIT that were trained on photographs do not make their images MIT, so a set is in the public domain where
every part of it is, and else "other", by the name of its strictest part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MINI_STATISTICS = (
    "6dc0442542b0674ee8e7f38bff6c04dc118ede0b401945894a95cc380372a42f",
    "465968b0586a63ac8e7be86f86df28c8d0002accaf4ad5f39da6b1e3f0579509",
)
"""sha256 of the embedded model's statistics as manifests have it, of every edition, the newest first: sets outlive
editions. `vectors` is no room that this one may import; `make mini-figures` adds a new one."""
TRAINED_ON = {
    "mini": "rendered people of this engine's own world (CC0 assets); no photograph of anybody",
    "vec2face": "1 M photographs of 50,000 people of WebFace4M, through an extractor trained on Glint360K",
    "vec2face-plus": "photographs of WebFace4M, through an extractor trained on Glint360K",
}
OF_FEATURES, OF_SOURCE = "as the features they were fitted to", "that of the source"
PUBLIC_DOMAIN = "cc0-1.0"
NAMES: Mapping[str, str] = {
    "CC0-1.0": PUBLIC_DOMAIN,
    "MIT": "weights-trained-on-photographs",
    OF_FEATURES: "as-the-source-features",
    OF_SOURCE: "as-the-source-images",
    "unknown": "unknown-weights",
}
"""How a licence of the chain begins -> what the Hub is told, the strictest last. The first is an identifier of its own,
the others are `license_name` beside `license: other`."""


def licence_chain(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every weight and asset that the settings name: `part`, `name`, `sha256`, `licence`, `trained_on`."""
    return list(_links(settings))


def strictest(licences: Iterable[str]) -> str:
    """The value of `NAMES` for the strictest of the licences; one nobody knows here counts as unknown."""
    order = list(NAMES)
    ranks = [
        next((rank for rank, start in enumerate(order) if licence.startswith(start)), len(order) - 1)
        for licence in licences
    ]
    return NAMES[order[max(ranks, default=len(order) - 1)]]


def published_at(chain: Iterable[Mapping[str, str]]) -> str | None:
    """The page on which the licence of published weights in the chain is stated."""
    from v2f_engine.models.registry import PUBLISHED

    known = (PUBLISHED.get(link["name"]) for link in chain if link["part"] == "generator")
    return next((f"https://huggingface.co/{one.repository}" for one in known if one is not None), None)


def nobody_exists(settings: Mapping[str, Any]) -> bool:
    """Whether its people were made: by a generator, by rendering, or in the set it was converted from."""
    if "model" in settings or "world" in settings:
        return True
    source = settings.get("converted_from")
    inner = source.get("settings") if isinstance(source, Mapping) else None
    return isinstance(inner, Mapping) and nobody_exists(inner)


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
            "licence": _licence_of_vectors(identities.get("source_sha256")),
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
                "licence": OF_SOURCE,
                "trained_on": "not known here",
            }


def _licence_of_vectors(statistics: object) -> str:
    """Of vectors drawn from statistics with this sha256: that of the embedded model, or of their features."""
    from v2f_engine.models.registry import licence_of

    return licence_of("mini") if statistics in MINI_STATISTICS else OF_FEATURES

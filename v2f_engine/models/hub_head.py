"""The head of a model card, as the Hugging Face Hub reads it: of weights that are pushed, and that are saved."""

from __future__ import annotations

HUB_LICENCES = {"CC0-1.0": "cc0-1.0", "MIT": "mit", "Apache-2.0": "apache-2.0"}
"""SPDX names -> those of the Hub."""


def hub_head(licence: str, *more: str) -> list[str]:
    """Lines of YAML between their dashes.

    Args:
        licence: an SPDX name; one that the Hub does not know is `other` there.
        more: lines between the library's name and the tags.
    """
    known = HUB_LICENCES.get(licence)
    named = [f"license: {known}"] if known else ["license: other", "license_name: unknown-weights"]
    tags = ["tags:", "- face-recognition", "- v2f-engine"]
    return ["---", *named, "library_name: v2f-engine", *more, *tags, "---"]

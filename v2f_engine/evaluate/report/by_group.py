"""The section about groups: does the set do as well for each of them?"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from v2f_engine.evaluate.report.pieces import number, percent, table


def by_group(record: Mapping[str, Any]) -> str:
    """A row a group; nothing where a set has no groups."""
    found = record.get("groups")
    if found is None:
        return ""
    rows = [
        (
            False,
            [
                escape(one["name"]),
                f"{one['identities']:,}",
                f"{one['images']:,}",
                percent(one["unique_share"]),
                number(one["pair_cosine"]),
                percent(one["own_nearest"]),
                percent(one["eer"]),
                percent(one["accuracy"]),
            ],
        )
        for one in found["groups"]
    ]
    head = (
        escape(found["column"]), "identities", "images", "unique", "cosine of a person's images",
        "images nearest to their own", "EER", "right at the threshold",
    )  # fmt: skip
    return (
        f"<h2>Group by group</h2>{table(head, rows, words=0)}"
        f'<p class="note">Each group alone: everybody is compared with everybody of the same group. What has fewer '
        f"than {found['fewest']} trials is too few to tell: by the rule of three (ISO/IEC 19795-1), so many trials "
        "without an error leave a rate of 1 % possible. The last column holds pairs of one person and of two alike.</p>"
    )

"""Long names in cells of a table may break after their joints: a column is as wide as its words and no wider."""

from __future__ import annotations

import re
from typing import Any

CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
JOINT = re.compile(r"(?<=[/_,.])(?=\w)|(?<=::)|(?<=\w)(?=\()")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    def broken(cell: re.Match[str]) -> str:
        return CODE.sub(lambda code: JOINT.sub("<wbr>", code[0]), cell[0])

    return CELL.sub(broken, html)

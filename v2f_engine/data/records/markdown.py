"""A stranger's words inside Markdown and YAML: names and settings that must stay text, whatever they contain.

A name may hold HTML, a link, a pipe, backticks, a line break, or bytes that are no UTF-8 (a file's name on Linux).
Backslash escapes will not do: Python-Markdown knows none for `<`. Character references and code spans are understood
by CommonMark, GitHub and Python-Markdown alike.
"""

from __future__ import annotations

import re
import unicodedata

_MEANINGFUL = re.compile(
    r"[\\`*\[\]<>|~&$@]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.", re.IGNORECASE
)
"""Characters that begin emphasis, code, a link, HTML, a reference, a cell or mathematics; `://`, `www.` and `@` make
links of themselves on GitHub."""
_SPACES = {"Cc", "Zl", "Zp"}
_UNSEEN = {"Cs", "Cf", "Cn", "Co"}
"""Halves of surrogate pairs cannot be encoded; marks of direction show a name as another one."""


def one_line(value: object) -> str:
    """`value` without line breaks, control characters, and what can be neither seen nor encoded."""
    kinds = ((letter, unicodedata.category(letter)) for letter in str(value))
    return "".join(
        " " if kind in _SPACES else "\N{REPLACEMENT CHARACTER}" if kind in _UNSEEN else letter
        for letter, kind in kinds
    )


def text(value: object) -> str:
    """`value` as words of a paragraph, an item or a cell of a table."""
    return _MEANINGFUL.sub(lambda found: f"&#{ord(found[0])};", one_line(value))


def code(value: object) -> str:
    """`value` as a code span, outside tables."""
    inside = one_line(value)
    if not inside:
        return "(empty)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    edge = " " if inside[0] in " `" or inside[-1] in " `" else ""
    return f"{fence}{edge}{inside}{edge}{fence}"


def code_cell(value: object) -> str:
    """`value` as a code span in a cell of a table, where a pipe ends the cell even inside a span."""
    return text(value) if "|" in str(value) else code(value)


def yaml_string(value: object) -> str:
    """`value` as a double-quoted scalar of YAML: one line of ASCII that means the same to every parser."""
    return f'"{"".join(map(_yaml_letter, one_line(value)))}"'


def _yaml_letter(letter: str) -> str:
    number = ord(letter)
    if letter in '"\\':
        return f"\\{letter}"
    if 32 <= number < 127:
        return letter
    return f"\\u{number:04X}" if number < 1 << 16 else f"\\U{number:08X}"

"""Names of members of a stranger's archive: one spelling of each, and none that leads out of it."""

from __future__ import annotations

from v2f_engine.errors import DatasetError


def text_of(raw: bytes) -> str:
    """A name's bytes as text that can be printed and stored: UTF-8, other bytes as `\\xNN`, so that two stay two."""
    return raw.decode("utf-8", "backslashreplace")


def clean(name: str, where: str) -> str:
    """`name` without `./`, `//` and a `/` at its end.

    Args:
        where: what to call the archive in messages.

    Raises:
        DatasetError: it is absolute, climbs by `..`, or holds a zero byte: `tar` and `unzip` refuse or rewrite those.
    """
    if (
        name[:1].isalnum()
        and not any(odd in name for odd in ("..", "//", "/.", ":", "\0"))
        and name[-1] != "/"
    ):
        return name
    parts = name.split("/")
    drive = len(parts[0]) == 2 and parts[0][1] == ":" and parts[0][0].isalpha()
    if ".." in parts or name.startswith("/") or drive or "\0" in name:
        raise DatasetError(
            f"{where}: a member called {name[:120]!r}; expected names inside the archive. Pack it again from within "
            "its folder."
        )
    if "" in parts or "." in parts:
        return "/".join(part for part in parts if part not in ("", "."))
    return name

"""Which names in a stranger's folder, tar or zip are pictures, and which are left by the machine that copied them.

One rule for all containers, so that a set counts alike however it is packed.
"""

from __future__ import annotations

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".jpe", ".jfif")
"""Names of files that are taken for images; which codec they hold is seen by their bytes."""
UNREAD_SUFFIXES = (
    ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pnm", ".tga", ".dng",
    ".cr2", ".nef", ".arw",
)  # fmt: skip
"""Names of pictures that no decoder here reads: a person would lose them, so a reader that meets them stops."""

SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
"""Folders that macOS's archiver, Synology's and QNAP's indexers and Windows leave beside people's pictures."""
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
"""The same for files, in lower case."""


def is_hidden(name: str) -> bool:
    """Whether a member called `name` (a path with `/`, of any depth) is the system's and not a person's.

    A part that begins with a dot counts (`.DS_Store`; `._000.jpg`, in which macOS keeps a file's AppleDouble half on
    disks that have no place for it), and the folders and files named above. `.` and `..` are no names.
    """
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return any(part.startswith(".") or part in SYSTEM_FOLDERS for part in parts) or (
        bool(parts) and parts[-1].lower() in SYSTEM_FILES
    )


def suffix_of(name: str) -> str:
    """The ending of a member's name, in lower case with its dot: `"p/0.JPG"` gives `".jpg"`; `""` where it has none."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot and stem and ending else ""


def is_picture(name: str) -> bool:
    """Whether a member called `name` (a path with `/`) is taken for a face image."""
    return suffix_of(name) in IMAGE_SUFFIXES and not is_hidden(name)

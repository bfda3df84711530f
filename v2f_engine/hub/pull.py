"""Down: a set of ours is compared with its manifest to the last byte; a stranger's is fetched, read as `v2f inspect`
reads it, and nothing of it is run.

OUT holds what is whole, `OUT/.v2f/` what is on its way and which commit it is of; the manifest comes last, so an
interrupted pull is taken for no set, and the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2f_engine import disk
from v2f_engine.atomic import write_file
from v2f_engine.data.gate.pictures import is_hidden
from v2f_engine.data.layout import MANIFEST, WORK
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.verify import verify_manifest
from v2f_engine.errors import DatasetError, HubError
from v2f_engine.hub.cargo import DERIVED
from v2f_engine.hub.client import KINDS, LOGIN, Found, Held, Place, look, named, read, shown, split_name
from v2f_engine.hub.landing import claim, refuse_full

ON_ITS_WAY = "arriving"
"""In `OUT/.v2f`: huggingface_hub's folder, with the beginnings of files."""
THREADS = 4


@dataclass(frozen=True)
class Wanted:
    """What a pull will fetch.

    Args:
        place: with the commit as its revision.
        files: in the order of their names; a manifest is not among them.
        manifest: of a set of ours, and its bytes.
        left: files of the repository that stay there: hidden ones, and those that the manifest does not name.
    """

    place: Place
    files: tuple[Held, ...]
    manifest: tuple[Manifest, bytes] | None
    left: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Pulled:
    """What a pull did.

    Args:
        files, bytes: that lie in OUT now.
        fetched: files that came down now.
        kind: `dataset` or `model`.
        commit: of the repository.
        manifest: of a set of ours, every sha256 compared; None for a stranger's files.
        left: names of files that stayed there.
    """

    files: int
    bytes: int
    fetched: int
    kind: str
    commit: str
    manifest: Manifest | None
    left: tuple[str, ...]


def wanted(api: Any, typed: str, revision: str | None = None) -> Wanted:
    """Looks at a repository: which files, of which commit.

    Args:
        api: `client.connect()`.
        typed: `owner/name`; a dataset where a model has the same name too.
        revision: branch, tag or commit; None for main.

    Raises:
        ConfigError: not such a name.
        HubError: not there, no way there, a name that leaves the folder, or a set that is not whole.
    """
    kind, name = split_name(typed)
    for one in (kind,) if kind else KINDS:
        place = Place(one, name, revision or "main")
        found = look(api, place)
        if found is not None:
            break
    else:
        raise HubError(
            f"{name}: no dataset or model of this name at the Hub, or a private one that this token may not see. Check "
            f"the name; {LOGIN}."
        )
    refuse_escapes(place, found.files)
    place = Place(place.kind, name, found.commit)
    if place.kind == "dataset" and MANIFEST in found.files:
        return _of_ours(api, place, found)
    seen = tuple(file for file in found.files.values() if not is_hidden(file.name))
    if not seen:
        raise HubError(f"{place.url}: holds no file.")
    left = tuple(sorted(set(found.files) - {file.name for file in seen}))
    return Wanted(place, tuple(sorted(seen, key=lambda file: file.name)), None, left)


def refuse_escapes(place: Place, names: Sequence[str] | dict[str, Held]) -> None:
    """Raises HubError for a name that would leave the folder, or cannot lie in it beside the others."""
    folders = {
        "/".join(parts[:depth])
        for name in names
        for parts in [name.split("/")]
        for depth in range(1, len(parts))
    }
    for name in names:
        parts = name.split("/")
        if (
            any(part in ("", ".", "..") or len(part.encode(errors="surrogateescape")) > 255 for part in parts)
            or "\\" in name
            or any(ord(letter) < 32 for letter in name)
            or name in folders
        ):
            raise HubError(
                f"{place.url}: holds a file named {name!r}, which has no safe place in a folder. Nothing was fetched."
            )


def pull(
    api: Any,
    asked: Wanted,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    bars: bool = False,
) -> Pulled:
    """Fetches what is missing in `out`, then compares all of it.

    Args:
        api: `client.connect()`.
        asked: what `wanted` found.
        out: a new or empty folder, or one that a pull of the same commit began; claimed (`landing`).
        progress: called with (bytes there, bytes in all).
        bars: let huggingface_hub show those of single large files.

    Raises:
        OutputFolderError: `out` holds something else, or cannot be written.
        DiskFull: too little room; said before anything is fetched.
        HubError: no way there, or what arrived is not what the manifest says; the message names the files.
    """
    manifest = asked.manifest
    if manifest is not None and (out / MANIFEST).is_file() and (out / MANIFEST).read_bytes() == manifest[1]:
        _refuse_faults(asked, out, keep=True)
        return _pulled(asked, 0)
    with disk.named_errors(out):
        claim(out, asked.place.kind, asked.place.name, asked.place.revision)
        missing = [file for file in asked.files if not _is_there(out / file.name, file)]
        refuse_full(out, sum(file.size for file in missing))
        done = asked.bytes - sum(file.size for file in missing)
        progress(done, asked.bytes)
        for file in _arriving(api, asked.place, out, missing, bars):
            done += file.size
            progress(done, asked.bytes)
        _refuse_faults(asked, out, keep=False)
        if manifest is not None:
            write_file(out / MANIFEST, manifest[1], "pull")
        disk.remove(out / WORK)
    return _pulled(asked, len(missing))


def _pulled(asked: Wanted, fetched: int) -> Pulled:
    own = asked.manifest
    more = (1, len(own[1])) if own else (0, 0)
    return Pulled(len(asked.files) + more[0], asked.bytes + more[1], fetched, asked.place.kind, asked.place.revision,
                  own[0] if own else None, asked.left)  # fmt: skip


def _of_ours(api: Any, place: Place, found: Found) -> Wanted:
    """The files that the manifest there names; all must be there and be the right ones by the Hub's own hashes."""
    content = read(api, place, MANIFEST)
    manifest = Manifest.from_bytes(content, f"{place.url}: {MANIFEST}")
    names: set[str] = {name for name in DERIVED if name in found.files}
    faults: list[str] = []
    for piece in [piece for shard in manifest.shards for piece in shard.pieces] + list(manifest.files):
        if piece.kind == "folders":
            for folder in piece.folders:
                inside = {name for name in found.files if name.startswith(f"{piece.name}/{folder}/")}
                names |= inside
                faults += [] if inside else [f"{piece.name}/{folder}/ is missing"]
            continue
        names.add(piece.name)
        held = found.files.get(piece.name)
        if held is None:
            faults.append(f"{piece.name} is missing")
        elif piece.kind == "file" and (held.size != piece.bytes or held.sha256 not in (None, piece.sha256)):
            faults.append(f"{piece.name} has another size or sha256 than the manifest says")
    if faults:
        raise HubError(
            f"{place.url}: its set is not whole: {'; '.join(dict.fromkeys(faults[:5]))}. Nothing was fetched; whoever "
            "pushed it repeats `v2f push`, which sends what is missing."
        )
    files = tuple(found.files[name] for name in sorted(names))
    left = tuple(sorted(set(found.files) - names - {MANIFEST}))
    return Wanted(place, files, (manifest, content), left)


def _is_there(path: Path, file: Held) -> bool:
    """Whether a file is where it belongs, by its size; its bytes are compared in the end."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size == file.size


def _arriving(api: Any, place: Place, out: Path, files: Sequence[Held], bars: bool) -> Iterator[Held]:
    """Fetches files several at a time; each is moved to its place when it is whole."""
    work = out / WORK / ON_ITS_WAY

    def fetch(file: Held) -> Held:
        with named(f"{place.kind} {place.name}: {file.name}"), shown(file.size, bars):
            path = api.hf_hub_download(
                place.name, file.name, repo_type=place.kind, revision=place.revision, local_dir=work
            )
        target = out / file.name
        disk.make_folder(target.parent)
        disk.rename(Path(path), target)
        return file

    pool = ThreadPoolExecutor(THREADS, "v2f-pull")
    try:
        yield from pool.map(fetch, files)
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_faults(asked: Wanted, out: Path, *, keep: bool) -> None:
    """Raises HubError where a byte in `out` is not what the manifest, or else the Hub, says; such files are taken away.

    Args:
        keep: of a set that was whole before: nothing is taken away.
    """
    own = asked.manifest
    if own is not None:
        found = verify_manifest(out, own[0], full=True)
        faults, broken = list(found.faults), found.broken_names
    else:
        broken = frozenset(file.name for file in asked.files if not _is_as_held(out / file.name, file))
        faults = [f"{name}: another sha256 than the Hub says" for name in sorted(broken)]
    if not faults:
        return
    said = "; ".join(faults[:5]) + (f" and {len(faults) - 5:,} more" if len(faults) > 5 else "")
    if keep:
        raise DatasetError(
            f"{out}: was pulled before and is damaged now: {said}. Remove it and repeat the command."
        )
    for file in asked.files:
        if any(file.name == name or file.name.startswith(f"{name}/") for name in broken):
            (out / file.name).unlink(missing_ok=True)
    raise HubError(
        f"{asked.place.url}: what arrived is not what was pushed: {said}. Repeat the command: it fetches them again. "
        "If it says the same, what lies at the Hub is damaged: tell whoever pushed it."
    )


def _is_as_held(path: Path, file: Held) -> bool:
    import hashlib

    if file.sha256 is not None:
        from v2f_engine.models.file_hash import file_sha256

        return file_sha256(path) == file.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.blob

"""Up: what is there already is compared first, data goes up in commits that stand, the manifest goes last.

A push that was interrupted leaves a repository without a manifest, which no pull takes for a set; the same command goes
on with the files that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from v2f_engine.data.layout import MANIFEST
from v2f_engine.data.records.manifest import Manifest, differences
from v2f_engine.errors import ConfigError, DatasetError, HubError
from v2f_engine.hub.cargo import DERIVED, Cargo, Item
from v2f_engine.hub.client import Found, Place, look, named, read, shown, user

PER_COMMIT = 500
"""Files of one commit; the Hub advises some hundreds, and each commit is one of the 128 an hour it allows."""
BYTES_PER_COMMIT = 4 << 30
THEIRS = frozenset({".gitattributes"})
"""What the Hub itself puts into a repository."""


@dataclass(frozen=True)
class Prospect:
    """A push before it begins.

    Args:
        place: where to.
        cargo: what.
        found: what is there; None where the repository will be made.
        private: whether strangers will not see it.
        missing: what is not there yet.
    """

    place: Place
    cargo: Cargo
    found: Found | None
    private: bool
    missing: tuple[Item, ...]

    def lines(self) -> list[str]:
        """What will happen, in words, for whoever has to agree."""
        seen = "private: only its owner sees it" if self.private else "PUBLIC: anybody can see and copy it"
        state = "a new repository" if self.found is None else "a repository that is there"
        size = sum(item.size for item in self.missing)
        kept = len(self.cargo.items) - len(self.missing)
        there = f" ({kept:,} more are there already)" if kept else ""
        return [
            f"to       {self.place.url}, {state}, branch {self.place.revision}",
            f"what     {self.cargo.what}",
            f"sends    {_files(len(self.missing))}, {_size(size)}{there}",
            f"licence  {self.cargo.licence}",
            f"seen by  {seen}",
        ]


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Args:
        url: of the repository's page.
        commit: that holds all of it.
        sent: files that went up now; the others were there.
        bytes: their size.
        files: in all.
    """

    url: str
    commit: str
    sent: int
    bytes: int
    files: int


def prospect(
    api: Any, cargo: Cargo, name: str, *, private: bool = False, revision: str | None = None
) -> Prospect:
    """Looks at what is there; sends nothing.

    Args:
        api: `client.connect()`.
        cargo: what is to go up.
        name: `owner/name`.
        private: of a repository that is made now.
        revision: branch; None for main.

    Raises:
        HubError: no token, no way there, or something else is there.
        ConfigError: a private one was asked for and the one that is there is public.
    """
    user(api)
    place = Place(cargo.kind, name, revision or "main")
    main = Place(cargo.kind, name)
    found = look(api, main)
    if found is not None and place != main:
        found = look(api, place) if place.revision in _branches(api, place) else found
    if found is None:
        return Prospect(place, cargo, None, private, cargo.items)
    if private and not found.private:
        raise ConfigError(
            f"{place.url} is there and public: --private makes a new repository private and hides no old one. Leave it "
            "out, change that on its page, or give another name."
        )
    missing = tuple(item for item in cargo.items if not item.is_held(found.files.get(item.name)))
    _refuse_another(api, place, cargo, found, missing)
    return Prospect(place, cargo, found, found.private, missing)


def push(
    api: Any,
    asked: Prospect,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    bars: bool = False,
) -> Pushed:
    """Does it; every commit stands, so that the same call goes on after whatever stops it.

    Args:
        api: `client.connect()`.
        asked: what was agreed to.
        progress: called with (bytes there, bytes in all).
        bars: let huggingface_hub show those of single large files.

    Raises:
        HubError: refused, interrupted by the network, or not all of it arrived.
    """
    place, total = asked.place, asked.cargo.bytes
    done = total - sum(item.size for item in asked.missing)
    what = f"{place.kind} {place.name}"
    with named(what):
        if asked.found is None:
            api.create_repo(place.name, repo_type=place.kind, private=asked.private, exist_ok=False)
        if place.revision != "main":
            api.create_branch(place.name, branch=place.revision, repo_type=place.kind, exist_ok=True)
    progress(done, total)
    for batch in _batches(asked.missing, {item.name for item in asked.cargo.items[-asked.cargo.last :]}):
        with named(what), shown(max(item.size for item in batch), bars):
            _commit(api, place, batch, asked.cargo)
        done += sum(item.size for item in batch)
        progress(done, total)
    found = look(api, place)
    if found is None:
        raise HubError(f"{what}: gone while it was pushed. Somebody removed or renamed it.")
    absent = [item.name for item in asked.cargo.items if not item.is_held(found.files.get(item.name))]
    if absent:
        raise HubError(f"{what}: {_files(len(absent))} did not arrive: {_some(absent)}. Repeat the command.")
    sent = sum(item.size for item in asked.missing)
    return Pushed(place.url, found.commit, len(asked.missing), sent, len(asked.cargo.items))


def _commit(api: Any, place: Place, batch: Sequence[Item], cargo: Cargo) -> None:
    from huggingface_hub import CommitOperationAdd

    names = {item.name for item in batch}
    whole = MANIFEST in names or cargo.kind == "model"
    api.create_commit(
        place.name,
        [CommitOperationAdd(item.name, item.source) for item in batch],
        commit_message=cargo.what if whole else f"{_files(len(batch))} of {cargo.what}",
        repo_type=place.kind,
        revision=place.revision,
    )


def _batches(items: Sequence[Item], together: set[str]) -> Iterator[list[Item]]:
    """Data in commits of a bounded size, then what makes it complete in one."""
    batch: list[Item] = []
    for item in (item for item in items if item.name not in together):
        if batch and (len(batch) >= PER_COMMIT or sum(i.size for i in batch) + item.size > BYTES_PER_COMMIT):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
    if last := [item for item in items if item.name in together]:
        yield last


def _branches(api: Any, place: Place) -> set[str]:
    with named(f"{place.kind} {place.name}"):
        return {branch.name for branch in api.list_repo_refs(place.name, repo_type=place.kind).branches}


def _refuse_another(api: Any, place: Place, cargo: Cargo, found: Found, missing: Sequence[Item]) -> None:
    """Raises where the repository holds something else: another set, or files that are none of this one's."""
    advice = "Give another name, or --revision with a branch of its own"
    lacking = {item.name for item in missing}
    if cargo.manifest is not None and MANIFEST in found.files:
        if MANIFEST in lacking:
            raise HubError(f"{place.url} holds another set: {_how(api, place, cargo.manifest)}. {advice}.")
        return
    allowed = {item.name for item in cargo.items} | DERIVED | THEIRS
    strange = sorted(set(found.files) - allowed)
    if strange:
        raise HubError(
            f"{place.url} holds {_files(len(strange))} of something else: {_some(strange)}. {advice}."
        )
    differ = sorted((set(found.files) & lacking) - DERIVED)
    if differ:
        raise HubError(f"{place.url} holds other content of {_some(differ)}. {advice}.")


def _how(api: Any, place: Place, ours: Manifest) -> str:
    """How the set there differs from ours, in words."""
    try:
        theirs = Manifest.from_bytes(read(api, place, MANIFEST), f"{place.url}: {MANIFEST}")
    except DatasetError as error:
        return f"its manifest is none that this version reads ({error})"
    named_ones = differences(theirs, ours)
    return "; ".join(named_ones[:4]) or "the same settings, other bytes: its sha256s differ"


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _size(size: int) -> str:
    from v2f_engine import disk

    return disk.in_words(size)

"""The one place that talks to huggingface_hub: its client, and its many errors under names of ours.

The token is huggingface_hub's business (`hf auth login`, HF_TOKEN): it is read, kept and sent by that library alone,
and no message of ours holds it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2f_kernels._extras import install

from v2f_engine.errors import ConfigError, HubError, MissingDependency, V2FError
from v2f_engine.version import VERSION

KINDS = ("dataset", "model")
LARGE = 256 << 20
"""Bytes of a file whose own progress is worth a bar."""
LOGIN = "`hf auth login`, or a token in HF_TOKEN"
MISREAD = (ValueError, LookupError, TypeError, AttributeError)
"""What huggingface_hub raises where an answer lacks a field or is no JSON."""
SAID: dict[int, str] = {
    401: f"the token is not valid there. {LOGIN} of https://huggingface.co/settings/tokens",
    402: "the account has no room left for it",
    403: "this token does not allow it. To push, give a name below your own and a token that may write; to pull, one "
    "that may read there",
    412: "somebody else wrote there at the same time. Repeat the command: it looks again",
    413: "the Hub found it too large. Convert the set to webdataset or parquet: fewer, larger files",
    429: "the Hub asks for a pause. Repeat the command in some minutes: it goes on where it stopped",
}
"""HTTP status -> what it means and what to do."""


@dataclass(frozen=True)
class Place:
    """A repository on the Hub.

    Args:
        kind: `dataset` or `model`.
        name: `owner/name`.
        revision: branch, tag or commit.
    """

    kind: str
    name: str
    revision: str = "main"

    @property
    def url(self) -> str:
        """Its page."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


@dataclass(frozen=True)
class Held:
    """A file of a repository, by its listing.

    Args:
        name: path inside the repository.
        size: bytes.
        sha256: of the content, where it is stored by LFS or Xet; else None.
        blob: Git's name of a small file's content.
    """

    name: str
    size: int
    sha256: str | None
    blob: str


@dataclass(frozen=True)
class Found:
    """What is at a `Place`: its commit, whether strangers see it, its files by name."""

    commit: str
    private: bool
    files: dict[str, Held]


def endpoint() -> str:
    """The Hub's address: HF_ENDPOINT, or huggingface.co."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def connect() -> Any:
    """huggingface_hub's client, silent.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependency(f"The Hub is reached through huggingface_hub: {install('hub')}.") from error
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return huggingface_hub.HfApi(library_name="v2f-engine", library_version=VERSION)


@contextlib.contextmanager
def shown(size: int, bars: bool) -> Iterator[None]:
    """Inside the block huggingface_hub shows its own bars, where that is wished and `size` bytes take minutes."""
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    large = bars and size >= LARGE
    if large:
        enable_progress_bars()
    try:
        yield
    finally:
        if large:
            disable_progress_bars()


def split_name(typed: str) -> tuple[str | None, str]:
    """(kind, `owner/name`) of what a user types: `owner/name`, `datasets/owner/name` or `models/owner/name`.

    Raises:
        ConfigError: neither.
    """
    head, _, rest = typed.partition("/")
    kind = {"datasets": "dataset", "models": "model"}.get(head) if "/" in rest else None
    name = rest if kind else typed
    if name.count("/") != 1 or not all(name.split("/")) or name.startswith((".", "/")):
        raise ConfigError(
            f"{typed!r}: expected a repository as owner/name (datasets/owner/name or models/owner/name where both "
            "exist)."
        )
    return kind, name


def user(api: Any) -> str:
    """Whose token it is.

    Raises:
        HubError: none, not a valid one, or no way to ask.
    """
    with named("the Hub"):
        return str(api.whoami()["name"])


def look(api: Any, place: Place) -> Found | None:
    """What is there; None where there is no such repository or it is not for this token to see.

    Raises:
        HubError: no such revision, or no way to ask.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with named(f"{place.kind} {place.name}"):
        try:
            info = api.repo_info(place.name, repo_type=place.kind, revision=place.revision)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None
        listed = api.list_repo_tree(place.name, recursive=True, revision=info.sha, repo_type=place.kind)
        files = [
            Held(one.path, one.size, one.lfs.sha256 if one.lfs else None, one.blob_id)
            for one in listed
            if hasattr(one, "blob_id")
        ]
    return Found(str(info.sha), bool(info.private), {file.name: file for file in files})


def read(api: Any, place: Place, name: str) -> bytes:
    """The content of a small file there.

    Raises:
        HubError: no such file, or no way to ask.
    """
    with (
        tempfile.TemporaryDirectory(prefix="v2f-hub-") as folder,
        named(f"{place.kind} {place.name}: {name}"),
    ):
        path = api.hf_hub_download(
            place.name, name, repo_type=place.kind, revision=place.revision, local_dir=folder
        )
        return Path(path).read_bytes()


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Turns whatever huggingface_hub and what it is made of raise inside the block into one named error.

    Args:
        what: the block is about, to begin the message.

    Raises:
        HubError, ConfigError: what happened, and what to do.
    """
    from huggingface_hub import errors

    try:
        yield
    except V2FError:
        raise
    except errors.HFValidationError as error:
        raise ConfigError(f"{what}: not a name that the Hub takes: {_first_line(error)}") from error
    except (OSError, RuntimeError, ValueError, AssertionError, *MISREAD) as error:
        said = _said(error)
        if said is None and isinstance(error, MISREAD):
            said = (
                f"what answers at {endpoint()} does not speak as the Hub does ({type(error).__name__}: "
                f"{_scrubbed(_first_line(error))}). Is a proxy or a log-in page of the network in between? Repeat "
                "the command when it is gone: it goes on where it stopped"
            )
        if said is None:
            raise
        raise HubError(f"{what}: {said}.") from error
    except Exception as error:
        if not type(error).__module__.partition(".")[0].startswith("httpx"):
            raise
        raise HubError(f"{what}: {_unreachable(error)}.") from error


def _said(error: BaseException) -> str | None:
    """What happened, in a sentence without its full stop; None for what is none of the Hub's."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"a token is needed and none was found. {LOGIN}"
    if isinstance(error, errors.GatedRepoError):
        return "its owner lets nobody in who was not accepted. Ask on its page, then repeat the command"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such repository, or a private one that this token may not see. Check the name; {LOGIN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such branch, tag or commit there. Leave --revision out for its main branch"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return "no such file there"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return SAID.get(
            status, f"the Hub answered {status}: {_scrubbed(error.server_message or _first_line(error))}"
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError):
        return _unreachable(error)
    if isinstance(error, RuntimeError | errors.FileMetadataError) and error.__cause__ is not None:
        return _said(error.__cause__) or _unreachable(error)  # "Error while uploading ..." wraps its cause
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return "what arrived is not as long as it should be. Repeat the command: it goes on where it stopped"
    if isinstance(error, ValueError) and "README.md" in str(error):
        return f"the Hub refuses the head of README.md: {' '.join(str(error).split())}"
    return _unreachable(error) if type(error).__module__.partition(".")[0].startswith("httpx") else None


def _unreachable(error: BaseException) -> str:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    why = "HF_HUB_OFFLINE is set" if offline else f"{type(error).__name__}: {_scrubbed(_first_line(error))}"
    return (
        f"the Hub at {endpoint()} cannot be reached ({why}). Whatever was sent or fetched before is kept; repeat the "
        "command when the network is there"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no message"


def _scrubbed(text: str) -> str:
    """`text` without the token, should a server ever repeat it."""
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "(token)") if token else text

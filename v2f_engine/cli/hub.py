"""`v2f push` and `pull`: sets and weights to the Hugging Face Hub and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2f_engine.cli.progress import progress_bar
from v2f_engine.cli.saying import note, now, result, say
from v2f_engine.stopping import saying_what_is_kept

if TYPE_CHECKING:
    from v2f_engine.hub.pull import Pulled


def push(
    source: Annotated[Path, typer.Argument(help="folder of a set, or weights: .safetensors, .onnx")],
    repository: Annotated[str, typer.Argument(help="where to: owner/name")],
    private: Annotated[
        bool, typer.Option("--private", help="make the repository private; else anybody sees it")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="branch, made where it is not there")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="agree to what will be sent, without being asked")
    ] = False,
) -> None:
    """Put a set or weights on the Hugging Face Hub; says what, how much and for whom, and asks before."""
    from v2f_engine.hub import cargo, client
    from v2f_engine.hub.push import prospect
    from v2f_engine.hub.push import push as send

    api = client.connect()
    _, name = client.split_name(repository)
    goods = cargo.cargo_of(source)
    asked = prospect(api, goods, name, private=private, revision=revision)
    for line in asked.lines():
        note(line)
    for remark in goods.remarks:
        note(remark)
    if asked.missing:
        _agree(yes)
    if goods.manifest is not None:
        note(f"comparing every byte of {source} with its manifest")
        cargo.refuse_damaged(source)
    kept = f"what arrived at {asked.place.url} is kept, and is no set until the manifest is there"
    with (
        saying_what_is_kept(lambda: f"{kept}; the same command resumes"),
        progress_bar("push", "B") as progress,
    ):
        done = send(api, asked, progress, bars=_bars())
    result(
        url=done.url,
        commit=done.commit,
        sent=done.sent,
        bytes=done.bytes,
        files=done.files,
        private=asked.private,
    )
    if done.sent:
        say(f"{done.sent:,} files sent, {done.files:,} in all, at {done.url} (commit {done.commit[:12]})")
    else:
        say(f"already there, {done.files:,} files, at {done.url} (commit {done.commit[:12]})")


def _bars() -> bool:
    """Whether huggingface_hub shows the bars of single large files too."""
    return sys.stderr.isatty() and not now().quiet


def _agree(yes: bool) -> None:
    """Asks on a terminal; elsewhere only --yes is an agreement."""
    from v2f_engine.errors import ConfigError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            "Nothing was sent: nobody is there to agree. Say --yes where this is what you want."
        )
    if not typer.confirm("Send this?", default=False, err=True):
        raise ConfigError("Nothing was sent.")


def pull(
    repository: Annotated[
        str, typer.Argument(help="owner/name; datasets/ or models/ before it where both exist")
    ],
    out: Annotated[Path | None, typer.Option(help="folder; default: the repository's name")] = None,
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit")] = None,
) -> None:
    """Fetch a set or weights from the Hugging Face Hub; every byte is compared, nothing of it is run."""
    from v2f_engine.hub import client
    from v2f_engine.hub.landing import landing
    from v2f_engine.hub.pull import pull as fetch
    from v2f_engine.hub.pull import wanted

    api = client.connect()
    out = out or Path(client.split_name(repository)[1].rpartition("/")[2])
    with landing(out):
        asked = wanted(api, repository, revision)
        kept = f"what arrived in {out} is kept"
        with (
            saying_what_is_kept(lambda: f"{kept}; the same command resumes"),
            progress_bar("pull", "B") as progress,
        ):
            done = fetch(api, asked, out, progress, bars=_bars())
    result(
        out=out, files=done.files, bytes=done.bytes, fetched=done.fetched, kind=done.kind, commit=done.commit
    )
    if done.left:
        note(
            f"{len(done.left):,} files stayed there: {', '.join(done.left[:5])}{' ...' if len(done.left) > 5 else ''}"
        )
    if done.manifest is not None:
        result(
            images=done.manifest.images, identities=done.manifest.plan.identities, format=done.manifest.format
        )
        begun = "" if done.fetched else "already complete, "
        say(
            f"{begun}{done.manifest.images:,} images in {out}, every byte as its manifest says "
            f"(commit {done.commit[:12]})"
        )
        return
    say(
        f"{done.files:,} files in {out}, every byte as the Hub says (commit {done.commit[:12]}); no set of this engine"
    )
    _understood(out, done)


def _understood(out: Path, done: Pulled) -> None:
    """What a stranger's files are, as `v2f inspect` says it: read in a process of its own, and nothing run.

    Raises:
        typer.Exit: 1 where they cannot be read.
    """
    from v2f_engine.data.inspect_file import inspect_file
    from v2f_engine.models.file_hash import is_weights

    weights = sorted(
        path for path in out.rglob("*") if path.is_file() and (is_weights(path) or path.suffix == ".onnx")
    )
    sound = True
    for path in weights if done.kind == "model" and weights else [out]:
        found = inspect_file(path)
        sound = sound and found.sound
        say(f"{'sound' if found.sound else 'NOT sound'}: {path}: {found.summary}")
        for line in found.account:
            say(f"  {line}")
    result(sound=sound)
    if not sound:
        raise typer.Exit(1)

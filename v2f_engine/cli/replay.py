"""`--config SET/manifest.json`: a set's manifest as the options that made it, and what is said of the copy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_engine.cli.saying import note

if TYPE_CHECKING:
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.pipeline.replay import Replayed

KEY = "v2f.replayed"
"""Of a context's `meta`."""


def replayed(path: Path, words: tuple[str, ...], typed: Collection[str]) -> tuple[dict[str, Any], Replayed]:
    """Option -> value of the command that made the set, and what its run is held to.

    Args:
        path: a `manifest.json`, or `.v2f/run.json` of a set that is not finished.
        words: of the command that is to make it again.
        typed: options typed beside it, without dashes.

    Raises:
        ConfigError: no manifest, or one of another command.
        DatasetError: a manifest that was changed.
    """
    from v2f_engine.data.layout import RUN, WORK
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.replay import Replayed, maker_of, options_of

    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Expected TOML, or the manifest.json of a set.")
    manifest = Manifest.load(path)
    folder = path.parent.parent if path.parent.name == WORK and path.name == RUN else path.parent
    maker = maker_of(manifest.settings)
    if maker in ("generate", "render") and (maker,) != words:
        raise ConfigError(
            f"{path} is the manifest of a set that `v2f {maker}` made: `v2f {maker} --config {path} --out COPY` makes "
            f"it again; `v2f {' '.join(words)}` takes a TOML file."
        )
    whole = options_of(manifest, folder, typed)
    there = _there(manifest, folder)
    alike = set() if "images" not in typed else {"keep"}  # two names of one option
    named = (
        set(typed)
        - alike
        - {
            "out",
            "config",
            "workers",
            "executor",
            "executor-option",
            "fetch",
            "processes",
            "json",
            "quiet",
        }
    )
    return whole, Replayed(manifest, path, {name: there.get(name, "as by default") for name in sorted(named)})


def extended(root: Path, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Option -> value of the command that made the set at `root`, which is to get more people.

    Args:
        typed: option -> value of what is typed beside `--extend`; it wins, and is compared with the set later.

    Raises:
        ConfigError: no set, nothing said of how many, or another place to write to.
    """
    from v2f_engine.data.writing.grow import more_images
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.extension import manifest_at
    from v2f_engine.pipeline.replay import options_of

    if not {"ids", "vectors"} & typed.keys():
        there = manifest_at(root)[0].plan.images_per_id if "images" in typed else 0
        if "images" in typed and typed["images"] != str(there):
            raise ConfigError(f"--extend {root}: {more_images(there, typed['images'], root)}")
        raise ConfigError(
            f"--extend {root}: say how many people it shall have in all (--ids), or give a larger table (--vectors)."
        )
    if "out" in typed and Path(typed["out"]).resolve() != root.resolve():
        raise ConfigError(
            f"--out {typed['out']}: a set is extended where it lies, --extend {root}. Leave --out out; to keep the "
            "smaller set as well, copy the folder first."
        )
    manifest, _ = manifest_at(root)
    options = options_of(manifest, root, typed.keys() | {"vectors"} if "ids" in typed else typed)
    if "ids" in typed and "vectors" not in typed:
        options |= {"max-cosine": limit} if (limit := _limit(manifest)) is not None else {}
    return {**{name: value for name, value in options.items() if name not in typed}, "out": str(root)}


def _limit(manifest: Manifest) -> float | None:
    """The cosine that the set's own people keep below, where they were sampled."""
    people = manifest.settings.get("identities", {})
    limit: float | None = people.get("max_cosine") if people.get("source_sha256") else None
    return limit


def checking(context: Any) -> Callable[[Manifest], None]:
    """Called with the manifest of what a command will make: says how it stands to the one that is replayed, if any."""
    held_to: Replayed | None = context.meta.get(KEY)

    def check(now: Manifest) -> None:
        if held_to is not None:
            note(held_to.told)
            for line in held_to.check(now):
                note(f"warning: {line}")

    return check


def _there(manifest: Any, folder: Path) -> dict[str, Any]:
    """What the set itself was made with, as far as it can be told."""
    from v2f_engine.errors import ConfigError
    from v2f_engine.pipeline.replay import options_of

    try:
        return options_of(manifest, folder)
    except ConfigError:
        return {}

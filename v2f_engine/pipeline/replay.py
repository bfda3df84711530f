"""The options of `v2f generate` and `v2f render` that a set's manifest tells of: the same options, the same bytes.

A manifest holds hashes of what was given from outside (weights by path, landmark pictures, attributes of one's own), so
those have to be named again. The identity vectors lie in the set itself; where they were simply sampled, they are
sampled again, so that another number of them can be asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from v2f_engine.data.layout import IDENTITIES, PERTURBATION
from v2f_engine.data.records.manifest import Manifest, flat, software_versions
from v2f_engine.errors import ConfigError, V2FError
from v2f_engine.models.mask_schedule import MASK_SCHEDULES, schedule_of
from v2f_engine.vectors.mix import words_of_mix
from v2f_engine.vectors.perturbation import Perturbation, option_of

GENERATED = frozenset({"seed", "identities", "perturbation", "model", "masks", "runner"})
RENDERED = frozenset({"world", "seed", "first"})
MACHINE = ("runner.", "encoder.version", "attributes.network", "writer.")
"""Settings that another machine or version decides; the others are asked for."""
GROWN = "plan.before"
"""Where shards of a set end that was made larger; no option says it, and no image depends on it."""


def maker_of(settings: Mapping[str, Any]) -> str:
    """Which command made a set of these settings: `generate`, `render`, `convert`; empty for none of ours."""
    if settings.keys() >= GENERATED:
        return "generate"
    if settings.keys() >= RENDERED:
        return "render"
    return "convert" if "converted_from" in settings else ""


def options_of(manifest: Manifest, folder: Path, typed: Collection[str] = ()) -> dict[str, Any]:
    """Option, without dashes -> value, of the command that made a set (`maker_of`); its `--out` is left out.

    Args:
        manifest: finished or not.
        folder: the set's, which holds the identity table.
        typed: options that somebody gives beside these; they win, and what they take the place of is left out.

    Raises:
        ConfigError: a set of another command, or one of whose options the manifest has a hash alone; the message names
            the option to give.
    """
    asked, plan = manifest.settings, manifest.plan
    maker = maker_of(asked)
    encoder = manifest.encoder
    if maker == "render":
        found = {
            "ids": plan.identities, "images": plan.images_per_id, "format": manifest.format, "seed": asked["seed"],
            "first": asked["first"], "world": asked["world"], "quality": encoder.get("quality", 95),
        }  # fmt: skip
    elif maker == "generate":
        found = {
            **_people(manifest, folder, typed),
            "images": plan.images_per_id,
            "format": manifest.format,
            "jpeg-quality": encoder.get("quality", 95),
            "jpeg-encoder": encoder.get("library", "simplejpeg"),
            "images-per-shard": plan.identities_per_shard * plan.images_per_id,
            **_model(asked, typed),
            **_noise(asked, folder, typed),
            **_attributes(asked, typed),
            **_selection(asked, typed),
            **_machine(asked),
        }
    else:
        raise ConfigError(_not_ours(manifest, folder))
    return {name: value for name, value in found.items() if name not in typed}


def _not_ours(manifest: Manifest, folder: Path) -> str:
    origin = manifest.settings.get("converted_from")
    if isinstance(origin, Mapping):
        of = f"a {origin.get('format', 'foreign')} set of {origin.get('images', '?')} images"
        inside = maker_of(origin.get("settings", {}))
        made = f" That one was made by `v2f {inside}`: its own manifest can be replayed." if inside else ""
        if isinstance(chosen := manifest.settings.get("selection"), Mapping):
            rule = " ".join([f"--keep {chosen['keep']}", *(f"--by {name}" for name in chosen["by"])])
            return (
                f"{folder} was chosen from {of}; its manifest says of which bytes, not from where: name the source, "
                f"`v2f select SOURCE {rule} --format {manifest.format} --out COPY`.{made}"
            )
        return (
            f"{folder} was converted from {of}, and its manifest says of which bytes, not from where: name the source, "
            f"`v2f convert SOURCE TARGET --format {manifest.format}`.{made}"
        )
    return (
        f"{folder} was made by neither `v2f generate` nor `v2f render`: its settings are "
        f"{', '.join(sorted(manifest.settings)) or 'none'}. Only what those two made can be replayed."
    )


def _people(manifest: Manifest, folder: Path, typed: Collection[str]) -> dict[str, Any]:
    if {"vectors", "references"} & set(typed):
        return {}
    table, model = manifest.settings["identities"], str(manifest.settings["model"]["name"])
    sampled = _sampled(table, model, manifest.settings["seed"], typed)
    if sampled is None:
        return {"vectors": str(folder / IDENTITIES)}
    return {"ids": manifest.plan.identities, **sampled}


def _sampled(
    table: Mapping[str, Any], model: str, seed: int, typed: Collection[str] = ()
) -> dict[str, Any] | None:
    """Source, mix and limit of a table that `v2f generate` sampled by itself; None where something was given to it.

    The file of a source with groups is known by hash alone: where it is named again, its mix and limit are told.
    """
    from v2f_engine.pipeline.given import people_of
    from v2f_engine.vectors.sources import GaussianSource

    plain = {
        "count",
        "table_hash",
        "source",
        "source_sha256",
        "seed",
        "max_cosine",
        "exclude",
        "candidates_drawn",
    }
    if (
        table.keys() - ({"mix", "groups"} if "mix" in table else set()) != plain
        or table["exclude"] is not None
        or table["max_cosine"] is None
        or table["seed"] != seed
    ):
        return None
    named = "mix" in table and "source" in typed
    mix = {"mix": words_of_mix(table["mix"]["groups"], table["mix"]["parts"])} if "mix" in table else {}
    try:
        people = people_of(model)
    except (V2FError, OSError):
        return {"max-cosine": table["max_cosine"], **mix} if named else None
    limit = {} if table["max_cosine"] == people.max_cosine else {"max-cosine": table["max_cosine"]}
    if table["source_sha256"] == people.source.sha256 or named:
        return {**limit, **mix}
    return {"source": "gaussian", **limit} if table["source_sha256"] == GaussianSource().sha256 else None


def _model(asked: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    from v2f_engine.models.registry import names

    runner, name = asked["runner"], str(asked["model"]["name"])
    served = runner["runner"] in ("tensorrt", "tensorrt-rtx")
    if (name not in names("generator") or served) and "model" not in typed:
        raise ConfigError(
            f"the set was made with {'an engine of ' if served else 'weights called '}{name!r} (sha256 "
            f"{str(asked['model']['sha256'])[:12]}), which its manifest knows by hash alone: name the file, --model."
        )
    return {"model": name, "masks": _masks(asked["masks"]), "rounding": asked.get("rounding", "nearest")}


def _selection(asked: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    """How images were chosen among those that were made."""
    from v2f_engine.models.registry import names

    told = asked.get("selection")
    if told is None:
        return {}
    found: dict[str, Any] = {"make": told["make"], "select": list(told["by"])}
    cosines = {"select-min-cosine": "min_cosine", "select-duplicate-cosine": "duplicate_cosine"}
    found |= {option: told[name] for option, name in cosines.items() if name in told}
    judges = {
        "select-recogniser": ("recogniser", names("recogniser")),
        "select-quality-model": ("quality", ("quality", *names("recogniser"))),
    }
    for option, (role, known) in judges.items():
        used = told.get(role, {}).get("name")
        if used in known:
            found[option] = used
        elif used is not None and option not in typed:
            raise ConfigError(
                f"the set's images were chosen by {role} {used!r}, which its manifest knows by hash alone: name the "
                f"file, --{option}."
            )
    return found


def _machine(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a machine chose where nobody did."""
    runner = asked["runner"]
    cuda = "cuda" in str(runner.get("device", runner.get("provider", ""))).lower()
    return {
        "device": "cuda" if cuda else "cpu",
        "precision": runner["precision"],
        "runner": runner["runner"],
        "compute-batch": runner["batch_size"],
    }


def _masks(told: Mapping[str, float]) -> str:
    schedule = (told["min"], told["mean"], told["std"], told["max"])
    for name in (*MASK_SCHEDULES, repr(told["mean"])):  # the last: one ratio for all images
        known = schedule_of(name)
        if (known.minimum, known.mean, known.std, known.maximum) == schedule:
            return name
    raise ConfigError(
        f"the set was made with masks of its own, {schedule}, which no option names (--masks: "
        f"{', '.join(sorted(MASK_SCHEDULES))}); in Python MaskSchedule{schedule} does."
    )


NOISE = frozenset({"sigma", "sigma-weights", "target-cosine", "perturbation"})
"""Options of which one form of perturbation takes the place of another."""


def _noise(asked: Mapping[str, Any], folder: Path, typed: Collection[str]) -> dict[str, Any]:
    noise = asked["perturbation"]
    unit = noise.get("unit")
    if unit == "sigma":
        around = {"sigma": _list(noise["levels"]), "sigma-weights": _list(noise["weights"])}
    elif unit == "cosine" and noise == Perturbation.target_cosine(*noise["levels"]).describe():
        around = {"target-cosine": _list(noise["levels"])}
    else:  # what only --perturbation says: target cosines at shares that are not equal, too
        around = {"perturbation": option_of(noise, folder / PERTURBATION)}
    if NOISE & set(typed) - around.keys():
        around = {}  # another form was typed
    return {
        **around,
        "seed": asked["seed"],
        "mask-batch": asked.get("mask_batch", 1),
        "sigma-shares": asked.get("sigma_shares", "drawn"),
    }


def _list(values: Collection[float]) -> str:
    return ",".join(map(repr, values))


def _goal(told: Mapping[str, Any]) -> str:
    """As `Goal.of` reads it."""
    return _list(told["one of"]) if "one of" in told else ":".join(map(repr, told["uniform"]))


def _attributes(asked: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    told = asked.get("attributes")
    if told is None:
        return {}
    return _posed(told["pose model"], typed) if "pose model" in told else _steered(told, asked, typed)


def _posed(told: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    from v2f_engine.models.landmarks import HEIGHTS

    if "pictures" in told:
        if "landmarks" not in typed:
            raise ConfigError(
                f"the set's landmark pictures (sha256 {told['pictures'][:12]}) are not in it: name them, --landmarks."
            )
        return {"by": "pose-model"}
    heights = next(name for name, words in HEIGHTS.items() if words == told["landmarks"])
    goals = {name: _goal(goal) for name, goal in told["goals"].items()}
    return {"by": "pose-model", **goals, "landmark-heights": heights}


def _steered(told: Mapping[str, Any], asked: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    from v2f_engine.attributes.control import JUDGES, MINI
    from v2f_engine.models.registry import names

    judged = {one["name"]: one for one in told["attributes"]}
    own = sorted({*judged, *told["goals"]} - {"identity", "yaw", "pitch", "quality"})
    if own and "attribute" not in typed:
        raise ConfigError(
            f"the set is steered to {', '.join(own)}, which no option but --attribute says: name the file, "
            "--attribute FILE.py:Name."
        )
    loop, identity, form = told["loop"], judged["identity"], told.get("steering", "ours")
    found: dict[str, Any] = {name: _goal(goal) for name, goal in told["goals"].items() if name not in own}
    found |= {"steer": told["use"], "steering": form, "steer-rate": loop["lr"]}
    found["iterations"] = loop["iterations"] if "iterations" in loop else loop["free"] + loop["counted"] + 1
    if form == "ours" and not told["signed"] and {"yaw", "pitch"} & found.keys():
        found["unsigned"] = True
    found["tolerance"] = [
        f"{name}={one['tolerance']!r}" for name, one in judged.items() if name != "identity"
    ]
    found["min-cosine"] = _one_minus(identity["tolerance"])
    if "dead_zone" in identity:
        found["dead-zone"] = identity["dead_zone"]
    usual = JUDGES.get(str(asked["model"]["name"]), MINI)
    roles = {
        "steer-recogniser": ("recogniser", usual.recogniser, names("recogniser")),
        "pose-model": ("pose", usual.pose, ("pose",)),
        "quality-model": ("quality", usual.quality, ("quality", *names("recogniser"))),
    }
    for option, (role, expected, known) in roles.items():
        used = [name.removeprefix(f"{role} ") for name in told["judges"] if name.startswith(f"{role} ")]
        if not used or used == [str(expected)]:
            continue
        if used[0] in known:
            found[option] = used[0]
        elif option not in typed:
            raise ConfigError(
                f"the set was steered by {role} {used[0]!r}, which its manifest knows by hash alone: name the file, "
                f"--{option}."
            )
    return found


def _one_minus(width: float) -> float:
    """The cosine of which `width` is the distance, to the last bit."""
    short = float(f"{1.0 - width:.12g}")
    return short if 1.0 - short == width else 1.0 - width


@dataclass(frozen=True)
class Replayed:
    """What a run is expected to make again.

    Args:
        manifest: of the set that is made again.
        path: where that was read.
        typed: options that were typed beside it, and what they are in that set.
    """

    manifest: Manifest
    path: Path
    typed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """A line for people."""
        if not self.typed:
            return f"as {self.path} says"
        return f"as {self.path} says but for " + ", ".join(
            f"--{name} ({was} there)" for name, was in self.typed.items()
        )

    def check(self, now: Manifest) -> list[str]:
        """What is to be known before `now` is made, a sentence each: versions and machines that may change bytes.

        Raises:
            ConfigError: nothing was typed and the options make another set: what differs was said in Python alone.
        """
        there, here = flat(self.manifest.decisive()), flat(now.decisive())
        differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
        machine = [name for name in differing if _of_machine(name)]
        asked = [name for name in differing if name not in machine and name != GROWN]
        if asked and not self.typed:
            told = "; ".join(
                f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} now"
                for name in asked[:5]
            )
            raise ConfigError(
                f"{self.path}: the options that it tells of make another set: {told}. What differs was said in Python, "
                "or the set's identities.safetensors is another one; give options beside --config for a set of its own."
            )
        versions = [
            f"{name} {was} there, {software_versions().get(name, 'absent')} here"
            for name, was in self.manifest.versions.items()
            if software_versions().get(name) != was and name != "ops on the host"
        ]
        lines = []
        if GROWN in differing:
            lines.append(
                "the set there was made larger since it was begun: its images come in other shards than those of a "
                "set that is made at once; the images are the same"
            )
        if machine:
            shown = "; ".join(
                f"{n.removeprefix('settings.')} {there.get(n, 'absent')} there, {here.get(n, 'absent')} here"
                for n in machine[:5]
            )
            lines.append(f"bytes will differ: {shown}")
        elif versions:
            lines.append(f"bytes may differ: {'; '.join(versions)}")
        return lines


def _of_machine(name: str) -> bool:
    bare = name.removeprefix("settings.")
    return bare.startswith(MACHINE)

"""What the helps of all commands say beyond each option's own words: what is typed daily first, and every default.

An option without a value of its own says what happens where it is left out, as `[default: (...)]`; other defaults are
values, shown as they are. `tests/test_help.py` holds that every option of every command says one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OFF, ALL = "none", "all of them"
RECIPES = "the recipe's"
BUDGET = "the recipe's budget"

WITHOUT: Mapping[str, str] = {
    "--config": "only what is typed",
    "--out": "printed",
    "--split": "the only one",
    "--mask": "all rows",
    "--plot": "not drawn",
    "--pictures": "not drawn",
    "--exclude": "nobody",
    "--labels": "a dataset's own",
    "--images": ALL,
    "--vectors": "sampled",
    "--references": "sampled",
    "--extend": "a table of its own",
    "generate --extend": "a set of its own",
    "--target-cosine": "--sigma counts",
    "--perturbation": "--sigma counts",
    "--calibration": "no rate",
    "--fmr": "--max-cosine counts",
    "--compute-batch": "by the device",
    "--images-per-shard": "a sixteenth of the set, of 1,000 to 10,000 images",
    "--executor-option": OFF,
    "--yaw": "as it comes",
    "--pitch": "as it comes",
    "--attribute": OFF,
    "--iterations": "by --steering",
    "--steer-recogniser": "the model's own",
    "--quality-model": "the model's usual one",
    "--pose-model": "the model's usual one",
    "--steer-rate": "by --steering",
    "--tolerance": "the attribute's own",
    "--min-cosine": "by --steering",
    "--dead-zone": "by --steering",
    "--landmarks": "drawn for --yaw and --pitch",
    "--held-out": "nobody",
    "--validate": "none",
    "--validate-images": "needed by a list of pairs",
    "--margin": RECIPES,
    "--m": RECIPES,
    "--sample-rate": RECIPES,
    "--lr": RECIPES,
    "--dropout": RECIPES,
    "--base-lr": RECIPES,
    "--critic-width": RECIPES,
    "--batch": RECIPES,
    "--batch-per-gpu": "--batch counts",
    "--set": OFF,
    "--epochs": BUDGET,
    "--steps": BUDGET,
    "--minutes": BUDGET,
    "--start-from": "from nothing",
    "--vgg": "not used",
    "--limit": ALL,
    "--reference": "the recogniser's own limit counts",
    "--real": "not measured",
    "--groups": "not broken down",
    "--gallery": "not measured",
    "--gallery-labels": "each row is a person",
    "--accuracy": OFF,
    "--beside": OFF,
    "--profile": "1,64,256",
    "--target": "sm86, sm89 and sm120",
    "--timing-cache": "not kept",
    "generate --quality": "as it comes",
    "--make": "as many as are kept",
    "--select-recogniser": "the one of the model's vectors, else mini",
    "--select-min-cosine": "no image is passed over",
    "--select-duplicate-cosine": "only equal pixels count as one",
    "select --min-cosine": "no image is passed over",
    "select --duplicate-cosine": "only equal pixels count as one",
    "select --at-least": "--keep: none may have fewer",
    "features --out": "needed without --probe",
    "convert --images": "needed by a list of pairs",
    "repair --model": "as recorded",
    "evaluate leakage --threshold": "0.5 and 0.7",
    "evaluate leakage --fmr": "the lowest that it can tell",
    "evaluate verification --images": "needed by a list of pairs",
    "evaluate ijb --features": "--crops are read",
    "evaluate ijb --crops": "--features are read",
    "evaluate ijb --name": "the only one",
    "evaluate table --against": "HSFace10K and CASIA-WebFace",
    "ids check --threshold": "0.40",
    "ids fit --images": "features are read",
    "ids fit --groups": "everybody is one",
    "--column": "needed by --groups",
    "ids centres --labels": "what holds the features says it",
    "ids fit --labels": "none: a row is a person",
    "ids prove --features": "not written",
    "ids plan --images": "none are planned; 50 with --make",
    "ids plan --perturbation": "by sigma, which needs no search",
    "ids within --labels": "what holds the features says it",
    "train generator --features": "extracted now",
    "train generator --dropout": RECIPES,
    "train estimator --out": "runs/NAME.safetensors",
    "train estimator --steps": "3000",
    "train estimator --minutes": "--steps count",
    "train pose --epochs": BUDGET,
    "ui --vectors": "drawn",
    "--revision": "main",
    "generate --ids": "100, or as many as are given",
}
"""Option -> words; `COMMAND OPTION` where it means another thing there."""


FIRST = (
    "--ids",
    "--vectors",
    "--model",
    "--recogniser",
    "--images",
    "--out",
    "--format",
    "--seed",
    "--device",
)
"""What is typed most; of each command in this order before its other options."""


def words_of(command: str, parameter: Any) -> str:
    """What happens without an option; empty where the table does not say."""
    own = next(
        (WITHOUT[key] for key in (f"{command} {name}" for name in parameter.opts) if key in WITHOUT), ""
    )
    return own or next((WITHOUT[name] for name in parameter.opts if name in WITHOUT), "")


def says_itself(parameter: Any) -> bool:
    """Whether a help text tells its default."""
    return "default" in (parameter.help or "")


def add_to(commands: Mapping[str, Any]) -> None:
    """Orders the options of these (words -> command), and gives those without a value of their own their words."""
    for words, command in commands.items():
        command.params.sort(key=_place)
        for parameter in command.params:
            nothing = parameter.default is None and not parameter.required
            if parameter.param_type_name == "option" and nothing and not says_itself(parameter):
                parameter.show_default = words_of(words, parameter) or parameter.show_default


def _place(parameter: Any) -> int:
    """Arguments stand before all options, in their own order."""
    if parameter.param_type_name != "option":
        return -1
    return min((FIRST.index(name) for name in parameter.opts if name in FIRST), default=len(FIRST))

"""A generator as a folder that the Hugging Face Hub keeps: safetensors under the published names, config, card.

    model.safetensors         the weights, with their shape in the head; what Engine.load and v2f generate read
    config.json               the shape, for people and for the Hub
    statistics.safetensors    where identity vectors for it come from, bound to the weights by card.json
    README.md                 the model card: licence, and what the weights came from

Nothing is downloaded unless that is asked for, and nothing goes up but by `push_to_hub`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2f_kernels._extras import install

from v2f_engine.atomic import write_atomically
from v2f_engine.errors import ConfigError, MissingDependency, ModelNotFound, OutputFolderError, V2FError
from v2f_engine.models.hub_head import hub_head
from v2f_engine.models.registry import CARD, EMBEDDED, PUBLISHED, write_card

if TYPE_CHECKING:
    from v2f_engine.models.vec2face import Vec2Face

WEIGHTS, CONFIG, README, STATISTICS = (
    "model.safetensors",
    "config.json",
    "README.md",
    "statistics.safetensors",
)
BESIDE = (STATISTICS, CARD)


def loaded(model: str | Path, fetch: bool, revision: str | None) -> Vec2Face:
    """The network of `Vec2Face.from_pretrained`, which says what of its origin is known as `network.origin`."""
    from v2f_engine.models.weights import load_generator

    named = {
        *EMBEDDED["generator"],
        *(name for name, entry in PUBLISHED.items() if entry.kind == "generator"),
    }
    place, text = Path(model).expanduser(), str(model)
    if revision is not None and (text in named or place.exists()):
        raise ConfigError(f"revision {revision!r} is of a repository on the Hub; {model} is none.")
    if text not in named and not place.exists() and text.count("/") == 1 and not place.suffix:
        place = _from_hub(text, fetch, revision)
    if place.is_dir():
        if not (place / WEIGHTS).is_file():
            raise ModelNotFound(f"{place}: holds no {WEIGHTS}, which Vec2Face.save_pretrained writes.")
        place = place / WEIGHTS
    found = load_generator(model if text in named else place, fetch=fetch)
    about = _about(found.path)
    found.model.origin = {
        "name": about.get("name", found.name),
        "licence": found.licence if found.licence != "unknown" else str(about.get("licence", "unknown")),
        "source": about.get("source", text),
        "source_sha256": about.get("source_sha256", found.sha256),
        "statistics": str(found.statistics),
        "max_cosine": found.max_cosine,
    }
    return found.model


def saved(network: Vec2Face, folder: Path) -> None:
    """What `Vec2Face.save_pretrained` does.

    Raises:
        OutputFolderError: the folder holds a model already.
    """
    from v2f_engine.models.weights import save_weights

    if taken := [name for name in (WEIGHTS, CONFIG, README, *BESIDE) if (folder / name).exists()]:
        raise OutputFolderError(
            f"{folder}: holds {', '.join(taken)} already; nothing is replaced. Name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    origin = network.origin
    config = network.config.to_json()
    chain: dict[str, Any] = {name: origin[name] for name in ("source", "source_sha256") if name in origin}
    save_weights(folder / WEIGHTS, {"model": network}, {"kind": "vec2face", "config": config, **chain})
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    statistics = Path(str(origin.get("statistics", "")))
    if statistics.is_file():
        shutil.copyfile(statistics, folder / STATISTICS)
    licence = str(origin.get("licence", "unknown"))
    about = {"max_cosine": origin["max_cosine"]} if "max_cosine" in origin else {}
    card = write_card(folder, licence, {**chain, **about})
    write_atomically(folder / README, _card(folder.name, json.loads(card.read_text()), config).encode())


def pushed(network: Vec2Face, repository: str, private: bool, how: Mapping[str, Any]) -> str:
    """What `Vec2Face.push_to_hub` does, by the library's own `ModelHubMixin`."""
    try:
        from huggingface_hub import ModelHubMixin
    except ImportError as error:
        raise MissingDependency(f"Pushing needs huggingface_hub: {install('hub')}.") from error
    try:
        push: Any = ModelHubMixin.push_to_hub  # it asks of `self` nothing but save_pretrained
        return str(push(network, repository, private=private, **how))
    except V2FError:
        raise
    except Exception as error:  # huggingface_hub and httpx raise families of their own
        raise ConfigError(
            f"{repository}: not pushed ({_first(error)}). `hf auth login` says who you are."
        ) from error


def _from_hub(repository: str, fetch: bool, revision: str | None) -> Path:
    """The folder of a repository's files in the local cache."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependency(
            f"{repository} is no folder here, and the Hub's cache needs huggingface_hub: {install('hub')}."
        ) from error

    def get(name: str) -> Path:
        return Path(hf_hub_download(repository, name, revision=revision, local_files_only=not fetch))

    try:
        weights = get(WEIGHTS)
    except LocalEntryNotFoundError as error:
        if not fetch:
            raise ModelNotFound(
                f"{repository}: neither a name, nor a file or folder, nor in the Hub's cache on this machine. Allow "
                "the download with fetch=True."
            ) from error
        raise ModelNotFound(f"{repository}: cannot be fetched ({_first(error)}).") from error
    except Exception as error:  # huggingface_hub and httpx raise families of their own
        raise ModelNotFound(f"{repository}: no {WEIGHTS} there ({_first(error)}).") from error
    for name in BESIDE:
        try:
            get(name)
        except (EntryNotFoundError, LocalEntryNotFoundError):
            continue
        except Exception as error:
            raise ModelNotFound(f"{repository}: {name} cannot be fetched ({_first(error)}).") from error
    return weights.parent


def _about(weights: Path) -> dict[str, Any]:
    """The card beside weights that `saved` wrote."""
    try:
        card = json.loads((weights.parent / CARD).read_text())
        return card if weights.name == WEIGHTS and weights.name in card["files"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _first(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _card(name: str, card: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    licence = str(card["licence"])
    source = card.get("source")
    chain = f"`{source}`, sha256 `{card['source_sha256']}`" if source else "weights made here"
    people = f"`{STATISTICS}`" if STATISTICS in card["files"] else "brought by the user"
    return CARD_TEXT.format(
        head="\n".join(hub_head(licence)),
        name=name,
        licence=licence,
        chain=chain,
        width=config["width"],
        numbers=config["vector_dim"],
        people=people,
    )


CARD_TEXT = """{head}

# {name}

A Vec2Face generator: identity vectors to faces of people who do not exist.

- licence of the weights: {licence}
- made from: {chain}
- width {width}, vectors of {numbers} numbers
- identity vectors: {people}

A licence of weights says nothing about the photographs they were trained on.

```python
import v2f_engine as v2f

network = v2f.Vec2Face.from_pretrained("OWNER/NAME", fetch=True)
```
"""

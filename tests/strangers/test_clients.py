"""What other people's programs make of our sets: their rows and classes, through the calls that the cards name.

CI has webdataset and torch; `datasets`, `huggingface_hub`, `torchvision` and `timm` are asked where they are installed,
and by hand as CONTRIBUTING says: `clients_check.py`, which these tests share.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from clients_check import CLASSES, CLIENTS, IMAGES, Client

from v2f_engine.data import Encoder, Plan, write_dataset
from v2f_engine.data.layout import CARD, SHEET

FORMATS = ("imagefolder", "webdataset", "lmdb", "recordio", "parquet")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from clients_check import batches

    root = tmp_path_factory.mktemp("sets")
    for name in FORMATS:
        plan = Plan.of(CLASSES, IMAGES // CLASSES, 35)
        write_dataset(root / name, {"seed": 1}, plan, batches, format=name, encoder=Encoder(quality=60))
    return root


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_finds_every_image_with_its_identity(client: Client, sets: Path) -> None:
    for module in client.needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    assert client.read(sets / client.format) == (IMAGES, CLASSES)


@pytest.mark.parametrize("name", FORMATS)
def test_the_head_of_a_card_is_what_the_hub_reads(name: str, sets: Path) -> None:
    """By the expression of huggingface_hub 2.4.0 (`repocard.REGEX_YAML_BLOCK`), so without that package."""
    import re

    yaml = pytest.importorskip("yaml")
    card = (sets / name / CARD).read_text()
    block = re.search(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))", card)
    assert block is not None
    head = yaml.safe_load(block[2])
    assert {"license", "pretty_name", "task_categories", "size_categories", "configs"} <= set(head)
    (files,) = head["configs"][0]["data_files"]
    named = {path.relative_to(sets / name).as_posix() for path in (sets / name).glob(files["path"])}
    assert named, files
    assert not named & {"manifest.json", CARD, SHEET}


@pytest.mark.parametrize("name", FORMATS)
def test_no_picture_lies_where_a_loader_would_take_it_for_a_face(name: str, sets: Path) -> None:
    """Loaders of Hugging Face take every picture below a folder, but not what has a name with two underscores."""
    root = sets / name
    pictures = {path.relative_to(root) for path in root.rglob("*") if path.suffix in (".png", ".jpg")}
    strays = {path for path in pictures if path.parts[0] != "images" and not path.parts[0].startswith("__")}
    assert not strays
    assert Path(SHEET) in pictures

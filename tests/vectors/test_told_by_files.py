"""Whatever a file of ours says of itself, its reader ends with an error that names it, or with what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v2f_engine.errors import VectorError
from v2f_engine.vectors import identities, labelled, nearest, statistics, within
from v2f_engine.vectors.files import read_tensors, tensor_bytes
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.labelled import fit_groups, load_labelled, save_labelled
from v2f_engine.vectors.nearest import Nearest
from v2f_engine.vectors.statistics import fit_statistics, load_statistics, save_statistics
from v2f_engine.vectors.within import Within

ROWS = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sha256", "names"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@dataclass(frozen=True)
class Kind:
    """A kind of file: one that is whole, and what reads it."""

    format: str
    data: bytes
    load: Callable[[Path], Any]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Kind]:
    place = tmp_path_factory.mktemp("whole") / "file.safetensors"

    def saved(save: Callable[..., None], what: object) -> bytes:
        save(place, what)
        return place.read_bytes()

    fitted = fit_statistics([(0, ROWS)])
    groups = fit_groups([(0, ROWS)], ["old", "young"] * 20, covariance="pooled")
    differ = Within(fitted.covariance, fitted.factor, 40, 3)
    near = Nearest(np.arange(3), np.zeros(3), np.zeros(3, np.uint64))
    return {
        "identities": Kind(identities.FORMAT, Identities.from_vectors(ROWS).to_bytes(), Identities.load),
        "statistics": Kind(statistics.FORMAT, saved(save_statistics, fitted), load_statistics),
        "groups": Kind(labelled.FORMAT, saved(save_labelled, groups), load_labelled),
        "within": Kind(within.FORMAT, differ.to_bytes(), Within.load),
        "nearest": Kind(nearest.FORMAT, near.to_bytes(), Nearest.load),
    }


NAMES = ("identities", "statistics", "groups", "within", "nearest")


def look(place: Path, kind: Kind, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Reads such a file; only an error that names it may come of that."""
    place.write_bytes(tensor_bytes(tensors, metadata))
    try:
        kind.load(place)
    except VectorError as error:
        assert str(place) in str(error)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_a_file_says_is_refused_by_its_name(
    name: str, kinds: Mapping[str, Kind], tmp_path: Path, data: st.DataObject
) -> None:
    place = tmp_path / "told.safetensors"
    place.write_bytes(kinds[name].data)
    tensors, metadata = read_tensors(place, kinds[name].format)
    tensors = dict(tensors)
    about = json.loads(metadata.get("about", "{}"))
    for field in data.draw(st.lists(st.sampled_from(sorted(about) or ["about"]), max_size=2)):
        about[field] = data.draw(JSON)
    if name == "groups" and isinstance(about.get("sha256"), str) and data.draw(st.booleans()):
        about.pop("sha256")  # somebody signs it anew
        about["sha256"] = labelled._sha256(tensors, about)
    odd = data.draw(st.sampled_from([None, *tensors]))
    if odd is not None:
        shape = data.draw(st.sampled_from([(), (0,), (3,), (6,), (6, 6), (2, 6), (1, 6, 6), (0, 6)]))
        tensors[odd] = np.ones(shape, data.draw(st.sampled_from(["f2", "f4", "f8", "i4", "i8"])))
    told = data.draw(st.sampled_from([json.dumps(about), "{", "[]", "[" * 100_000, "1e999"]))
    look(place, kinds[name], tensors, {**metadata, "about": told})


def test_numbers_that_no_fit_has_are_refused(kinds: Mapping[str, Kind], tmp_path: Path) -> None:
    """Each of these was taken, or ended in an error of Python's own."""
    place = tmp_path / "within.safetensors"
    kind = kinds["within"]
    place.write_bytes(kind.data)
    tensors, metadata = read_tensors(place, kind.format)
    for field, value in (
        ("images", float("inf")),
        ("images", -5),
        ("people", True),
        ("shrinkage", float("nan")),
        ("shrinkage", 2),
        ("sha256", None),
        ("origin", 5),
    ):
        about = {**json.loads(metadata["about"]), field: value}
        place.write_bytes(tensor_bytes(tensors, {**metadata, "about": json.dumps(about)}))
        with pytest.raises(VectorError, match=r"within\.safetensors: incomplete .*Fit it again"):
            kind.load(place)

"""Tables, batches, sets and reports as Python people expect them: indexed, compared, copied, shown, streamed."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import v2f_engine as v2f
from v2f_engine.errors import ConfigError, RowError, VectorError
from v2f_engine.pipeline.streamed import Share
from v2f_engine.vectors.gate import check_vectors


@pytest.fixture(scope="module")
def engine() -> v2f.Engine:
    return v2f.Engine.load("mini", compute_batch=4)


@pytest.fixture(scope="module")
def people(engine: v2f.Engine) -> v2f.Identities:
    return engine.sample_identities(8, seed=3)


@pytest.fixture(scope="module")
def made(engine: v2f.Engine, people: v2f.Identities) -> v2f.ImageBatch:
    return next(engine.images(people, 2, seed=5))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> v2f.GenerateReport:
    return v2f.generate(4, 3, tmp_path_factory.mktemp("python") / "faces", format="webdataset")


def test_a_table_is_a_sequence_of_vectors(people: v2f.Identities) -> None:
    assert people[-1].shape == (512,)
    assert np.array_equal(np.asarray(people)[3], people[3])
    assert [np.array_equal(a, b) for a, b in zip(people, people.vectors, strict=True)] == [True] * 8
    assert people[2] in people
    assert np.ones(512) not in people
    assert "a" not in people
    mask = np.arange(8) % 2 == 0
    assert people[mask] == people[[0, 2, 4, 6]] == people[::2] == people[torch.tensor([0, 2, 4, 6])]
    assert people[:] == people
    assert people[1:7][1:3].keys.tolist() == [2, 3]
    assert people[::-1].keys.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert len(people[5:5]) == 0
    people[3][:] = 0  # a copy
    assert people[3].any()


@pytest.mark.parametrize(
    "index", [8, -9, "a", 1.0, True, None, [8], [True], (1, 2), np.zeros((2, 2), int), {}]
)
def test_what_is_no_row_is_refused(index: object, people: v2f.Identities, made: v2f.ImageBatch) -> None:
    for rows in (people, made[:8]):
        with pytest.raises(RowError):
            rows[index]  # type: ignore[index]
    with pytest.raises(IndexError):
        people[8]


def test_a_part_of_a_table_makes_the_images_of_the_whole(
    engine: v2f.Engine, people: v2f.Identities, made: v2f.ImageBatch, tmp_path: Path
) -> None:
    rows = [6, 1, 3]
    part = people[rows]
    part.save(tmp_path / "part.safetensors")
    for table in (part, v2f.load_identities(tmp_path / "part.safetensors"), pickle.loads(pickle.dumps(part))):
        assert table == part
        assert table.table_hash == part.table_hash
        images = next(engine.images(table, 2, seed=5))
        assert np.array_equal(images.identity, [0, 0, 1, 1, 2, 2])
        assert np.array_equal(images.images, np.concatenate([made.images[2 * r : 2 * r + 2] for r in rows]))
    assert part.provenance["part_of"] == 8


def test_tables_are_added_only_where_they_come_from_one(people: v2f.Identities) -> None:
    assert (people[:2] + people[5:6]).keys.tolist() == [0, 1, 5]
    for other in (people, people[1:3], v2f.sample_identities(3, seed=9)[:2]):
        with pytest.raises(VectorError):
            people[:2] + other
    with pytest.raises(VectorError, match="one person"):
        people[[1, 1]]


def test_equality_copies_and_one_line(people: v2f.Identities, made: v2f.ImageBatch) -> None:
    for one in (people, made):
        assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
        assert one != "other"
        assert "\n" not in repr(one)
        assert len(repr(one)) < 160
    assert hash(copy.deepcopy(people)) == hash(people)
    assert made != made[::-1]


def test_faces_are_shown_and_leave_as_other_libraries_have_them(
    people: v2f.Identities, made: v2f.ImageBatch, report: v2f.GenerateReport
) -> None:
    picture = Image.open(io.BytesIO(made._repr_png_() or b""))
    assert picture.size == (2 * 114 - 2, 6 * 114 - 2)
    assert np.array_equal(np.asarray(picture)[:112, 114:226, :3], made.images[1])
    shown = made._repr_html_()
    assert shown.count("<img") == 6
    assert "identity 5" in shown
    assert "and 2 more people" in shown
    assert "<script" not in shown
    assert people.table_hash[:12] in people._repr_html_()
    assert "label 0" in report.dataset._repr_html_()
    assert "complete" in report._repr_html_()
    assert np.array_equal(np.asarray(made.to_pil()[3]), made[3])
    assert np.array_equal(made.to_torch().permute(0, 2, 3, 1).numpy(), np.asarray(made))


def test_a_set_is_indexed_and_loaded(report: v2f.GenerateReport) -> None:
    faces = report.dataset
    assert (report.status, report.complete) == ("complete", True)
    image, label = faces[-1]
    assert np.array_equal(image, faces.image(11))
    assert label == 3
    part = faces[[7, 2]]
    assert (part.identity.tolist(), part.image.tolist()) == ([2, 0], [1, 2])
    assert np.array_equal(part[0], faces.image(7))
    labels = torch.cat([labels for _, labels in DataLoader(faces, batch_size=5, num_workers=2)])
    assert labels.tolist() == faces.labels.tolist()
    with pytest.raises(RowError, match="there are 12"):
        faces[12]


class Elsewhere:
    """An array on another device, as CuPy has one: it copies itself to the host when DLPack's newest words ask it."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, *, dl_device=None, copy=None, **_):  # type: ignore[no-untyped-def]
        assert dl_device == (1, 0)
        return self.rows.__dlpack__(dl_device=dl_device, copy=copy)


class Speaks:
    """DLPack and nothing else."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack_device__(self):  # type: ignore[no-untyped-def]
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, **asked):  # type: ignore[no-untyped-def]
        return self.tensor.__dlpack__(**{name: value for name, value in asked.items() if value is not None})


def test_vectors_of_any_library_are_taken(people: v2f.Identities) -> None:
    rows = np.ascontiguousarray(people.vectors)
    tensor = torch.from_numpy(rows.copy())
    exact = (
        rows,
        tensor,
        tensor.clone().requires_grad_(),
        Speaks(tensor),
        Elsewhere(rows),
        rows.tolist(),
        people,
    )
    for given in (*exact, rows.astype(float), np.asfortranarray(rows), pickle.loads(pickle.dumps(rows))):
        assert np.array_equal(check_vectors(given), rows), type(given)
    for given in (tensor.bfloat16(), Speaks(tensor.bfloat16()), rows.astype(np.float16)):
        assert np.abs(check_vectors(given) - rows).max() < 0.02
    for wrong in (np.ma.masked_array(rows), tensor.to_sparse(), None, "rows", rows.astype(int), object()):
        with pytest.raises(VectorError):
            check_vectors(wrong)


def test_images_are_counted_and_made_again(engine: v2f.Engine, people: v2f.Identities) -> None:
    stream = engine.images(people[:3], 3, batch_size=4)
    assert (len(stream), stream.n_images) == (3, 9)
    first = list(stream)
    assert first == list(stream)
    begun = next(stream)
    assert [begun, *stream] == first  # what `next` began, `for` goes on with


def _streamed(data, workers: int, batch: int | None):  # type: ignore[no-untyped-def]
    loader = DataLoader(data, batch_size=batch, num_workers=workers)
    return [
        (int(label), image.numpy().tobytes())
        for images, labels in loader
        for image, label in zip(images, labels, strict=True)
    ]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_share_the_images_out(engine: v2f.Engine, people: v2f.Identities) -> None:
    table = people[:3]
    expected = [
        (int(label), image.tobytes())
        for batch in engine.images(table, 3)
        for label, image in zip(batch.identity, batch.to_torch().numpy(), strict=True)
    ]
    for workers in (0, 2, 3):
        assert sorted(_streamed(engine.dataset(table, 3), workers, 2)) == sorted(expected)
        assert _streamed(engine.dataset(table, 3, batch_size=2), workers, None) == expected
    shuffled = engine.dataset(table, 3, batch_size=2, shuffle=True)
    orders = []
    for epoch in (0, 1, 0):
        shuffled.set_epoch(epoch)
        orders.append(_streamed(shuffled, 0, None))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == sorted(expected)


@pytest.mark.parametrize("total", [1, 7, 24])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (2, 3), (3, 1), (5, 2)])
def test_shares_are_each_image_once(total: int, size: int, ranks: int, workers: int) -> None:
    shares = [Share(total, size, r, ranks, w, workers) for r in range(ranks) for w in range(workers)]
    places = [share.places(0, len(share)).tolist() for share in shares]
    assert sorted(place for share in places for place in share) == list(range(total))


def test_ranks_are_given_or_refused(engine: v2f.Engine, people: v2f.Identities) -> None:
    parts = [engine.dataset(people[:3], 3, rank=rank, world_size=2) for rank in (0, 1)]
    assert [len(part) for part in parts] == [5, 4]
    even = engine.dataset(people[:3], 3, batch_size=2, drop_last=True, rank=1, world_size=2)
    assert len(even) == 2
    with pytest.raises(ConfigError, match="rank"):
        engine.dataset(people, 1, rank=2, world_size=2)


@pytest.mark.slow
def test_started_workers_load_the_engine_themselves(engine: v2f.Engine, people: v2f.Identities) -> None:
    data = engine.dataset(people[:3], 3, batch_size=2)
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert [labels.tolist() for _, labels in loader] == [labels.tolist() for _, labels in data]


FORKED = """
import v2f_engine as v2f
from torch.utils.data import DataLoader
engine = v2f.Engine.load("mini", compute_batch=4)
people = engine.sample_identities(2)
before = sum(len(b) for b in engine.images(people, 4))  # OpenMP's threads are there now
print(before + sum(len(labels) for _, labels in DataLoader(engine.dataset(people, 4), batch_size=2, num_workers=2)))
"""


def test_forked_workers_do_not_wait_for_threads_of_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], env={"OMP_NUM_THREADS": "4", "PYTHONPATH": ":".join(sys.path)}, timeout=120,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "16", done.stderr


def test_what_is_offered_exists_and_what_exists_is_offered() -> None:
    assert set(dir(v2f)) == set(v2f.__all__)
    for name in dir(v2f):
        assert getattr(v2f, name) is not None
    with pytest.raises(AttributeError, match="open_dataset"):
        v2f.open_data


WRONG = [True, 2.5, b"x", object(), {}, (1,), np.float32(2), np.zeros((2, 3)), torch.zeros(2), 10**30, 2 + 3j]
CALLS = {
    v2f.generate: (
        "n_ids images_per_id out model format fmr device seed rescale fetch executor progress attributes masks "
        "choice"
    ),
    v2f.Engine.load: "model device precision masks runner fetch rounding compute_batch",
    v2f.sample_identities: "model fmr seed exclude backend progress block",
    v2f.open_dataset: "path format split",
    v2f.open_training_set: "path split on_bad with_features",
    v2f.verify_dataset: "path level",
    v2f.convert_dataset: "src dst format split resize progress",
    v2f.select_dataset: "src dst rule format split images_per_shard progress",
    v2f.ChoiceOptions: "make",
    v2f.repair: "path model device fetch",
    v2f.load_identities: "path",
    v2f.Identities.load: "path",
    v2f.Perturbation: "levels weights unit",
    v2f.AttributeControl: "goals tolerance plus rate use",
    v2f.PoseCondition: "goals pictures turns",
}
NEEDED: dict[object, dict[str, object]] = {
    v2f.generate: {"n_ids": 1, "format": "null"},
    v2f.sample_identities: {"n": 1},
    v2f.convert_dataset: {"src": "a", "dst": "b", "format": "lmdb"},
    v2f.select_dataset: {"src": "a", "dst": "b", "rule": v2f.Rule(1)},
    v2f.ChoiceOptions: {"make": 2},
    v2f.AttributeControl: {"goals": {"yaw": "0:10"}},
    v2f.PoseCondition: {"goals": {"yaw": "0:10"}},
}
RIGHT = {
    bool: "rescale fetch with_features resize plus",
    float: "fmr rate masks block",
    dict: "goals tolerance",
}
ALSO = {"levels": (tuple,), "weights": (tuple,), "exclude": (np.ndarray, torch.Tensor, tuple)}
CASES = [
    (call, name, wrong)
    for call, names in CALLS.items()
    for name in names.split()
    for wrong in WRONG
    if not any(isinstance(wrong, kind) and name in of.split() for kind, of in RIGHT.items())
    and not isinstance(wrong, ALSO.get(name, ()))
    and not (name in ("fmr", "rate", "masks") and isinstance(wrong, (np.floating, int)) and wrong is not True)
]


def test_a_wrong_type_is_an_error_that_names_the_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for call, name, wrong in CASES:
        arguments = {
            **({"path": "x"} if "path" in CALLS[call].split() else {}),
            **NEEDED.get(call, {}),
            name: wrong,
        }
        with pytest.raises(v2f.V2FError) as raised:
            call(**arguments)
        assert name.replace("_", " ") in str(raised.value).replace("_", " "), (
            call,
            name,
            wrong,
            str(raised.value),
        )
        assert isinstance(raised.value, ValueError)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_says_what_it_is(engine: v2f.Engine) -> None:
    told = engine.runner.describe()
    assert repr(engine) == f"Engine('mini', cpu, {told['precision']}, runner 'eager')"


def test_an_argument_that_nobody_knows_is_refused_in_pythons_words() -> None:
    """A wrapper that binds the arguments once said it without the function's name."""
    with pytest.raises(TypeError, match=r"generate\(\) got an unexpected keyword argument 'formats'"):
        v2f.generate(2, formats="lmdb")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"open_dataset\(\) missing 1 required positional argument: 'path'"):
        v2f.open_dataset()  # type: ignore[call-arg]


def test_a_fraction_is_named_as_it_was_given(people: v2f.Identities) -> None:
    with pytest.raises(RowError, match=r"found float 1\.5"):
        people[1.5]  # type: ignore[call-overload]

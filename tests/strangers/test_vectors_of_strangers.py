"""Vectors from whatever people keep them in are read exactly, or refused with what was found."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from vector_files import LAYOUTS, Maker, Rows

from v2f_engine.errors import VectorError
from v2f_engine.vectors.gate import check_vectors
from v2f_engine.vectors.identities import Identities
from v2f_engine.vectors.sampling import sample_identities
from v2f_engine.vectors.statistics import fit_statistics, save_statistics
from v2f_engine.vectors.streams import open_vectors, stream


def rows_of(seed: int, count: int = 6, length: int = 512) -> Rows:
    return np.random.default_rng(seed).normal(size=(count, length)).astype(np.float32)


@pytest.mark.parametrize(("name", "make", "rounding"), LAYOUTS, ids=[name for name, _, _ in LAYOUTS])
def test_every_layout_gives_the_same_rows(name: str, make: Maker, rounding: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(len(name))
    for count in (1, 2, int(rng.integers(3, 40))):
        rows = rows_of(count, count)
        found = check_vectors(open_vectors(make(tmp_path, rows)), name)
        assert found.shape == rows.shape
        np.testing.assert_allclose(found, rows, rtol=rounding, atol=0 if rounding == 0 else 1e-7)
        table = Identities.from_vectors(open_vectors(make(tmp_path, rows)), name)
        assert table.vectors.flags.c_contiguous


def test_a_fortran_file_streams_in_blocks(tmp_path: Path) -> None:
    rows = rows_of(1, 50)
    np.save(tmp_path / "f.npy", np.asfortranarray(rows))
    mapped = open_vectors(tmp_path / "f.npy")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(np.concatenate([part for _, part in stream([("f", mapped)], block=7)]), rows)


def test_one_vector_is_one_row(tmp_path: Path) -> None:
    row = rows_of(2)[0]
    np.save(tmp_path / "one.npy", row)
    assert np.array_equal(open_vectors(tmp_path / "one.npy"), row[None])
    torch.save(torch.tensor(row), tmp_path / "one.pt")
    assert np.array_equal(open_vectors(tmp_path / "one.pt"), row[None])


def test_a_table_of_ours_gives_its_vectors_and_is_checked(tmp_path: Path) -> None:
    table = sample_identities(3, seed=1, source="gaussian")
    table.save(tmp_path / "t.safetensors")
    assert np.array_equal(open_vectors(tmp_path / "t.safetensors"), table.vectors)
    data = bytearray((tmp_path / "t.safetensors").read_bytes())
    data[-1000] ^= 1
    (tmp_path / "t.safetensors").write_bytes(data)
    with pytest.raises(VectorError, match="the file was changed"):
        open_vectors(tmp_path / "t.safetensors")


class Runs:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("print('run')",))


def _several(path: Path) -> None:
    np.savez(path, embeddings=rows_of(0), labels=np.arange(6), names=np.array(["a"] * 6))


def _bomb(path: Path) -> None:
    np.savez_compressed(path, np.zeros((100_000, 512), np.float32))


def _twice(path: Path) -> None:
    np.savez(path, rows_of(0))
    with zipfile.ZipFile(path) as archive:
        data = archive.read("arr_0.npy")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("arr_0.npy", data)


def _cut(path: Path) -> None:
    np.savez(path, rows_of(0))
    path.write_bytes(path.read_bytes()[:-30])


def _flipped(path: Path) -> None:
    np.savez_compressed(path, rows_of(0))
    data = bytearray(path.read_bytes())
    data[3000] ^= 255
    path.write_bytes(data)


def _statistics(path: Path) -> None:
    save_statistics(path, fit_statistics([(0, rows_of(0, 40))]))


REFUSED = {
    "several arrays": (_several, r"holds 3 arrays \(embeddings \[6, 512\], labels \[6\], names \[\]\)"),
    "a bomb": (_bomb, r"would grow [\d,]+ times"),
    "a member twice": (_twice, "names a member twice"),
    "cut": (_cut, "truncated or damaged"),
    "a flipped byte": (_flipped, "damaged"),
    "objects": (lambda p: np.savez(p, np.array([{}], object)), "Object arrays are never read"),
    "integers in npz": (lambda p: np.savez(p, np.ones((2, 512), int)), "found int64"),
    "a zip of pictures": (lambda p: zipfile.ZipFile(p, "w").writestr("a.jpg", b"x"), r"holds \['a.jpg'\]"),
    "code": (lambda p: torch.save(Runs(), p), "holds more than weights"),
    "two tensors": (
        lambda p: torch.save({"a": torch.ones(2, 512), "b": torch.ones(2)}, p),
        r"holds 2 arrays \(a \[2, 512\], b \[2\]\)",
    ),
    "no tensor": (lambda p: torch.save({"a": 1}, p), "found none"),
    "a number": (lambda p: torch.save(3, p), "holds a int"),
    "whole numbers": (lambda p: torch.save(torch.ones(2, 512, dtype=torch.long), p), "tensor of floats"),
    "unequal tensors": (lambda p: torch.save([torch.ones(512), torch.ones(256)], p), r"\[256\], \[512\]"),
    "a view of one number": (lambda p: torch.save(torch.ones(1).expand(9, 512), p), "a view that repeats itself"),
    "sparse": (lambda p: torch.save(torch.eye(512).to_sparse(), p), "dense tensor"),
    "256 entries": (lambda p: np.savez(p, rows_of(0, 6, 256)), r"found \[6, 256\]\. Vectors of another length"),
    "1024 entries": (lambda p: torch.save(torch.ones(6, 1024), p), r"found \[6, 1024\]"),
    "two in safetensors": (
        lambda p: save_file({"a": torch.ones(1, 512), "b": torch.ones(3)}, p),
        r"holds 2 arrays",
    ),
    "statistics": (_statistics, "statistics of `v2f ids fit`"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = REFUSED[name]
    path = tmp_path / "v.npz"
    make(path)
    with pytest.raises(VectorError, match=message) as error:
        open_vectors(path)
    assert str(path) in str(error.value)
    assert "run" not in capsys.readouterr().out


def test_tensors_and_lists_are_arrays() -> None:
    rows = rows_of(4)
    assert np.array_equal(check_vectors(torch.tensor(rows)), rows)
    assert np.array_equal(check_vectors(torch.tensor(rows, requires_grad=True)), rows)
    assert np.array_equal(
        check_vectors(torch.tensor(rows).bfloat16()), torch.tensor(rows).bfloat16().float().numpy()
    )
    assert np.array_equal(check_vectors(rows.tolist()), rows)
    for odd in ("vectors.npy", None, [[1.0, 2.0], [3.0]], {"a": 1}):
        with pytest.raises(VectorError, match="given: expected an array"):
            check_vectors(odd, "given")

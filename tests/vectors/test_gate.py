"""The gate: every kind of bad vector is a named error with row numbers, and no header makes it allocate."""

import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from v2f_engine.errors import VectorError
from v2f_engine.vectors.gate import check_vectors, refuse_duplicates, row_hashes
from v2f_engine.vectors.streams import open_vectors, parts_of, stream


def good(n=50, d=512, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def spoil(row, value):
    rows = good()
    rows[row] = value
    return rows


def test_good_vectors_pass_without_a_copy():
    rows = good()
    assert check_vectors(rows) is rows


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", "<f8", ">f8"])
def test_other_float_types_become_native_float32(dtype):
    rows = good().astype(dtype)
    out = check_vectors(rows)
    assert out.dtype == np.float32
    assert out.dtype.isnative
    assert np.array_equal(out, rows.astype(np.float32))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (good(d=511), r"expected shape \[N >= 1, 512\], found \[50, 511\]"),
        (good()[0], r"found \[512\]"),
        (good(0), r"found \[0, 512\]"),
        (good()[None], r"found \[1, 50, 512\]"),
        (good().astype(object), "found dtype object"),
        (good().astype(np.int32), "found dtype int32"),
        (good().astype(np.complex64), "found dtype complex64"),
        (good().astype(np.longdouble), "expected float16, float32 or float64"),
        (spoil(7, np.nan), r"v: 1 of 50 rows are not finite \(NaN or infinity\); row 7\."),
        (spoil([3, 9, 40], np.inf), r"v: 3 of 50 rows are not finite .*; rows 3, 9, 40\."),
        (good().astype(np.float64) * 1e300, "50 of 50 rows are not finite"),
        (spoil(0, 0), r"zero length \(below 1e-06\); row 0"),
        (good() * np.float32(1e7), "are longer than 1e"),
        (spoil(49, 2.5), r"are constant \(all entries equal\); row 49"),
        (np.concatenate([good(), good()[[4]]]), r"1 of 51 rows are duplicates: row 50 repeats 4"),
    ],
)
def test_bad_vectors_are_named(vectors, message):
    with pytest.raises(VectorError, match=message):
        check_vectors(vectors, "v")


def test_row_numbers_beyond_one_block_and_from_an_offset():
    rows = good(9000, 8)
    rows[8500] = np.nan
    with pytest.raises(VectorError, match=r"rows are not finite .*; row 18500\."):
        check_vectors(rows, dimension=8, first=10_000)


def test_many_bad_rows_are_counted_and_the_first_ten_shown():
    with pytest.raises(VectorError, match=r"20 of 50 rows .*; rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\."):
        check_vectors(spoil(slice(0, 20), np.nan))


def test_duplicates_are_found_wherever_they_are_and_allowed_on_request():
    rows = good(20_000, 16)
    rows[19_999], rows[12_000] = rows[1], rows[11_999]
    message = r"2 of 20,000 rows are duplicates: row 12000 repeats 11999, 19999 repeats 1\."
    with pytest.raises(VectorError, match=message):
        refuse_duplicates(rows, "v")
    assert check_vectors(rows, dimension=16, allow_duplicates=True) is rows


def test_hashes_differ_for_rows_that_differ_little():
    rows = np.repeat(good(1), 512 * 32, axis=0)
    bits = rows.view(np.uint32)
    bits[np.arange(512 * 32), np.arange(512 * 32) // 32] ^= np.uint32(1) << (np.arange(512 * 32) % 32).astype(
        np.uint32
    )
    hashes = row_hashes(rows)
    assert len(np.unique(hashes)) == 512 * 32
    assert np.array_equal(hashes[5:9], row_hashes(rows[5:9]))


# Files


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def raw(header, *, version=b"\x01\x00", length=None, body=b""):
    text = header.encode("latin1")
    code = "<H" if version[0] == 1 else "<I"
    return b"\x93NUMPY" + version + struct.pack(code, len(text) if length is None else length) + text + body


SHAPE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"


def test_files_are_mapped(tmp_path):
    for dtype in ("<f4", ">f4", "<f2", "<f8"):
        np.save(tmp_path / "v.npy", good().astype(dtype))
        mapped = open_vectors(tmp_path / "v.npy")
        assert isinstance(mapped, np.memmap)
        assert np.array_equal(check_vectors(mapped), good().astype(dtype).astype(np.float32))


BAD_FILES = {
    "empty": (b"", "not a .npy file"),
    "html": (b"<!DOCTYPE html><html>404</html>", "not a .npy file"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "not a .npy file"),
    "pickle": (pickle.dumps([1, 2, 3]), "not a .npy file"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "truncated or damaged"),
    "version 9": (b"\x93NUMPY\x09\x00" + b"\0" * 100, "expected .npy version 1, 2 or 3, found 9"),
    "header of 2 GiB": (raw("", version=b"\x02\x00", length=2**31 - 1), "a header of 2,147,483,647 bytes"),
    "header cut": (raw(SHAPE % "5, 512", length=500), "header is damaged"),
    "header is code": (raw("__import__('os').system('true')"), "header is damaged"),
    "header nests": (raw("(" * 5000), "header is damaged"),
    "header lacks a field": (raw("{'descr': '<f4', 'shape': (5, 512)}"), "header is damaged"),
    "negative extent": (raw(SHAPE % "-5, 512"), "header is damaged"),
    "extent is a bool": (raw(SHAPE % "True, 512"), "header is damaged"),
    "shape of petabytes": (raw(SHAPE % "1000000000000, 512"), "truncated: .* takes 2,048,000,000,0"),
    "truncated": (npy(good())[:-4], "truncated: .* the file has 102,524"),
    "too long": (npy(good()) + b"x", "too long"),
    "objects": (npy(np.array([[object()]])), r"found dtype '\|O'\. Object arrays are never read"),
    "structured": (
        raw("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (5, 512)}"),
        "found dtype \\[",
    ),
    "integers": (npy(np.ones((3, 512), np.int64)), "found dtype '<i8'"),
    "fortran is a word": (
        raw("{'descr': '<f4', 'fortran_order': 'yes', 'shape': (5, 512), }"),
        "header is damaged",
    ),
    "dimension": (
        npy(good(d=128)),
        r"expected shape \[N, 512\], found \[50, 128\]\. Vectors of another length",
    ),
    "transposed": (npy(good().T.copy()), r"found \[512, 50\]\. It looks transposed"),
    "three axes": (npy(good().reshape(25, 2, 512)), r"found \[25, 2, 512\]"),
    "no rows": (npy(good(0)), "expected at least one row"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named_without_allocating(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / "v.npy"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(VectorError, match=message) as error:
        open_vectors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(error.value)
    assert peak < 16 * 2**20


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(VectorError, match="No such file"):
        open_vectors(tmp_path / "none.npy")
    with pytest.raises(VectorError, match="cannot be read"):
        open_vectors(tmp_path)


def test_stream_over_shards_counts_rows_and_checks_each(tmp_path):
    rows = good(70)
    np.save(tmp_path / "a.npy", rows[:40].astype(">f4"))
    np.save(tmp_path / "b.npy", rows[40:])
    parts = parts_of([tmp_path / "a.npy", tmp_path / "b.npy"])
    (tmp_path / "._a.npy").write_bytes(b"\0\5\x16\7")  # AppleDouble's half of a.npy
    assert [name for name, _ in parts_of(tmp_path)] == [name for name, _ in parts]
    blocks = list(stream(parts, block=16))
    assert [first for first, _ in blocks] == [0, 16, 32, 40, 56]
    assert np.array_equal(np.concatenate([block for _, block in blocks]), rows)
    broken = rows[40:].copy()
    broken[20] = np.nan
    np.save(tmp_path / "b.npy", broken)
    with pytest.raises(VectorError, match=r"b\.npy: .*not finite .*; row 20\."):
        list(stream(parts_of([tmp_path / "a.npy", tmp_path / "b.npy"]), block=16))
    with pytest.raises(VectorError, match=r"array 1: expected shape \[N, 512\]"):
        parts_of([rows, good(5, 8)])
    with pytest.raises(VectorError, match="found none"):
        parts_of([])

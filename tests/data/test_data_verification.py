"""Verification sets: pickles of every protocol read as data, hostile ones refused unexecuted, three forms alike."""

from __future__ import annotations

import io
import lzma
import os
import pickle
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2f_engine.data.gate.pickle_reader import PickleReader
from v2f_engine.data.verification import VerificationSet, open_verification_set, write_bin
from v2f_engine.data.verification.sets import parse_bin
from v2f_engine.data.writing.encode import Encoder
from v2f_engine.errors import DatasetError

IMAGES = [bytes([n, 0, 39, 92, 10, 255]) * (n * 50 + 1) for n in range(8)]
SAME = [True, False, True, True]


def python2(images: list[bytes], same: list[bool]) -> bytes:
    """Protocol 2 as cPickle of Python 2 wrote it: byte strings as SHORT_BINSTRING and BINSTRING."""
    out = io.BytesIO()
    out.write(b"\x80\x02](")
    for number, data in enumerate(images):
        out.write(b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data)))
        out.write(data + b"q" + bytes([number]))
    out.write(b"e](" + b"".join(b"\x88" if item else b"\x89" for item in same) + b"e\x86.")
    return out.getvalue()


def python2_ascii(images: list[bytes], same: list[bool]) -> bytes:
    """Protocol 0 of Python 2: quoted strings, I01 and I00."""
    out = b"((lp0\n"
    for number, data in enumerate(images):
        quoted = repr(data)[1:].encode()
        out += b"S" + quoted + b"\np%d\na" % (number + 1)
    return out + b"(l" + b"".join(b"I01\na" if item else b"I00\na" for item in same) + b"t."


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_reads_equal(protocol: int) -> None:
    found = parse_bin(pickle.dumps((IMAGES, SAME), protocol), "x.bin", "x")
    assert found.encoded == IMAGES
    assert found.same.tolist() == SAME


@pytest.mark.parametrize("write", [python2, python2_ascii])
def test_files_of_python_2_read_equal(write: Callable[[list[bytes], list[bool]], bytes]) -> None:
    assert pickle.loads(write(IMAGES, SAME), encoding="bytes") == (IMAGES, SAME)
    found = parse_bin(write(IMAGES, SAME), "x.bin", "x")
    assert (found.encoded, found.same.tolist()) == (IMAGES, SAME)


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_labels_and_images_read_equal(protocol: int) -> None:
    arrays = [np.frombuffer(data, np.uint8) for data in IMAGES]
    for same in (list(np.array(SAME)), np.array(SAME), [int(item) for item in SAME]):
        found = parse_bin(pickle.dumps((arrays, same), protocol), "x.bin", "x")
        assert (found.encoded, found.same.tolist()) == (IMAGES, SAME)


class Runs:
    """Pickles into a call of `function` on a file's name: whoever unpickles it leaves that file behind."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._call  # type: ignore[return-value]


def hostile(trap: str) -> dict[str, bytes]:
    """Pickles that run code, name something, or blow up; whoever is fooled by one creates the file `trap`."""
    touch = f"open({trap!r}, 'w').close()"
    found: dict[str, bytes] = {}
    payloads: dict[str, object] = {
        "exec": Runs(exec, touch),
        "eval": Runs(eval, touch),
        "system": Runs(os.system, f"touch {trap}"),
        "open": Runs(open, trap, "w"),
        "popen": Runs(os.popen, f"touch {trap}"),
    }
    for name, payload in payloads.items():
        for protocol in range(6):
            found[f"{name} in the images, protocol {protocol}"] = pickle.dumps(([payload], [True]), protocol)
    found["as the whole file"] = pickle.dumps(payloads["exec"], 4)
    found["among the labels"] = pickle.dumps((IMAGES, [payloads["exec"]]), 4)
    path, code = trap.encode(), touch.encode()
    stack = {
        "INST": b"(S'touch " + path + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'touch " + path + b"'\no.",
        "NEWOBJ": b"\x80\x02cbuiltins\nexec\n" + b"X" + struct.pack("<I", len(code)) + code + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04cbuiltins\nexec\n"
        + b"X"
        + struct.pack("<I", len(code))
        + code
        + b"\x85}\x92.",
        "REDUCE under bytes' name": b"cbuiltins\nexec\n(V" + code + b"\ntR.",
        "name with a line in it": b"c_codecs\nencode\x00\n(V" + code + b"\ntR.",
        "stack global from memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.",
        "stack global of dotted name": b"\x80\x04\x8c\x02os\x8c\x0bpath.exists\x93.",
        "encode with another codec": b"c_codecs\nencode\n(Vabc\nVzip_codec\ntR.",
        "encode of bytes": b"c_codecs\nencode\n(S'abc'\nVlatin1\ntR.",
        "dtype of fields": b"cnumpy\ndtype\n(S'V8'\nI00\nI01\ntR.",
        "dtype of dates": b"cnumpy\ndtype\n(S'M8'\nI00\nI01\ntR.",
        "dtype with names": b"cnumpy\ndtype\n(S'u1'\nI00\nI01\ntR(I3\nS'|'\nN(S'a'\ntNI-1\nI-1\nI0\ntb.",
        "array larger than its bytes": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I1000000\ntcnumpy\ndtype\n(S'u1'\nI00\nI01\ntRI00\nS'abc'\ntb.",
        "array of objects that are no list": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I3\ntcnumpy\ndtype\n(S'O8'\nI00\nI01\ntRI00\nS'abc'\ntb.",
        "text beyond Unicode": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'U1'\nI00\nI01\ntR"
        b"S'\\xff\\xff\\xff\\xff'\ntR.",
        "dtype's state as code": b"cnumpy\ndtype\n(S'u1'\nI00\nI01\ntRS'x'\nb.",
        "persistent id": b"Pos.system\n.",
        "binary persistent id": b"\x80\x02\x8c\x02os\x51.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x00.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "set": b"\x80\x04\x8f.",
        "frozen set": b"\x80\x04(\x91.",
        "dict": b"\x80\x02}.",
        "dict with state": b"\x80\x02}q\x00U\x01a\x88s.",
        "build on a list": b"\x80\x02]S'x'\nb.",
        "reduce of data": b"\x80\x02]]R.",
        "next buffer": b"\x80\x05\x97.",
        "read-only buffer": b"\x80\x05\x98.",
        "pop beneath the mark": b"(0.",
        "dup": b"]2.",
        "float that is none": b"Fabc\n.",
        "protocol 6": b"\x80\x06].",
        "BINBYTES8 of 2**40": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x",
        "BINSTRING of -1": b"T\xff\xff\xff\xff.",
        "LONG4": b"\x8b\x04\x00\x00\x00\x01\x00\x00\x00.",
        "memo of nothing": b"\x80\x02q\x00.",
        "recall of nothing": b"\x80\x02h\x07.",
        "unknown opcode": b"\x80\x02\xff.",
        "no stop": b"\x80\x02]",
        "empty stack": b"\x80\x02.",
        "two values": b"]].",
        "append to nothing": b"\x80\x02]\x88\x88\x85a.",
        "encode bomb": b"c_codecs\nencode\np0\n0",
        "line without end": b"S'" + b"a" * 100,
    }
    text = b"X" + struct.pack("<I", 4096) + b"a" * 4096 + b"p1\n"
    bomb = b"c_codecs\nencode\np0\n" + text + b"Vlatin1\np2\n" + b"g0\ng1\ng2\n\x86R" * 3000 + b"."
    stack["encode bomb"] = bomb
    return {**found, **stack}


def test_more_than_fifty_hostile_pickles_run_nothing_and_are_refused_with_an_offset(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    cases = hostile(str(trap))
    assert len(cases) >= 50
    for name, data in cases.items():
        path = tmp_path / "hostile.bin"
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=r"byte \d+:") as error:
            open_verification_set(path)
        offset = int(re.search(r"byte (\d+):", str(error.value))[1])  # type: ignore[index]
        assert 0 <= offset <= len(data), name
        assert not trap.exists(), name
    # The same files do run under the standard reader, so the trap is one.
    pickle.loads(cases["exec in the images, protocol 4"])
    assert trap.exists()


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 5), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6), st.data()
)
def test_any_damage_is_data_or_a_named_error(
    protocol: int, flips: list[tuple[int, int]], data: st.DataObject
) -> None:
    text = bytearray(pickle.dumps((IMAGES, SAME), protocol))
    for place, value in flips:
        text[place % len(text)] = value
    cut = data.draw(st.integers(0, len(text)))
    for candidate in (bytes(text), bytes(text[:cut])):
        try:
            parse_bin(candidate, "x.bin", "x")
        except DatasetError as error:
            assert "x.bin" in str(error) or "x:" in str(error)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2, 3], "expected a pickle of"),
        ((IMAGES, None), "expected lists"),
        ((IMAGES, SAME[:-1]), "8 images for 3 labels"),
        (([*IMAGES[:-1], "text"], SAME), "image 7: expected its bytes, found str"),
        ((IMAGES, [True, False, True, 2]), "label 3: expected true or false"),
        ((IMAGES, [True, False, True, 0.5]), r"label 3: .*found float 0.5"),
        ((IMAGES, np.array([1, 0, 1, -1])), r"label 3: .*found int -1"),
        ((IMAGES, np.eye(2)), r"found an array \[2, 2\] of labels"),
        ((IMAGES, [True] * 8), r"8 images for 8 labels.*a label a picture"),
        (([np.zeros((112, 112, 3), np.uint8)] * 8, SAME), r"image 0: .*decoded pixels \[112, 112, 3\]"),
        ((np.zeros((8, 112, 112, 3), np.uint8), SAME), r"array uint8 \[8, 112, 112, 3\]"),
        (0.0, "expected a pickle of"),
        (([], []), "0 images for 0 labels"),
    ],
)
def test_data_that_is_no_verification_set_is_named(value: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_bin(pickle.dumps(value, 4), "x.bin", "x")


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), np.uint8)


def test_bin_xz_and_npy_of_one_set_are_alike(tmp_path: Path, faces: np.ndarray) -> None:
    encoded = [Encoder("png").encode(image) for image in faces]
    write_bin(tmp_path / "toy.bin", encoded, SAME)
    assert pickle.loads((tmp_path / "toy.bin").read_bytes()) == (encoded, SAME)
    (tmp_path / "toy.bin.xz").write_bytes(lzma.compress((tmp_path / "toy.bin").read_bytes()))
    folder = tmp_path / "toy"
    folder.mkdir()
    np.save(folder / "toy.npy", faces.transpose(0, 3, 1, 2))
    (folder / "issame.txt").write_text("1\n0\nTrue\ntrue\n")
    for path in (tmp_path / "toy.bin", tmp_path / "toy.bin.xz", folder, folder / "toy.npy"):
        found = open_verification_set(path)
        assert (found.name, len(found), found.same.tolist()) == ("toy", 8, SAME)
        assert np.array_equal(np.concatenate(list(found.batches(3))), faces)


def test_faults_of_the_other_forms_are_named(tmp_path: Path, faces: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        open_verification_set(tmp_path / "none.bin")
    (tmp_path / "a.xz").write_bytes(lzma.compress(pickle.dumps((IMAGES, SAME)))[:-20])
    with pytest.raises(DatasetError, match="the file is cut"):
        open_verification_set(tmp_path / "a.xz")
    (tmp_path / "b.xz").write_bytes(b"no xz at all, but long enough to be read")
    with pytest.raises(DatasetError, match="not an xz file"):
        open_verification_set(tmp_path / "b.xz")
    np.save(tmp_path / "c.npy", faces)
    with pytest.raises(DatasetError, match=r"issame.txt is missing"):
        open_verification_set(tmp_path / "c.npy")
    (tmp_path / "issame.txt").write_text("1 0 1 1")
    with pytest.raises(DatasetError, match="expected uint8"):
        open_verification_set(tmp_path / "c.npy")
    (tmp_path / "issame.txt").write_text("1 0 yes 1")
    with pytest.raises(DatasetError, match="word 3"):
        open_verification_set(tmp_path / "c.npy")
    small = Encoder().encode(np.ascontiguousarray(faces[0, :80]))
    with pytest.raises(DatasetError, match="toy: image 1: 80x112 pixels"):
        VerificationSet("toy", np.array([True]), encoded=[Encoder().encode(faces[0]), small]).images(0, 2)


@pytest.mark.parametrize("protocol", [2, 4])
def test_twelve_thousand_images_are_read_in_a_second(tmp_path: Path, protocol: int) -> None:
    generator = np.random.default_rng(0)
    images = [generator.bytes(4800) for _ in range(12_000)]
    path = tmp_path / "large.bin"
    path.write_bytes(pickle.dumps((images, [bool(n % 2) for n in range(6000)]), protocol))
    started = time.process_time()
    found = open_verification_set(path)
    seconds = time.process_time() - started
    assert found.encoded == images
    assert seconds < 1.0
    print(f"protocol {protocol}: {path.stat().st_size / 1e6:.0f} MB in {seconds:.2f} s")


def test_a_name_on_the_list_is_no_value_of_its_own() -> None:
    with pytest.raises(DatasetError, match="image 0: expected its bytes, found Call"):
        parse_bin(b"((lc_codecs\nencode\nac_codecs\nencode\na(lI01\nat.", "x.bin", "x")
    assert PickleReader(b"\x80\x02K\x05.", "x").read() == 5

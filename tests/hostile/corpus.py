"""Malformed files made by hand: what attackers, broken downloads and broken disks do, for every format."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


class Evil:
    """Runs a function when unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


ATTACKS = (
    Evil(eval, "1/0"),
    Evil(exec, "1/0"),
    Evil(print, "x"),
    Evil(getattr, "a", "b"),
    Evil(open, "/dev/null"),
    Evil(__import__, "os"),
    Evil(bytearray, 1 << 40),
)


def malformed(name: str, good: bytes) -> Iterator[tuple[str, bytes]]:
    """(what it is, bytes) of malformed files in place of `good`, a valid file of format `name`."""
    yield from _anything(good)
    for key, more in _SPECIAL.items():
        if name.startswith(key):
            yield from more(good)


def _anything(good: bytes) -> Iterator[tuple[str, bytes]]:
    size = len(good)
    yield "empty", b""
    yield "one byte", good[:1]
    yield "a web page", HTML
    yield "a git-lfs pointer", LFS
    yield "zeros", bytes(size)
    yield "ones", b"\xff" * size
    yield "text", b"hello, world\n" * 20
    yield "reversed", good[::-1]
    yield "twice", good + good
    yield "a zip", _zip({"a.txt": b"a"})
    yield "a pickle that runs code", pickle.dumps(Evil(eval, "1/0"))
    yield "a shell script", b"#!/bin/sh\nexit 1\n"
    yield "random", np.random.default_rng(size).bytes(size)
    for part in (2, 3, 4, 8, 16):
        yield f"cut to 1/{part}", good[: size // part]
        yield f"the last 1/{part}", good[-(size // part) :]
    for cut in (1, 2, 7, 64, 511, 512):
        yield f"{cut} bytes short", good[:-cut]
        yield f"first {cut} bytes gone", good[cut:]
        yield f"{cut} zeros behind", good + bytes(cut)
    for place in (0, 4, 8, 12, 16, 24, 32, 60, 100):
        for value in (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"):
            changed = good[:place] + value + good[place + 4 :]
            yield f"{value.hex()} at {place}", changed
    for place in (8, 16, 40, 128):
        yield f"{place} last bytes zero", good[:-place] + bytes(place)


def _npy(good: bytes) -> Iterator[tuple[str, bytes]]:
    def file(header: str, body: bytes = b"", version: int = 1) -> bytes:
        text = header.encode("latin1") + b"\n"
        width = "<H" if version == 1 else "<I"
        return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(text)) + text + body

    shape = "{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}"
    for extent in ("(1000000000000, 512)", "(-1, 512)", "(6,)", "(6, 511)", "()", "(0, 512)", "(6.0, 512)"):
        yield f"shape {extent}", file(shape.format(extent), bytes(6 * 512 * 4))
    for kind in (
        "'|O'",
        "'<U5'",
        "'>f4'",
        "'<c8'",
        "'<f9'",
        "[('a', '<f4')]",
        "'<M8[s]'",
        "None",
        "5",
        "'|V4'",
    ):
        text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': (6, 512), }}"
        yield f"dtype {kind}", file(text, bytes(6 * 512 * 4))
    yield "an object array with code", _object_array()
    yield "nested header", file("(" * 5000 + ")" * 5000)
    yield "a call as header", file("__import__('os').system('true')")
    yield "header of 4 GiB", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"
    yield "version 9", b"\x93NUMPY\x09\x00" + good[8:]
    for value in (float("nan"), float("inf"), -float("inf"), 0.0, 3e38):
        rows = (
            np.frombuffer(good[-6 * 512 * 4 :], np.float32).copy()
            if len(good) > 12000
            else np.ones(8, np.float32)
        )
        rows[: 512 if value == 0 else 1] = value
        yield f"holds {value}", good[: -rows.nbytes] + rows.tobytes()


def _object_array() -> bytes:
    buffer = io.BytesIO()
    array = np.empty(1, object)
    array[0] = Evil(eval, "1/0")
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _safetensors(good: bytes) -> Iterator[tuple[str, bytes]]:
    def file(header: object, body: bytes = bytes(64)) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + body

    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    yield "header of 2**63", (2**63).to_bytes(8, "little") + good[8:]
    yield "header of 99 MB", (99 << 20).to_bytes(8, "little") + good[8:]
    yield (
        "a duplicate key",
        file(b'{"a":' + json.dumps(entry).encode() + b',"a":' + json.dumps(entry).encode() + b"}", bytes(16)),
    )
    yield "a hole", file({"a": entry, "b": {**entry, "data_offsets": [32, 48]}}, bytes(48))
    yield "an overlap", file({"a": entry, "b": {**entry, "data_offsets": [8, 24]}}, bytes(24))
    yield "beyond the end", file({"a": {**entry, "data_offsets": [0, 1 << 40]}})
    yield "negative offsets", file({"a": {**entry, "data_offsets": [-16, 0]}})
    yield "offsets swapped", file({"a": {**entry, "data_offsets": [16, 0]}})
    yield "a huge shape", file({"a": {**entry, "shape": [1 << 40, 1 << 40]}})
    yield "negative shape", file({"a": {**entry, "shape": [-4]}})
    yield "zero times huge", file({"a": {**entry, "shape": [0, 1 << 62], "data_offsets": [0, 0]}}, b"")
    yield "float shape", file({"a": {**entry, "shape": [4.0]}})
    yield "unknown dtype", file({"a": {**entry, "dtype": "F31"}})
    yield "complex dtype", file({"a": {**entry, "dtype": "C64"}})
    yield "a list", file([1, 2])
    yield "no entries", file({}, b"")
    yield "deep JSON", file(b"[" * 100_000)
    yield "NaN weights", good[:-4] + struct.pack("<f", float("nan"))
    yield "infinite weights", good[:-4] + struct.pack("<f", float("inf"))
    yield "metadata no object", file({"__metadata__": 5, "a": entry}, bytes(16))
    yield "head no JSON", file({"__metadata__": {"head": "{"}, "a": entry}, bytes(16))


def _pth(good: bytes) -> Iterator[tuple[str, bytes]]:
    records = {info.filename: zipfile.ZipFile(io.BytesIO(good)).read(info) for info in _infos(good)}
    root = next(iter(records)).split("/")[0]
    yield "deflated", _zip(records, zipfile.ZIP_DEFLATED)
    yield "deflated bomb", _zip({**records, f"{root}/data/9": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    for attack in (
        Evil(eval, "1/0"),
        Evil(exec, "1/0"),
        Evil(print, "x"),
        Evil(getattr, "a", "b"),
        Evil(open, "/dev/null"),
    ):
        for protocol in range(6):
            body = pickle.dumps({"state_dict": attack}, protocol=protocol)
            yield f"runs {attack.call[0]} (protocol {protocol})", _zip({**records, f"{root}/data.pkl": body})
            yield f"bare pickle of {attack.call[0]} (protocol {protocol})", body
    yield "no data.pkl", _zip({k: v for k, v in records.items() if not k.endswith(".pkl")})
    yield "two pickles", _zip({**records, f"{root}/other/data.pkl": records[f"{root}/data.pkl"]})
    yield "a path out", _zip({**records, "../../evil": b"x"})
    yield "an absolute path", _zip({**records, "/tmp/evil": b"x"})
    yield "storage missing", _zip({k: v for k, v in records.items() if not k.endswith("data/0")})
    yield "storage cut", _zip({k: v[:-8] if k.endswith("data/0") else v for k, v in records.items()})
    yield "no tensors", _zip({**records, f"{root}/data.pkl": pickle.dumps({"epoch": 3}, protocol=2)})
    yield "a number", _zip({**records, f"{root}/data.pkl": pickle.dumps(3, protocol=2)})


def _pickles(good: bytes) -> Iterator[tuple[str, bytes]]:
    for attack in (
        Evil(eval, "1/0"),
        Evil(exec, "1/0"),
        Evil(print, "x"),
        Evil(getattr, "a", "b"),
        Evil(open, "/dev/null"),
    ):
        for protocol in range(6):
            yield (
                f"runs {attack.call[0]} (protocol {protocol})",
                pickle.dumps(([b"x"], attack), protocol=protocol),
            )
    for text in (
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"ibuiltins\neval\n.",
    ):
        yield f"opcodes {text[:12]!r}", text
    yield "an extension code", b"\x80\x02\x82\x01."
    yield "a persistent id", b"Pid\n."
    yield "binbytes of 2**40", b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x."
    yield "long4 of 2**31", b"\x80\x02\x8b\xff\xff\xff\x7fx."
    yield "get of nothing", b"h\x05."
    yield "stack empty", b"0."
    yield "no stop", b"\x80\x04]"
    yield "a million marks", b"(" * 1_000_000 + b"."
    for value in (
        3,
        None,
        "x",
        [],
        {},
        ([], []),
        ([b"x"], [True]),
        ([b"x", b"y"], [True, False]),
        ([b"x", b"y"], [5]),
        (1, 2),
    ):
        yield f"holds {value!r}", pickle.dumps(value, protocol=4)


def _json(good: bytes) -> Iterator[tuple[str, bytes]]:
    yield "deep", b"[" * 100_000
    yield "NaN", good.replace(b'"images":', b'"images": NaN, "x":', 1)
    yield "duplicate key", good.replace(b"{", b'{"schema": "v2f-dataset/1",', 1)
    yield "other schema", good.replace(b"v2f-dataset/1", b"v2f-dataset/9", 1)
    yield "a path out", good.replace(b"shard-000000.tar", b"../../../etc/pwd", 1)
    yield "an absolute path", good.replace(b"shard-000000.tar", b"/etc/passwd00.tar", 1)
    yield "a huge number", good.replace(b'"identities":3', b'"identities":' + b"9" * 4000, 1)
    yield "a negative number", good.replace(b'"identities":3', b'"identities":-3', 1)
    yield "surrogates", good.replace(b"webdataset", b"\\ud800", 1)
    yield "UTF-16", good.decode().encode("utf-16")


def _tar(good: bytes) -> Iterator[tuple[str, bytes]]:
    for name, kind, link in (
        ("../../evil.jpg", tarfile.REGTYPE, ""),
        ("/tmp/evil.jpg", tarfile.REGTYPE, ""),
        ("000000_000.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("000000_000.jpg", tarfile.LNKTYPE, "/etc/passwd"),
        ("000000_000.jpg", tarfile.FIFOTYPE, ""),
        ("000000_000.jpg", tarfile.CHRTYPE, ""),
        ("000000_000.pyd", tarfile.REGTYPE, ""),
        ("000000_000.cls", tarfile.REGTYPE, ""),
    ):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"evil"))
        yield f"member {name} of type {kind!r}", buffer.getvalue()
    head = bytearray(good[:512])
    head[124:136] = b"77777777777\0"
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    yield "a member of 8 GiB", bytes(head) + good[512:]


def _parquet(good: bytes) -> Iterator[tuple[str, bytes]]:
    for length in (0, 1, 1 << 20, 2**31 - 1, 2**32 - 1):
        yield f"footer of {length}", good[:-8] + length.to_bytes(4, "little") + b"PAR1"


def _zips(good: bytes) -> Iterator[tuple[str, bytes]]:
    yield "a path out", _zip({"../../a/0.jpg": b"x"})
    yield "a bomb", _zip({"a/0.jpg": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    yield "no images", _zip({"a/readme.txt": b"x"})
    yield "broken images", _zip({"a/0.jpg": b"x", "a/1.jpg": b"y"})


def _images(good: bytes) -> Iterator[tuple[str, bytes]]:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    for width, height in ((1 << 30, 1 << 30), (0, 0), (4097, 1), (65500, 65500), (5, 5)):
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
        yield f"png of {width}x{height}", b"\x89PNG\r\n\x1a\n" + body
    place = good.find(b"\xff\xc0")
    if place > 0:
        for size in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x10\x01\x10\x01"):
            yield f"jpeg of {size.hex()}", good[: place + 5] + size + good[place + 9 :]
    yield "a gif", b"GIF89a" + bytes(100)
    yield "an svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "a tiff", b"II*\0" + bytes(100)
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n"


def _infos(data: bytes) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.infolist()


def _zip(records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in records.items():
            archive.writestr(name, body)
    return buffer.getvalue()


_SPECIAL = {
    "npy": _npy,
    "safetensors": _safetensors,
    "identity table": _safetensors,
    "pth": _pth,
    "verification bin": _pickles,
    "manifest": _json,
    "webdataset": _tar,
    "parquet": _parquet,
    "zip": _zips,
    "jpeg": _images,
    "png": _images,
    "imagefolder": _images,
}

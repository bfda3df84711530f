"""Reads the data in a pickle and runs nothing: an opcode reader without `find_class`.

Public `.bin` verification sets are pickles, and `pickle.load` runs whatever a file names. Here every opcode is
looked up in a table of those that only build lists, tuples, strings, numbers and booleans. A global name is never
imported: the few spellings that data needs (bytes under protocols 0 to 2, byte arrays, NumPy's numbers and arrays)
are names of functions of ours in `pickle_calls`, and everything else is refused with its byte offset.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from v2f_engine.data.gate.pickle_calls import CALLS, Array, Call, Kind
from v2f_engine.errors import DatasetError

MAX_ITEMS = 50_000_000
"""Values on the stack and in the memo: far above any set (15,000 pairs are 45,000), far below memory."""


class PickleReader:
    """One pass over a pickle.

    Args:
        data: the whole file.
        where: what to call it in messages.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._view = memoryview(data)
        self._where = where
        self._at = 0
        self._op = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._budget = 2 * len(data) + (1 << 20)  # bytes that calls may copy: a memo entry costs one opcode

    def read(self) -> Any:
        """The value that the pickle holds: byte strings, text, numbers, booleans, lists, tuples, finished `Array`s.

        Raises:
            DatasetError: a forbidden or unknown opcode, a name, a cut file; with the byte offset.
        """
        data, table, size = self._data, _TABLE, len(self._data)
        while self._at < size:
            self._op = self._at
            code = data[self._at]
            self._at += 1
            if code == 0x2E:  # STOP
                if len(self._stack) != 1:
                    raise self.refuse(f"stops with {len(self._stack)} values, expected one")
                return self._stack[0]
            handler = table.get(code)
            if handler is None:
                raise self.refuse(f"opcode {_name(code)} is not data")
            handler(self)
            if len(self._stack) > MAX_ITEMS:
                raise self.refuse(f"more than {MAX_ITEMS} values")
        self._op = size
        raise self.refuse("the file ends before its STOP: it is cut")

    def refuse(self, why: str) -> DatasetError:
        return DatasetError(
            f"{self._where}: byte {self._op}: {why}. Expected a verification set, the pickle of (encoded images, "
            "labels); nothing in it was executed. Get the file again from its source, or convert it to .npy + "
            "issame.txt."
        )

    # -- helpers -------------------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise self.refuse(f"{count} bytes announced, {len(self._data) - self._at} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def line(self) -> bytes:
        end = self._data.find(b"\n", self._at, self._at + (1 << 24))
        if end < 0:
            raise self.refuse("a line without end")
        self._at = end + 1
        return self._data[self._op + 1 : end]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise self.refuse("takes a value from an empty stack")
        return self._stack.pop()

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def to_mark(self) -> list[Any]:
        if not self._marks:
            raise self.refuse("needs a mark, there is none")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def remember(self, key: int) -> None:
        if not self._stack:
            raise self.refuse("remembers a value, there is none")
        self._memo[key] = self._stack[-1]

    def recall(self, key: int) -> None:
        if key not in self._memo:
            raise self.refuse(f"recalls value {key}, which was never stored")
        self._stack.append(self._memo[key])

    def last_list(self) -> list[Any]:
        found = self._stack[-1] if self._stack else None
        if not isinstance(found, list):
            raise self.refuse(f"appends to {type(found).__name__}, expected a list")
        return found

    def append(self) -> None:
        value = self.pop()
        self.last_list().append(value)

    def appends(self) -> None:
        values = self.to_mark()
        self.last_list().extend(values)

    def memoize(self) -> None:
        self.remember(len(self._memo))

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def name(self, module: Any, attribute: Any) -> None:
        known = f"{module} {attribute}"
        if known not in CALLS:
            raise self.refuse(f"names {known[:80]!r}, which would be imported and run by pickle")
        self.push(Call(known))

    def global_name(self) -> None:
        module = self.line()
        end = self._data.find(b"\n", self._at, self._at + 4096)
        if end < 0:
            raise self.refuse("a line without end")
        attribute, self._at = self._data[self._at : end], end + 1
        self.name(module.decode("ascii", "replace"), attribute.decode("ascii", "replace"))

    def stack_global(self) -> None:
        attribute, module = self.pop(), self.pop()
        self.name(module, attribute)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Call) or not isinstance(arguments, tuple):
            raise self.refuse("calls something that is no data")
        made = CALLS[function.name](arguments)
        if made is None:
            raise self.refuse(f"{function.name} with arguments it is not known with{_kind(arguments)}")
        if isinstance(made, bytes):
            self._budget -= len(made)
            if self._budget < 0:
                raise self.refuse("holds more bytes than the file can carry: a bomb")
        self.push(made)

    def build(self) -> None:
        """State of an array, once, or of a dtype."""
        state = self.pop()
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, Array | Kind):
            raise self.refuse("gives state to something that is no array")
        if isinstance(target, Array) and target.values is not None:
            raise self.refuse("gives state to an array that has one")
        if not target.take_state(state):
            raise self.refuse("an array whose state is not known")

    def real(self, form: str) -> float:
        return float(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def integer(self) -> None:
        text = self.line()
        if text in (b"00", b"01"):
            return self.push(text == b"01")
        try:
            return self.push(int(text))
        except ValueError:
            raise self.refuse(f"a whole number spelled {text[:40]!r}") from None

    def string(self) -> None:
        """A quoted byte string of protocol 0."""
        text = self.line().strip()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"":
            raise self.refuse("a string without quotes")
        try:
            self.push(codecs.escape_decode(text[1:-1])[0])
        except ValueError:
            raise self.refuse("a string with broken escapes") from None

    def text(self, data: bytes, encoding: str = "utf-8") -> None:
        try:
            self.push(data.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict"))
        except UnicodeDecodeError:
            raise self.refuse("text that is not text") from None

    def protocol(self) -> None:
        version = self.number("<B")
        if version > 5:
            raise self.refuse(f"protocol {version}, known are 0 to 5")

    def long1(self) -> None:
        self.push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))


Handler = Callable[[PickleReader], None]

_TABLE: dict[int, Handler] = {
    ord(code): handler
    for code, handler in {
        "\x80": PickleReader.protocol,
        "\x95": lambda r: _drop(r.take(8)),
        "(": PickleReader.mark,
        "]": lambda r: r.push([]),
        ")": lambda r: r.push(()),
        "l": lambda r: r.push(r.to_mark()),
        "t": lambda r: r.push(tuple(r.to_mark())),
        "a": PickleReader.append,
        "e": PickleReader.appends,
        "\x85": lambda r: r.tuple_of(1),
        "\x86": lambda r: r.tuple_of(2),
        "\x87": lambda r: r.tuple_of(3),
        "\x88": lambda r: r.push(True),
        "\x89": lambda r: r.push(False),
        "N": lambda r: r.push(None),
        "K": lambda r: r.push(r.number("<B")),
        "M": lambda r: r.push(r.number("<H")),
        "J": lambda r: r.push(r.number("<i")),
        "G": lambda r: r.push(r.real(">d")),
        "F": lambda r: r.push(_real(r)),
        "L": lambda r: r.push(_long(r)),
        "I": PickleReader.integer,
        "\x8a": PickleReader.long1,
        "C": lambda r: r.push(r.take(r.number("<B"))),
        "B": lambda r: r.push(r.take(r.number("<I"))),
        "\x8e": lambda r: r.push(r.take(r.number("<Q"))),
        "\x96": lambda r: r.push(r.take(r.number("<Q"))),
        "U": lambda r: r.push(r.take(r.number("<B"))),
        "T": lambda r: r.push(r.take(r.number("<i"))),
        "S": PickleReader.string,
        "X": lambda r: r.text(r.take(r.number("<I"))),
        "\x8c": lambda r: r.text(r.take(r.number("<B"))),
        "\x8d": lambda r: r.text(r.take(r.number("<Q"))),
        "V": lambda r: r.text(r.line(), "raw-unicode-escape"),
        "q": lambda r: r.remember(r.number("<B")),
        "r": lambda r: r.remember(r.number("<I")),
        "p": lambda r: r.remember(_whole(r)),
        "\x94": PickleReader.memoize,
        "h": lambda r: r.recall(r.number("<B")),
        "j": lambda r: r.recall(r.number("<I")),
        "g": lambda r: r.recall(_whole(r)),
        "c": PickleReader.global_name,
        "\x93": PickleReader.stack_global,
        "R": PickleReader.reduce,
        "b": PickleReader.build,
    }.items()
}


def _drop(data: bytes) -> None:
    """A frame's length: frames are a matter of buffering."""


def _whole(reader: PickleReader) -> int:
    text = reader.line()
    if not text.isdigit() or len(text) > 18:
        raise reader.refuse(f"a memo number spelled {text[:40]!r}")
    return int(text)


def _real(reader: PickleReader) -> float:
    text = reader.line()
    try:
        return float(text)
    except ValueError:
        raise reader.refuse(f"a number spelled {text[:40]!r}") from None


def _long(reader: PickleReader) -> int:
    """A whole number of protocol 0 with Python 2's L behind it."""
    text = reader.line()
    try:
        return int(text.removesuffix(b"L"))
    except ValueError:  # as int() of more than 4300 digits
        raise reader.refuse(f"a whole number spelled {text[:40]!r}") from None


def _kind(arguments: tuple[Any, ...]) -> str:
    """`" ('M8')"` for a dtype of a code that is not read; empty for anything else."""
    first = arguments[0] if arguments else None
    return f" ({first[:20]!r})" if isinstance(first, str | bytes) else ""


def _name(code: int) -> str:
    import pickletools

    names = {ord(known.code): known.name for known in pickletools.opcodes}
    return f"{names[code]} (0x{code:02x})" if code in names else f"0x{code:02x}"

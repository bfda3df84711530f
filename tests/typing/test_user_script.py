"""A user's script under mypy --strict: no public name is Any, and each has the type that it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPT = HERE / "user_script.py"
EXPECTED = re.compile(r"^\s*reveal_type\(.*\)  # expected: (.*)$")


@pytest.fixture(scope="module")
def said() -> list[str]:
    """mypy's lines; its cache is the one that `make types` fills."""
    out, err, _ = api.run(
        [str(SCRIPT), "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"),
         "--no-error-summary", "--hide-error-context"]
    )  # fmt: skip
    assert not err, err
    return out.splitlines()


def test_a_strict_script_has_no_error(said: list[str]) -> None:
    assert [line for line in said if ": error:" in line] == []


def test_every_public_name_has_the_type_that_it_says(said: list[str]) -> None:
    revealed = {}
    for line in said:
        if found := re.match(r'.*user_script\.py:(\d+): note: Revealed type is "(.*)"$', line):
            revealed[int(found[1])] = found[2].replace("numpy.", "").replace("builtins.", "")
    expected = {
        number: found[1]
        for number, line in enumerate(SCRIPT.read_text().splitlines(), 1)
        if (found := EXPECTED.match(line))
    }
    assert len(expected) > 25
    wrong = {
        n: (want, revealed.get(n))
        for n, want in expected.items()
        if not _is(want, revealed.get(n, "nothing"))
    }
    assert wrong == {}
    assert [n for n, kind in revealed.items() if kind == "Any"] == []


SPELT = {
    "torch._tensor.": "",
    "tuple[Any, ...]": "Any",
    "floating[_typing._nbit_base._32Bit]": "float32",
    "unsignedinteger[_typing._nbit_base._8Bit]": "uint8",
    "signedinteger[_typing._nbit_base._64Bit]": "int64",
}
"""mypy's spelling -> what people write."""


def _is(want: str, found: str) -> bool:
    for theirs, ours in SPELT.items():
        found = found.replace(theirs, ours)
    return found == want


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "v2f_engine/py.typed").is_file()
    assert (ROOT / "kernels/v2f_kernels/py.typed").is_file()

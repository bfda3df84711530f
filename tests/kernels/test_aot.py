"""Every kernel compiles for every target, fits it, spills nothing, and the committed table is true."""

import json

import pytest

pytestmark = pytest.mark.aot


def test_table_regenerates() -> None:
    from bench.aot import TABLE, build, differences

    table, unfit = build()
    assert not unfit, "\n".join(unfit)
    changed = differences(table, json.loads(TABLE.read_text()))
    assert not changed, "run `python -m bench.aot` and read the diff:\n" + "\n".join(changed)

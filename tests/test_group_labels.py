"""Tables of groups as strangers write them: read whole whatever their dress, or refused by line and name."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v2f_engine.errors import ConfigError, V2FError, VectorError
from v2f_engine.pipeline.group_fit import fit_grouped
from v2f_engine.pipeline.group_labels import DELIMITERS, read_groups
from v2f_engine.vectors.labelled import fit_groups

ONCE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@ONCE
@given(
    groups=st.lists(
        st.sampled_from(["young", "o, l;d", 'mid "x"', "ältere\tLeute|"]), min_size=1, max_size=12
    ),
    delimiter=st.sampled_from(DELIMITERS),
    mark=st.sampled_from(["", "\ufeff"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    trailing=st.integers(0, 3),
    first=st.booleans(),
)
def test_the_same_table_in_any_dress(
    tmp_path: Path,
    groups: list[str],
    delimiter: str,
    mark: str,
    end: str,
    quoting: int,
    trailing: int,
    first: bool,
) -> None:
    names = [name.replace("\t", " ") for name in groups]
    text = io.StringIO()
    lines = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    lines.writerow(["age", "note"] if first else ["note", "age"])
    for k, name in enumerate(names):
        cells = [name, f"a{delimiter}{k}\nb"]
        lines.writerow(cells if first else cells[::-1])
    table = read_groups(write(tmp_path / "g.csv", mark + text.getvalue() + end * trailing), ["age"])
    assert table.of_rows(len(names)) == names
    assert table.column == "age"


@ONCE
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(tmp_path: Path, data: bytes) -> None:
    place = write(tmp_path / "g.csv", b"age,label\n" + data)
    try:
        table = read_groups(place, ["age"])
    except V2FError as error:
        assert str(place) in str(error)
        return
    assert table.groups
    assert all(name.isprintable() and name.strip() for name in table.groups)


@ONCE
@given(st.permutations(range(9)))
def test_a_column_of_row_numbers_says_whose_a_line_is(tmp_path: Path, order: list[int]) -> None:
    text = "row,age\n" + "".join(f"{k},g{k % 3}\n" for k in order)
    found = read_groups(write(tmp_path / "g.csv", text), ["age"]).of_rows(9)
    assert found == [f"g{k % 3}" for k in range(9)]


def test_people_by_their_labels(tmp_path: Path) -> None:
    place = write(tmp_path / "g.csv", "label;age;sex\n7;old;f\n2.0;young;m\n40;old;m\n")
    said: list[str] = []
    table = read_groups(place, ["age", "sex"])
    assert table.column == "age/sex"
    assert table.of_people(np.array([2, 7]), said.append) == ["young/m", "old/f"]
    assert said == ["g.csv: 1 of its 3 people have no features here"]
    named = read_groups(write(tmp_path / "n.csv", "age,Person\nold,bo\nyoung,ada\n"), ["age"])
    assert named.of_people(["ada", "bo"]) == ["young", "old"]


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("", ["age"], "expected a first line that names the columns"),
        ("age\n", ["age"], "expected a line a person below its header, found none"),
        ("sex,region\nf,n\n", ["age"], "no column 'age'; its first line names 'sex', 'region'"),
        ("age,age\na,b\n", ["age"], "names 'age' twice"),
        ("Age\nold\n", ["age"], "no column 'age'; its first line names 'Age'"),
        ("age,x\nold\n", ["age"], r"line 2: expected 2 cells as in the first line, found 1"),
        ("age,x\nold,1\no,l,d\n", ["age"], r"line 3: expected 2 cells .* found 3: 'o,l,d'"),
        ("age,x\nold,1\n,2\nNaN,3\n", ["age"], "2 of 3 lines say nothing in 'age': line 3, 4"),
        ("age,x\nold,1\n\nold,2\n", ["age"], "line 3 is empty and line 4 is not"),
        ('age\n"old\n', ["age"], "no table of quoted cells"),
        ('age\n"old"x\n', ["age"], "no table of quoted cells"),
        ("age\nold\0\n", ["age"], "NUL|printable|no table"),
        ("age\n" + "x" * 200_000, ["age"], "no table of quoted cells"),
        ("age\nold\nOld\n", ["age"], "'Old' and 'old' are one group in two spellings"),
        ("age\ncaf\u00e9\ncafe\u0301\n", ["age"], "two spellings of Unicode"),
        ("age,sex\na/b,c\na,b/c\n", ["age", "sex"], "two groups become one"),
        ("age\nold\n".encode("utf-16"), ["age"], "expected UTF-8, found UTF-16"),
        ("age\nold\n".encode("utf-32"), ["age"], "expected UTF-8, found UTF-32"),
        ("age\n\u00e9lder\n".encode("latin-1"), ["age"], "expected UTF-8, found byte 0xe9"),
        ("age\n" + "".join(f"{k}\n" for k in range(300)), ["age"], "256 groups, found 300. Put numbers into ranges"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_groups_is_named(
    tmp_path: Path, text: str | bytes, columns: list[str], says: str
) -> None:
    place = write(tmp_path / "g.csv", text)
    with pytest.raises(VectorError, match=says):
        read_groups(place, columns)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("age\nold\nold\n", "2 lines below its header, and 3 rows of features"),
        ("row,age\n0,a\n1,a\n1,a\n", "row 1 stands in line 3 and again in line 4"),
        ("row,age\n0,a\n1,a\n3,a\n", "line 4: expected the number of a row, 0 to 2"),
        ("row,age\n0,a\n1,a\n-1,a\n", "line 4: expected the number of a row, 0 to 2"),
    ],
)
def test_lines_that_are_not_the_rows(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(VectorError, match=says):
        read_groups(write(tmp_path / "g.csv", text), ["age"]).of_rows(3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("age\nold\n", "expected a column that says whose each line is"),
        ("label,age\n1,a\n1,b\n2,a\n", "label 1 stands in line 2 and again in line 3"),
        ("label,age\n1,a\n", "1 of 2 people with features have no line: 2, in column 'label'"),
        (
            "label,age\n1,a\nada,b\n",
            "line 3: expected the label of a person in column 'label', a whole number",
        ),
    ],
)
def test_lines_that_are_not_the_people(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(VectorError, match=says):
        read_groups(write(tmp_path / "g.csv", text), ["age"]).of_people(np.array([1, 2]))


def test_columns_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="cannot be read"):
        read_groups(tmp_path / "none.csv", ["age"])
    with pytest.raises(VectorError, match="cannot be read"):
        read_groups(tmp_path, ["age"])
    place = write(tmp_path / "g.csv", "age\nold\n")
    for columns in ([], ["age", "age"]):
        with pytest.raises(ConfigError, match="--column"):
            read_groups(place, columns)


def test_the_fit_is_of_each_groups_people(tmp_path: Path) -> None:
    """Features of images, three of each person, whose means are fitted group by group."""
    rng = np.random.default_rng(0)
    rows, labels = (
        rng.standard_normal((180, 6)).astype(np.float32) + 1,
        rng.permutation(np.repeat(np.arange(60), 3)),
    )
    np.save(tmp_path / "f.npy", rows)
    np.save(tmp_path / "l.npy", labels)
    text = "person,glasses\n" + "".join(f"{k},{'yes' if k % 3 else 'no'}\n" for k in range(60))
    found = fit_grouped(
        [tmp_path / "f.npy"], groups=write(tmp_path / "g.csv", text), columns=["glasses"],
        labels=tmp_path / "l.npy", dimension=None,
    )  # fmt: skip
    means = np.stack([rows[labels == k].astype(np.float64).mean(axis=0) for k in range(60)])
    for name, one, own in zip(
        found.names, found.groups, (means[::3], means[np.arange(60) % 3 > 0]), strict=True
    ):
        assert name in ("no", "yes")
        assert np.allclose(one.mean, own.mean(axis=0), atol=1e-6)
        assert np.allclose(one.covariance, np.cov(own.T), atol=1e-6)
    np.save(tmp_path / "means.npy", means.astype(np.float32))
    rowed = write(tmp_path / "r.csv", text.replace("person", "row"))
    again = fit_grouped([tmp_path / "means.npy"], groups=rowed, columns=["glasses"], dimension=None)
    for one, other in zip(found.groups, again.groups, strict=True):
        assert np.allclose(one.covariance, other.covariance, atol=1e-6)


@ONCE
@given(order=st.permutations(range(6)), spelled=st.sampled_from(["row", "Row", "ROW", " rOw "]))
def test_row_numbers_count_however_their_column_is_spelled(
    tmp_path: Path, order: list[int], spelled: str
) -> None:
    """A table that a spreadsheet sorted: `Row` was taken for no column of rows, and everybody for somebody else."""
    lines = "".join(f"{row},{'ab'[row % 2]}\n" for row in order)
    table = read_groups(write(tmp_path / "g.csv", f"{spelled},age\n{lines}"), ["age"])
    assert table.of_rows(6) == ["a", "b"] * 3
    twice = write(tmp_path / "twice.csv", f"row,{spelled.upper()},age\n0,1,a\n1,0,b\n")
    with pytest.raises(VectorError, match="names 'row' twice"):
        read_groups(twice, ["age"])


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "1.0"), ("30", "30.000"), ("\u00e9", "e\u0301"), ("Old", "old"), ("stra\u00dfe", "STRASSE")],
)
def test_two_spellings_of_one_group_are_refused_in_files_and_in_python(
    tmp_path: Path, one: str, other: str
) -> None:
    place = write(tmp_path / "g.csv", f"age\n{one}\n{other}\n")
    with pytest.raises(VectorError, match="two spellings"):
        read_groups(place, ["age"])
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    with pytest.raises(VectorError, match="two spellings"):
        fit_groups([(0, rows)], [one, other] * 20, covariance="pooled")


def test_numbers_that_differ_are_groups_of_their_own(tmp_path: Path) -> None:
    place = write(tmp_path / "g.csv", "age\n1\n1.5\n10\n01\n1.05\n.0\n")
    assert len(set(read_groups(place, ["age"]).groups)) == 6


@pytest.mark.parametrize("odd", [None, 5, 1.0, ("a",), b"a"])
def test_groups_of_python_that_are_no_names_are_refused(odd: object) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    with pytest.raises(VectorError, match="expected names of groups in printable characters"):
        fit_groups([(0, rows)], [*["a"] * 39, odd], covariance="pooled")  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="components must be a whole number"):
        fit_groups([(0, rows)], ["a", "b"] * 20, covariance="pooled", components=2.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="each once, found 'age'"):
        read_groups("g.csv", "age")

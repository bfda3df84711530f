"""What pages repeat of the embedded model is what its card says; another edition is told by one command."""

from __future__ import annotations

import ast
import json

import pytest

from bench.claims import edition
from v2f_engine.data.records.licences import MINI_STATISTICS
from v2f_engine.errors import ConfigError
from v2f_engine.vectors.repeats import ALIKE

ANEW = "31415926535"
"""A figure that no page has."""


def test_pages_say_what_the_card_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Also that every place is there: a sentence that was worded anew is named."""
    figures = edition.from_card()
    assert {"limit", "length", "dimension", "statistics"} <= figures.keys()
    assert (
        float(figures["limit"]) < ALIKE
    )  # two images of one person lie above the limit of every recogniser here
    assert not edition.changes({**figures, **edition.from_records()}), (
        f"make mini-figures: {capsys.readouterr().out}"
    )


def test_every_quote_is_rewritten_where_it_stands_and_nowhere_else() -> None:
    """Each figure in turn."""
    for figure in {quote.figure for quote in edition.QUOTES}:
        quotes = [quote for quote in edition.QUOTES if quote.figure == figure]
        changed = edition.changes({figure: ANEW})
        assert changed.keys() == {quote.file for quote in quotes}
        for file, text in changed.items():
            was = (edition.ROOT / file).read_text()
            places = [edition.matched(quote.pattern, was) for quote in quotes if quote.file == file]
            assert text.count(ANEW) == len(places)
            for place in sorted(places, key=lambda place: place.start(1)):
                text = text.replace(ANEW, place[1], 1)
            assert text == was


def test_a_sentence_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = edition.Quote("limit", "README.md", "(no such sentence)")
    monkeypatch.setattr(edition, "QUOTES", (gone,))
    with pytest.raises(ConfigError, match="no such sentence"):
        edition.changes({})


def test_statistics_of_an_earlier_edition_stay_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edition, "MINI_STATISTICS", ("ab" * 32,))
    tree = ast.parse(edition.changes({})[edition.LICENCES])
    (found,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MINI_STATISTICS"
    )
    assert found == (MINI_STATISTICS[0], "ab" * 32)


def test_stripes_of_a_card_stand_by_their_period(monkeypatch: pytest.MonkeyPatch) -> None:
    cosines = {str(period): period / 100 for period in (2, 5, 10, 16)}
    about = edition.card()
    about["features"]["stripes"] = {"cosine_by_period_px": {"columns": cosines, "rows": cosines}}
    about = json.loads(json.dumps(about, sort_keys=True))
    monkeypatch.setattr(edition, "card", lambda: about)
    told = edition.from_card()
    assert told["stripes, periods"] == "2 | 5 | 10 | 16"
    assert told["stripes, rows"] == told["stripes, columns"] == "0.02 | 0.05 | 0.10 | 0.16"


def test_a_record_of_other_weights_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"judged eer", "alike"} <= edition.from_records().keys() or edition.stale("judge.json")
    other = {"files": {"generator.safetensors": {"sha256": "cd" * 32}}}
    monkeypatch.setattr(edition, "card", lambda: other)
    assert edition.from_records() == {}
    assert all(edition.stale(record) for record in edition.RECORDS)

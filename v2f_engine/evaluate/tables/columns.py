"""The columns of the talk's tables: what they hold, in which unit, which way is better, how they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass

HIGHER, LOWER, NEITHER = "higher", "lower", "neither"


@dataclass(frozen=True)
class Column:
    """One column of one table.

    Args:
        table: `verification`, `challenging`, ...
        key: in JSON and CSV; once in all tables.
        name: at its head.
        unit: `%`, `identities`, `cosine`, or nothing.
        better: `higher`, `lower` or `neither`.
        form: how a value is written for readers; CSV and JSON have every digit.
    """

    table: str
    key: str
    name: str
    unit: str = "%"
    better: str = HIGHER
    form: str = ".2f"


def _verification(key: str, name: str) -> Column:
    return Column("verification", key, name)


FIVE = (
    _verification("lfw", "LFW"),
    _verification("cfp_fp", "CFP-FP"),
    _verification("cplfw", "CPLFW"),
    _verification("agedb_30", "AgeDB-30"),
    _verification("calfw", "CALFW"),
)
AVERAGE = _verification("average", "average")
FOUR = (
    Column("challenging", "hadrian", "Hadrian"),
    Column("challenging", "eclipse", "Eclipse"),
    Column("challenging", "sllfw", "SLLFW"),
    Column("challenging", "doppelver", "DoppelVer"),
)
TWINS = Column("challenging", "nd_twins", "ND-Twins")

SPELLINGS = {
    "lfw": FIVE[0],
    "cfpfp": FIVE[1],
    "cplfw": FIVE[2],
    "agedb30": FIVE[3],
    "agedb": FIVE[3],
    "calfw": FIVE[4],
    "hadrian": FOUR[0],
    "eclipse": FOUR[1],
    "sllfw": FOUR[2],
    "pairsllfw": FOUR[2],
    "doppelver": FOUR[3],
    "ndtwins": TWINS,
    "twins": TWINS,
}
"""How files name the published test sets, letters and digits only."""


def column_of(name: str) -> Column:
    """The column of a verification set by the name of its file; one of its own for a set that nobody published."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return SPELLINGS.get(plain) or Column("other", f"other:{name}", name)


def add_average(values: dict[Column, float]) -> None:
    """Adds the mean of the five sets where all of them are there."""
    if all(column in values for column in FIVE):
        values[AVERAGE] = sum(values[column] for column in FIVE) / len(FIVE)


def _ijb(letter: str, power: int) -> Column:
    return Column("ijb", f"ijb{letter.lower()}_tpr_at_fpr_1e{power}", f"IJB-{letter} 1e{power}")


POWERS = (-6, -5, -4, -3, -2, -1)
IJBB = {power: _ijb("B", power) for power in POWERS}
IJBC = {power: _ijb("C", power) for power in POWERS}
IJB_COLUMNS = (*IJBB.values(), *IJBC.values())


def pairs_above(threshold: float) -> Column:
    """Share of pairs of a synthetic and a real identity above a cosine."""
    return Column("leakage", f"pairs_above_{threshold:g}", f"pairs > {threshold:g}", "%", LOWER, ".3g")


def people_above(threshold: float) -> Column:
    """Share of pairs of a synthetic and a real person of whom any two images are above a cosine."""
    return Column("leakage", f"people_above_{threshold:g}", f"people > {threshold:g}", "%", LOWER, ".3g")


def rows_above(threshold: float) -> Column:
    """Share of synthetic rows whose nearest real row is above a cosine."""
    return Column("leakage", f"rows_above_{threshold:g}", f"rows > {threshold:g}", "%", LOWER, ".3g")


LEAKAGE_COLUMNS = (pairs_above(0.5), pairs_above(0.7))


def unique_at(count: int) -> Column:
    """Unique identities of the first `count`."""
    return Column(
        "separability", f"unique_of_{count}", f"unique of {count // 1000}K", "identities", HIGHER, ",.0f"
    )


UNIQUE_COUNTS = (10_000, 200_000)
SEPARABILITY_COLUMNS = (
    *map(unique_at, UNIQUE_COUNTS),
    Column("separability", "unique_share", "unique, %"),
    Column("separability", "eer", "EER, %", "%", LOWER),
    Column("separability", "fdr", "FDR", "", HIGHER),
    Column("separability", "threshold", "at cosine", "cosine", NEITHER, ".3f"),
)
CONSISTENCY_COLUMNS = (
    Column("consistency", "pair_cosine", "pairs within", "cosine", NEITHER, ".3f"),
    Column("consistency", "pair_cosine_p05", "5 % below", "cosine", NEITHER, ".3f"),
    Column("consistency", "pair_cosine_p95", "95 % below", "cosine", NEITHER, ".3f"),
    Column("consistency", "rest_cosine", "image to rest", "cosine", NEITHER, ".3f"),
    Column("consistency", "own_nearest", "own nearest, %"),
)

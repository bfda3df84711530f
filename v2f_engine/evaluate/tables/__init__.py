"""The talk's tables: measured rows between the published ones.

    from v2f_engine.evaluate.tables import make_tables, read_results

    found = read_results([Path("r50.evaluation"), Path("set.evaluation")], ["ours"])
    for table in make_tables(found.results):
        print(table.to_text())

columns      what the columns hold
published    what others have published, each figure with its source
results      result files of `v2f evaluate`, and folders of them
kinds        what each kind of file says
sizes        how large a measured set is
layouts      columns and published rows of each table
build        rows into tables
table        a table and its lines
formats      as text, Markdown, LaTeX, HTML, CSV and JSON
"""

from v2f_engine.evaluate.tables.build import AGAINST, ORDERS, make_tables
from v2f_engine.evaluate.tables.layouts import LAYOUTS
from v2f_engine.evaluate.tables.results import read_results
from v2f_engine.evaluate.tables.table import Line, Table

__all__ = ["AGAINST", "LAYOUTS", "ORDERS", "Line", "Table", "make_tables", "read_results"]

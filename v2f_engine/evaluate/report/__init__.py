"""The report: one page of HTML, and the same as JSON, about one dataset.

measure      everything that is measured, as one record of JSON values
charts       curves and histograms as SVG that takes its colours from the page
page         the record as HTML
"""

from v2f_engine.evaluate.report.measure import Report, make_report
from v2f_engine.evaluate.report.page import page

__all__ = ["Report", "make_report", "page"]

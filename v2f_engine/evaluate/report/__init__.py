"""The report: one page of HTML, and the same as JSON, about one dataset.

measure      everything that is measured, as one record of JSON values
section      what is measured of one set: of the report's, of its reference, of those beside it
measures     how a measure with an interval is called and written, and which way is better
readings     yaw and quality of the faces, by the embedded estimators
charts       curves and histograms as SVG that takes its colours from the page
page         the record as HTML; `apart`, `compared`, `leaks` and `origin` are sections of it
"""

from v2f_engine.evaluate.report.measure import Report, make_report
from v2f_engine.evaluate.report.page import page

__all__ = ["Report", "make_report", "page"]

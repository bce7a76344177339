"""Showing a report: a page, pictures and JSON."""

from trimtab.evaluation.report.distilled_page import distilled_html
from trimtab.evaluation.report.page import report_html, report_json, report_of_json
from trimtab.evaluation.report.pictures import write_pictures

__all__ = ["distilled_html", "report_html", "report_json", "report_of_json", "write_pictures"]

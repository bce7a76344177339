"""Render a report as an HTML page or as JSON."""

from trimtab.evaluation.report.page import distilled_html, report_html, report_json, report_of_json

__all__ = ["distilled_html", "report_html", "report_json", "report_of_json"]

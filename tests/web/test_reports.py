"""Pages that are written to files: reports and heatmaps, in both themes and at three widths."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from evaluation.sample_distilled import REPORT
from evaluation.sample_report import not_working, working
from trimtab.evaluation.report import distilled_html, report_html
from trimtab.reading import write_html


@pytest.fixture(scope="module")
def written(tmp_path_factory, fake, fake_vectors):
    """Addresses of pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {
        "working": report_html(working()),
        "not-working": report_html(not_working()),
        "distilled": distilled_html(REPORT),
    }
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    write_html(fake.read("What a lovely day! I hate rain.", fake_vectors), folder / "heatmap.html")
    return {path.stem: path.as_uri() for path in folder.iterdir()}


@pytest.mark.parametrize("width", [390, 1024, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["working", "not-working", "distilled", "heatmap"])
def test_written_page_has_no_violations(open_page, written, name, scheme, width):
    page = open_page(written[name], width=width, scheme=scheme, settled=False)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    found = Axe().run(page).response["violations"]
    assert [(each["id"], node["html"], node["failureSummary"]) for each in found for node in each["nodes"]] == []

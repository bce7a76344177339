"""Every screen, in both themes and at three widths: axe finds nothing, and nothing is wider than the window."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

PLACES = ("try", "make", "library")


def violations(page):
    """Return what axe finds wrong, one line a place."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html'][:200]} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("width", [390, 1024, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_place_has_no_violations(open_page, fake_address, place, scheme, width):
    page = open_page(f"{fake_address}/#{place}", width=width, scheme=scheme)
    page.wait_for_load_state("networkidle")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_sees_text_without_contrast(page):
    page.evaluate("document.querySelector('h1, h2').style.color = '#eeeeee'")
    assert any(line.startswith("color-contrast") for line in violations(page))

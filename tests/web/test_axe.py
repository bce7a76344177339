"""Every screen, in both themes and at three widths: axe finds nothing, and nothing is wider than the window."""

from __future__ import annotations

import re
from itertools import product

import pytest
from axe_playwright_python.sync_playwright import Axe

PLACES = ("try", "make", "library", "library/happy")
DRAWERS = ("Keys", "Add a behaviour", "Save as preset", "Use in my app", "Find where it breaks", "Where it acts")


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


@pytest.mark.parametrize("width", [390, 1024, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_answers_and_drawers_have_no_violations(open_page, fake_address, scheme, width):
    page = open_page(fake_address, width=width, scheme=scheme)
    page.get_by_label("Your message").fill("How was your day?")
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="answer finished").wait_for(state="attached")
    assert violations(page) == []
    if width == 390:
        page.get_by_role("button", name=re.compile("Dials$")).click()
        assert violations(page) == []
    for name in DRAWERS:
        if width == 390 and name in ("Keys", "Where it acts"):
            page.keyboard.press("Escape")  # the sheet of the dials lies above
        elif width == 390 and not page.get_by_role("button", name="Save as preset").is_visible():
            page.get_by_role("button", name=re.compile("Dials$")).click()
        page.get_by_role("button", name=name).first.click()
        page.get_by_role("dialog").wait_for()
        if name == "Find where it breaks":
            page.get_by_role("button", name=re.compile("^Answer at")).click()
            page.get_by_role("button", name=re.compile("^Set the dial to")).nth(6).wait_for()
        assert violations(page) == [], name
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="hidden")


def test_training_has_no_violations(open_page, serve, fake, held, train_pirate):
    with serve(fake) as address:
        page = open_page(f"{address}/#make")
        train_pirate(page)
        for state in ("being made", "ready"):
            page.get_by_role("article", name=re.compile(f"^pirate is {state}")).wait_for(timeout=30_000)
            for scheme, width in product(("light", "dark"), (390, 1024, 1440)):
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size({"width": width, "height": 900})
                assert violations(page) == [], (state, scheme, width)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            held.set()
        page.context.close()  # before its server, which it would miss


def test_axe_sees_text_without_contrast(page):
    page.evaluate("document.querySelector('h1, h2').style.color = '#eeeeee'")
    assert any(line.startswith("color-contrast") for line in violations(page))

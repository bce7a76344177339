"""The frame of the page: its places, by keyboard, and what it says of the server."""

from __future__ import annotations

import re

from playwright.sync_api import expect


def test_places_are_reached_by_keyboard(page):
    for name in ("Make", "Library", "Try"):
        link = page.get_by_role("navigation", name="Places").get_by_role("link", name=name)
        link.focus()
        page.keyboard.press("Enter")
        expect(link).to_have_attribute("aria-current", "page")
        expect(page).to_have_url(re.compile(f"#/{name.lower()}$"))


def test_skip_link_is_first_and_leads_to_the_content(page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_model_is_named(page):
    expect(page.get_by_role("banner")).to_contain_text("fake")


def test_default_model_is_named(open_page, true_address):
    expect(open_page(true_address).get_by_role("banner")).to_contain_text("30 layers")

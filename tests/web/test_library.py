"""The Library: what is found, sorted, uploaded and deleted, and the card of a vector."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from test_axe import violations


@pytest.fixture
def library(open_page, fake_address):
    page = open_page(f"{fake_address}/#library")
    page.get_by_role("link", name="happy", exact=True).wait_for()
    return page


def names(page):
    """Return the names in the table of vectors, from the top."""
    return page.locator("table.library tbody th").all_inner_texts()


def test_search_leaves_what_it_names(library):
    library.get_by_label("Search").fill("happ")
    expect(library.locator("table.library tbody tr")).to_have_count(1)
    assert names(library) == ["happy"]


def test_columns_are_sorted_by_keyboard(library):
    before = names(library)
    button = library.get_by_role("columnheader").get_by_role("button", name="Name")
    button.focus()
    library.keyboard.press("Enter")
    expect(library.locator("table.library").get_by_role("columnheader", name="Name")).to_have_attribute(
        "aria-sort", "descending"
    )
    assert names(library) == before[::-1]


def test_uploaded_vector_is_deleted_and_restored(library, fake_address, tmp_path):
    path = tmp_path / "brought.safetensors"
    path.write_bytes(library.request.get(f"{fake_address}/v1/vectors/happy/file").body())
    library.get_by_label("File (.safetensors)").set_input_files(path)
    library.get_by_role("button", name="Upload").click()
    row = library.get_by_role("link", name="brought")
    expect(row).to_be_visible()
    library.get_by_role("button", name="Delete brought").click()
    expect(row).to_have_count(0)
    library.get_by_role("button", name="Undo").click()
    expect(row).to_be_visible()
    library.get_by_role("button", name="Delete brought").click()
    expect(row).to_have_count(0)


def test_file_that_is_no_vector_is_refused_with_a_reason(open_page, fake_address, tmp_path):
    page = open_page(f"{fake_address}/#library", allowed="400|415|422")
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nothing")
    page.get_by_label("File (.safetensors)").set_input_files(path)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert "broken" not in names(page)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_card_has_its_numbers_as_a_table(open_page, fake_address, scheme, width):
    page = open_page(f"{fake_address}/#library/happy", width=width, scheme=scheme)
    page.get_by_role("heading", name="Safe range").wait_for()
    page.get_by_text("The same as numbers").first.click()
    expect(page.get_by_role("table").first).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width

"""The nine things that people come to do, each by keyboard alone."""

from __future__ import annotations

import re

import pytest
from keyboard import is_focused, press, reach, write
from playwright.sync_api import expect

COLUMNS = ("As it is", "Steered", "The other way", "System prompt instead")


def column(page, title, turn=0):
    return page.get_by_role("group", name=title, exact=True).nth(turn)


def words(page, title, turn=1):
    return page.get_by_role("log", name=f"{title}, turn {turn}", exact=True)


def ask(page, text):
    write(page, page.get_by_label("Your message"), text)
    page.keyboard.press("Enter")


def answered(page, title, turn=1):
    """Wait for an answer's end; returns its text."""
    expect(column(page, title, turn - 1).locator(".receipt")).to_be_visible()
    return words(page, title, turn).inner_text()


def value(page, name="happy"):
    return float(page.get_by_role("spinbutton", name=f"{name}: strength as a number").input_value())


def slider(page, name="happy"):
    return page.get_by_role("slider", name=f"{name}: strength")


@pytest.fixture
def own(open_page, fake, serve):
    """The page over a server that this test may change."""
    with serve(fake) as address:
        page = open_page(address)
        yield page
        page.context.close()  # before the server ends, which it would notice


def test_dial_is_turned_and_answered(page):
    ask(page, "How was your day?")
    before = answered(page, "Steered")
    reach(page, slider(page), back=True)
    keys = {"ArrowRight": 0.55, "ArrowLeft": 0.5, "PageUp": 0.75, "PageDown": 0.5, "Home": -0.5, "0": 0, "End": 0.75}
    for key, strength in keys.items():
        page.keyboard.press(key)
        assert value(page) == strength, key
    expect(slider(page)).to_have_attribute("aria-valuetext", re.compile(r"^\+0\.75 towards"))
    expect(page.get_by_text("The answers are of")).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_text("The answers are of")).to_be_hidden()
    assert answered(page, "Steered") != before
    expect(column(page, "Steered")).to_contain_text("layers")


def test_four_columns_answer_one_question(page):
    for name in ("as it is", "the other way", "a system prompt instead"):
        box = reach(page, page.get_by_role("checkbox", name=name))
        if not box.is_checked():
            page.keyboard.press("Space")
    ask(page, "What is rain?")
    texts = {title: answered(page, title) for title in COLUMNS}
    assert len(set(texts.values())) == 4
    expect(column(page, "As it is")).to_contain_text("not steered")
    expect(page.get_by_role("status").filter(has_text="answer finished")).to_have_count(1)


def test_behaviour_is_made_from_two_poles(own):
    page = own
    press(page, page.get_by_role("link", name="Make"))
    write(page, page.get_by_role("textbox", name=re.compile(r"You are ?, towards, way 1")), "a salty pirate captain")
    write(page, page.get_by_role("textbox", name=re.compile(r"You are ?, against, way 1")), "a careful city lawyer")
    write(page, page.get_by_role("textbox", name="Name"), "pirate")
    reach(page, page.get_by_role("radio", name="Default"))
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("radio", name="Quick")).to_be_checked()
    train = page.get_by_role("button", name=re.compile("^Train"))
    expect(train).to_be_enabled()
    press(page, train)
    job = page.get_by_role("article", name=re.compile("^pirate is ready"))
    job.wait_for(timeout=30_000)
    press(page, job.get_by_role("button", name="Try it"))
    expect(slider(page, "pirate")).to_be_visible()


def test_mix_fills_the_budget(page):
    budget = page.get_by_role("heading", name=re.compile("^Budget"))
    alone = budget.inner_text()
    press(page, page.get_by_role("button", name="Add a behaviour"))
    page.keyboard.type("formal")
    press(page, page.get_by_role("dialog").get_by_role("button", name=re.compile("^formal")))
    expect(slider(page, "formal")).to_be_visible()
    expect(budget).not_to_have_text(alone)
    line = page.get_by_role("textbox", name="As text")
    write(page, line, "happy:0.25 + formal:-0.3")
    page.keyboard.press("Enter")
    expect(page.get_by_role("spinbutton", name="formal: strength as a number")).to_have_value("-0.3")
    assert value(page) == 0.25
    write(page, line, "happy:0.25 + formal:")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(line).to_have_attribute("aria-invalid", "true")


def test_words_and_layers_say_where_it_acts(page):
    ask(page, "How was your day?")
    answered(page, "Steered")
    reach(page, words(page, "Steered"), back=True)
    page.keyboard.press("ArrowRight")
    expect(column(page, "Steered").get_by_role("status")).to_contain_text("happy")
    button = page.get_by_role("button", name="Where it acts")
    reach(page, button, back=True)
    page.keyboard.press("Enter")
    grid = page.get_by_role("table", name="Readings by layer and word")
    reach(page, grid.locator('td[tabindex="0"]'))
    said = page.get_by_role("dialog").get_by_role("status").last
    before = said.inner_text()
    page.keyboard.press("ArrowDown")
    expect(said).not_to_have_text(before)
    page.keyboard.press("Escape")
    expect(grid).to_be_hidden()
    assert is_focused(button)


def test_strength_at_which_it_breaks_is_found(page):
    button = page.get_by_role("button", name=re.compile(r"^Find where it breaks ?: happy"))
    press(page, button)
    dialog = page.get_by_role("dialog", name="Where happy breaks")
    press(page, dialog.get_by_role("button", name="Answer at 7 strengths"))
    rows = dialog.get_by_role("list", name="Answers by strength").get_by_role("listitem")
    expect(rows).to_have_count(7)
    press(page, dialog.get_by_role("button", name="Set the dial to −0.5"))
    expect(dialog).to_be_hidden()
    assert value(page) == -0.5


def test_preset_is_saved_and_code_copied(own):
    page = own
    press(page, slider(page), "ArrowRight")
    button = page.get_by_role("button", name="Save as preset")
    press(page, button)
    dialog = page.get_by_role("dialog")
    write(page, dialog.get_by_label("Name"), "sunny")
    page.keyboard.press("Enter")
    expect(dialog.get_by_text("fake:sunny")).to_be_visible()
    page.keyboard.press("Escape")
    assert is_focused(button)
    page.keyboard.press("c")
    dialog = page.get_by_role("dialog", name="Use in my app")
    tab = reach(page, dialog.get_by_role("tab", selected=True))
    expect(dialog.get_by_role("tabpanel")).to_contain_text("happy:0.55")
    first = tab.inner_text()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("tab", selected=True)).not_to_have_text(first)
    page.keyboard.press("End")
    expect(dialog.get_by_role("tabpanel")).to_contain_text("fake:sunny")


def test_turn_is_changed_and_answered_again(page):
    for number, question in enumerate(("How was your day?", "And tomorrow?"), start=1):
        ask(page, question)
        answered(page, "Steered", number)
    first = words(page, "Steered").inner_text()
    reach(page, page.get_by_text("Dials by turn"), back=True)
    page.keyboard.press("Enter")
    write(page, page.get_by_role("spinbutton", name="happy at turn 1"), "-0.5")
    page.keyboard.press("Enter")
    press(page, page.get_by_role("button", name="Answer again from turn 1"))
    expect(words(page, "Steered")).not_to_have_text(first)
    answered(page, "Steered", 2)
    assert value(page) == 0.5
    expect(column(page, "Steered").first).to_contain_text("happy:-0.5")


def test_card_of_a_vector_is_read(page):
    press(page, page.get_by_role("link", name="Library"))
    write(page, page.get_by_role("searchbox", name="Search"), "happy")
    table = page.get_by_role("table", name="Vectors and behaviours")
    expect(table.get_by_role("row")).to_have_count(2)
    press(page, table.get_by_role("link", name="happy"))
    expect(page.get_by_role("heading", level=1)).to_have_text("happy")
    expect(page.get_by_role("main")).to_contain_text("−0.5")
    expect(page.get_by_role("main")).to_contain_text("1.25")
    press(page, page.get_by_role("button", name="Try it"))
    expect(slider(page)).to_be_visible()

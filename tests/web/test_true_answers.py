"""What the page shows is what the server says, on the default model."""

from __future__ import annotations

import httpx2 as httpx
import pytest
from playwright.sync_api import expect

QUESTION = "What did you do last weekend?"
SAMPLING = {"maxTokens": 24, "temperature": 0.7, "seed": 7}
SYSTEM = "You are extremely happy."
COLUMNS = {
    "As it is": {"steering": "none"},
    "Steered": {"steering": "happy:0.5"},
    "The other way": {"steering": "happy:-0.5"},
    "System prompt instead": {"steering": "none", "system": SYSTEM},
}


@pytest.fixture(scope="module")
def stored():
    return {"sampling": SAMPLING, "columns": ["plain", "steered", "opposite", "prompt"], "system": SYSTEM}


def answer(address, *, steering, system=None):
    messages = [{"role": "user", "content": QUESTION}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    body = {
        "model": "smollm2", "messages": messages, "steering": steering, "max_tokens": SAMPLING["maxTokens"],
        "temperature": SAMPLING["temperature"], "seed": SAMPLING["seed"], "logprobs": True, "top_logprobs": 5,
        "readings": ["happy"],
    }  # fmt: skip
    return httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).raise_for_status().json()


def test_columns_show_the_tokens_of_the_api(open_page, true_address, stored):
    page = open_page(true_address, stored=stored)
    page.get_by_label("Your message").fill(QUESTION)
    page.keyboard.press("Enter")
    for title, asked in COLUMNS.items():
        column = page.get_by_role("group", name=title, exact=True)
        expect(column.locator(".receipt")).to_be_visible(timeout=30_000)
        given = answer(true_address, **asked)
        (choice,) = given["choices"]
        spans = column.get_by_role("log").locator("span").all_text_contents()
        assert "".join(spans) == choice["message"]["content"]
        tokens = [token["token"] for token in choice["logprobs"]["content"]]
        written = [span for span in spans if span]
        assert written == [token for token in tokens if token][: len(written)]
        (summary,) = given["trimtab"]["answers"]
        if asked["steering"] != "none":
            expect(column.locator(".receipt")).to_contain_text(f"{summary['receipt']['tokens']} tokens steered")


def test_first_visit_shows_what_the_model_really_answers(open_page, true_address):
    """The example of a first visit is shipped; the server gives the same answer to the same request."""
    page = open_page(true_address)
    shown = {}
    for title in ("As it is", "Steered", "The other way"):
        log = page.get_by_role("log", name=f"{title}, turn 1")
        log.wait_for()
        shown[title] = log.inner_text()
    page.get_by_role("button", name="Answer", exact=True).click()
    for title, text in shown.items():
        column = page.get_by_role("group", name=title, exact=True)
        expect(column.locator(".receipt")).to_be_visible(timeout=30_000)
        assert column.get_by_role("log").inner_text().startswith(text[:60])

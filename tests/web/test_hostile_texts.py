"""Texts from a model, from files and from the browser's storage are shown as text, whatever they look like."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from sample_vectors import directions, make_vector, neutral_record, safe_range
from served import Scripted
from trimtab.vectors import BehaviourRef

# An element, a script, an address that would run, and an end of what a text could be inside of.
HOSTILE = (
    '"\'></textarea></code><img src=x onerror="alert(1)"><svg onload=alert(2)><script>alert(3)</script>'
    '<a href="javascript:alert(4)">here</a><style>*{display:none}</style>'
)
MARK = "<img src=x"
INSIDE = "body :is(img, script, style, svg[onload], iframe, a[href^='javascript'])"


@contextmanager
def unharmed(page):
    """Check at the end that no element came from a text; ``page`` itself notes dialogs and refused scripts."""
    yield page
    page.wait_for_timeout(200)  # for events of elements that must not be there
    assert page.locator(INSIDE).count() == page.locator("body > script").count()


@pytest.fixture(scope="module")
def vector(fake):
    return make_vector(
        "happy",
        model=fake.info,
        directions=directions((0, 2), size=fake.info.hidden_size),
        neutral=neutral_record(),
        safe=safe_range(),
        behaviour=BehaviourRef("happy", "digest", positive=HOSTILE, negative=HOSTILE),
    )


@pytest.fixture(scope="module")
def address(serve, vector):
    """A server whose model writes markup, with markup in its vector and its presets."""
    presets = {
        "opened": f"steering = 'happy:0.5'\nsystem = '''{HOSTILE}'''\n",
        "broken": f"steering = '''{HOSTILE}'''\n",
    }
    with serve(Scripted(*[HOSTILE] * 50, piece=5), vectors=[vector], presets=presets) as address:
        yield address


def test_answer_is_text(open_page, address):
    with unharmed(open_page(address)) as page:
        page.get_by_label("Your message").fill(HOSTILE)
        page.keyboard.press("Enter")
        for title in ("As it is", "Steered", "The other way"):
            log = page.get_by_role("log", name=f"{title}, turn 1")
            expect(log).to_have_text(HOSTILE)
            assert log.locator(":not(span)").count() == 0
        page.get_by_role("log", name="Steered, turn 1").focus()
        page.keyboard.press("Home")
        expect(page.locator(".details")).to_be_visible()


def test_poles_of_a_vector_are_text(open_page, address):
    with unharmed(open_page(address)) as page:
        expect(page.locator("aside")).to_contain_text(MARK)
        page.get_by_role("button", name="Add a behaviour").click()
        expect(page.get_by_role("dialog")).to_contain_text(MARK)


@pytest.mark.parametrize("place", ["library", "library/happy"])
def test_library_shows_text(open_page, address, place):
    with unharmed(open_page(f"{address}/#{place}")) as page:
        expect(page.get_by_role("main")).to_contain_text(MARK)


def test_description_and_mistakes_of_a_new_behaviour_are_text(open_page, address):
    with unharmed(open_page(f"{address}/#make", allowed="status of 4")) as page:
        for side in ("towards", "against"):
            page.get_by_role("textbox", name=f"{side}, way 1").fill(f"{side} {HOSTILE}")
        expect(page.get_by_role("region", name="What the model will read")).to_contain_text(MARK)


def test_failed_job_is_text(open_page, serve, fake, vector, monkeypatch):
    def train(*arguments, **options):
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr("trimtab.training.train.train", train)
    with serve(fake, vectors=[vector]) as address:
        page = open_page(f"{address}/#make")
        page.evaluate(
            "body => fetch('/v1/jobs', {method: 'POST', headers: {'content-type': 'application/json'}, body})",
            '{"kind": "train", "name": "mine", "behaviour": "happy", "effort": "quick"}',
        )
        page.reload()
        expect(page.get_by_role("article")).to_contain_text("has failed")
        page.wait_for_timeout(200)
        assert page.locator(INSIDE).count() == page.locator("body > script").count()
        page.context.close()


def test_names_in_storage_and_addresses_are_text(open_page, address):
    dials = [{"name": HOSTILE, "strength": 0.5, "on": True}, {"name": "x", "strength": 1, "on": True, "text": HOSTILE}]
    stored = {"dials": dials, "colour": HOSTILE, "system": HOSTILE}
    with unharmed(open_page(address, stored=stored, allowed="status of 4")) as page:
        expect(page.locator("aside")).to_contain_text(MARK)
    with unharmed(open_page(f"{address}/#library/{HOSTILE}", allowed="status of 4")) as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text(MARK)


def test_inline_scripts_are_refused(open_page, address):
    """The policy is in force: what gets into the page in spite of all does not run."""
    page = open_page(address, allowed="Content Security Policy|status of 404")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 2'}))")
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None


def test_page_is_not_framed_by_others(open_page, address, tmp_path: Path):
    frame = tmp_path / "frame.html"
    frame.write_text(f'<main></main><iframe src="{address}"></iframe>')
    page = open_page(frame.as_uri(), settled=False, allowed="frame-ancestors|ERR_BLOCKED")
    page.wait_for_timeout(300)
    assert page.frames[1].locator("#app").count() == 0

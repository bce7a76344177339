"""The animation in the README: frames of the real page over the default model. ``make animation`` writes it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from playwright.sync_api import expect

FILE = Path(__file__).parents[2] / "docs" / "playground.webp"
WIDTH, HEIGHT = 1180, 640
SMALL = 1_000_000  # bytes
TOKENS = 36
STEP = 3  # tokens of all columns from one frame to the next
SAME = 1.5  # mean difference of grey levels up to which a picture is not written again
STORED = {"sampling": {"maxTokens": TOKENS, "temperature": 0, "seed": 0}}
# Answers of the server are handed to the page event by event when the film says so: frames are the same each time.
GATE = """
(() => {
  const ask = window.fetch;
  let allowed = 0;
  const waiting = [];
  window.release = (events) => { allowed = events; waiting.splice(0).forEach((go) => go()); };
  window.fetch = async (request, ...rest) => {
    const answer = await ask(request, ...rest);
    if (!String(request.url).endsWith("/v1/chat/completions")) return answer;
    const events = (await answer.text()).split("\\n\\n");
    let next = 0;
    const body = new ReadableStream({
      async pull(controller) {
        while (next >= allowed) await new Promise((go) => waiting.push(go));
        if (next === events.length) return controller.close();
        controller.enqueue(new TextEncoder().encode(events[next++] + "\\n\\n"));
      },
    });
    return new Response(body, { status: answer.status, headers: answer.headers });
  };
})();
"""


@pytest.fixture
def film(open_page, true_address):
    """Frames with the milliseconds for which each is shown: a dial is turned, and the question answered again."""
    page = open_page(true_address, width=WIDTH, height=HEIGHT, stored=STORED, script=GATE)
    frames = []

    def take(milliseconds):
        page.wait_for_timeout(120)  # for what is drawn after a change
        frames.append((Image.open(io.BytesIO(page.screenshot(caret="hide"))).convert("RGB"), milliseconds))

    page.get_by_role("log", name="Steered, turn 1").wait_for()
    take(2_200)
    dial = page.get_by_role("slider", name="happy: strength")
    dial.focus()
    for key in (*["ArrowLeft"] * 5, *["PageDown"] * 3):
        page.keyboard.press(key)
        take(130 if key == "ArrowLeft" else 260)
    frames[-1] = (frames[-1][0], 900)
    with page.expect_response("**/v1/chat/completions"):
        page.keyboard.press("r")
    page.wait_for_load_state("networkidle")
    for released in range(0, TOKENS + 6, STEP):
        page.evaluate("released => window.release(released)", released)
        take(170)
    page.evaluate("window.release(1e9)")
    expect(page.get_by_role("group", name="Steered").locator(".receipt")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    take(3_500)
    return frames


def difference(before, now):
    """Largest mean difference of two pictures among the frames of two films."""
    pairs = zip(before, now, strict=True)
    return max(float(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).mean()) for a, b in pairs)


def frames_of(file):
    with Image.open(file) as animation:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]


def written(film, file):
    first, *others = [frame for frame, _ in film]
    first.save(
        file, format="WEBP", save_all=True, append_images=others, duration=[each for _, each in film], loop=0,
        quality=72, method=4, minimize_size=True,
    )  # fmt: skip
    return file


def test_animation_shows_the_page_as_it_is(film):
    now = io.BytesIO()
    assert len(written(film, now).getvalue()) <= SMALL
    shown = frames_of(now)
    before = frames_of(FILE) if FILE.exists() else []
    if "TRIMTAB_ANIMATION" in os.environ:
        if len(before) != len(shown) or before[0].size != shown[0].size or difference(before, shown) > SAME:
            FILE.write_bytes(now.getvalue())
        return
    assert len(before) == len(shown)
    assert {frame.size for frame in before} == {(WIDTH, HEIGHT)}
    assert FILE.stat().st_size <= SMALL

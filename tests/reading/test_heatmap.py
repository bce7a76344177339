"""Heatmaps: pages that are whole by themselves, pictures, and what they show."""

from __future__ import annotations

import copy
import pickle
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_vectors import MODEL, make_vector
from trimtab.errors import OutputError
from trimtab.reading import Reading, label, make_reading, shades, write_html
from trimtab.vectors import Neutral, Reader, Spread

PIECES = ("<s>", "a <b>", " & $x^2$", "\n\n", "日本", "")
WORDS = (False, True, True, True, True, True)
SPREAD = Spread({0: 0.0, 2: 0.0}, {0: 1.0, 2: 1.0})
NEUTRAL = Neutral(SPREAD, SPREAD, SPREAD, {}, prompts=3, tokens=30)


def reading(*, scale: float = 1.0, pieces: tuple[str, ...] = PIECES, **changes: Any) -> Reading:
    drawn = np.random.default_rng(0).standard_normal((len(pieces), MODEL.layers, MODEL.hidden_size))
    drawn[0] *= 1000
    return make_reading(
        [make_vector("happy <3", neutral=NEUTRAL, **changes), make_vector("formal", seed=1)],
        (scale * drawn).astype(np.float32),
        text="".join(pieces),
        tokens=range(len(pieces)),
        pieces=pieces,
        words=(False, *(True,) * (len(pieces) - 1)),
    )


class Page(HTMLParser):
    """Parsed content of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for seen, attributes in self.seen if seen == tag]


def test_page_is_well_formed_and_self_contained(tmp_path: Path):
    path = write_html(reading(), tmp_path / "new" / "page.html")
    page = Page(path.read_text("utf-8"))
    assert page.open == []
    assert not {"script", "link", "img", "b>"} & {tag for tag, _ in page.seen}
    assert "http" not in path.read_text("utf-8")
    assert "a <b> & $x^2$\n\n日本" in page.text
    assert "happy <3: score" in page.text
    assert "formal: no score" in page.text


def test_page_cells_hold_value_of_layer_and_token(tmp_path: Path):
    read = reading()
    cells = Page(write_html(read, tmp_path / "page.html").read_text("utf-8")).all("td")
    assert len(cells) == 2 * 2 * len(PIECES)
    titles = [cell["title"] for cell in cells]
    assert f"layer 2, a <b>: {read[0].z[1, 1]:+.2f}" in titles
    assert f"layer 0, 日本: {read[0].z[0, 4]:+.2f}" in titles


def test_uncounted_tokens_are_grey(tmp_path: Path):
    spans = Page(write_html(reading(), tmp_path / "page.html").read_text("utf-8")).all("span")
    assert len([span for span in spans if span.get("class") == "out"]) == 2  # the first token, for each vector
    assert len([span for span in spans if "background" in (span.get("style") or "")]) == 2 * (len(PIECES) - 1)


def test_colour_scale_is_symmetric_and_from_words_only():
    read = reading(scale=4.0)
    shown = shades(read, read[0])
    assert shown.limit == np.ceil(np.percentile(np.abs(read[0].z[:, 1:]), 98))
    np.testing.assert_array_equal(shown.counts, WORDS)
    assert shades(reading(scale=1e-3), reading(scale=1e-3)[0]).limit == 3.0


def test_shades_without_neutral_standardize_the_text():
    read = reading()
    shown = shades(read, read["formal"])
    np.testing.assert_allclose(shown.cells[:, 1:].mean(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(shown.cells[:, 1:].std(axis=1), 1.0)
    assert "this text's words" in shown.unit


def test_shades_of_single_word_without_neutral_are_zero():
    read = reading(pieces=("<s>", "word"))
    np.testing.assert_array_equal(shades(read, read["formal"]).cells[:, 1], 0.0)


def test_last_token_pool_counts_last_token():
    words = (True, True, False)
    drawn = np.ones((3, MODEL.layers, MODEL.hidden_size), np.float32)
    vector = make_vector(neutral=NEUTRAL, reader=Reader((0,), pool="last"))
    read = make_reading([vector], drawn, text="abc", tokens=(1, 2, 3), pieces="abc", words=words)
    np.testing.assert_array_equal(shades(read, read[0]).counts, [True, True, True])


def test_page_write_failure_leaves_no_file(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_html(reading(), tmp_path / "file" / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_reading_html_is_escaped_and_coloured():
    read = reading()
    page = Page(read._repr_html_())
    assert page.open == []
    assert {tag for tag, _ in page.seen} == {"p", "b", "span"}
    assert page.text.count("".join(PIECES)) == len(read)
    assert "happy <3: score" in page.text
    spans = page.all("span")
    assert len(spans) == len(read) * len(PIECES)
    strongest = int(np.argmax(np.abs(read[0].token_scores[1:]))) + 1
    assert spans[strongest]["title"] == f"{read[0].token_scores[strongest]:+.2f}"
    assert spans[0]["class"] == "out"


def test_reading_equality_follows_content():
    read = reading()
    assert pickle.loads(pickle.dumps(read)) == copy.deepcopy(read) == read
    assert hash(copy.deepcopy(read)) == hash(read)
    assert reading(scale=2.0) != read
    assert read != 1


@pytest.mark.parametrize(("piece", "shown"), [(" day", "day"), ("\n\n", "↵↵"), ("  ", "␣␣"), ("", ""), ("a\tb", "a⇥b")])
def test_label_is_one_line(piece: str, shown: str):
    assert label(piece) == shown

"""Splitting answers at marks while they are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trimtab.engines.protocol import ThinkingMarkers
from trimtab.server.fields import Tool
from trimtab.server.marks import MarkSplitter
from trimtab.server.reasoning import ThoughtSplitter
from trimtab.server.tools import Call, CallReader

THINK = ThinkingMarkers("<think>", "</think>")
ADD = Tool.model_validate({"type": "function", "function": {"name": "add"}})
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "th", "ink>", "a", " "]), max_size=12), st.data())
def test_parts_do_not_depend_on_how_the_text_is_cut(pieces, data):
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    splitter = MarkSplitter("<think>", "</think>")
    parts = [part for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) for part in splitter.feed(text[a:b])]
    parts += splitter.finish()
    expected = {False: "", True: ""}
    inside = False
    while (at := text.find(mark := "</think>" if inside else "<think>")) >= 0:
        expected[inside] += text[:at]
        text, inside = text[at + len(mark) :], not inside
    expected[inside] += text
    assert {side: "".join(part.text for part in parts if part.inside == side) for side in (False, True)} == expected


def test_prompt_may_have_opened_the_thoughts():
    splitter = ThoughtSplitter(THINK, "assistant: <think>\n")
    parts = [part for piece in "Hm.</think>\n\nYes" for part in splitter.feed(piece)]
    parts += splitter.finish()
    assert "".join(part.text for part in parts if part.inside) == "Hm."
    assert "".join(part.text for part in parts if not part.inside) == "Yes"


def test_calls_are_read_while_they_are_written():
    reader = CallReader([ADD])
    found = [each for letter in f"So {CALL} and {CALL[:-12]}" for each in reader.feed(letter)]
    found += reader.finish()
    assert [each.name for each in found if isinstance(each, Call)] == ["add", "add"]
    assert "".join(each for each in found if isinstance(each, str)) == "So  and "

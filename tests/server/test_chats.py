"""Answers of chats, taken apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trimtab.engines.fake import FakeEngine
from trimtab.engines.protocol import Completion, Receipt, ThinkingMarkers
from trimtab.server.chats import AnswerForm, AnswerReader, BlockReader, Thought, read_answer
from trimtab.server.fields import Tool
from trimtab.server.tools import Call

THINK = ThinkingMarkers("<think>", "</think>")
ADD = Tool.model_validate({"type": "function", "function": {"name": "add"}})
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
PROMPT = FakeEngine().marked("Hi")


def completion(text: str) -> Completion:
    return Completion(text, (), "stop", PROMPT, Receipt("none", (), 0))


def parts(text: str, form: AnswerForm) -> tuple[str, str, list[Call]]:
    """Return the thoughts, the text and the calls of an answer."""
    pieces = read_answer(completion(text), form)
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    said = "".join(piece for piece in pieces if isinstance(piece, str))
    return thoughts, said, [piece for piece in pieces if isinstance(piece, Call)]


def test_thoughts_are_split_from_the_answer():
    form = AnswerForm(markers=THINK)
    assert parts("<think>\nHm.\n</think>\n\nYes", form) == ("Hm.\n", "Yes", [])
    assert parts("Yes", form) == ("", "Yes", [])
    assert parts("<think>a</think>", AnswerForm()) == ("", "<think>a</think>", [])


def test_calls_are_read_out_of_an_answer():
    _, text, calls = parts(f"Let me see. {CALL}{CALL}", AnswerForm(tools=(ADD,)))
    assert text == "Let me see. "
    assert [(call.name, call.arguments) for call in calls] == [("add", '{"a": 1}')] * 2
    assert calls[0].id != calls[1].id


def test_marked_text_that_is_no_call_stays_text():
    for text in ("<tool_call>{</tool_call>", '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'):
        assert parts(text, AnswerForm(tools=(ADD,))) == ("", text, [])


def test_forced_call_without_its_end_stays_text():
    form = AnswerForm(tools=(ADD,), forced=True)
    assert parts('{"name": "add", "argu', form) == ("", '{"name": "add", "argu', [])
    assert parts('{"name": "add", "arguments": {}}', form)[2][0].name == "add"


@given(st.lists(st.sampled_from(["<think>Hm</think>", "So", " ", "\n", CALL, "<tool_call>"]), max_size=6), st.data())
def test_blocks_follow_the_pieces(texts, data):
    text = "".join(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    reader, blocks = AnswerReader(AnswerForm(tools=(ADD,), markers=THINK), ""), BlockReader()
    pieces = [piece for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) for piece in reader.feed(text[a:b])]
    pieces += reader.finish(completion(text))
    steps = [step for piece in pieces for step in blocks.take(piece)] + list(blocks.finish())
    for number, block in enumerate(blocks.closed):
        mine = [step for step in steps if step.block.number == number]
        assert [step.what for step in mine] == ["open"] + ["add"] * (len(mine) - 2) + ["close"]
        assert "".join(step.text for step in mine) == block.text
        assert (block.kind == "call") == (block.call is not None)
    order = [step.block.number for step in steps]
    assert order == sorted(order)
    assert any(block.kind != "thoughts" for block in blocks.closed)
    said = "".join(piece for piece in pieces if isinstance(piece, str))
    assert "".join(block.text for block in blocks.closed if block.kind == "text").split() == said.split()

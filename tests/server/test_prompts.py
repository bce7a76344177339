"""Prompts of requests."""

from __future__ import annotations

import pytest

from trimtab.behaviours import Message
from trimtab.server.errors import RequestError
from trimtab.server.fields import ChatMessage, Tool
from trimtab.server.prompts import chat_prompt


def messages(*given):
    return [ChatMessage.model_validate(each) for each in given]


def test_system_and_developer_messages_become_one_behind_the_presets():
    chat = messages(
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "Hi"},
    )
    assert chat_prompt(chat, system="You are happy.") == (
        Message("system", "You are happy.\n\nBe kind.\n\nBe brief."),
        Message("user", "Hi"),
    )


def test_calls_and_their_results_are_read_again():
    tool = Tool.model_validate({"type": "function", "function": {"name": "add"}})
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    chat = messages(
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
        {"role": "tool", "tool_call_id": "2", "content": "3"},
    )
    system, user, assistant, results = chat_prompt(chat, tools=[tool])
    assert '"name": "add"' in system.content
    assert user == Message("user", "Add.")
    assert assistant == Message("assistant", '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>')
    assert results == Message("user", "<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>")


@pytest.mark.parametrize("chat", [[{"role": "system", "content": "Hi"}], [{"role": "user", "content": None}]])
def test_chat_without_a_question_is_refused(chat):
    with pytest.raises(RequestError):
        chat_prompt(messages(*chat))

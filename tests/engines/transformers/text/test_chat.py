"""Chats: rendered by the model's own template, and opened up to a border between tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiny_models import byte_tokenizer
from trimtab.behaviours import Message
from trimtab.engines.protocol import as_messages
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.text import chat_template
from trimtab.engines.transformers.text.chat_template import (
    default_system_prompt,
    opening_cuts,
    render_chat,
)
from trimtab.errors import PromptError

CHAT = (Message("system", "Be kind."), Message("user", "Hi"))


class Slow:
    """Return a tokenizer without offsets."""

    is_fast = False

    def __init__(self) -> None:
        self._inner = byte_tokenizer()

    def __call__(self, text: str, **settings: Any) -> Any:
        return self._inner(text, **settings)

    def decode(self, ids: list[int]) -> str:
        return str(self._inner.decode(ids))


def test_render_chat_ends_with_assistant_opening() -> None:
    expected = "<bos>[system]Be kind.\n[user]Hi\n[assistant]"
    assert render_chat(byte_tokenizer(), CHAT) == expected
    assert render_chat(byte_tokenizer(), CHAT, continuation="Well, ") == expected + "Well, "


def test_render_without_template_joins_texts() -> None:
    assert render_chat(byte_tokenizer(chat_template=None), CHAT, continuation="So") == "Be kind.\nHi\nSo"


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no system role') }}", "{% for", "{{ messages[9].content.nothing() }}", "{{ 1 + 'a' }}"],
)
def test_render_failing_template_is_a_prompt_error(template: str) -> None:
    with pytest.raises(PromptError, match="does not take this chat"):
        render_chat(byte_tokenizer(chat_template=template), CHAT)


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}"
REFUSES_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
ALTERNATES = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
)


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM, ALTERNATES], ids=["refuses", "drops", "alternates"])
def test_render_refused_system_opens_user_message(template: str) -> None:
    tokenizer = byte_tokenizer(chat_template=template)
    assert render_chat(tokenizer, CHAT) == "<user>Be kind.\n\nHi\n"
    assert render_chat(tokenizer, CHAT[1:]) == "<user>Hi\n"
    talk = (Message("system", "Be kind."), Message("system", "Be brief."), *CHAT[1:], Message("assistant", "Yes"))
    end = Message("user", "Bye")
    assert render_chat(tokenizer, (*talk, end)) == "<user>Be kind.\n\nBe brief.\n\nHi\n<assistant>Yes\n<user>Bye\n"


def test_render_system_alone_becomes_user_message() -> None:
    assert render_chat(byte_tokenizer(chat_template=REFUSES_SYSTEM), CHAT[:1]) == "<user>Be kind.\n"


def test_template_system_support_is_tested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []
    arrives = chat_template._system_arrives
    monkeypatch.setattr(chat_template, "_TAKES_SYSTEM", {})
    monkeypatch.setattr(
        chat_template, "_system_arrives", lambda tokenizer: (tried.append(tokenizer), arrives(tokenizer))[1]
    )
    for template in (TURNS, REFUSES_SYSTEM, TURNS, REFUSES_SYSTEM):
        render_chat(byte_tokenizer(chat_template=template), CHAT)
    assert len(tried) == 2


def test_marked_chat_in_wrong_order_is_refused() -> None:
    with pytest.raises(PromptError, match="roles must alternate"):
        render_chat(byte_tokenizer(chat_template=ALTERNATES), (*CHAT, *CHAT[1:]))


def test_render_several_templates_uses_the_default() -> None:
    assert render_chat(byte_tokenizer(chat_template={"default": TURNS, "tools": "{{ 1 }}"}), CHAT[1:]) == "<user>Hi\n"
    with pytest.raises(PromptError, match="which of the model's chat templates"):
        render_chat(byte_tokenizer(chat_template={"a": TURNS, "b": TURNS}), CHAT)


DEFAULTS = {
    TURNS: None,
    REFUSES_SYSTEM: None,
    DROPS_SYSTEM: None,
    "{% if messages[0].role != 'system' %}<system>Be useful.\n{% endif %}" + TURNS: "Be useful.",
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set rest = messages[1:] %}{% else %}"
    "{% set s = 'Be useful.\nBe brief.' %}{% set rest = messages %}{% endif %}"
    "[INST]{{ s }}\n{% for m in rest %}{{ m.content }}{% endfor %}[/INST]": "Be useful.\nBe brief.",
    "<system>It is May. {% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}\n"
    "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}\n{% endfor %}": None,
    "{% for": None,
    None: None,
}


@pytest.mark.parametrize(("template", "expected"), DEFAULTS.items())
def test_default_system_prompt_is_the_templates(template: str | None, expected: str | None) -> None:
    assert default_system_prompt(byte_tokenizer(chat_template=template)) == expected


def test_default_model_names_itself(smollm2: TransformersEngine) -> None:
    expected = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert default_system_prompt(smollm2.tokenizer) == expected


def test_render_given_system_replaces_default(smollm2: TransformersEngine) -> None:
    assert "You are a helpful AI assistant" in smollm2.render("Hi")
    assert "You are a helpful AI assistant" not in smollm2.render(CHAT)
    assert smollm2.render(CHAT, continuation="I").endswith("<|im_start|>assistant\nI")


def test_as_messages_accepts_all_forms() -> None:
    assert as_messages("Hi") == (Message("user", "Hi"),)
    assert as_messages([{"role": "system", "content": "Be kind."}, Message("user", "Hi")]) == CHAT
    assert as_messages(CHAT) == CHAT


@pytest.mark.parametrize("make", [byte_tokenizer, Slow])
@pytest.mark.parametrize("text", ["abc", "  a b", "a\nb ", "ab"])
def test_cuts_follow_tokens_and_are_never_blank(make: Callable[[], Any], text: str) -> None:
    expected = [text[:end] for end in range(1, len(text) + 1) if text[:end].strip()]
    assert opening_cuts(make(), text, limit=99) == tuple(expected)
    blank = len(text) - len(text.lstrip())
    assert opening_cuts(make(), text, limit=blank + 1) == (text[: blank + 1],)


def test_cuts_keep_letters_whole() -> None:
    assert opening_cuts(byte_tokenizer(), "é€🚢", limit=99) == ("é", "é€", "é€🚢")


def test_cuts_of_the_default_model_are_at_its_own_tokens(smollm2: TransformersEngine) -> None:
    text = "Thinking about tomorrow"
    tokens = smollm2.encode(text)
    expected = [smollm2.decode(tokens[:end]) for end in range(1, len(tokens) + 1)]
    assert smollm2.cuts(text, limit=99) == tuple(expected)
    assert smollm2.cuts(text, limit=2) == tuple(expected[:2])

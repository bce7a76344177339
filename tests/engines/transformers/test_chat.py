"""Chats: rendered by the model's own template, and opened up to a border between tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiny_models import byte_tokenizer
from trimtab.behaviours import Message
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.chat import as_messages, opening_cuts, render_chat
from trimtab.errors import PromptError

CHAT = (Message("system", "Be kind."), Message("user", "Hi"))


class Slow:
    """A tokenizer that cannot say where its tokens are in a text."""

    is_fast = False

    def __init__(self) -> None:
        self._inner = byte_tokenizer()

    def __call__(self, text: str, **settings: Any) -> Any:
        return self._inner(text, **settings)

    def decode(self, ids: list[int]) -> str:
        return str(self._inner.decode(ids))


def test_a_chat_is_rendered_up_to_the_opening_of_the_answer() -> None:
    expected = "<bos>[system]Be kind.\n[user]Hi\n[assistant]"
    assert render_chat(byte_tokenizer(), CHAT) == expected
    assert render_chat(byte_tokenizer(), CHAT, continuation="Well, ") == expected + "Well, "


def test_without_a_template_the_texts_stand_one_after_the_other() -> None:
    assert render_chat(byte_tokenizer(chat_template=None), CHAT, continuation="So") == "Be kind.\nHi\nSo"


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no system role') }}", "{% for", "{{ messages[9].content.nothing() }}", "{{ 1 + 'a' }}"],
)
def test_a_template_that_fails_is_a_prompt_error(template: str) -> None:
    with pytest.raises(PromptError, match="does not take this chat"):
        render_chat(byte_tokenizer(chat_template=template), CHAT)


def test_the_models_own_default_system_prompt_gives_way_to_a_given_one(smollm2: TransformersEngine) -> None:
    assert "You are a helpful AI assistant" in smollm2.render("Hi")
    assert "You are a helpful AI assistant" not in smollm2.render(CHAT)
    assert smollm2.render(CHAT, continuation="I").endswith("<|im_start|>assistant\nI")


def test_messages_may_be_given_in_every_way() -> None:
    assert as_messages("Hi") == (Message("user", "Hi"),)
    assert as_messages([{"role": "system", "content": "Be kind."}, Message("user", "Hi")]) == CHAT
    assert as_messages(CHAT) == CHAT


@pytest.mark.parametrize("make", [byte_tokenizer, Slow])
@pytest.mark.parametrize("text", ["abc", "  a b", "a\nb ", "ab"])
def test_cuts_are_made_after_each_token_and_none_is_blank(make: Callable[[], Any], text: str) -> None:
    expected = [text[:end] for end in range(1, len(text) + 1) if text[:end].strip()]
    assert opening_cuts(make(), text, limit=99) == tuple(expected)
    blank = len(text) - len(text.lstrip())
    assert opening_cuts(make(), text, limit=blank + 1) == (text[: blank + 1],)


def test_no_cut_ends_within_a_letter() -> None:
    assert opening_cuts(byte_tokenizer(), "é€🚢", limit=99) == ("é", "é€", "é€🚢")


def test_cuts_of_the_default_model_are_at_its_own_tokens(smollm2: TransformersEngine) -> None:
    text = "Thinking about tomorrow"
    tokens = smollm2.encode(text)
    expected = [smollm2.decode(tokens[:end]) for end in range(1, len(tokens) + 1)]
    assert smollm2.cuts(text, limit=99) == tuple(expected)
    assert smollm2.cuts(text, limit=2) == tuple(expected[:2])

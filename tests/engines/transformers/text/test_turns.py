"""Turns: which tokens are the words of which message, whatever the template makes of the chat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_models import BOS, byte_tokenizer
from trimtab.behaviours import Message
from trimtab.engines.protocol import MarkedPrompt, Prompt
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.text.chat_template import render_chat
from trimtab.engines.transformers.text.turns import marked_prompt, offsets_of, token_texts
from trimtab.errors import PromptError

CHAT = (
    Message("system", "Be kind."),
    Message("user", "Hi 日本 🙂!"),
    Message("assistant", "user"),  # what the template writes itself
    Message("user", "Be kind."),
)
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
OPENS = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
STRIPS = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}"
REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURNS
FOLDS_ITSELF = (
    "{% set ns = namespace(system='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}"
    "{% else %}<{{ m.role }}>{{ ns.system }}{{ m.content | trim }}\n{% set ns.system = '' %}{% endif %}{% endfor %}"
)
CUTS_THOUGHTS = (
    "{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'assistant' and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<{{ m.role }}>{{ content }}\n{% endfor %}<assistant>{% if enable_thinking %}<think>{% endif %}"
)
COUNTS = "{% for m in messages %}<{{ m.role }} {{ m.content | length }}>{{ m.content | trim }}\n{% endfor %}"
SHOUTS = "{% for m in messages %}<{{ m.role }}>{{ m.content | upper }}\n{% endfor %}"
DEFAULT = (
    "{% if messages[0].role != 'system' %}<system>Help.\n{% endif %}"
    + TURNS
    + "{% if x %}{{ x }}{% endif %}<assistant>"
)


class Slow:
    """Return a tokenizer without offsets."""

    is_fast = False

    def __init__(self, chat_template: str | None = OPENS) -> None:
        self._inner = byte_tokenizer(chat_template=chat_template)

    def __call__(self, text: str, **settings: Any) -> Any:
        assert "return_offsets_mapping" not in settings
        return self._inner(text, **settings)

    def decode(self, ids: list[int]) -> str:
        return str(self._inner.decode(ids))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def mark(prompt: Prompt, template: str | None = OPENS, *, tokenizer: Any = None, **options: Any) -> MarkedPrompt:
    tokenizer = tokenizer or byte_tokenizer(chat_template=template)

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=not text.startswith("<bos>"))["input_ids"])

    return marked_prompt(tokenizer, prompt, encode=encode, **options)


def said(marked: MarkedPrompt) -> list[tuple[str, str]]:
    """Return the role of each turn with the text of its tokens."""
    return [
        (turn.role, marked.text[marked.offsets[turn.start][0] : marked.offsets[turn.stop - 1][1]])
        for turn in marked.turns
    ]


def word_text(marked: MarkedPrompt, tokenizer: Any) -> str:
    pieces = token_texts(tokenizer, marked)
    return "".join(piece for piece, word in zip(pieces, marked.words, strict=True) if word)


@pytest.mark.parametrize("tokenizer", [byte_tokenizer(chat_template=OPENS), Slow()], ids=["fast", "slow"])
def test_marked_message_equal_to_template_is_found(tokenizer: Any) -> None:
    marked = mark(CHAT, tokenizer=tokenizer)
    assert marked.text == render_chat(tokenizer, CHAT)
    assert said(marked) == [(message.role, message.content) for message in CHAT]
    assert marked.located
    assert marked.text[marked.opening :] == "<assistant>"
    assert word_text(marked, tokenizer) == "".join(message.content for message in CHAT if message.role != "system")


def test_marked_slow_tokenizer_equals_fast_one() -> None:
    text = "Hi 日本 🙂!"
    tokens = tuple(byte_tokenizer()(text)["input_ids"])
    slow, fast = offsets_of(Slow(), text, tokens), offsets_of(byte_tokenizer(), text, tokens)
    assert [text[start:stop] for start, stop in slow] == [text[start:stop] for start, stop in fast]
    assert slow[0] == fast[0] == (0, 0)


@pytest.mark.parametrize(
    ("template", "said_by"),
    [
        (None, [("system", "Be kind."), ("user", "Hi")]),
        (STRIPS, [("system", "Be kind."), ("user", "Hi")]),
        (REFUSES_SYSTEM, [("system", "Be kind."), ("user", "Hi")]),
        (FOLDS_ITSELF, [("system", "Be kind."), ("user", "Hi")]),
        (DEFAULT, [("system", "Be kind."), ("user", "Hi")]),
    ],
    ids=["no template", "strips", "refuses system", "folds itself", "has a default"],
)
def test_messages_are_found_where_templates_fold_and_strip(template: str | None, said_by: list[Any]) -> None:
    chat = (Message("system", "Be kind."), Message("user", "Hi"))
    marked = mark(chat, template)
    assert said(marked) == said_by
    assert marked.located
    assert marked.text == render_chat(byte_tokenizer(chat_template=template), chat)


def test_marked_stripped_text_is_no_word() -> None:
    assert said(mark((Message("user", "  Hi there \n"),), STRIPS)) == [("user", "Hi there")]
    assert said(mark((Message("user", "  Hi there \n"),), OPENS)) == [("user", "  Hi there \n")]


def test_marked_default_system_prompt_is_a_turn() -> None:
    assert said(mark("Hi", DEFAULT)) == [("system", "Help."), ("user", "Hi")]
    assert said(mark("Help.", DEFAULT)) == [("system", "Help."), ("user", "Help.")]


def test_marked_removed_thoughts_are_no_words() -> None:
    chat = (
        Message("user", "Hi"),
        Message("assistant", "<think>\nYes or no?\n</think>\n\nYes."),
        Message("user", "Why?"),
    )
    marked = mark(chat, CUTS_THOUGHTS, thinking=True)
    assert said(marked) == [("user", "Hi"), ("assistant", "Yes."), ("user", "Why?")]
    assert marked.located
    assert marked.text.endswith("<assistant><think>")


def test_marked_template_reading_words_searches() -> None:
    chat = (Message("user", " Hi "), Message("assistant", "Yes"), Message("user", "Bye now"))
    marked = mark(chat, COUNTS)
    assert said(marked) == [("user", "Hi"), ("assistant", "Yes"), ("user", "Bye now")]
    assert marked.located


def test_marked_template_failing_on_sentinels_searches() -> None:
    wants = "{% if messages[0].content != 'Hi' %}{{ raise_exception('say Hi') }}{% endif %}" + TURNS
    marked = mark("Hi", wants)
    assert said(marked) == [("user", "Hi")]
    assert marked.located


def test_marked_changed_message_is_not_located() -> None:
    marked = mark((Message("user", "Hi"), Message("assistant", "123"), Message("user", "Bye")), SHOUTS)
    assert said(marked) == [("assistant", "123")]
    assert not marked.located
    lost = mark("Hi", SHOUTS)
    assert lost.turns == ()
    assert not any(lost.words)


def test_marked_final_answer_stays_open() -> None:
    chat = (Message("user", "Hi"), Message("assistant", " Well, "))
    marked = mark(chat)
    assert marked.text == "<user>Hi\n<assistant> Well, "
    assert said(marked) == [("user", "Hi"), ("assistant", " Well, ")]
    assert marked.text[marked.opening :] == "<assistant> Well, "
    bare = mark(chat, None)
    assert bare.text == "Hi\n Well, "
    assert bare.text[bare.opening :] == " Well, "


def test_marked_bare_text_has_words_but_no_turns() -> None:
    marked = mark("<eos>Hi <eos>you", raw=True)
    assert marked.text == "<eos>Hi <eos>you"
    assert marked.turns == ()
    assert marked.opening == len(marked.text)
    assert word_text(marked, byte_tokenizer()) == "Hi you"
    assert marked.tokens[0] == BOS
    assert mark("Hi", raw=True, sink=False).words == (False, True, True)


def test_marked_first_token_counts_without_sink() -> None:
    tokenizer = byte_tokenizer(chat_template="{{ messages[0].content }}")
    for sink in (True, False):
        marked = marked_prompt(
            tokenizer, "Hi", sink=sink, encode=lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids)
        )
        assert marked.words == (not sink, True)


def test_marked_empty_message_has_empty_turn() -> None:
    marked = mark((Message("system", ""), Message("user", "Hi")))
    assert [(turn.role, turn.stop - turn.start) for turn in marked.turns] == [("system", 0), ("user", 2)]
    assert marked.located


def test_marked_special_token_in_message_is_no_word() -> None:
    tokenizer = byte_tokenizer(chat_template=OPENS)
    assert word_text(mark("Hi<eos>you", tokenizer=tokenizer), tokenizer) == "Hiyou"


def test_marked_template_without_opening_opens_at_end() -> None:
    marked = mark("Hi", TURNS)
    assert marked.opening == len(marked.text)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=12), st.sampled_from([OPENS, STRIPS, FOLDS_ITSELF, None]))
def test_marked_any_words_are_found(texts: list[str], template: str | None) -> None:
    texts = [text.replace("<", "(").replace("\r", "") for text in texts]  # no special tokens
    chat = [Message("user", text) for text in texts]
    marked = mark(chat, template)
    assert marked.located
    stripped = template in (STRIPS, FOLDS_ITSELF)
    words = "".join(text.strip() if stripped else text for text in texts)
    assert word_text(marked, byte_tokenizer(chat_template=template)) == words


def test_marked_long_chat_gives_turns_in_order() -> None:
    chat = [Message(("user", "assistant")[n % 2], "same") for n in range(123)]
    marked = mark(chat)
    assert said(marked) == [(message.role, "same") for message in chat]
    assert [turn.start for turn in marked.turns] == sorted({turn.start for turn in marked.turns})


def test_marked_invalid_chat_is_refused() -> None:
    with pytest.raises(PromptError, match="no messages"):
        mark([])


def test_marked_default_model_has_three_roles(smollm2: TransformersEngine) -> None:
    chat = (Message("user", "How was your day?\n\nReally  日本 🙂"), Message("assistant", "It was fine."))
    marked = marked_prompt(smollm2.tokenizer, chat, encode=smollm2.encode)
    assert said(marked) == [
        ("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        ("user", chat[0].content),
        ("assistant", "It was fine."),
    ]
    assert marked.tokens == smollm2.encode(smollm2.render(chat[:1], continuation="It was fine."))
    assert marked.text[marked.opening :] == "<|im_start|>assistant\nIt was fine."
    pieces = token_texts(smollm2.tokenizer, marked)
    assert "".join(pieces) == marked.text
    special = set(smollm2.tokenizer.all_special_ids)
    assert not any(word and token in special for word, token in zip(marked.words, marked.tokens, strict=True))


def test_special_tokens_are_never_doubled(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama")
    marked = marked_prompt(engine.tokenizer, CHAT, encode=engine.encode)
    assert marked.tokens == engine.encode(engine.render(CHAT))
    assert marked.tokens.count(BOS) == 1
    assert said(marked) == [(message.role, message.content) for message in CHAT]
    raw = marked_prompt(engine.tokenizer, "Hi", raw=True, encode=engine.encode)
    assert raw.offsets == ((0, 0), (0, 1), (1, 2))
    assert token_texts(engine.tokenizer, raw) == ("<bos>", "H", "i")

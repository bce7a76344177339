"""Thinking: the switches of templates in several styles, and the marks around thoughts."""

from __future__ import annotations

import pytest

from tiny_models import byte_tokenizer
from trimtab.behaviours import Message
from trimtab.engines.protocol import ThinkingMarkers
from trimtab.engines.transformers.text.chat_template import render_chat, thinking_markers
from trimtab.errors import PromptError

HI = (Message("user", "Hi"),)
OURS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
ON_UNLESS_FORBIDDEN = (
    OURS + "answer: {% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
OFF_UNLESS_WANTED = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    + OURS
    + "answer: {% if thinking %}<think>{% else %}</think>{% endif %}"
)
WITH_OWN_TAGS = (
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% if loop.first %}{% continue %}{% endif %}{% endfor %}{{ '!' if enable_thinking }}"
)
SPEAKS_OF_IT = OURS + "{# enable_thinking was thought of #}thinking: {{ messages[0].thinking }}"


@pytest.mark.parametrize(
    ("template", "by_default", "on", "off"),
    [
        (ON_UNLESS_FORBIDDEN, "answer: ", "answer: ", "answer: <think></think>"),
        (OFF_UNLESS_WANTED, "answer: </think>", "answer: <think>", "answer: </think>"),
        (WITH_OWN_TAGS, "Hi", "Hi!", "Hi"),
    ],
    ids=["on unless forbidden", "off unless wanted", "with transformers' own tags"],
)
def test_thinking_switches_the_templates_variable(template: str, by_default: str, on: str, off: str) -> None:
    tokenizer = byte_tokenizer(chat_template=template)
    for thinking, expected in ((None, by_default), (True, on), (False, off)):
        assert render_chat(tokenizer, HI, thinking=thinking).endswith(expected)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("template", [OURS, SPEAKS_OF_IT])
def test_thinking_template_without_switch_is_refused(template: str, thinking: bool) -> None:
    with pytest.raises(PromptError, match=r"no switch for thinking \(neither enable_thinking nor thinking\); leave"):
        render_chat(byte_tokenizer(chat_template=template), HI, thinking=thinking)


def test_thinking_without_template_is_refused() -> None:
    with pytest.raises(PromptError, match="no chat template, and so no switch"):
        render_chat(byte_tokenizer(chat_template=None), HI, thinking=True)
    assert render_chat(byte_tokenizer(chat_template=None), HI) == "Hi\n"


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<think>{{ m.thoughts }}</think>", ThinkingMarkers("<think>", "</think>")),
        ("[THINK]{{ m.thoughts }}[/THINK]", ThinkingMarkers("[THINK]", "[/THINK]")),
        ("<seed:think>{{ m.thoughts }}</seed:think>", ThinkingMarkers("<seed:think>", "</seed:think>")),
        (
            "<|channel|>analysis<|message|>{{ m.thoughts }}<|end|>",
            ThinkingMarkers("<|channel|>analysis<|message|>", "<|end|>"),
        ),
        ("<|end|>", None),
        ("I think.", None),
    ],
)
def test_thinking_markers_from_template(inside: str, expected: ThinkingMarkers | None) -> None:
    template = f"{{% for m in messages %}}{inside}{{{{ m.content }}}}{{% endfor %}}"
    assert thinking_markers(byte_tokenizer(chat_template=template)) == expected


def test_thinking_markers_from_vocabulary() -> None:
    tokenizer = byte_tokenizer(chat_template=None)
    assert thinking_markers(tokenizer) is None
    tokenizer.add_tokens(["<think>"])
    assert thinking_markers(tokenizer) is None
    tokenizer.add_tokens(["</think>"])
    assert thinking_markers(tokenizer) == ThinkingMarkers("<think>", "</think>")

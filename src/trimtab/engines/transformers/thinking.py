"""Models that think before they answer: the switch of their templates, and the marks around the thoughts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, meta
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from trimtab.errors import PromptError

SWITCHES = ("enable_thinking", "thinking")  # variables of templates: Qwen's and most others', DeepSeek's
OWN_TAGS = re.compile(r"{%-?\s*(end)?generation\s*-?%}")  # transformers' addition to Jinja


@dataclass(frozen=True)
class ThinkingMarkers:
    """What stands before and after a model's thoughts."""

    open: str
    close: str


MARKERS = (
    ThinkingMarkers("<think>", "</think>"),
    ThinkingMarkers("[THINK]", "[/THINK]"),
    ThinkingMarkers("<seed:think>", "</seed:think>"),
    ThinkingMarkers("<|START_THINKING|>", "<|END_THINKING|>"),
    ThinkingMarkers("<|channel|>analysis<|message|>", "<|end|>"),
)


def thinking_markers(tokenizer: PreTrainedTokenizerBase) -> ThinkingMarkers | None:
    """The marks around the model's thoughts, from its chat template or its vocabulary; None if it has none.

    The opening mark may be a part of the prompt, so that an answer has the closing one alone.
    """
    templates = tokenizer.chat_template or ""
    source = "".join(templates.values()) if isinstance(templates, dict) else templates
    added = tokenizer.get_added_vocab()
    for markers in MARKERS:
        if markers.open in source or {markers.open, markers.close} <= added.keys():
            return markers
    return None


def thinking_options(template: str, thinking: bool | None) -> dict[str, bool]:
    """What a template is given so that the model thinks or does not.

    Raises:
        PromptError: The template has no switch for it.
    """
    if thinking is None:
        return {}
    known = [switch for switch in SWITCHES if switch in _variables(template)]
    if not known:
        raise PromptError(
            f"the model's chat template has no switch for thinking (neither {' nor '.join(SWITCHES)})",
            fix="leave thinking out",
        )
    return dict.fromkeys(known, thinking)


@lru_cache(maxsize=64)
def _variables(template: str) -> frozenset[str]:
    """The variables that a template reads from outside."""
    try:
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(OWN_TAGS.sub("", template))
    except TemplateError:
        return frozenset()
    return frozenset(meta.find_undeclared_variables(parsed))

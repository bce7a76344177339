"""Chats and a model's template: render them, and cut openings at token borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from trimtab.behaviours import Message
from trimtab.engines.base import Prompt
from trimtab.errors import PromptError


def as_messages(prompt: Prompt) -> tuple[Message, ...]:
    """A chat from a string (a user message) or a list of messages.

    Raises:
        PromptError: It is neither, or a message lacks its role or content.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    messages = tuple(map(_message, prompt)) if isinstance(prompt, Sequence) else ()
    if not messages:
        raise PromptError("the chat has no messages", fix="give at least one user message")
    return messages


def _message(given: Any) -> Message:
    if isinstance(given, Message):
        return given
    if isinstance(given, Mapping) and isinstance(given.get("role"), str) and isinstance(given.get("content"), str):
        return Message(given["role"], given["content"])
    raise PromptError(f"{str(given)[:60]!r} is not a chat message", fix='write {"role": "user", "content": "..."}')


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, continuation: str = "") -> str:
    """The chat as the model sees it, up to and with the opening of the assistant's turn.

    A model without a chat template sees the messages' texts, one after the other.

    Raises:
        PromptError: The template refuses the messages.
    """
    if not tokenizer.chat_template:
        return "\n".join(message.content for message in messages) + "\n" + continuation
    chat = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError, TypeError) as error:
        raise PromptError(
            f"the model's chat template does not take this chat: {error}",
            fix="use roles that it knows, in its order",
        ) from None
    return f"{text}{continuation}"


def opening_cuts(tokenizer: PreTrainedTokenizerBase, text: str, *, limit: int) -> tuple[str, ...]:
    """``text`` cut after its first token, its second, and so on, ``limit`` at most; none is blank."""
    if tokenizer.is_fast:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ends = [end for _, end in offsets]
    else:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = [len(tokenizer.decode(ids[:n])) for n in range(1, len(ids) + 1)]
    cuts = dict.fromkeys(text[:end] for end in ends[:limit])
    return tuple(cut for cut in cuts if cut.strip())

"""Prompts: what a route was sent, as messages that the model's own chat template takes.

All routes build their prompts here, so what is refused here is refused everywhere: no template and no option of one
comes from a request, and only text is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trimtab.behaviours import Message
from trimtab.server.errors import RequestError
from trimtab.server.fields import ChatMessage, ChatTemplateOptions, Tool, joined_text
from trimtab.server.tools import calls_text, tools_text


def chat_prompt(
    messages: Sequence[ChatMessage], *, system: str | None = None, tools: Sequence[Tool] = ()
) -> tuple[Message, ...]:
    """Return the chat that the model reads.

    System and developer messages at the beginning become one system message, behind ``system`` and before the tools.
    Calls of tools are written as the model writes them, and their results are user messages.

    Args:
        messages: The chat as it was sent.
        system: Opening of the system prompt.
        tools: Tools that the model may call.

    Raises:
        RequestError: A message has no text, or there are none but system messages.
    """
    leading = next((n for n, each in enumerate(messages) if each.role not in ("system", "developer")), len(messages))
    openings = [system or "", *(_text(each, n) for n, each in enumerate(messages[:leading]))]
    openings.append(tools_text(tools) if tools else "")
    instructions = "\n\n".join(filter(None, openings))
    chat = list(_turns(messages[leading:], leading))
    if not chat:
        raise RequestError("the chat has nothing to answer", fix="add a user message", param="messages")
    return (*([Message("system", instructions)] if instructions else ()), *chat)


def thinking_of(options: ChatTemplateOptions | None) -> bool | None:
    """Return whether a reasoning model is asked to think; None leaves it to its chat template."""
    if options is None:
        return None
    return options.enable_thinking if options.enable_thinking is not None else options.thinking


def message_text(message: ChatMessage) -> str:
    """Return the text of a message; empty if it has none."""
    return _text(message, 0, may_lack=True)


def _turns(messages: Sequence[ChatMessage], first: int) -> Iterator[Message]:
    """Yield the messages behind the system prompt; results of tools that follow each other become one message."""
    results: list[str] = []
    for number, message in enumerate(messages, start=first):
        if message.role == "tool":
            results.append(f"<tool_response>\n{_text(message, number)}\n</tool_response>")
            continue
        if results:
            yield Message("user", "\n".join(results))
            results = []
        if message.role == "assistant" and message.tool_calls:
            said = _text(message, number, may_lack=True)
            yield Message("assistant", "\n".join(filter(None, (said, calls_text(message.tool_calls)))))
        else:
            role = "system" if message.role == "developer" else message.role
            yield Message(role, _text(message, number))
    if results:
        yield Message("user", "\n".join(results))


def _text(message: ChatMessage, number: int, *, may_lack: bool = False) -> str:
    if message.content is None:
        if may_lack:
            return ""
        raise RequestError(f"message {number} has no content", fix="give its text", param=f"messages.{number}.content")
    return joined_text(message.content)

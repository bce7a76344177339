"""Tools: how they are described to the model, and how its calls are read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from trimtab.engines.constraints import Constraint, Tag
from trimtab.errors import ConstraintError
from trimtab.server.errors import RequestError
from trimtab.server.fields import NamedTool, Tool, ToolCall
from trimtab.server.marks import MarkSplitter

OPENING, CLOSING = "<tool_call>", "</tool_call>"
DESCRIPTION = """These functions can be called to answer the user, each given as JSON with the schema of its arguments:
{tools}

To call one, write its name and its arguments as JSON between two marks, and nothing else in between:
<tool_call>
{{"name": "the function's name", "arguments": {{...}}}}
</tool_call>
Answer without a call where none is needed."""  # the marks are those that many models are trained on


@dataclass(frozen=True)
class Call:
    """Call of a function in an answer."""

    name: str
    arguments: str  # JSON of an object
    id: str

    def to_json(self) -> dict[str, Any]:
        """Return the call in OpenAI's shape."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def offered_tools(tools: Sequence[Tool] | None, choice: str | NamedTool | None) -> tuple[Tool, ...]:
    """Return the tools that the model may call.

    Raises:
        RequestError: Two have the same name, or the one that must be called is not among them.
    """
    offered = () if choice == "none" else tuple(tools or ())
    names = [tool.function.name for tool in offered]
    if len(set(names)) < len(names):
        raise RequestError("two tools have the same name", fix="rename one", param="tools")
    if isinstance(choice, NamedTool):
        offered = tuple(tool for tool in offered if tool.function.name == choice.function.name)
    if not offered and choice not in (None, "none", "auto"):
        raise RequestError("there is no such tool to call", fix="add it to tools", param="tool_choice")
    return offered


def must_call(choice: str | NamedTool | None) -> bool:
    """Return True if an answer has to be a call."""
    return choice == "required" or isinstance(choice, NamedTool)


def tools_text(tools: Sequence[Tool]) -> str:
    """Return the part of a system prompt that describes tools."""
    described = (json.dumps(tool.model_dump(exclude_none=True), ensure_ascii=False) for tool in tools)
    return DESCRIPTION.format(tools="\n".join(described))


def tools_constraint(tools: Sequence[Tool], *, forced: bool, once: bool = False, steer: bool = False) -> Constraint:
    """Return the constraint of an answer that is a call, if it is forced, or else of a free one that may have calls.

    Args:
        tools: The tools that may be called.
        forced: Whether the whole answer is a call.
        once: Have one call at most.
        steer: Steer calls, too.

    Raises:
        RequestError: The parameters of a tool are no JSON schema.
    """
    try:
        calls = _call_schemas(tools)
        if forced:
            return Constraint.json_schema(calls[0] if len(calls) == 1 else {"anyOf": calls}, steer=steer)
        inside = map(Constraint.json_schema, calls)
        tags = [Tag(f"{OPENING}\n", call, end=f"\n{CLOSING}", trigger=OPENING) for call in inside]
        return Constraint.tags(tags, once=once, steer=steer)
    except ConstraintError as error:
        raise RequestError(error.problem, fix=error.fix, param="tools", code=error.code) from None


def _call_schemas(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    return [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                "arguments": tool.function.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]


def calls_text(calls: Sequence[ToolCall]) -> str:
    """Return earlier calls as the model wrote them."""
    return "\n".join(
        f'{OPENING}\n{{"name": {json.dumps(call.function.name)}, "arguments": {call.function.arguments}}}\n{CLOSING}'
        for call in calls
    )


def read_call(text: str, tools: Sequence[Tool]) -> Call | None:
    """Return the call that a text is; None if it is none of these tools."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict) or given.get("name") not in {tool.function.name for tool in tools}:
        return None
    arguments = given.get("arguments", given.get("parameters", {}))
    if not isinstance(arguments, dict):
        return None
    return Call(given["name"], json.dumps(arguments, ensure_ascii=False), f"call_{secrets.token_hex(12)}")


@final
class CallReader:
    """Reads text and calls out of an answer while it is written.

    Args:
        tools: The tools that may be called.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = tools
        self._splitter = MarkSplitter(OPENING, CLOSING)
        self._call: list[str] = []  # pieces of the call that is being written

    def feed(self, piece: str) -> Iterator[str | Call]:
        """Append a piece of the answer; yield the text and the calls that are complete."""
        for inside, text in self._splitter.feed(piece):
            if inside:
                self._call.append(text)
                continue
            yield from self._end_call()
            if text:
                yield text

    def finish(self) -> Iterator[str | Call]:
        """End the answer; yield what is left of it, a call without its end included."""
        for inside, text in self._splitter.finish():
            if inside:
                self._call.append(text)
            else:
                yield from self._end_call()
                yield text
        yield from self._end_call()

    def _end_call(self) -> Iterator[str | Call]:
        if not self._call:
            return
        text, self._call = "".join(self._call), []
        yield read_call(text, self._tools) or f"{OPENING}{text}{CLOSING}"

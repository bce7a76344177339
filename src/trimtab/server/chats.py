"""Chats: what every route for them does with one, whatever its shape.

A route turns its body into the fields of a chat completion. ``chat_request`` checks them and puts them into the
engine's terms; ``AnswerReader`` and ``BlockReader`` take the answer apart again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, final

from trimtab.engines.protocol import Completion, ThinkingMarkers
from trimtab.server.answers import Asked, request_sampling
from trimtab.server.constraints import request_constraint
from trimtab.server.errors import RequestError
from trimtab.server.fields import ChatFields, Tool
from trimtab.server.marks import Part
from trimtab.server.presets import Preset
from trimtab.server.prompts import chat_prompt, thinking_of
from trimtab.server.reasoning import ThoughtSplitter
from trimtab.server.serving import Serving
from trimtab.server.steering import request_readings, request_steering
from trimtab.server.tools import Call, CallReader, must_call, offered_tools, read_call, tools_constraint


@dataclass(frozen=True)
class AnswerForm:
    """How the answers to a chat are to be read.

    Attributes:
        tools: Tools that they may call.
        forced: Whether each answer is a call.
        markers: Marks around thoughts; None if there are none to be found.
        stop_in_output: Whether a stop string belongs to the answer that it ended.
    """

    tools: tuple[Tool, ...] = ()
    forced: bool = False
    markers: ThinkingMarkers | None = None
    stop_in_output: bool = False


def chat_request(
    body: ChatFields, serving: Serving, preset: Preset, *, header: str | None = None
) -> tuple[Asked, AnswerForm]:
    """Return a chat in the engine's terms, and how its answers are to be read.

    Args:
        body: The chat, with the preset's defaults.
        serving: The engine, its settings and its vectors.
        preset: The preset that the chat names.
        header: Steering of the request's header.

    Raises:
        RequestError: A field is wrong.
    """
    tools = offered_tools(body.tools, body.tool_choice)
    forced = must_call(body.tool_choice)
    constraint = request_constraint(body, steer=body.steer_constrained)
    if tools and constraint is not None:
        raise RequestError(
            "tools cannot be called by an answer with a form of its own", fix="drop one of both", param="tools"
        )
    if tools:
        constraint = tools_constraint(
            tools, forced=forced, once=body.parallel_tool_calls is False, steer=body.steer_constrained
        )
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs", fix="set logprobs to true", param="top_logprobs")
    asked = Asked(
        prompts=(chat_prompt(body.messages, system=preset.system, tools=tools),),
        sampling=request_sampling(
            body,
            serving.settings,
            max_tokens=body.max_completion_tokens,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        n=body.n or 1,
        steering=request_steering(body, header, preset, serving.vectors),
        constraint=constraint,
        readings=request_readings(body, serving.vectors),
        measure_kl=body.kl,
        thinking=thinking_of(body.chat_template_kwargs),
        salt=body.cache_salt or "",
    )
    markers = serving.engine.thinking_markers if constraint is None or constraint.parts else None
    return asked, AnswerForm(tools, forced, markers, body.include_stop_str_in_output)


@contextmanager
def naming_fields(names: Mapping[str, str]) -> Iterator[None]:
    """Have errors about fields of a chat completion name the fields that a route has in their place."""
    try:
        yield
    except RequestError as error:
        first, dot, rest = (error.param or "").partition(".")
        param = f"{names[first]}{dot}{rest}" if first in names else error.param
        raise error.about(param) from None


@dataclass(frozen=True)
class Thought:
    """Piece of a model's thoughts."""

    text: str


Piece: TypeAlias = Thought | str | Call


@final
class AnswerReader:
    """Splits an answer into thoughts, text and calls while it is written.

    Args:
        form: How it is to be read.
        prompt: Text of the prompt, which may have opened thoughts.
    """

    def __init__(self, form: AnswerForm, prompt: str) -> None:
        self._form = form
        self._thoughts = ThoughtSplitter(form.markers, prompt) if form.markers is not None else None
        self._calls = CallReader(form.tools) if form.tools and not form.forced else None

    def feed(self, text: str) -> list[Piece]:
        """Append a piece of the answer, and return the pieces that are certain."""
        if self._form.forced or not text:
            return []  # a forced call is read at its end
        return self._read([Part(False, text)] if self._thoughts is None else self._thoughts.feed(text))

    def finish(self, completion: Completion) -> list[Piece]:
        """End the answer, and return its last pieces."""
        if self._form.forced:
            return [read_call(completion.text, self._form.tools) or completion.text]  # text if it ran out of tokens
        stopped = completion.stopped_by
        pieces = self.feed(stopped) if self._form.stop_in_output and isinstance(stopped, str) else []
        if self._thoughts is not None:
            pieces += self._read(self._thoughts.finish())
        return pieces if self._calls is None else [*pieces, *self._calls.finish()]

    def _read(self, parts: Sequence[Part]) -> list[Piece]:
        pieces: list[Piece] = []
        for thought, text in parts:
            if thought:
                pieces.append(Thought(text))
            else:
                pieces += [text] if self._calls is None else self._calls.feed(text)
        return pieces


def read_answer(completion: Completion, form: AnswerForm) -> list[Piece]:
    """Return the pieces of a whole answer."""
    reader = AnswerReader(form, completion.prompt.text)
    return [*reader.feed(completion.text), *reader.finish(completion)]


@dataclass(frozen=True)
class Block:
    """Successive pieces of one kind; a call is a block of its own.

    Attributes:
        number: Of the block in its answer.
        kind: What the pieces are.
        text: Their text so far; the arguments of a call.
        call: The call.
    """

    number: int
    kind: Literal["thoughts", "text", "call"]
    text: str = ""
    call: Call | None = None


class Step(NamedTuple):
    """Begin of a block, more text of it, or its end."""

    what: Literal["open", "add", "close"]
    block: Block
    text: str = ""  # what is added


@final
class BlockReader:
    """Joins the pieces of an answer to blocks, for routes whose answers are lists of these."""

    def __init__(self) -> None:
        self.closed: list[Block] = []
        self._open: Block | None = None
        self._held = ""  # white space that is dropped if a call follows

    def take(self, piece: Piece) -> Iterator[Step]:
        """Append a piece, and yield what it does to the blocks."""
        if isinstance(piece, Call):
            yield from self._close()
            self._held = ""
            yield from self._add("call", piece.arguments, call=piece)
            yield from self._close()
        elif isinstance(piece, Thought):
            yield from self._add("thoughts", piece.text)
        elif (self._open is None or self._open.kind != "text") and (self._held + piece).isspace():
            self._held += piece
        elif piece:
            held, self._held = self._held, ""
            yield from self._add("text", held + piece)

    def finish(self) -> Iterator[Step]:
        """End the answer; one without blocks gets one, which has no more than white space."""
        if not any(block.kind != "thoughts" for block in self.closed) and (
            self._open is None or self._open.kind == "thoughts"
        ):
            yield from self._add("text", self._held)
        yield from self._close()

    def _add(self, kind: Literal["thoughts", "text", "call"], text: str, *, call: Call | None = None) -> Iterator[Step]:
        if self._open is not None and self._open.kind != kind:
            yield from self._close()
        if self._open is None:
            self._open = Block(len(self.closed), kind, call=call)
            yield Step("open", self._open)
        self._open = replace(self._open, text=self._open.text + text)
        if text:
            yield Step("add", self._open, text)

    def _close(self) -> Iterator[Step]:
        if self._open is not None:
            block, self._open = self._open, None
            self.closed.append(block)
            yield Step("close", block)

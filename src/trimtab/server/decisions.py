"""Decisions: questions about an input, each answered by the probabilities of given answers, without any text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias

from fastapi import Request
from pydantic import Field, StringConstraints, model_validator

from trimtab.behaviours import Message
from trimtab.engines.constraints import MAX_BYTES
from trimtab.engines.protocol import Choices
from trimtab.errors import CancelledGenerationError
from trimtab.server.fields import Fields, SteeringFields, Text
from trimtab.server.responses import Id, Input, InputPart
from trimtab.server.serving import Serving
from trimtab.server.settings import MAX_PARTS
from trimtab.steering import Steering

MAX_QUESTIONS = 400
MAX_OPTIONS = 255
MAX_LEVELS = 10
AT_ONCE = 8  # questions that are read together; other requests go on between these
YES, NO = "yes", "no"

Name = Annotated[str, StringConstraints(max_length=1_024)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]


class Question(Fields):
    """A question about the input."""

    instructions: Text | Annotated[list[InputPart], Field(min_length=1, max_length=MAX_PARTS)]
    name: Name | None = None


class Predicate(Question):
    """How likely it is that a statement about the input is true."""

    type: Literal["predicate"]


class Option(Fields):
    """One of the answers to choose from."""

    value: Value | bool
    description: Text = ""

    @property
    def text(self) -> str:
        """Return the answer as the model writes it."""
        return str(self.value).lower() if isinstance(self.value, bool) else self.value


class Choice(Question):
    """Which of some answers holds."""

    type: Literal["choice"]
    choices: Annotated[list[Option], Field(min_length=2, max_length=MAX_OPTIONS)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        _check_answers([option.text for option in self.choices])
        return self


class Level(Fields):
    """One of the levels of a score."""

    label: Value
    description: Text = ""


class Score(Question):
    """Which of some levels, in their order, the input has."""

    type: Literal["score"]
    levels: Annotated[list[Level], Field(min_length=2, max_length=MAX_LEVELS)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        _check_answers([level.label for level in self.levels])
        return self


AnyQuestion: TypeAlias = Predicate | Choice | Score


def _check_answers(texts: Sequence[str]) -> None:
    if len(set(texts)) < len(texts):
        raise ValueError("two answers are the same text")
    if sum(len(text.encode()) for text in texts) > MAX_BYTES:
        raise ValueError(f"the answers have more than {MAX_BYTES:,} bytes")


class DecisionFields(SteeringFields):
    """Body of a request for decisions."""

    model: Id
    input: Input
    questions: Annotated[
        list[Annotated[AnyQuestion, Field(discriminator="type")]], Field(min_length=1, max_length=MAX_QUESTIONS)
    ]
    steer: bool = Field(default=False, description="Steer decisions; they are unsteered otherwise.")
    readings: None = None
    kl: Literal[False] = False
    safety_identifier: Any = Field(default=None, description="Ignored.")
    prompt_cache_key: Any = Field(default=None, description="Ignored.")
    prompt_cache_options: Any = Field(default=None, description="Ignored.")


def answers_of(question: AnyQuestion) -> tuple[str, ...]:
    """Return the answers whose probabilities a question asks for."""
    if isinstance(question, Choice):
        return tuple(option.text for option in question.choices)
    if isinstance(question, Score):
        return tuple(level.label for level in question.levels)
    return YES, NO


def question_prompt(chat: Sequence[Message], question: AnyQuestion) -> tuple[Message, ...]:
    """Return a chat that ends with a question about it, in its last user message or one of its own."""
    asked = "\n\n".join(filter(None, (_instructions(question), _options(question), _request(question))))
    *before, last = chat
    if last.role == "user":
        return (*before, Message("user", f"{last.content}\n\n{asked}"))
    return (*chat, Message("user", asked))


def _instructions(question: AnyQuestion) -> str:
    given = question.instructions
    return given if isinstance(given, str) else "".join(part.text for part in given)


def _options(question: AnyQuestion) -> str:
    """Return the answers with their descriptions, one a line; none where nothing is described."""
    if isinstance(question, Predicate):
        return ""
    if isinstance(question, Choice):
        rows = [(option.text, option.description) for option in question.choices]
    else:
        rows = [(level.label, level.description) for level in question.levels]
    if not any(description for _, description in rows):
        return ""
    return "\n".join(f"- {text}: {description}" if description else f"- {text}" for text, description in rows)


def _request(question: AnyQuestion) -> str:
    if isinstance(question, Predicate):
        return f"Answer with {YES} if this is so, or with {NO} if it is not."
    order = ", from the lowest to the highest" if isinstance(question, Score) else ""
    return f"Answer with one of these{order}: {', '.join(answers_of(question))}."


def decision_json(question: AnyQuestion, found: Choices) -> dict[str, Any]:
    """Return an answer in the shape of OpenAI's API.

    The confidence of a choice or of a score is the probability of its likeliest answer; a score is the mean of the
    levels' numbers, from 0, under their probabilities.
    """
    probabilities = found.probabilities
    if isinstance(question, Predicate):
        return {"type": "predicate", "name": question.name, "probability": probabilities[0]}
    confidence = max(probabilities)
    if isinstance(question, Choice):
        values = [option.value for option in question.choices]
        return {
            "type": "choice",
            "name": question.name,
            "choice": values[probabilities.index(confidence)],
            "confidence": confidence,
            "probabilities": [{"value": v, "probability": p} for v, p in zip(values, probabilities, strict=True)],
        }
    labels = [level.label for level in question.levels]
    return {
        "type": "score",
        "name": question.name,
        "score": sum(number * p for number, p in enumerate(probabilities)),
        "confidence": confidence,
        "probabilities": [
            {"value": number, "label": label, "probability": p}
            for number, (label, p) in enumerate(zip(labels, probabilities, strict=True))
        ],
    }


async def decide(
    serving: Serving,
    chat: Sequence[Message],
    questions: Sequence[AnyQuestion],
    *,
    steering: Steering,
    request: Request | None = None,
) -> tuple[list[Choices], int]:
    """Return the probabilities of each question's answers, and the tokens that were read.

    Args:
        serving: The engine.
        chat: What the questions are about.
        questions: The questions; those with the same answers are read together.
        steering: Steering of prompts and answers.
        request: The client's request; the work ends if it goes.

    Raises:
        RequestError: Too many requests wait already.
        CancelledGenerationError: The client has gone.
        TrimtabError: The engine does not take a prompt, an answer, or the steering.
    """
    engine, found, tokens = serving.engine, dict[int, Choices](), 0

    def read(numbers: Sequence[int], answers: tuple[str, ...]) -> int:
        prompts = [question_prompt(chat, questions[number]) for number in numbers]
        found.update(zip(numbers, engine.choose(prompts, answers, steering=steering), strict=True))
        return sum(len(engine.marked(prompt).tokens) for prompt in prompts)

    leave = await serving.admission.enter(1)
    try:
        for numbers, answers in _together(questions):
            if request is not None and await request.is_disconnected():
                raise CancelledGenerationError("the client has gone")
            read_now = await asyncio.to_thread(read, numbers, answers)
            serving.metrics.prompt_tokens.inc(read_now)
            tokens += read_now
    finally:
        leave()
    return [found[number] for number in range(len(questions))], tokens


def _together(questions: Sequence[AnyQuestion]) -> Iterator[tuple[list[int], tuple[str, ...]]]:
    """Yield the numbers of questions with the same answers, a few at once."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, question in enumerate(questions):
        groups.setdefault(answers_of(question), []).append(number)
    for answers, numbers in groups.items():
        for start in range(0, len(numbers), AT_ONCE):
            yield numbers[start : start + AT_ONCE], answers

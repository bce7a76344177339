"""Lessons from a chat under a prompt: its own sampled answers, and what it expects at every token of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from trimtab.behaviours import Message
from trimtab.engines import Completion, Engine
from trimtab.engines.base import Array, Gradients, Lesson, Tokens
from trimtab.errors import DistillError
from trimtab.learning.progress import OnProgress, Progress
from trimtab.steering import Steering

PHASE = "Letting the prompted model answer"
TOP = 256  # tokens of which a teacher's probability is noted

SystemPrompt: TypeAlias = str | Sequence[Message | Mapping[str, str]]
Tokened: TypeAlias = Literal["all", "generated"]


@dataclass(frozen=True)
class Teacher:
    """A model under a prompt.

    Attributes:
        opening: What stands before a user's message: a system prompt, examples, or both.
    """

    opening: tuple[Message, ...]

    @classmethod
    def of(cls, given: SystemPrompt) -> Teacher:
        """From a system prompt, or from the messages of a whole chat so far.

        Raises:
            DistillError: It is empty, is no chat, or ends with a question that nobody has answered yet.

        Example:
            >>> Teacher.of("Be brief.").chat("Hello!")
            (Message(role='system', content='Be brief.'), Message(role='user', content='Hello!'))
        """
        if isinstance(given, str):
            messages: tuple[Message, ...] = (Message("system", given.strip()),)
        else:
            messages = tuple(_message(message) for message in given)
        if not messages or not all(message.content.strip() for message in messages):
            raise DistillError("the prompt is empty", fix="give a system prompt, or messages with words in them")
        if messages[-1].role == "user":
            fix = "end with the assistant's answer; users' own messages come behind it"
            raise DistillError("the messages end with the user's turn", fix=fix)
        return cls(messages)

    def chat(self, text: str) -> tuple[Message, ...]:
        """The chat in which a user says ``text``."""
        return (*self.opening, Message("user", text))


def _message(given: Message | Mapping[str, str]) -> Message:
    if isinstance(given, Message):
        return given
    try:
        message = Message(given["role"], given["content"])
    except (KeyError, TypeError):
        raise DistillError("a message has no role or no content", fix='give {"role": …, "content": …}') from None
    if message.role not in get_args(Literal["system", "user", "assistant"]):
        raise DistillError(f"no role named {message.role!r}", fix="use system, user or assistant")
    return message


@dataclass(frozen=True)
class Answered:
    """A user's message with one answer of the prompted model; both as token ids.

    Attributes:
        text: The user's message.
        prompt: The chat without the teacher's opening.
        prompted: The chat with it.
        answer: The answer, with the token that ends it where it came to an end.
    """

    text: str
    prompt: Tokens
    prompted: Tokens
    answer: Tokens


def answered_by(
    model: Engine,
    teacher: Teacher,
    texts: Sequence[str],
    *,
    answers: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    steering: Steering,
    progress: OnProgress,
) -> list[Answered]:
    """Let the prompted model answer every message, several times if the answers are sampled.

    Answers without a token are left out.

    Args:
        model: The engine.
        teacher: What stands before the messages.
        texts: The users' messages.
        answers: How many to each.
        max_new_tokens: Upper bound on an answer's length.
        temperature: 0 takes greedy answers.
        seed: Of the samples.
        steering: What is active meanwhile.
        progress: Told when the answers are there.

    Raises:
        PromptError: A chat does not fit into the context window.
        DistillError: No answer has a token.
    """
    asked = [text for text in texts for _ in range(answers)]
    progress(Progress(PHASE, 0, 1))
    completions: list[Completion] = model.generate(
        [teacher.chat(text) for text in asked],
        steering=steering,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )
    progress(Progress(PHASE, 1, 1))
    found = [
        Answered(
            text,
            prompt=model.encode(model.render([Message("user", text)])),
            prompted=model.encode(model.render(teacher.chat(text))),
            answer=completion.tokens,
        )
        for text, completion in zip(asked, completions, strict=True)
        if completion.tokens
    ]
    if not found:
        raise DistillError("the prompted model answers nothing", fix="try other user prompts")
    return list(dict.fromkeys(found))


def lessons_of(
    gradients: Gradients,
    answered: Sequence[Answered],
    *,
    additions: Mapping[int, Array],
    top: int = TOP,
    swift: bool = False,
) -> list[Lesson]:
    """What the prompted model expects along its answers, for a student that is not prompted.

    Args:
        gradients: Of the model.
        answered: The answers.
        additions: Layer to ``[hidden]``: what is added to the teacher's hidden states.
        top: How many of the likeliest tokens are noted; of the others, their mass.
        swift: Faster, and not quite exact: to learn from, not to measure by.
    """
    texts = [(a.prompted, a.answer) for a in answered]
    expected = gradients.expectations(texts, top=top, additions=additions, swift=swift)
    return [Lesson(a.prompt, a.answer, found) for a, found in zip(answered, expected, strict=True)]

"""Distillation examples: sampled answers of the prompted model, with its distribution at each of their tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trimtab.arrays import F32
from trimtab.behaviours import Message
from trimtab.engines import Completion
from trimtab.engines.protocol import DistillationExample, Generates, Gradients, Tokens
from trimtab.errors import DistillError
from trimtab.steering import Steering
from trimtab.training.progress import OnProgress, Progress, ignore

PHASE = "Letting the prompted model answer"
TOP = 256  # likeliest tokens whose probability under the teacher is recorded; of the others, their total

SystemPrompt: TypeAlias = str | Sequence[Message | Mapping[str, str]]
Tokened: TypeAlias = Literal["all", "generated"]


@dataclass(frozen=True)
class Teacher:
    """Prompted model.

    Attributes:
        opening: Messages before a user's message: a system prompt, examples, or both.
    """

    opening: tuple[Message, ...]

    @classmethod
    def of(cls, prompt: SystemPrompt) -> Teacher:
        """Return the teacher for a system prompt, or from the messages of a whole chat so far.

        Raises:
            DistillError: It is empty, is no chat, or ends with an unanswered question.

        Example:
            >>> Teacher.of("Be brief.").chat("Hello!")
            (Message(role='system', content='Be brief.'), Message(role='user', content='Hello!'))
        """
        if isinstance(prompt, str):
            messages: tuple[Message, ...] = (Message("system", prompt.strip()),)
        else:
            messages = tuple(_message(message) for message in prompt)
        if not messages or not all(message.content.strip() for message in messages):
            raise DistillError("the prompt is empty", fix="give a system prompt, or messages with words in them")
        if messages[-1].role == "user":
            fix = "end with the assistant's answer; the user's next message follows it"
            raise DistillError("the messages end with the user's turn", fix=fix)
        return cls(messages)

    def chat(self, text: str) -> tuple[Message, ...]:
        """Return the chat in which a user says ``text``."""
        return (*self.opening, Message("user", text))


def _message(given: Message | Mapping[str, str]) -> Message:
    if isinstance(given, Message):
        return given
    try:
        message = Message(given["role"], given["content"])
    except (KeyError, TypeError):
        raise DistillError("a message has no role or no content", fix='give {"role": …, "content": …}') from None
    if message.role not in ("system", "user", "assistant"):
        raise DistillError(f"no role named {message.role!r}", fix="use system, user or assistant")
    return message


@dataclass(frozen=True)
class Answered:
    """User message with one answer of the prompted model; both as token ids.

    Attributes:
        text: The user's message.
        prompt: The chat without the teacher's opening.
        prompted: The chat with it.
        answer: The answer, with the token that ends it where it ended.
    """

    text: str
    prompt: Tokens
    prompted: Tokens
    answer: Tokens


def answered_by(
    model: Generates,
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

    There are ``answers`` to each of ``texts``. Answers without a token and repeated ones are left out.

    Raises:
        PromptError: A chat does not fit into the context window.
        DistillError: No answer has a token.
    """
    messages = [text for text in texts for _ in range(answers)]
    progress(Progress(PHASE, 0, 1))
    completions: list[Completion] = model.generate(
        [teacher.chat(text) for text in messages],
        steering=steering,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )
    progress(Progress(PHASE, 1, 1))
    answered = [
        Answered(
            text,
            prompt=model.encode(model.render([Message("user", text)])),
            prompted=completion.prompt.tokens,
            answer=completion.tokens,
        )
        for text, completion in zip(messages, completions, strict=True)
        if completion.tokens
    ]
    if not answered:
        raise DistillError("the prompted model answers nothing", fix="try other user prompts")
    return list(dict.fromkeys(answered))


def distillation_examples(
    gradients: Gradients,
    answered: Sequence[Answered],
    *,
    additions: Mapping[int, F32],
    bf16: bool = False,
) -> list[DistillationExample]:
    """Return the prompted model's distributions along its answers, for a student without the prompt.

    ``additions`` (layer to ``[hidden]``) are added to the teacher's hidden states. ``bf16`` is faster but not exact:
    use it for examples to learn from, not for measurements.
    """
    texts = [(a.prompted, a.answer) for a in answered]
    expected = gradients.teacher_distributions(texts, top=TOP, additions=additions, bf16=bf16)
    return [DistillationExample(a.prompt, a.answer, teacher) for a, teacher in zip(answered, expected, strict=True)]


INVENTING = "Writing messages such as users send"
ASKED_FOR_EACH = 3
TEMPERATURE = 0.9
MESSAGE_TOKENS = 32
SHORTEST, LONGEST = 3, 30  # words
ASK = "An assistant has these instructions:\n{prompt}\n\nWrite one short message that a user sends to this assistant."
EXAMPLES = (
    ("You work at a train station and answer politely.", "When does the next train to the coast leave?"),
    ("You are a strict chess teacher. Explain every move.", "Why is it bad to bring the queen out early?"),
    ("You help people to cook with what they have.", "I only have rice, two eggs and an onion. What can I make?"),
)


def invent_messages(
    model: Generates, teacher: Teacher, *, count: int, seed: int = 0, progress: OnProgress = ignore
) -> tuple[str, ...]:
    """Ask the model for messages that users of a prompted assistant might send.

    Args:
        model: The engine.
        teacher: The prompt.
        count: Number of messages wanted; there may be fewer.
        seed: Seed of the samples.
        progress: Called before and after.

    Raises:
        DistillError: The model wrote none.

    Example:
        >>> invent_messages(model, Teacher.of("You sell boats."), count=2)  # doctest: +SKIP
        ('How much is a small boat?', 'Do you have boats for two?')
    """
    prompt = "\n".join(message.content for message in teacher.opening if message.role != "user")
    chat = [
        message
        for instructions, answer in EXAMPLES
        for message in (Message("user", ASK.format(prompt=instructions)), Message("assistant", answer))
    ]
    chat.append(Message("user", ASK.format(prompt=prompt)))
    progress(Progress(INVENTING, 0, 1))
    answers = model.generate(
        [chat] * (ASKED_FOR_EACH * count), max_new_tokens=MESSAGE_TOKENS, temperature=TEMPERATURE, seed=seed
    )
    progress(Progress(INVENTING, 1, 1))
    messages = sift((answer.text for answer in answers), known=[message for _, message in EXAMPLES])[:count]
    if not messages:
        raise DistillError("the model writes no messages", fix="give some with prompts=")
    return messages


def sift(answers: Iterable[str], *, known: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the answers that could be a user's message: whole, short, and new.

    Example:
        >>> sift(['"How deep is it?"', "How deep is it?", "Well", "This one never comes to an"])
        ('How deep is it?',)
    """
    messages: dict[str, None] = {}
    seen = {_key(text) for text in known}
    for answer in answers:
        lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
        text = re.sub(r"^(?:user|message)\s*:\s*", "", lines[0], flags=re.IGNORECASE) if lines else ""
        text = text.strip(" \t\"'“”*")
        end = max(text.rfind(mark) for mark in ".!?") + 1
        text, words = text[:end], len(text[:end].split())
        if SHORTEST <= words <= LONGEST and _key(text) not in seen:
            seen.add(_key(text))
            messages[text] = None
    return tuple(messages)


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))

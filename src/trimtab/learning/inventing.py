"""Users' messages such as an assistant under some prompt would get, written by the model itself.

A small model strays, so it is shown examples of other assistants, is asked for more than is wanted, and what is no
message is thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from trimtab.behaviours import Message
from trimtab.engines import Engine
from trimtab.errors import DistillError
from trimtab.learning.lessons import Teacher
from trimtab.learning.progress import OnProgress, Progress, ignore

PHASE = "Writing messages such as users send"
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
    model: Engine, teacher: Teacher, *, count: int, seed: int = 0, progress: OnProgress = ignore
) -> tuple[str, ...]:
    """Ask the model for messages that users of a prompted assistant might send.

    Args:
        model: The engine.
        teacher: The prompt.
        count: How many are wanted; fewer come where the model has not more to say.
        seed: Of the samples.
        progress: Told when they are there.

    Raises:
        DistillError: None came.

    Example:
        >>> invent_messages(model, Teacher.of("You sell boats."), count=2)  # doctest: +SKIP
        ('How much is a small boat?', 'Do you have boats for two?')
    """
    prompt = "\n".join(message.content for message in teacher.opening if message.role != "user")
    chat = [
        message
        for given, message_ in EXAMPLES
        for message in (Message("user", ASK.format(prompt=given)), Message("assistant", message_))
    ]
    chat.append(Message("user", ASK.format(prompt=prompt)))
    progress(Progress(PHASE, 0, 1))
    answers = model.generate(
        [chat] * (ASKED_FOR_EACH * count), max_new_tokens=MESSAGE_TOKENS, temperature=TEMPERATURE, seed=seed
    )
    progress(Progress(PHASE, 1, 1))
    found = sift((answer.text for answer in answers), known=[message for _, message in EXAMPLES])[:count]
    if not found:
        raise DistillError("the model writes no messages of its own", fix="give some with prompts=")
    return found


def sift(answers: Iterable[str], *, known: Sequence[str] = ()) -> tuple[str, ...]:
    """What of the answers could be a user's message: whole, short, and not there yet.

    Example:
        >>> sift(['"How deep is it?"', "How deep is it?", "Well", "This one never comes to an"])
        ('How deep is it?',)
    """
    found: dict[str, None] = {}
    seen = {_key(text) for text in known}
    for answer in answers:
        lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
        text = re.sub(r"^(?:user|message)\s*:\s*", "", lines[0], flags=re.IGNORECASE) if lines else ""
        text = text.strip(" \t\"'“”*")
        end = max(text.rfind(mark) for mark in ".!?") + 1
        text, words = text[:end], len(text[:end].split())
        if SHORTEST <= words <= LONGEST and _key(text) not in seen:
            seen.add(_key(text))
            found[text] = None
    return tuple(found)


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))

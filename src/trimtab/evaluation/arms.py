"""Arms: ways of making a model behave, each asked the same questions so that they can be compared.

An arm is what stands before the question (a system prompt, examples), what is added to hidden states (a steering), and
what is done to the weights (an adapter that is switched on). The base model is the arm that has none of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

from trimtab.behaviours import Message
from trimtab.engines import Completion, Engine, ForcedItem, ForcedScores
from trimtab.engines.base import Tokens
from trimtab.errors import StrongSteeringWarning
from trimtab.steering import Steering, Term
from trimtab.steering.plan import Change
from trimtab.vectors import ControlVector, ModelInfo

Chat: TypeAlias = tuple[Message, ...]
Activate: TypeAlias = Callable[[], AbstractContextManager[None]]

TOGETHER = 6  # arms asked at once; more gain little and take memory


@dataclass(frozen=True)
class Arm:
    """A way of making the model behave.

    Attributes:
        openings: What stands before question ``n``: ``openings[n % len(openings)]``; none, nothing does.
        steering: What is added to hidden states.
        activate: Switches an adapter on for the ``with`` block that it gives; None leaves the weights alone.

    Example:
        >>> Arm().chat(0, "Hello!")
        (Message(role='user', content='Hello!'),)
    """

    openings: tuple[Chat, ...] = ()
    steering: Steering = field(default_factory=Steering)
    activate: Activate | None = None

    @classmethod
    def of_vector(cls, vector: ControlVector, strength: float) -> Arm:
        """Plain questions, with a vector added at a strength."""
        return cls(steering=Steering((Term(vector, strength),)))

    def chat(self, number: int, text: str) -> Chat:
        """The chat that puts question ``number`` to the model."""
        before = self.openings[number % len(self.openings)] if self.openings else ()
        return (*before, Message("user", text))

    def active(self) -> AbstractContextManager[None]:
        """The ``with`` block inside which the weights are this arm's."""
        return nullcontext() if self.activate is None else self.activate()


def write(engine: Engine, arm: Arm, texts: Sequence[str], *, max_new_tokens: int) -> list[Completion]:
    """Greedy answers of an arm to every question; what they spend is measured, so no warning is needed of that."""
    (found,) = write_all(engine, [arm], texts, max_new_tokens=max_new_tokens)
    return found


def write_all(
    engine: Engine,
    arms: Sequence[Arm],
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    on_arm: Callable[[], None] = lambda: None,
) -> list[list[Completion]]:
    """Greedy answers of every arm to every question.

    Arms that leave the weights alone are asked a few at a time: weights are read once for all rows of a batch.

    Args:
        engine: The model.
        arms: The arms.
        texts: The questions.
        max_new_tokens: Upper bound on an answer's length.
        on_arm: Called once for each arm, when it is done.

    Returns:
        The answers, ``[arm][question]``.
    """
    found = []
    for group in _groups(arms):
        chats = [arm.chat(number, text) for arm in group for number, text in enumerate(texts)]
        steering = [arm.steering for arm in group for _ in texts]
        with group[0].active(), warnings.catch_warnings():
            warnings.simplefilter("ignore", StrongSteeringWarning)
            written = engine.generate(chats, steering=steering, max_new_tokens=max_new_tokens)
        for number in range(len(group)):
            found.append(written[number * len(texts) : (number + 1) * len(texts)])
            on_arm()
    return found


def _groups(arms: Sequence[Arm]) -> Iterator[list[Arm]]:
    """Neighbours that can be asked together, at most ``TOGETHER`` of them."""
    group: list[Arm] = []
    for arm in arms:
        if group and (len(group) == TOGETHER or arm.activate is not None or group[0].activate is not None):
            yield group
            group = []
        group.append(arm)
    if group:
        yield group


def score(engine: Engine, arm: Arm, texts: Sequence[str], answers: Sequence[Sequence[Tokens]]) -> ForcedScores:
    """What an arm thinks of given answers.

    Args:
        engine: The model.
        arm: The arm.
        texts: The questions.
        answers: For each question the token ids of some answers.

    Returns:
        Summed log-probability (nats) and tokens of every answer, ``[question][answer]``.
    """
    items = [
        ForcedItem(engine.encode(engine.render(arm.chat(number, text))), tuple(given))
        for number, (text, given) in enumerate(zip(texts, answers, strict=True))
    ]
    with arm.active():
        forcing = engine.teacher_forcing(items, once=True)
        changes = changes_of(arm.steering, engine.info)
        return forcing.measure(changes) if changes else forcing.base


def changes_of(steering: Steering, info: ModelInfo) -> dict[int, list[Change]]:
    """What a steering of all tokens does to each layer, in order."""
    changes: dict[int, list[Change]] = {}
    for planned in steering.plan(info):
        for layer, change in planned.changes.items():
            changes.setdefault(layer, []).append(change)
    return changes

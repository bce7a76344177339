"""What a vector is compared with: prompting, examples, prompt and vector together, and fine-tuning.

Each method is two arms, one for each pole. All are asked the same questions and seen through the same scorers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from trimtab.behaviours import Behaviour, Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines import Completion, Engine, ForcedItem, ForcedScores
from trimtab.engines.protocol import Tokens
from trimtab.errors import CalibrationError, StrongSteeringWarning
from trimtab.steering import Steering, Term
from trimtab.steering.compiled import Change
from trimtab.training.questions import KlSet, answered_in_character, ask
from trimtab.training.search import SIGNS, spend
from trimtab.vectors import ControlVector, ModelInfo

Chat: TypeAlias = tuple[Message, ...]
Activate: TypeAlias = Callable[[], AbstractContextManager[None]]

TOGETHER = 6  # arms asked at once; more gain little and take memory


@dataclass(frozen=True)
class Intervention:
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
    def of_vector(cls, vector: ControlVector, strength: float) -> Intervention:
        """Plain questions, with a vector added at a strength."""
        return cls(steering=Steering((Term(vector, strength),)))

    def chat(self, number: int, text: str) -> Chat:
        """The chat that puts question ``number`` to the model."""
        before = self.openings[number % len(self.openings)] if self.openings else ()
        return (*before, Message("user", text))

    def active(self) -> AbstractContextManager[None]:
        """The ``with`` block inside which the weights are this arm's."""
        return nullcontext() if self.activate is None else self.activate()


def write(engine: Engine, arm: Intervention, texts: Sequence[str], *, max_new_tokens: int) -> list[Completion]:
    """Greedy answers of an arm to every question; what they spend is measured, so no warning is needed of that."""
    (found,) = write_all(engine, [arm], texts, max_new_tokens=max_new_tokens)
    return found


def write_all(
    engine: Engine,
    arms: Sequence[Intervention],
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


def _groups(arms: Sequence[Intervention]) -> Iterator[list[Intervention]]:
    """Neighbours that can be asked together, at most ``TOGETHER`` of them."""
    group: list[Intervention] = []
    for arm in arms:
        if group and (len(group) == TOGETHER or arm.activate is not None or group[0].activate is not None):
            yield group
            group = []
        group.append(arm)
    if group:
        yield group


def score(engine: Engine, arm: Intervention, texts: Sequence[str], answers: Sequence[Sequence[Tokens]]) -> ForcedScores:
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


def changes_of(steering: Steering, info: ModelInfo) -> dict[int, tuple[Change, ...]]:
    """Return the changes of a steering of all tokens by layer, in the order in which they act."""
    return steering.compile(info).changes


VECTOR = "vector"
EQUAL = "vector at the prompts' KL"
SYSTEM = "system prompt"
FEW_SHOT = "few-shot"
BOTH = "prompt + vector"
LORA = "LoRA"
LORA_EQUAL = "LoRA at the budget"

EXAMPLES = 3
DIAL_TOLERANCE = 0.1  # of the KL
LEAST = 0.02  # nats per token: below, a prompt spends too little for a dial to be set by it


@dataclass(frozen=True)
class Way:
    """One method, before it is measured.

    Attributes:
        name: Of its row.
        about: What it is, in a line.
        arms: By sign.
        strengths: Where its dial stands, by sign; None where it has none.
        stored_bytes: What has to be kept.
        dial: Whether it can be turned up and down.
    """

    name: str
    about: str
    arms: Mapping[str, Intervention]
    strengths: Mapping[str, float] | None
    stored_bytes: int
    dial: bool


def vector_way(vector: ControlVector, *, budget: float) -> Way:
    """The vector at strength ±1."""
    arms = {key: Intervention.of_vector(vector, sign) for key, sign in SIGNS.items()}
    about = f"added at layers {vector.layers[0]} to {vector.layers[-1]}, at {budget:g} nat per token"
    return Way(VECTOR, about, arms, dict(SIGNS), vector_bytes(vector), dial=True)


def system_way(behaviour: Behaviour, *, questions: int) -> Way:
    """System prompts that ask for a pole: one phrasing of its personas after another."""
    told = [persona_instructions(behaviour, number) for number in range(questions)]
    openings: dict[str, list[Chat]] = {
        "+": [(Message("system", pair.positive),) for pair in told],
        "-": [(Message("system", pair.negative),) for pair in told],
    }
    arms = {key: Intervention(openings=tuple(chats)) for key, chats in openings.items()}
    size = int(np.mean([len(message.content.encode()) for chats in openings.values() for (message,) in chats]))
    return Way(SYSTEM, "asks for the pole in so many words, in the behaviour's own phrasings", arms, None, size, False)


def few_shot_way(engine: Engine, behaviour: Behaviour, *, answer_tokens: int) -> Way:
    """Questions and answers in character that stand before the question, without a system prompt."""
    texts = neutral_prompts().calibration[:EXAMPLES]
    asked = ask(engine, texts, None, in_character=0, max_new_tokens=1, progress=lambda _: None)
    told = answered_in_character(engine, asked, behaviour, max_new_tokens=answer_tokens)
    openings: dict[str, list[Message]] = {"+": [], "-": []}
    for question in told:
        assert question.in_character is not None
        for key, answer in (("+", question.in_character.positive), ("-", question.in_character.negative)):
            openings[key] += [Message("user", question.text), Message("assistant", _whole(engine.decode(answer)))]
    arms = {key: Intervention(openings=(tuple(chat),)) for key, chat in openings.items()}
    size = int(np.mean([len("".join(m.content for m in chat).encode()) for chat in openings.values()]))
    return Way(FEW_SHOT, f"{EXAMPLES} answers in character stand before the question", arms, None, size, False)


def _whole(text: str) -> str:
    """An answer that was cut off, up to its last whole sentence; as it is where it has none."""
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if end > 0 else text


def equal_way(kl: KlSet, vector: ControlVector, kls: Mapping[str, float], plan: Callable[..., object]) -> Way | None:
    """The vector dialled to the KL that the prompts spend; None where that is next to nothing.

    Args:
        kl: Where KL is measured.
        vector: The vector.
        kls: By sign, what the prompts spend, in nats per token.
        plan: From a steering to changes by layer.
    """
    assert vector.calibration is not None
    strengths = {}
    for key, sign in SIGNS.items():
        if kls[key] < LEAST:
            return None

        def kl_at(strength: float, sign: float = sign) -> float:
            return kl.measure(plan(Steering((Term(vector, sign * strength),))))  # type: ignore[arg-type]

        guess = math.sqrt(kls[key] / vector.calibration.budget)
        try:
            strengths[key] = sign * spend(kl_at, budget=kls[key], guess=guess, tolerance=DIAL_TOLERANCE).scale
        except CalibrationError:
            return None
    arms = {key: Intervention.of_vector(vector, strengths[key]) for key in SIGNS}
    about = f"turned to {strengths['+']:+.2f} and {strengths['-']:+.2f}, where it spends what the prompts do"
    return Way(EQUAL, about, arms, strengths, vector_bytes(vector), dial=True)


def both_way(
    system: Way,
    vector: ControlVector,
    kls: Mapping[str, float],
    kl_of: Callable[[Intervention], float],
    *,
    budget: float,
) -> Way:
    """System prompt and vector together, the vector dialled so that both spend the budget, if the prompt leaves room.

    Args:
        system: The system prompts.
        vector: The vector.
        kls: By sign, what the prompts spend alone.
        kl_of: What an arm spends, in nats per token.
        budget: In nats per token.
    """
    strengths: dict[str, float] = {}
    for key, sign in SIGNS.items():

        def spent_at(
            strength: float, openings: tuple[Chat, ...] = system.arms[key].openings, sign: float = sign
        ) -> float:
            return kl_of(Intervention(openings=openings, steering=Steering((Term(vector, sign * strength),))))

        room = budget - kls[key]
        strengths[key] = 0.5 * sign  # where the prompt alone spends it all
        if room > DIAL_TOLERANCE * budget:
            with suppress(CalibrationError):
                guess = math.sqrt(room / budget)
                strengths[key] = sign * spend(spent_at, budget=budget, guess=guess, tolerance=DIAL_TOLERANCE).scale
    arms = {
        key: Intervention(openings=system.arms[key].openings, steering=Steering((Term(vector, strengths[key]),)))
        for key in SIGNS
    }
    about = f"the same prompts, the vector at {strengths['+']:+.2f} and {strengths['-']:+.2f}"
    return Way(BOTH, about, arms, strengths, system.stored_bytes + vector_bytes(vector), dial=True)


def vector_bytes(vector: ControlVector) -> int:
    """Bytes of the directions that a vector steers with."""
    return int(sum(vector.directions[layer].nbytes for layer in vector.layers))


def added_tokens(engine: Engine, way: Way, texts: Sequence[str]) -> float:
    """Prompt tokens that a method adds to a request, on the average of questions and sides."""

    def tokens(arm: Intervention) -> int:
        return sum(len(engine.encode(engine.render(arm.chat(n, text)))) for n, text in enumerate(texts))

    plain = tokens(Intervention())
    return float(np.mean([tokens(arm) - plain for arm in way.arms.values()])) / len(texts)

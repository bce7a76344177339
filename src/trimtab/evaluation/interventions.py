"""Interventions that evaluations compare: a vector, system prompts, examples, prompt with vector, fine-tuning.

Each is made for both poles. All answer the same questions and are measured by the same metrics.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np

from trimtab.behaviours import Behaviour, Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines import Completion, ForcedItem, ForcedScores
from trimtab.engines.protocol import Forces, Generates, Text, Tokens
from trimtab.errors import CalibrationError, StrongSteeringWarning
from trimtab.steering import Steering, Term
from trimtab.steering.compiled import Change
from trimtab.training.questions import KlSet, add_persona_answers, ask
from trimtab.training.search import SIGNS, find_scale
from trimtab.vectors import ControlVector, ModelInfo

Chat: TypeAlias = tuple[Message, ...]
Activate: TypeAlias = Callable[[], AbstractContextManager[None]]

MAX_BATCHED = 6  # interventions that share a batch; more gain little and take memory

VECTOR = "vector"
EQUAL = "vector at the prompts' KL"
SYSTEM = "system prompt"
FEW_SHOT = "few-shot"
BOTH = "prompt + vector"
LORA = "LoRA"
LORA_EQUAL = "LoRA at the budget"

EXAMPLES = 3
KL_TOLERANCE = 0.1  # relative, where a strength is fitted to a KL
MIN_PROMPT_KL = 0.02  # nats per token; below, a prompt changes too little to fit a strength to it


@dataclass(frozen=True)
class Intervention:
    """Something that makes the model behave differently; nothing by default.

    Attributes:
        openings: Messages before question ``n`` are ``openings[n % len(openings)]``.
        steering: Steering of the hidden states.
        activate: Returns a ``with`` block inside which an adapter is switched on; None leaves the weights alone.
        name: Name in tables.
        about: Description in one line.
        strength: Strength that it is applied at; None where it has no adjustable strength.
        stored_bytes: Size of what has to be stored.

    Example:
        >>> Intervention().chat(0, "Hello!")
        (Message(role='user', content='Hello!'),)
    """

    openings: tuple[Chat, ...] = ()
    steering: Steering = field(default_factory=Steering)
    activate: Activate | None = None
    name: str = field(default="", compare=False)
    about: str = field(default="", compare=False)
    strength: float | None = field(default=None, compare=False)
    stored_bytes: int = field(default=0, compare=False)

    @classmethod
    def of_vector(cls, vector: ControlVector, strength: float, *, name: str = VECTOR, about: str = "") -> Intervention:
        """Return the addition of a vector at a strength, with nothing before the question."""
        steering = Steering((Term(vector, strength),))
        return cls(steering=steering, name=name, about=about, strength=strength, stored_bytes=vector_bytes(vector))

    @property
    def only_steers(self) -> bool:
        """Return True if it changes neither prompts nor weights."""
        return not self.openings and self.activate is None

    def chat(self, number: int, text: str) -> Chat:
        """Return the chat that asks question ``number``."""
        opening = self.openings[number % len(self.openings)] if self.openings else ()
        return (*opening, Message("user", text))

    def active(self) -> AbstractContextManager[None]:
        """Return the ``with`` block inside which the adapter, if any, is switched on."""
        return nullcontext() if self.activate is None else self.activate()


Pair: TypeAlias = Mapping[str, Intervention]  # for each pole, by sign


def write_all(
    engine: Generates,
    interventions: Sequence[Intervention],
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    on_step: Callable[[], None] = lambda: None,
) -> list[list[Completion]]:
    """Return greedy answers under every intervention to every question.

    Interventions without an adapter share a batch, because weights are then read once for all of its rows. Strong
    steering is not warned of: an evaluation measures what it spends.

    Returns:
        The answers, ``[intervention][question]``.
    """
    answers = []
    for group in _groups(interventions):
        chats = [intervention.chat(number, text) for intervention in group for number, text in enumerate(texts)]
        steering = [intervention.steering for intervention in group for _ in texts]
        with group[0].active(), warnings.catch_warnings():
            warnings.simplefilter("ignore", StrongSteeringWarning)
            written = engine.generate(chats, steering=steering, max_new_tokens=max_new_tokens)
        for number in range(len(group)):
            answers.append(written[number * len(texts) : (number + 1) * len(texts)])
            on_step()
    return answers


def _groups(interventions: Sequence[Intervention]) -> Iterator[list[Intervention]]:
    """Split into runs of neighbours that can share a batch, ``MAX_BATCHED`` at most."""
    group: list[Intervention] = []
    for intervention in interventions:
        if group and (len(group) == MAX_BATCHED or intervention.activate is not None or group[0].activate is not None):
            yield group
            group = []
        group.append(intervention)
    if group:
        yield group


def score(
    engine: Forces, intervention: Intervention, texts: Sequence[str], answers: Sequence[Sequence[Tokens]]
) -> ForcedScores:
    """Score given answers under an intervention.

    Returns:
        Summed log-probability (nats) and tokens of every answer, ``[question][answer]``.
    """
    with intervention.active():
        forcing = engine.teacher_forcing(forced_items(engine, intervention, texts, answers), once=True)
        changes = changes_of(intervention.steering, engine.info)
        return forcing.measure(changes) if changes else forcing.base


def forced_items(
    engine: Text, intervention: Intervention, texts: Sequence[str], answers: Sequence[Sequence[Tokens]]
) -> list[ForcedItem]:
    """Return the prompt of every question with its given answers, for teacher forcing."""
    return [
        ForcedItem(engine.encode(engine.render(intervention.chat(number, text))), tuple(given))
        for number, (text, given) in enumerate(zip(texts, answers, strict=True))
    ]


def changes_of(steering: Steering, info: ModelInfo) -> dict[int, tuple[Change, ...]]:
    """Return the changes of a steering of all tokens by layer, in the order in which they act."""
    return steering.compile(info).changes


def vector_pair(vector: ControlVector, *, budget: float) -> Pair:
    """Return the vector at strength ±1."""
    about = f"added at layers {vector.layers[0]} to {vector.layers[-1]}, at {budget:g} nat per token"
    return {key: Intervention.of_vector(vector, sign, about=about) for key, sign in SIGNS.items()}


def system_prompt_pair(behaviour: Behaviour, *, questions: int) -> Pair:
    """Return system prompts that ask for a pole, one phrasing of its personas after another."""
    instructions = [persona_instructions(behaviour, number) for number in range(questions)]
    prompts = {"+": [each.positive for each in instructions], "-": [each.negative for each in instructions]}
    openings = {key: tuple((Message("system", text),) for text in texts) for key, texts in prompts.items()}
    size = int(np.mean([len(text.encode()) for texts in prompts.values() for text in texts]))
    about = "asks for the pole explicitly, in the behaviour's own phrasings"
    return {key: Intervention(chats, name=SYSTEM, about=about, stored_bytes=size) for key, chats in openings.items()}


def few_shot_pair(engine: Generates, behaviour: Behaviour, *, answer_tokens: int) -> Pair:
    """Return example questions with answers in character, without a system prompt."""
    texts = neutral_prompts().calibration[:EXAMPLES]
    asked = ask(engine, texts, None, personas=0, max_new_tokens=1, progress=lambda _: None)
    openings: dict[str, list[Message]] = {"+": [], "-": []}
    for question in add_persona_answers(engine, asked, behaviour, max_new_tokens=answer_tokens):
        assert question.persona_answers is not None
        for key, answer in (("+", question.persona_answers.positive), ("-", question.persona_answers.negative)):
            text = _whole_sentences(engine.decode(answer))
            openings[key] += [Message("user", question.text), Message("assistant", text)]
    size = int(np.mean([len("".join(m.content for m in chat).encode()) for chat in openings.values()]))
    about = f"{EXAMPLES} answers in character before the question"
    return {
        key: Intervention((tuple(chat),), name=FEW_SHOT, about=about, stored_bytes=size)
        for key, chat in openings.items()
    }


def _whole_sentences(text: str) -> str:
    """Cut an answer after its last whole sentence; leave it as it is where it has none."""
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if end > 0 else text


def equal_kl_pair(
    kl: KlSet,
    vector: ControlVector,
    kls: Mapping[str, float],
    info: ModelInfo,
) -> Pair | None:
    """Return the vector at the strengths that spend ``kls``, the KL of the system prompts in nats per token.

    Returns:
        None where the prompts spend next to nothing, or more than any strength does.
    """
    assert vector.calibration is not None

    def kl_at(strength: float) -> float:
        return kl.measure(changes_of(Steering((Term(vector, strength),)), info))

    strengths = {}
    for key, sign in SIGNS.items():
        if kls[key] < MIN_PROMPT_KL:
            return None
        # KL grows about as the square of the strength.
        strength = _fit_strength(kl_at, sign, kls[key], guess=math.sqrt(kls[key] / vector.calibration.budget))
        if strength is None:
            return None
        strengths[key] = strength
    about = f"at strengths {strengths['+']:+.2f} and {strengths['-']:+.2f}, where it spends the KL of the prompts"
    return {key: Intervention.of_vector(vector, strengths[key], name=EQUAL, about=about) for key in SIGNS}


def combined_pair(
    system: Pair,
    vector: ControlVector,
    kls: Mapping[str, float],
    kl_of: Callable[[Intervention], float],
    *,
    budget: float,
) -> Pair:
    """Return system prompt and vector together, the vector at the strength at which both spend the budget.

    Where the prompt alone spends the budget (``kls``), or no strength meets it, the vector is added at strength ±0.5.
    """

    def combine(key: str, strength: float, about: str = "") -> Intervention:
        return Intervention(
            system[key].openings,
            Steering((Term(vector, strength),)),
            name=BOTH,
            about=about,
            strength=strength,
            stored_bytes=system[key].stored_bytes + vector_bytes(vector),
        )

    def kl_at(key: str, strength: float) -> float:
        return kl_of(combine(key, strength))

    strengths: dict[str, float] = {}
    for key, sign in SIGNS.items():
        room, fitted = budget - kls[key], None
        if room > KL_TOLERANCE * budget:
            fitted = _fit_strength(partial(kl_at, key), sign, budget, guess=math.sqrt(room / budget))
        strengths[key] = 0.5 * sign if fitted is None else fitted
    about = f"the same prompts, the vector at {strengths['+']:+.2f} and {strengths['-']:+.2f}"
    return {key: combine(key, strengths[key], about) for key in SIGNS}


def _fit_strength(kl_at: Callable[[float], float], sign: float, budget: float, *, guess: float) -> float | None:
    """Return the strength of that sign at which the KL is the budget; None where there is none."""
    try:
        return sign * find_scale(lambda s: kl_at(sign * s), budget=budget, guess=guess, tolerance=KL_TOLERANCE).scale
    except CalibrationError:
        return None


def vector_bytes(vector: ControlVector) -> int:
    """Return the bytes of the directions that a vector steers with."""
    return int(sum(vector.directions[layer].nbytes for layer in vector.layers))


def added_tokens(engine: Text, pair: Pair, texts: Sequence[str]) -> float:
    """Return the prompt tokens that an intervention adds to a request: the mean over questions and poles."""

    def tokens(intervention: Intervention) -> int:
        return sum(len(engine.encode(engine.render(intervention.chat(n, text)))) for n, text in enumerate(texts))

    plain = tokens(Intervention())
    return float(np.mean([tokens(intervention) - plain for intervention in pair.values()])) / len(texts)

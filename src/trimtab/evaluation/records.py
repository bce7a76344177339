"""What an evaluation found out: frozen records, from which the table, the pages and the cards are made.

Everything in nats is per token. Mappings by sign have the keys ``"+"`` and ``"-"``. Nothing here hangs on the clock but
``Report.run``: two evaluations with the same seed on the same machine have equal records otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trimtab.vectors import Interval

Word: TypeAlias = Literal["works", "weak", "one way only", "does not work", "not measured"]


@dataclass(frozen=True)
class Damage:
    """What a way of making the model behave costs.

    Attributes:
        kl: Mean per-token KL(base ‖ this) along the base model's own answers; None where it was not measured.
        perplexity_ratio: Perplexity of the answers under the base model, divided by that of the base's own answers.
        distinct_2: Distinct bigrams divided by all bigrams of tokens, over all answers.
        loops: Share of answers that go round in circles.
        length_ratio: Mean tokens of an answer, divided by the base's.
        relevance: Mean cosine of a question's embedding with its answer's; None without the embedding model.
        relevance_change: That minus the base's, over the same questions.
        accuracy: Share of simple facts known.
        accuracy_change: That minus the base's, over the same facts.
        truthfulqa: The same share on TruthfulQA, where it was given.
        refuses: Share of the neutral questions that are refused.
        refuses_harmful: Share of harmful requests that are refused; None where it was not measured.
    """

    kl: float | None
    perplexity_ratio: float
    distinct_2: float
    loops: float
    length_ratio: float
    relevance: float | None = None
    relevance_change: Interval | None = None
    accuracy: Interval | None = None
    accuracy_change: Interval | None = None
    truthfulqa: Interval | None = None
    refuses: float = 0.0
    refuses_harmful: float | None = None


@dataclass(frozen=True)
class Side:
    """One way of making the model behave, asked for one pole, on all prompts.

    Attributes:
        strength: Where its dial stands; None if it has none.
        effect: Change (nats per token) of the preference for answers in the positive pole's character; None where the
            behaviour has no personas.
        damage: What it costs.
        scores: By scorer, the mean over the answers.
        choices: Log-odds (nats) of the choice that matches the positive pole, where there are such questions.
        chosen: Share of those questions in which that choice is taken when the others are not allowed.
        answers: To the questions of the report, in order.
    """

    strength: float | None
    effect: Interval | None
    damage: Damage
    scores: Mapping[str, Interval]
    answers: tuple[str, ...]
    choices: Interval | None = None
    chosen: float | None = None


@dataclass(frozen=True)
class Method:
    """A row of the table: both sides of one way of making the model behave.

    Attributes:
        name: Such as ``"vector"`` or ``"system prompt"``.
        about: What it is, in a line.
        sides: Asked for each pole.
        swing: Effect of the positive side minus that of the negative one, in nats per token.
        prompt_equivalents: Swing divided by the system prompts' own; None where that would be noise.
        prompt_tokens: Tokens that it adds to every request, on the average of both sides.
        stored_bytes: What has to be kept.
        dial: Whether it can be turned up and down.
    """

    name: str
    about: str
    sides: Mapping[str, Side]
    swing: Interval | None
    prompt_equivalents: float | None
    prompt_tokens: float
    stored_bytes: int
    dial: bool


@dataclass(frozen=True)
class Point:
    """One strength of the sweep.

    Attributes:
        strength: The dial.
        kl: What it spends, in nats per token.
        effect: In nats per token; None where the behaviour has no personas.
        damage: Of the answers at this strength.
        usable: Whether the text holds together; see ``why``.
        why: What broke, in words; empty where nothing did.
        answers: To the first questions of the report.
    """

    strength: float
    kl: float
    effect: Interval | None
    damage: Damage
    usable: bool
    why: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """What the dial does.

    Attributes:
        points: By ascending strength; 0 is the base model.
        low: The lowest strength down to which everything tried is usable.
        high: The highest one.
    """

    points: tuple[Point, ...]
    low: float
    high: float


@dataclass(frozen=True)
class UsableRange:
    """How far the dial can be turned with what the model knows, and the thread of its answers, kept.

    Attributes:
        low: The lowest strength of those tried, from -1 up, at which both are kept.
        high: The highest, from 1 down.
        swing: Effect at ``high`` minus that at ``low``, in nats per token; None where no effect was measured.
        prompt_equivalents: That, divided by the system prompts' own; None where it would be noise.
    """

    low: float
    high: float
    swing: Interval | None
    prompt_equivalents: float | None


@dataclass(frozen=True)
class Control:
    """Something that should do nothing, at the same layers and the same KL.

    Attributes:
        effect: By sign, in nats per token.
        swing: In nats per token.
    """

    effect: Mapping[str, Interval]
    swing: Interval


@dataclass(frozen=True)
class Chance:
    """How far random directions move the model, one way or the other.

    Attributes:
        low: The least effect that counts as chance, in nats per token: the least of all random ones, or two standard
            deviations below their mean if that is less.
        high: The greatest, likewise.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Controls:
    """What the vector's effect is held against.

    Attributes:
        random: Random directions.
        chance: Their spread; None where no effect was measured.
        shuffled: The direction that comes of the same pairs with half of them turned round; None where there are none.
        band: The vector's own directions on the usual layers, where it steers others.
        anti_steerable: By sign, the share of questions that move the wrong way.
        refusal_cosine: Mean cosine, over the steered layers, with the direction of refusing.
    """

    random: tuple[Control, ...]
    chance: Chance | None
    shuffled: Control | None
    band: Control | None
    anti_steerable: Mapping[str, float]
    refusal_cosine: float


@dataclass(frozen=True)
class Verdict:
    """The answer in words.

    Attributes:
        word: In a word or three.
        clear: By sign, whether the effect is beyond what random directions do.
        promptable: Whether system prompts move the model along this axis at all; None if that was not measured.
        sentences: Why, most important first.
    """

    word: Word
    clear: Mapping[str, bool]
    promptable: bool | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Placing:
    """A choice of layers that was tried when the vector was placed.

    Attributes:
        layers: The layers.
        swing: In nats per token, at the budget.
    """

    layers: tuple[int, ...]
    swing: float


@dataclass(frozen=True)
class Subject:
    """What was evaluated, and how.

    Attributes:
        vector: Name of the vector's behaviour.
        behaviour: Name of the behaviour that it was held against.
        digest: Of that behaviour.
        description: What changes along the axis.
        positive: Label of the positive pole.
        negative: Label of the negative one.
        model: The model's name.
        method: The estimator.
        layers: Steered.
        budget: Nats per token that strength ±1 spends.
        kl: By sign, what it spent when it was calibrated.
        calibrated_here: Whether the vector had no strength unit of its own.
        pairwise_cosine: How far its pairs agree; None if unknown.
        candidates: Choices of layers that were tried when it was placed, best first.
        stored_bytes: Size of its directions.
    """

    vector: str
    behaviour: str
    digest: str
    description: str
    positive: str
    negative: str
    model: str
    method: str
    layers: tuple[int, ...]
    budget: float
    kl: Mapping[str, float]
    calibrated_here: bool
    pairwise_cosine: float | None
    candidates: tuple[Placing, ...]
    stored_bytes: int


@dataclass(frozen=True)
class Setting:
    """With what it was evaluated, so that it can be done again.

    Attributes:
        seed: Of random directions, shuffles and resamples.
        threads: Of the model.
        answer_tokens: Upper bound on the answers along which KL and effects are measured.
        written_tokens: Upper bound on the answers that are looked at.
        questions: The neutral questions.
        facts: How many simple facts.
        versions: Of trimtab and what it stands on.
        scorers: Unit of each scorer, by name.
        missing: What was left out, and why, in words.
    """

    seed: int
    threads: int
    answer_tokens: int
    written_tokens: int
    questions: tuple[str, ...]
    facts: int
    versions: Mapping[str, str]
    scorers: Mapping[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What hangs on the clock.

    Attributes:
        created: ISO 8601 time.
        seconds: By phase.
        making: Seconds that each method took to make, as far as they are known.
    """

    created: str
    seconds: Mapping[str, float]
    making: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """Everything that one evaluation found out.

    Attributes:
        subject: What was evaluated.
        base: The model as it is.
        methods: The vector first, then what it is compared with.
        sweep: What the dial does.
        tolerable: How far it can be turned at little damage.
        controls: What should do nothing.
        prompt_swing: What system prompts for the two poles do; None where the behaviour has no personas.
        no_equivalents: Why there are no prompt-equivalents; empty where there are.
        verdict: In words.
        setting: With what.
        run: When, and how long it took.
    """

    subject: Subject
    base: Side
    methods: tuple[Method, ...]
    sweep: Sweep
    tolerable: UsableRange
    controls: Controls
    prompt_swing: Interval | None
    no_equivalents: str
    verdict: Verdict
    setting: Setting
    run: Run

    def method(self, name: str) -> Method:
        """The row of that name.

        Raises:
            KeyError: There is none.
        """
        return {method.name: method for method in self.methods}[name]

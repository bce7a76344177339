"""Records of an evaluation: frozen values, from which the tables, the pages and the cards are made.

KL, effects and swings are in nats per token. Mappings by sign have the keys ``"+"`` and ``"-"``. Only ``Report.run``
depends on time: two evaluations with the same seed on the same machine have equal records otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Literal, TypeAlias

from trimtab.vectors import Interval, SafeRange, WrittenEffect
from trimtab.vectors.records import Limit

Word: TypeAlias = Literal["works", "weak", "one way only", "does not work", "not measured"]


@dataclass(frozen=True)
class Damage:
    """Cost of an intervention.

    Attributes:
        kl: Mean KL(base ‖ intervention) along the base model's own answers; None where it was not measured.
        perplexity_ratio: Perplexity of the answers under the base model, divided by that of the base's own answers.
        distinct_2: Distinct bigrams of tokens divided by all bigrams, over all answers.
        repetition: Share of answers that are repetitive.
        length_ratio: Mean tokens of an answer, divided by the base's.
        relevance: Mean cosine of a question's embedding with its answer's; None without the embedding model.
        relevance_change: That minus the base's, paired by question.
        accuracy: Share of simple facts known.
        accuracy_change: That minus the base's, paired by fact.
        truthfulqa: Share of TruthfulQA's facts known, where they were given.
        refuses: Share of the neutral questions that are refused.
        refuses_harmful: Share of harmful requests that are refused; None where it was not measured.
    """

    kl: float | None
    perplexity_ratio: float
    distinct_2: float
    repetition: float
    length_ratio: float
    relevance: float | None = None
    relevance_change: Interval | None = None
    accuracy: Interval | None = None
    accuracy_change: Interval | None = None
    truthfulqa: Interval | None = None
    refuses: float = 0.0
    refuses_harmful: float | None = None


@dataclass(frozen=True)
class Halves:
    """Both halves of a preference effect: changes of log-probability, in nats per token.

    Attributes:
        positive: Change for the answers in the positive pole's character.
        negative: Change for those in the negative pole's.
    """

    positive: Interval
    negative: Interval


@dataclass(frozen=True)
class Side:
    """Measurements of an intervention for one pole.

    Attributes:
        strength: Strength that it was applied at; None if it has no adjustable strength.
        effect: Preference effect: change of the preference for answers in the positive pole's character; None without
            personas.
        scores: Mean over the answers, by scorer.
        choices: Log-odds (nats) of the choice that matches the positive pole, where there are choice questions.
        chosen: Share of those questions in which that choice is the likelier one.
        answers: Answers to the questions of the report, in order.
        halves: The two changes whose difference ``effect`` is.
    """

    strength: float | None
    effect: Interval | None
    damage: Damage
    scores: Mapping[str, Interval]
    answers: tuple[str, ...]
    choices: Interval | None = None
    chosen: float | None = None
    halves: Halves | None = None


@dataclass(frozen=True)
class InterventionReport:
    """Measurements of an intervention for both poles: a row of the table.

    Attributes:
        name: Name, such as ``"vector"`` or ``"system prompt"``.
        about: Description in one line.
        sides: Measurements for each pole, by sign.
        swing: Preference effect of the positive side minus that of the negative one.
        written: Persona score of the positive side's answers minus that of the negative side's.
        times_prompt: ``written`` divided by that of the system prompts; None where that would be noise.
        prompt_tokens: Prompt tokens that it adds to a request, on average.
        stored_bytes: Size of what has to be stored.
        dial: Whether its strength can be adjusted.
    """

    name: str
    about: str
    sides: Mapping[str, Side]
    swing: Interval | None
    written: Interval | None
    times_prompt: float | None
    prompt_tokens: float
    stored_bytes: int
    dial: bool


@dataclass(frozen=True)
class Point:
    """One strength that was tried in the search of the safe range.

    Attributes:
        effect: Preference effect at this strength; None without personas.
        limit: What its text exceeds; None where it holds together.
        answers: Answers to the first questions of the report.
    """

    strength: float
    kl: float
    effect: Interval | None
    damage: Damage
    limit: Limit | None
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """Measurements of directions that should do nothing, at the vector's layers and KL.

    Attributes:
        effect: Effects, by sign.
        swing: Effect at + minus effect at -.
    """

    effect: Mapping[str, Interval]
    swing: Interval


@dataclass(frozen=True)
class Chance:
    """Range of the effects of random directions.

    Attributes:
        low: The least effect of a random direction, or two standard deviations below their mean if that is less.
        high: The greatest, or two standard deviations above their mean if that is more.
    """

    low: float
    high: float


@dataclass(frozen=True)
class WrittenAt:
    """Written effect of a vector at one strength for each sign, beside random directions.

    Attributes:
        effect: The vector's, on held-out questions.
        random: Those of random directions at the KL of the ends of the safe range.
        chance: Range of the random directions' effects.
        clear: Whether the vector's effect lies beyond it, by sign.
    """

    effect: WrittenEffect
    random: tuple[Control, ...]
    chance: Chance
    clear: Mapping[str, bool]


@dataclass(frozen=True)
class Ceiling:
    """Logit arithmetic of the two personas at the vector's KL: what no direction needs to be better than.

    At each token ``log q = log p + multiplier * (log p+ - log p-) - log Z``, where p+ and p- are the model under the
    system prompts of the poles.

    Attributes:
        multipliers: By sign; found so that q spends the KL of strength ±1.
        swing: Preference swing of q.
        share: The vector's preference swing on the same questions, divided by that.
        questions: Number of questions.
    """

    multipliers: Mapping[str, float]
    swing: Interval
    share: Interval
    questions: int


@dataclass(frozen=True)
class Controls:
    """Controls that the vector's effect is compared with.

    Attributes:
        random: Random directions.
        chance: Range of their effects; None where no effect was measured.
        shuffled: Direction of the same pairs with half of their labels swapped; None where there are none.
        band: The vector's own directions on the default layers, where it steers others.
        anti_steerable: Share of questions that move the wrong way, by sign.
        refusal_cosine: Mean cosine, over the steered layers, with the direction of refusal.
    """

    random: tuple[Control, ...]
    chance: Chance | None
    shuffled: Control | None
    band: Control | None
    anti_steerable: Mapping[str, float]
    refusal_cosine: float


@dataclass(frozen=True)
class Verdict:
    """Verdict in words.

    Attributes:
        word: The verdict in one to three words.
        clear: Whether the written effect inside the safe range is beyond that of random directions, by sign.
        promptable: Whether answers under the system prompts differ at all; None if that was not measured.
        sentences: Reasons, most important first.
    """

    word: Word
    clear: Mapping[str, bool]
    promptable: bool | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Placing:
    """Choice of layers that was tried in training, with its swing at the budget."""

    layers: tuple[int, ...]
    swing: float


@dataclass(frozen=True)
class Subject:
    """Vector and behaviour of an evaluation.

    Attributes:
        vector: Name of the vector's behaviour.
        behaviour: Name of the behaviour that it was measured by.
        digest: Digest of that behaviour.
        description: What changes along the axis.
        positive: Label of the positive pole.
        negative: Label of the negative one.
        method: The estimator of the directions.
        budget: KL at strength ±1.
        kl: KL when it was calibrated, by sign.
        calibrated_here: Whether the vector had no strength unit and was calibrated for the evaluation.
        pairwise_cosine: Agreement of its pairs; None if unknown.
        candidates: Choices of layers that were tried in training, best first.
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

    @property
    def poles(self) -> Mapping[str, str]:
        """Return labels of the poles by sign, the positive one first."""
        return {"+": self.positive, "-": self.negative}


@dataclass(frozen=True)
class Setting:
    """Settings of an evaluation, as needed to repeat it.

    Attributes:
        seed: Seed of random directions, shuffles and resamples.
        threads: Threads of the model.
        answer_tokens: Upper bound on the answers along which KL and effects are measured.
        written_tokens: Upper bound on the answers whose text is measured.
        facts: Number of simple facts.
        versions: Versions of trimtab and its libraries.
        scorers: Unit of each scorer, by name.
        missing: Reasons why measurements were left out.
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
    """Timing metadata.

    Attributes:
        created: ISO 8601 time.
        seconds: Seconds by phase.
        making: Seconds that interventions took to make, where known.
    """

    created: str
    seconds: Mapping[str, float]
    making: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """Result of one evaluation.

    Attributes:
        interventions: The vector (at ±1) first, then those that it is compared with.
        written: Written effects at the ``"default"`` strengths and at the ends of the ``"safe"`` range; empty without
            personas.
        safe: Strengths inside which text holds together; ``replace(vector, safe=report.safe)`` keeps it.
        sweep: Strengths tried, ascending; 0 is the base model.
        ceiling: Logit arithmetic at the vector's KL; None without personas.
        controls: Controls that should do nothing.
        prompt_swing: Preference swing of the system prompts for the two poles; None without personas.
    """

    subject: Subject
    base: Side
    interventions: tuple[InterventionReport, ...]
    written: Mapping[str, WrittenAt]
    safe: SafeRange
    sweep: tuple[Point, ...]
    ceiling: Ceiling | None
    controls: Controls
    prompt_swing: Interval | None
    verdict: Verdict
    setting: Setting
    run: Run

    def point(self, strength: float) -> Point | None:
        """Return the measurements at a strength; None where it was not tried."""
        return next((point for point in self.sweep if point.strength == strength), None)

    def intervention(self, name: str) -> InterventionReport:
        """Return the measurements of the intervention of that name.

        Raises:
            KeyError: There is none.
        """
        return {intervention.name: intervention for intervention in self.interventions}[name]

    def _repr_html_(self) -> str:
        """Return the verdict, its reasons and the written swing of each intervention, for notebooks."""
        reasons = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.verdict.sentences)
        rows = "".join(
            f'<tr><th scope="row">{escape(each.name)}</th><td>{_shown(each.written)}</td></tr>'
            for each in self.interventions
        )
        return (
            f'<div class="trimtab-report"><p><b>{escape(self.subject.vector)}: {escape(self.verdict.word)}</b></p>'
            f"<ul>{reasons}</ul><table><thead><tr><th>intervention</th><th>written swing (nat per token)</th></tr>"
            "</thead>"
            f"<tbody>{rows}</tbody></table></div>"
        )


def _shown(interval: Interval | None) -> str:
    """Return an interval for people; a dash where nothing was measured."""
    if interval is None or not math.isfinite(interval.value):
        return "–"
    return f"{interval.value:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"

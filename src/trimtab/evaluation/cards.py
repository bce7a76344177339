"""Cards: an evaluation in short, small enough to keep beside the behaviour.

The zoo's cards were measured on the default model and come with trimtab; ``trimtab zoo train`` measures them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trimtab.behaviours import Behaviour, zoo_names
from trimtab.errors import EvaluationError
from trimtab.evaluation.records import Chance, Report, UsableRange, Word
from trimtab.evaluation.strength import MAX_LOST_FACTS, MAX_LOST_RELEVANCE
from trimtab.vectors import Interval

SAMPLES = 2


@dataclass(frozen=True)
class Cost:
    """Cost of one side; see ``Damage``, whose ``repetition`` is called ``loops`` in card files.

    Attributes:
        relevance_change: Mean change from the base model, without its interval.
        accuracy: Share of simple facts known, without its interval.
    """

    kl: float | None
    perplexity_ratio: float
    loops: float
    relevance: float | None
    relevance_change: float | None
    accuracy: float | None
    accuracy_change: Interval | None
    refuses_harmful: float | None


@dataclass(frozen=True)
class Sample:
    """A question with the answers at strengths -1, 0 and +1."""

    question: str
    minus: str
    base: str
    plus: str


@dataclass(frozen=True)
class Card:
    """Evaluation of a vector in short; fields without a line here are as in the report.

    Attributes:
        name: Name of the behaviour.
        sentences: Reasons of the verdict.
        shuffled: Swing of the same pairs with shuffled labels.
        cost: Cost at ±1, by sign.
        low: Lowest strength at which text stays intact, of those tried.
        high: Highest one.
        tolerable: The usable range, under its name in card files.
        scores: Means at -1, 0 and +1, by scorer.
        questions: Number of questions.
    """

    name: str
    digest: str
    positive: str
    negative: str
    model: str
    method: str
    layers: tuple[int, ...]
    budget: float
    word: Word
    sentences: tuple[str, ...]
    clear: Mapping[str, bool]
    promptable: bool | None
    effect: Mapping[str, Interval]
    swing: Interval | None
    prompt_swing: Interval | None
    prompt_equivalents: float | None
    no_equivalents: str
    chance: Chance | None
    shuffled: float | None
    anti_steerable: Mapping[str, float]
    pairwise_cosine: float | None
    refusal_cosine: float
    cost: Mapping[str, Cost]
    low: float
    high: float
    tolerable: UsableRange
    scores: Mapping[str, tuple[float, float, float]]
    samples: tuple[Sample, ...]
    questions: int
    versions: Mapping[str, str]


_ADAPTER = TypeAdapter(Card)


def card_of(report: Report) -> Card:
    """Return the card of a report."""
    subject, vector, controls = report.subject, report.interventions[0], report.controls
    plus, minus, base = vector.sides["+"], vector.sides["-"], report.base
    shared = [name for name in base.scores if name in plus.scores and name in minus.scores]
    return Card(
        name=subject.behaviour,
        digest=subject.digest,
        positive=subject.positive,
        negative=subject.negative,
        model=subject.model,
        method=subject.method,
        layers=subject.layers,
        budget=subject.budget,
        word=report.verdict.word,
        sentences=report.verdict.sentences,
        clear=report.verdict.clear,
        promptable=report.verdict.promptable,
        effect={key: side.effect for key, side in vector.sides.items() if side.effect is not None},
        swing=vector.swing,
        prompt_swing=report.prompt_swing,
        prompt_equivalents=vector.prompt_equivalents,
        no_equivalents=report.no_equivalents,
        chance=controls.chance,
        shuffled=None if controls.shuffled is None else controls.shuffled.swing.value,
        anti_steerable=controls.anti_steerable,
        pairwise_cosine=subject.pairwise_cosine,
        refusal_cosine=controls.refusal_cosine,
        cost={key: _cost(report, key) for key in vector.sides},
        low=report.sweep.low,
        high=report.sweep.high,
        tolerable=report.usable_range,
        scores={name: (minus.scores[name].value, base.scores[name].value, plus.scores[name].value) for name in shared},
        samples=tuple(
            Sample(report.setting.questions[n], minus.answers[n], base.answers[n], plus.answers[n])
            for n in range(min(SAMPLES, len(base.answers)))
        ),
        questions=len(report.setting.questions),
        versions=report.setting.versions,
    )


def _cost(report: Report, key: str) -> Cost:
    damage = report.interventions[0].sides[key].damage
    return Cost(
        kl=damage.kl,
        perplexity_ratio=damage.perplexity_ratio,
        loops=damage.repetition,
        relevance=damage.relevance,
        relevance_change=None if damage.relevance_change is None else damage.relevance_change.value,
        accuracy=None if damage.accuracy is None else damage.accuracy.value,
        accuracy_change=damage.accuracy_change,
        refuses_harmful=damage.refuses_harmful,
    )


def shortfalls(card: Card) -> tuple[str, ...]:
    """Return the shortfalls of a vector: poles without effect, controls that do as well, costs beyond the limits.

    Example:
        >>> shortfalls(zoo_cards()["happy"])
        ()
    """
    labels = {"+": card.positive, "-": card.negative}
    reasons = []
    if card.promptable is False:
        reasons.append("system prompts do not move this model along it either")
    dull = [labels[key] for key, clear in card.clear.items() if not clear]
    if len(dull) == len(labels):
        reasons.append("neither way beyond chance")
    elif dull:
        reasons.append(f"towards {dull[0]} within chance")
    if card.shuffled is not None and card.swing is not None and abs(card.shuffled) >= card.swing.value:
        reasons.append("shuffled labels do as well")
    if card.prompt_equivalents is not None and card.prompt_equivalents < 1.0:
        reasons.append("system prompts do more")
    for key, cost in card.cost.items():
        if cost.accuracy_change is not None and cost.accuracy_change.value < -MAX_LOST_FACTS:
            reasons.append(f"knows {-cost.accuracy_change.value:.0%} fewer facts at {key}1")
    drifts = [key for key, cost in card.cost.items() if (cost.relevance_change or 0.0) < -MAX_LOST_RELEVANCE]
    if drifts:
        reasons.append("answers drift from the question" + (f" at {drifts[0]}1" if len(drifts) == 1 else ""))
    return tuple(reasons)


def card_json_values(card: Card) -> dict[str, Any]:
    """Return the card as plain JSON values, with numbers to four decimals."""
    values: dict[str, Any] = _rounded(_ADAPTER.dump_python(card))
    return values


def card_json(card: Card) -> bytes:
    """Return the card as the bytes of a JSON file."""
    return (json.dumps(card_json_values(card), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def read_card(text: bytes | str, *, where: str) -> Card:
    """Read a card from the content of its file.

    Raises:
        EvaluationError: It is not a card.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise EvaluationError(f"{where} is not a card: {key}: {first['msg']}", fix="measure it again") from None


def zoo_cards(folder: Path | None = None) -> Mapping[str, Card]:
    """Return the cards of the zoo's behaviours, by name, without those that have changed since they were measured.

    They are read from ``folder``; by default they are those that come with trimtab.

    Raises:
        EvaluationError: A file in the folder is not a card.

    Example:
        >>> zoo_cards()["happy"].word
        'works'
    """
    home = folder if folder is not None else resources.files("trimtab.evaluation") / "cards"
    cards = {}
    for name in zoo_names():
        file = home / f"{name}.json"
        if file.is_file():
            card = read_card(file.read_bytes(), where=str(file))
            if card.digest == Behaviour.load(name).digest:
                cards[name] = card
    return cards

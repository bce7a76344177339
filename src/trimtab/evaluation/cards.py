"""Cards: an evaluation in short, small enough to keep beside the behaviour.

The zoo's cards were measured on the default model and come with trimtab; ``trimtab zoo train`` measures them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trimtab.behaviours import Behaviour, zoo_names
from trimtab.errors import EvaluationError
from trimtab.evaluation.records import Ceiling, Chance, Halves, Point, Report, Word
from trimtab.evaluation.strength import safe_strengths
from trimtab.vectors import Interval, SafeRange, WrittenEffect

SAMPLES = 2


@dataclass(frozen=True)
class Cost:
    """Cost at one end of the safe range; see ``Damage``, whose ``repetition`` is called ``loops`` in card files.

    Attributes:
        relevance_change: Mean change from the base model, without its interval.
    """

    kl: float | None
    perplexity_ratio: float
    loops: float
    relevance: float | None
    relevance_change: float | None
    accuracy_change: Interval | None


@dataclass(frozen=True)
class Sample:
    """A question with the answers at the negative default strength, at 0 and at the positive one."""

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
        effect: Preference effects at ±1, by sign.
        chance: Range of random directions' written effects at the ends of the safe range.
        shuffled: Preference swing of the same pairs with shuffled labels.
        cost: Cost at the ends of the safe range, by sign.
        scores: Means at -1, 0 and +1, by scorer.
        questions: Number of questions.
        safe: Safe range; None in cards that were measured without it.
        written: Written effects, as in the report.
        halves: Both halves of the preference effects at ±1, by sign.
        refuses_harmful: Share of harmful requests that are refused at ±1, by sign.
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
    chance: Chance | None
    shuffled: float | None
    anti_steerable: Mapping[str, float]
    pairwise_cosine: float | None
    refusal_cosine: float
    cost: Mapping[str, Cost]
    scores: Mapping[str, tuple[float, float, float]]
    samples: tuple[Sample, ...]
    questions: int
    versions: Mapping[str, str]
    safe: SafeRange | None = None
    written: Mapping[str, WrittenEffect] = field(default_factory=dict)
    halves: Mapping[str, Halves] = field(default_factory=dict)
    ceiling: Ceiling | None = None
    refuses_harmful: Mapping[str, float] = field(default_factory=dict)

    def times_prompt(self, at: str) -> float | None:
        """Return the written effect in times the prompt ``at`` ``"default"`` or ``"safe"``; None where unknown."""
        measured = self.written.get(at)
        return None if measured is None or measured.times_prompt is None else measured.times_prompt.value


_ADAPTER = TypeAdapter(Card)


def card_of(report: Report) -> Card:
    """Return the card of a report."""
    subject, vector, controls = report.subject, report.interventions[0], report.controls
    plus, minus, base = vector.sides["+"], vector.sides["-"], report.base
    shared = [name for name in base.scores if name in plus.scores and name in minus.scores]
    turns = safe_strengths(report.safe)
    low, middle, high = (report.point(s) for s in (turns["default"]["-"], 0.0, turns["default"]["+"]))
    answers = [() if point is None else point.answers for point in (low, middle, high)]
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
        chance=report.written["safe"].chance if report.written else None,
        shuffled=None if controls.shuffled is None else controls.shuffled.swing.value,
        anti_steerable=controls.anti_steerable,
        pairwise_cosine=subject.pairwise_cosine,
        refusal_cosine=controls.refusal_cosine,
        cost={key: _cost(point) for key, end in turns["safe"].items() if (point := report.point(end)) is not None},
        scores={name: (minus.scores[name].value, base.scores[name].value, plus.scores[name].value) for name in shared},
        samples=tuple(
            Sample(question, *each)
            for question, *each in list(zip(report.setting.questions, *answers, strict=False))[:SAMPLES]
        ),
        questions=len(report.setting.questions),
        versions=report.setting.versions,
        safe=report.safe,
        written={name: turn.effect for name, turn in report.written.items()},
        halves={key: side.halves for key, side in vector.sides.items() if side.halves is not None},
        ceiling=report.ceiling,
        refuses_harmful={
            key: side.damage.refuses_harmful
            for key, side in vector.sides.items()
            if side.damage.refuses_harmful is not None
        },
    )


def _cost(point: Point) -> Cost:
    damage = point.damage
    return Cost(
        kl=damage.kl,
        perplexity_ratio=damage.perplexity_ratio,
        loops=damage.repetition,
        relevance=damage.relevance,
        relevance_change=None if damage.relevance_change is None else damage.relevance_change.value,
        accuracy_change=damage.accuracy_change,
    )


def shortfalls(card: Card) -> tuple[str, ...]:
    """Return the shortfalls of a vector: poles without effect or coherent text, controls and prompts that do as well.

    Example:
        >>> shortfalls(zoo_cards()["happy"])
        ()
    """
    labels = {"+": card.positive, "-": card.negative}
    ends = {} if card.safe is None else {"+": card.safe.high, "-": card.safe.low}
    reasons = []
    if card.promptable is False:
        reasons.append("system prompts do not move this model along it either")
    incoherent = [labels[key] for key, end in ends.items() if not end]
    reasons += [f"towards {label} the text holds together nowhere" for label in incoherent]
    dull = [labels[key] for key, clear in card.clear.items() if not clear]
    if len(dull) == len(labels):
        reasons.append("neither way beyond chance")
    elif dull and dull != incoherent:
        reasons.append(f"towards {dull[0]} within chance")
    if card.shuffled is not None and card.swing is not None and abs(card.shuffled) >= card.swing.value:
        reasons.append("shuffled labels do as well")
    if (times := card.times_prompt("safe")) is not None and times < 1.0:
        reasons.append("system prompts do more")
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

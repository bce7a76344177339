"""Measuring arms: every method is asked the same questions and seen through the same scorers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import MissingDependencyError
from trimtab.evaluation.baseline import Baseline
from trimtab.evaluation.interventions import Intervention, changes_of, score, write_all
from trimtab.evaluation.metrics.choices import ChoiceQuestion, ChoiceScores, choice_log_odds, choice_questions
from trimtab.evaluation.metrics.divergence import arm_kl
from trimtab.evaluation.metrics.embedding import Embedder, load_embedder, relevance
from trimtab.evaluation.metrics.facts import answer_facts
from trimtab.evaluation.metrics.scorers import Scorer, default_scorers
from trimtab.evaluation.metrics.text_quality import TextQuality, Written
from trimtab.evaluation.records import Damage, Side
from trimtab.stats import mean_interval
from trimtab.training.questions import EffectSet, Question, answered_in_character, preference
from trimtab.vectors import Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One behaviour on one model, ready to be asked about any arm.

    Attributes:
        grounds: The base model's side.
        behaviour: What is looked for.
        questions: The neutral questions, with answers in character where the behaviour has personas.
        effects: Where effects are measured; None where it has none.
        scorers: How answers are scored.
        embedder: For relevance; None without the embedding model.
        choices: Choice questions of the behaviour.
        missing: What was left out because a package is missing, in words.
        seed: Of resamples.
    """

    grounds: Baseline
    behaviour: Behaviour
    questions: tuple[Question, ...]
    effects: EffectSet | None
    scorers: tuple[Scorer, ...]
    embedder: Embedder | None
    choices: tuple[ChoiceQuestion, ...]
    missing: tuple[str, ...]
    seed: int

    @property
    def engine(self) -> TransformersEngine:
        """The model."""
        return self.grounds.engine


def case_of(
    grounds: Baseline,
    behaviour: Behaviour,
    *,
    scorers: Sequence[Scorer] | None,
    choices: Sequence[ChoiceQuestion],
    seed: int,
) -> Case:
    """Ask the model for answers in character, and choose the scorers; those given are added to the usual ones."""
    sizes, missing = grounds.sizes, list[str]()
    questions = grounds.questions
    if behaviour.positive.personas:
        questions = answered_in_character(grounds.engine, questions, behaviour, max_new_tokens=sizes.answer_tokens)
    told = bool(behaviour.positive.personas)
    embedder: Embedder | None = None
    try:
        embedder = load_embedder()
    except MissingDependencyError as error:
        missing.append(str(error))
    usual = default_scorers(behaviour, embedder=embedder)
    return Case(
        grounds=grounds,
        behaviour=behaviour,
        questions=questions,
        effects=EffectSet(grounds.engine, questions) if told else None,
        scorers=(*usual.scorers, *(scorers or ())),
        embedder=embedder,
        choices=(*choice_questions(behaviour), *choices),
        missing=tuple(dict.fromkeys([*missing, *usual.missing])),
        seed=seed,
    )


def only_steers(arm: Intervention) -> bool:
    """Whether an arm asks plainly with the model's own weights."""
    return not arm.openings and arm.activate is None


def effect_of(case: Case, arm: Intervention) -> Floats | None:
    """Change of the preference for the positive pole's answers, ``[question]``, in nats per token."""
    if case.effects is None:
        return None
    if only_steers(arm):
        return case.effects.measure(changes_of(arm.steering, case.engine.info))
    answers = [(told.positive, told.negative) for question in case.questions if (told := question.in_character)]
    found: Floats = preference(score(case.engine, arm, case.grounds.texts, answers)) - case.effects.base
    return found


def kl_of(case: Case, arm: Intervention) -> float:
    """Mean per-token KL(base ‖ arm) along the base model's own answers, in nats."""
    asked = case.grounds.questions[: case.grounds.sizes.kl]
    if only_steers(arm):
        return case.grounds.kl.measure(changes_of(arm.steering, case.engine.info))
    lengths = [len(question.answer) for question in asked]
    found = arm_kl(case.engine, arm, asked, base=case.grounds.own_predictions)
    return float(np.average(found, weights=lengths))


def side_of(
    case: Case,
    arm: Intervention,
    *,
    strength: float | None,
    effect: Floats | None,
    kl: float,
    written: Written,
    looks: TextQuality,
    refuses_harmful: float | None,
) -> Side:
    """Everything that is measured of one arm."""
    facts = case.grounds.facts
    if only_steers(arm):
        known = facts.measure(changes_of(arm.steering, case.engine.info))
    else:
        known = answer_facts(case.engine, arm, facts.facts)
    more = case.grounds.truthfulqa
    truthful = answer_facts(case.engine, arm, more) if more else None
    chosen = choice_log_odds(case.engine, arm, case.choices) if case.choices else None
    return Side(
        strength=strength,
        effect=None if effect is None else mean_interval(effect, seed=case.seed),
        damage=Damage(
            kl=kl,
            perplexity_ratio=looks.perplexity_ratio,
            distinct_2=looks.distinct_2,
            loops=looks.loops,
            length_ratio=looks.length_ratio,
            relevance=relevance_of(case, written),
            relevance_change=relevance_change(case, written),
            accuracy=known.interval,
            accuracy_change=known.drop_from(facts.base),
            truthfulqa=None if truthful is None else truthful.interval,
            refuses=looks.refuses,
            refuses_harmful=refuses_harmful,
        ),
        scores=scores_of(case, written),
        answers=written.texts,
        choices=None if chosen is None else chosen.interval,
        chosen=None if chosen is None else chosen.share,
    )


def base_side(case: Case, looks: TextQuality) -> Side:
    """The model as it is."""
    grounds = case.grounds
    chosen: ChoiceScores | None = choice_log_odds(case.engine, Intervention(), case.choices) if case.choices else None
    return Side(
        strength=0.0,
        effect=None,
        damage=Damage(
            kl=0.0,
            perplexity_ratio=looks.perplexity_ratio,
            distinct_2=looks.distinct_2,
            loops=looks.loops,
            length_ratio=looks.length_ratio,
            relevance=relevance_of(case, grounds.written),
            accuracy=grounds.facts.base.interval,
            accuracy_change=None,
            truthfulqa=None if grounds.truthful is None else grounds.truthful.interval,
            refuses=looks.refuses,
            refuses_harmful=grounds.refuses_harmful,
        ),
        scores=scores_of(case, grounds.written),
        answers=grounds.written.texts,
        choices=None if chosen is None else chosen.interval,
        chosen=None if chosen is None else chosen.share,
    )


def write_at_length(
    case: Case, arms: Sequence[Intervention], questions: int, *, on_arm: Callable[[], None] = lambda: None
) -> list[Written]:
    """What each arm writes to the first questions, long enough to be looked at."""
    texts, length = case.grounds.texts[:questions], case.grounds.sizes.written_tokens
    found = write_all(case.engine, arms, texts, max_new_tokens=length, on_arm=on_arm)
    return [Written.of(written) for written in found]


def relevance_each(case: Case, written: Written) -> Floats | None:
    """Cosine of each question's embedding with its answer's, ``[answer]``; None without the embedding model."""
    if case.embedder is None:
        return None
    found = relevance(case.embedder, case.grounds.texts[: len(written)], written.texts)
    return np.nan_to_num(found)  # no answer is not relevant


def relevance_of(case: Case, written: Written) -> float | None:
    """The mean of ``relevance_each``."""
    each = relevance_each(case, written)
    return None if each is None else float(each.mean())


def relevance_change(case: Case, written: Written) -> Interval | None:
    """How much nearer answers are to their questions than the base model's; below 0 where they are less near."""
    each, own = relevance_each(case, written), relevance_each(case, case.grounds.written.first(len(written)))
    return None if each is None or own is None else mean_interval(each - own, seed=case.seed)


def scores_of(case: Case, written: Written) -> Mapping[str, Interval]:
    """By scorer, the mean over the answers that it can score; scorers that can score none are left out."""
    scores = {}
    for scorer in case.scorers:
        found = scorer.score(case.grounds.texts[: len(written)], written.texts)
        found = found[np.isfinite(found)]
        if len(found):
            scores[scorer.name] = mean_interval(found, seed=case.seed)
    return scores

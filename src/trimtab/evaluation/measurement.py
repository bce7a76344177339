"""Measurements: the base model once (``Baseline``), then every intervention in the same way (``Evaluator``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.behaviours import Behaviour, ChoiceText, neutral_prompts
from trimtab.defaults import CHECKED_TOKENS, EVALUATION_ANSWER_TOKENS, EVALUATION_QUESTIONS
from trimtab.engines.protocol import Measures
from trimtab.errors import MissingDependencyError
from trimtab.evaluation.interventions import Intervention, changes_of, score, write_all
from trimtab.evaluation.metrics.choices import choice_log_odds, choice_questions
from trimtab.evaluation.metrics.embedding import Embedder, load_embedder, relevance
from trimtab.evaluation.metrics.facts import Accuracy, Fact, FactSet, answer_facts, builtin_facts
from trimtab.evaluation.metrics.refusals import refusal_direction, refusal_rates
from trimtab.evaluation.metrics.scorers import Scorer, default_scorers
from trimtab.evaluation.metrics.text_quality import kl_per_question, own_predictions
from trimtab.evaluation.records import Damage, Halves, Side
from trimtab.stats import mean_interval
from trimtab.training.progress import ignore
from trimtab.training.questions import EffectSet, KlSet, Question, add_persona_answers, ask, mean_logprobs
from trimtab.training.written import Written
from trimtab.vectors import Interval


@dataclass(frozen=True)
class Sizes:
    """Amount of questions and tokens of an evaluation.

    Attributes:
        questions: Neutral questions, from the half that training never calibrates on.
        kl: Questions along whose answers KL is measured.
        controls_kl: Questions on which controls are brought to the budget, and the ceiling is measured.
        chance: Questions on which preference effects of random directions are measured; fewer make chance look greater.
        randoms: Random directions.
        pairs: Contrastive pairs whose labels are shuffled.
        facts: Simple facts, evenly taken from the 240 built-in ones.
        harmful: Harmful requests, of the built-in 32.
        written: Questions that are answered at length, under every intervention and at every strength tried.
        answer_tokens: Upper bound on the answers along which KL and preference are measured; openings suffice there.
        written_tokens: Upper bound on the answers whose text is measured. Relevance does not show in an opening alone.
        halvings: Halvings of the strengths from 0 to 1 in the search of the safe range: 2 find its ends to a quarter.
    """

    questions: int = EVALUATION_QUESTIONS
    kl: int = 12
    controls_kl: int = 8
    chance: int = 8
    randoms: int = 2
    pairs: int = 96
    facts: int = 80
    harmful: int = 12
    written: int = 12
    answer_tokens: int = 24
    written_tokens: int = EVALUATION_ANSWER_TOKENS
    halvings: int = 2


THOROUGH = Sizes(
    questions=24,
    kl=24,
    chance=24,
    randoms=3,
    facts=240,
    harmful=32,
    written=24,
    written_tokens=CHECKED_TOKENS,
    halvings=3,
)
"""Sizes for cards: more questions, longer answers, a finer search, all facts and requests."""


@final
class Baseline:
    """Measurements of the base model, made once and shared by all evaluations on that model.

    Attributes:
        questions: Neutral questions with the model's own answers.
        written: Its answers at length.
        facts: Simple facts, and which of them the model knows.
        truthfulqa: More facts, from a file; none by default.
        truthful: Which of those it knows.
        kl: Questions on which KL is measured.
        controls_kl: Questions on which controls are brought to the budget.
    """

    def __init__(
        self,
        engine: Measures,
        *,
        sizes: Sizes | None = None,
        questions: Sequence[str] = (),
        truthfulqa: Sequence[Fact] = (),
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = engine
        self.sizes = sizes = sizes or Sizes()
        texts = list(questions) or neutral_prompts().held_out[: sizes.questions]
        # One greedy answer serves both lengths: its first tokens are what a shorter bound would have given.
        longest = max(sizes.answer_tokens, sizes.written_tokens)
        answered = ask(engine, texts, None, personas=0, max_new_tokens=longest, progress=ignore)
        self.questions = tuple(
            replace(question, answer=question.answer[: sizes.answer_tokens]) for question in answered
        )
        at_length = [question.answer[: sizes.written_tokens] for question in answered[: sizes.written]]
        self.written = Written.of_tokens(engine, at_length)
        on_step()
        self.kl = KlSet(engine, self.questions[: sizes.kl])
        self.controls_kl = KlSet(engine, self.questions[: sizes.controls_kl])
        on_step()
        self.facts = FactSet(engine, _evenly(builtin_facts(), sizes.facts))
        on_step()
        self.truthfulqa = tuple(truthfulqa)
        self.truthful: Accuracy | None = answer_facts(engine, Intervention(), self.truthfulqa) if truthfulqa else None
        on_step()

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the questions."""
        return tuple(question.text for question in self.questions)

    @property
    def norms(self) -> dict[int, float]:
        """Mean hidden-state norm of each layer on neutral text."""
        return {layer: float(norm) for layer, norm in enumerate(self.kl.norms)}

    @cached_property
    def own_predictions(self) -> list[F32]:
        """Return the base model's predictions along the answers on which KL is measured."""
        return own_predictions(self.engine, self.questions[: self.sizes.kl])

    @cached_property
    def refuses_harmful(self) -> float:
        """Share of harmful requests that the base model refuses."""
        (rate,) = refusal_rates(self.engine, [Intervention()], harmful=True, count=self.sizes.harmful)
        return rate.interval.value

    @cached_property
    def refusal(self) -> dict[int, F32]:
        """Return the unit direction of refusal, by layer."""
        return dict(refusal_direction(self.engine))


def effect_of(halves: F64 | None) -> F64 | None:
    """Return the preference effect of both its halves, ``[question]``; None where nothing was measured."""
    return None if halves is None else np.asarray(halves[:, 0] - halves[:, 1])


def _evenly(facts: Sequence[Fact], count: int) -> tuple[Fact, ...]:
    count = min(count, len(facts))
    return tuple(facts[n * len(facts) // count] for n in range(count))


@dataclass(frozen=True)
class Evaluator:
    """Measures any intervention for one behaviour on one model.

    Attributes:
        questions: The neutral questions, with answers in character where the behaviour has personas.
        effects: Questions on which effects are measured; None where the behaviour has no personas.
        embedder: Sentence encoder for relevance; None where it is not installed.
        missing: Reasons why measurements were left out.
        seed: Seed of resamples.
    """

    baseline: Baseline
    behaviour: Behaviour
    questions: tuple[Question, ...]
    effects: EffectSet | None
    scorers: tuple[Scorer, ...]
    embedder: Embedder | None
    choices: tuple[ChoiceText, ...]
    missing: tuple[str, ...]
    seed: int

    @classmethod
    def of(
        cls,
        baseline: Baseline,
        behaviour: Behaviour,
        *,
        scorers: Sequence[Scorer] = (),
        choices: Sequence[ChoiceText] = (),
        seed: int = 0,
    ) -> Evaluator:
        """Let the model answer in character and choose the scorers; those given are added to the default ones."""
        questions, effects, embedder, missing = baseline.questions, None, None, list[str]()
        if behaviour.positive.personas:
            tokens = baseline.sizes.answer_tokens
            questions = add_persona_answers(baseline.engine, questions, behaviour, max_new_tokens=tokens)
            effects = EffectSet(baseline.engine, questions)
        try:
            embedder = load_embedder()
        except MissingDependencyError as error:
            missing.append(str(error))
        default, without = default_scorers(behaviour, embedder=embedder)
        return cls(
            baseline=baseline,
            behaviour=behaviour,
            questions=questions,
            effects=effects,
            scorers=(*default, *scorers),
            embedder=embedder,
            choices=(*choice_questions(behaviour), *choices),
            missing=tuple(dict.fromkeys([*missing, *without])),
            seed=seed,
        )

    @property
    def engine(self) -> Measures:
        """Return the model."""
        return self.baseline.engine

    def interval(self, values: F64 | None) -> Interval | None:
        """Return the mean over questions with its interval; None where nothing was measured."""
        return None if values is None else mean_interval(values, seed=self.seed)

    def halves(self, intervention: Intervention) -> F64 | None:
        """Measure the change in log-probability of both personas' answers, in nats per token.

        Returns:
            ``[question, (positive, negative)]``; None without personas.
        """
        if self.effects is None:
            return None
        if intervention.only_steers:  # prompts are shared with the base model, which has read them already
            return self.effects.halves(changes_of(intervention.steering, self.engine.info))
        answers = [(each.positive, each.negative) for question in self.questions if (each := question.persona_answers)]
        scores = score(self.engine, intervention, self.baseline.texts, answers)
        return mean_logprobs(scores) - self.effects.base_logprobs

    def kl(self, intervention: Intervention) -> float:
        """Measure the mean per-token KL(base ‖ intervention) along the base model's own answers, in nats."""
        if intervention.only_steers:
            return self.baseline.kl.measure(changes_of(intervention.steering, self.engine.info))
        questions = self.baseline.questions[: self.baseline.sizes.kl]
        kls = kl_per_question(self.engine, intervention, questions, base=self.baseline.own_predictions)
        return float(np.average(kls, weights=[len(question.answer) for question in questions]))

    def facts(self, intervention: Intervention) -> Accuracy:
        """Measure which of the simple facts are known."""
        facts = self.baseline.facts
        if intervention.only_steers:
            return facts.measure(changes_of(intervention.steering, self.engine.info))
        return answer_facts(self.engine, intervention, facts.facts)

    def write(
        self, interventions: Sequence[Intervention], questions: int, *, on_step: Callable[[], None] = lambda: None
    ) -> list[Written]:
        """Write answers to the first ``questions`` under each intervention, long enough to measure their text."""
        texts, tokens = self.baseline.texts[:questions], self.baseline.sizes.written_tokens
        answers = write_all(self.engine, interventions, texts, max_new_tokens=tokens, on_step=on_step)
        return [Written.of(each) for each in answers]

    def side(
        self,
        intervention: Intervention,
        *,
        halves: F64 | None,
        kl: float,
        written: Written,
        quality: Damage,
        refuses_harmful: float | None,
    ) -> Side:
        """Measure the facts, choices and scores of an intervention, and put them with what is measured already."""
        base, more = intervention == Intervention(), self.baseline.truthfulqa
        known, each = self.facts(intervention), self.relevance_each(written)
        truthful = self.baseline.truthful if base or not more else answer_facts(self.engine, intervention, more)
        chosen = choice_log_odds(self.engine, intervention, self.choices) if self.choices else None
        return Side(
            strength=intervention.strength,
            effect=self.interval(effect_of(halves)),
            damage=replace(
                quality,
                kl=kl,
                relevance=None if each is None else float(each.mean()),
                relevance_change=None if base else self.relevance_change(written),
                accuracy=known.interval,
                accuracy_change=None if base else known.drop_from(self.baseline.facts.base),
                truthfulqa=None if truthful is None else truthful.interval,
                refuses_harmful=refuses_harmful,
            ),
            scores=self._scores(written),
            answers=written.texts,
            choices=None if chosen is None else chosen.interval,
            chosen=None if chosen is None else chosen.share,
            halves=None if halves is None else Halves(*(mean_interval(half, seed=self.seed) for half in halves.T)),
        )

    def base_side(self, quality: Damage) -> Side:
        """Return the same measurements of the base model."""
        return self.side(
            Intervention(strength=0.0),
            halves=None,
            kl=0.0,
            written=self.baseline.written,
            quality=quality,
            refuses_harmful=self.baseline.refuses_harmful,
        )

    def relevance_each(self, written: Written) -> F64 | None:
        """Return the cosine of each question with its answer, ``[answer]``; None without the embedding model."""
        if self.embedder is None:
            return None
        each = relevance(self.embedder, self.baseline.texts[: len(written)], written.texts)
        return np.nan_to_num(each)  # a blank answer is not relevant

    def relevance_change(self, written: Written) -> Interval | None:
        """Return how much more relevant answers are than the base model's, paired by question."""
        each, base = self.relevance_each(written), self.relevance_each(self.baseline.written.first(len(written)))
        return None if each is None or base is None else mean_interval(each - base, seed=self.seed)

    def _scores(self, written: Written) -> Mapping[str, Interval]:
        """Return each scorer's mean over the answers that it can score; without scorers that can score none."""
        scores = {}
        for scorer in self.scorers:
            values = scorer.score(self.baseline.texts[: len(written)], written.texts)
            values = values[np.isfinite(values)]
            if len(values):
                scores[scorer.name] = mean_interval(values, seed=self.seed)
        return scores

"""Measure what the model writes: the written effect, and the strengths inside which its text holds together.

No judge is needed: the unsteered model scores an answer. The difference of its log-probabilities under the system
prompts of the two poles says which pole it sounds like; that under its own question and another one, whether it is
relevant.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from trimtab.arrays import F64
from trimtab.behaviours import Behaviour, Message
from trimtab.engines import Completion, ForcedItem
from trimtab.engines.protocol import Forces, Generates, Text, Tokens, Trains
from trimtab.errors import StrongSteeringWarning
from trimtab.stats import bootstrap, mean_interval
from trimtab.steering import Steering, Term
from trimtab.training.questions import Question, persona_chats
from trimtab.training.search import SIGNS
from trimtab.vectors import ControlVector, Interval, SafeRange, WrittenEffect
from trimtab.vectors.records import Limit

TEMPERATURE = 0.8  # of sampled answers
MIN_DISTINCT = 0.75  # share of distinct runs of three words, below which an answer is repetitive
MAX_MORE_REPETITIVE = 0.0  # share of answers: repetition is as rare as without steering
MAX_LESS_DISTINCT = 0.05  # of the mean share; a mean shows with few questions what a rare answer does not
MIN_RELEVANCE = 0.5  # of the plain answers'
MAX_PERPLEXITY = 3.0  # times that of the plain answers


def distinct_share(answer: str) -> float:
    """Return the share of an answer's runs of three words that are distinct.

    Example:
        >>> distinct_share("no no no no no"), distinct_share("I will not do that")
        (0.3333333333333333, 1.0)
    """
    words = answer.split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(runs)) / len(runs) if runs else 1.0


@dataclass(frozen=True)
class Written:
    """Answers to the first questions, in order: their texts and their token ids."""

    texts: tuple[str, ...]
    tokens: tuple[Tokens, ...]

    @classmethod
    def of(cls, completions: Sequence[Completion]) -> Written:
        """Take the answers from completions."""
        return cls(tuple(c.text for c in completions), tuple(c.tokens for c in completions))

    @classmethod
    def of_tokens(cls, engine: Text, tokens: Sequence[Tokens]) -> Written:
        """Decode the answers from token ids."""
        return cls(tuple(engine.decode(answer) for answer in tokens), tuple(tokens))

    def shortened(self, engine: Text, tokens: int) -> Written:
        """Return the first tokens of every answer."""
        return Written.of_tokens(engine, [answer[:tokens] for answer in self.tokens])

    def first(self, count: int) -> Written:
        """Return the first ``count`` of them."""
        return Written(self.texts[:count], self.tokens[:count])

    def __len__(self) -> int:
        return len(self.texts)


def write_steered(
    engine: Generates,
    texts: Sequence[str],
    steerings: Sequence[Steering],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Written]:
    """Let the model answer every question under every steering, in one batch.

    Strong steering is not warned of: its text is measured.

    Returns:
        The answers, ``[steering][question]``.
    """
    chats = [(Message("user", text),) for _ in steerings for text in texts]
    rows = [steering for steering in steerings for _ in texts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StrongSteeringWarning)
        written = engine.generate(
            chats,
            steering=rows,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed if temperature else None,
        )
    return [Written.of(written[n * len(texts) : (n + 1) * len(texts)]) for n in range(len(steerings))]


def answer_logprobs(engine: Forces, prompts: Sequence[Tokens], written: Sequence[Written]) -> F64:
    """Return the log-probability of every answer after a prompt, under the unsteered model.

    Args:
        engine: The engine.
        prompts: One for each question.
        written: Sets of answers to the first questions; what several sets share is scored once.

    Returns:
        ``[set, question]`` in nats; NaN where a set has no such answer.
    """
    items, places = [], []
    for number, prompt in enumerate(prompts):
        here = {k: answers.tokens[number] for k, answers in enumerate(written) if number < len(answers)}
        distinct = list(dict.fromkeys(here.values()))
        items.append(ForcedItem(prompt, tuple(distinct)))
        places.append({k: distinct.index(tokens) for k, tokens in here.items()})
    logprobs = engine.teacher_forcing(items, once=True).base.logprob
    table = np.full((len(written), len(prompts)), np.nan)
    for number, place in enumerate(places):
        for k, at in place.items():
            table[k, number] = logprobs[number][at]
    return table


def score_answers(engine: Forces, prompts: Sequence[Tokens], written: Sequence[Written]) -> F64:
    """Return ``answer_logprobs`` per token of the answer, ``[set, question]`` in nats per token."""
    table = answer_logprobs(engine, prompts, written)
    for k, answers in enumerate(written):
        table[k, : len(answers)] /= [max(len(tokens), 1) for tokens in answers.tokens]
    return table


def persona_prompts(engine: Forces, behaviour: Behaviour, texts: Sequence[str]) -> tuple[list[Tokens], list[Tokens]]:
    """Return the chats under whose system prompts answers are scored, positive and negative ones.

    Their wording differs from the one under which persona answers to the same question are written, where the behaviour
    has several, so that repeating the words of the prompt is no advantage.
    """
    prompts = [engine.marked(chat).tokens for chat in persona_chats(behaviour, texts, first=1)]
    return prompts[0::2], prompts[1::2]


def persona_scores(engine: Forces, behaviour: Behaviour, texts: Sequence[str], written: Sequence[Written]) -> F64:
    """Return the persona score of every answer, ``[set, question]``, in nats per token.

    ``s(y) = [log p(y | positive prompt) - log p(y | negative prompt)] / tokens``, by the unsteered model.
    """
    positive, negative = persona_prompts(engine, behaviour, texts)
    together = score_answers(engine, [*positive, *negative], [_twice(each, len(texts)) for each in written])
    return together[:, : len(texts)] - together[:, len(texts) :]


def _twice(written: Written, questions: int) -> Written:
    assert len(written) == questions
    return Written(written.texts * 2, written.tokens * 2)


def written_effect(
    scores: Mapping[str, F64],
    prompted: Mapping[str, F64],
    plain: F64,
    *,
    strengths: Mapping[str, float],
    noise: float,
    tokens: int,
    seed: int = 0,
) -> WrittenEffect:
    """Return the record of a written effect.

    Args:
        scores: Persona scores of the steered answers, by sign, ``[question]``.
        prompted: Those of the answers under the system prompts.
        plain: Those of the plain answers.
        strengths: By sign.
        noise: Swing (nats per token) that random directions at the same KL reach by chance on as many questions.
        tokens: Upper bound on the length of the answers.
        seed: Of the bootstrap.
    """
    swing, by_prompts = scores["+"] - scores["-"], prompted["+"] - prompted["-"]
    prompt_swing = mean_interval(by_prompts, seed=seed)
    reason = why_no_ratio(prompt_swing, noise)
    ratio = None if reason else bootstrap(_ratio_of_means, swing, by_prompts, seed=seed)
    return WrittenEffect(
        strengths=dict(strengths),
        effect={key: mean_interval(each - plain, seed=seed) for key, each in scores.items()},
        swing=mean_interval(swing, seed=seed),
        prompt_effect={key: mean_interval(each - plain, seed=seed) for key, each in prompted.items()},
        prompt_swing=prompt_swing,
        times_prompt=ratio,
        reason=reason,
        questions=len(plain),
        tokens=tokens,
    )


def _ratio_of_means(swing: F64, by_prompts: F64) -> F64:
    return np.asarray(swing.mean(-1) / by_prompts.mean(-1))


def why_no_ratio(prompt_swing: Interval, noise: float) -> str | None:
    """Say why dividing by the written effect of the system prompts would divide by noise; None if it would not."""
    if prompt_swing.low <= 0 or prompt_swing.value <= noise:
        return (
            f"answers under the system prompts differ by {prompt_swing.value:.3f} nat per token (95 % interval "
            f"{prompt_swing.low:.3f} to {prompt_swing.high:.3f}), no more than by chance (±{noise:.3f})"
        )
    return None


@dataclass(frozen=True)
class TextChecks:
    """Properties of the answers at one strength, next to those of the plain answers.

    Attributes:
        repetitive: Share of the answers with ``distinct_share`` below ``MIN_DISTINCT``.
        distinct: Mean ``distinct_share``.
        relevance: How much likelier answers are after their own question than after another one, in nats per token.
        surprise: Mean negative log-probability per token after the question, in nats.
    """

    repetitive: float
    distinct: float
    relevance: float
    surprise: float

    def limit(self, plain: TextChecks) -> Limit | None:
        """Return which limit the text exceeds, compared with the plain answers; None if it holds together."""
        if (
            self.repetitive - plain.repetitive > MAX_MORE_REPETITIVE
            or self.distinct < plain.distinct - MAX_LESS_DISTINCT
        ):
            return "repetition"
        if self.relevance < MIN_RELEVANCE * plain.relevance:
            return "relevance"
        if self.surprise > plain.surprise + np.log(MAX_PERPLEXITY):
            return "likelihood"
        return None


def limits_of(checks: Mapping[float, TextChecks]) -> dict[float, Limit | None]:
    """Return the limit that the text exceeds at each strength, of checks on few questions; 0 is unsteered.

    Damage grows with the strength, so a strength beyond a broken one is broken too. Of few answers a single one may be
    repetitive by chance: it counts at the greatest strength, or where a greater one has repetitive answers as well.
    """
    plain = checks[0.0]
    limits: dict[float, Limit | None] = {0.0: None}
    for sign in SIGNS.values():
        outwards = sorted((strength for strength in checks if strength * sign > 0), key=abs)
        broken: Limit | None = None
        for n, strength in enumerate(outwards):
            limit = checks[strength].limit(plain)
            beyond = [checks[other].limit(plain) for other in outwards[n + 1 :]]
            broken = broken or (limit if not beyond or any(beyond) else None)
            limits[strength] = broken
    return limits


def check_texts(
    engine: Forces, prompts: Sequence[Tokens], greedy: Sequence[Written], sampled: Sequence[Written]
) -> list[TextChecks]:
    """Measure sets of greedy and sampled answers to the same questions, of which there are two or more.

    Greedy answers are scored after their own question and after the next one, by the unsteered model. Both kinds are
    searched for repetition.
    """
    others = [*prompts[1:], prompts[0]]
    together = score_answers(engine, [*prompts, *others], [_twice(each, len(prompts)) for each in greedy])
    own, other = together[:, : len(prompts)], together[:, len(prompts) :]
    checks = []
    for number, answers in enumerate(zip(greedy, sampled, strict=True)):
        shares = np.array([distinct_share(text) for kind in answers for text in kind.texts])
        checks.append(
            TextChecks(
                repetitive=float((shares < MIN_DISTINCT).mean()),
                distinct=float(shares.mean()),
                relevance=float((own[number] - other[number]).mean()),
                surprise=-float(own[number].mean()),
            )
        )
    return checks


@dataclass(frozen=True)
class StrengthAnswers:
    """Greedy and sampled answers at one strength, and their checks (of both kinds together)."""

    greedy: Written
    checks: TextChecks


def answers_at(
    model: Trains,
    vector: ControlVector,
    questions: Sequence[Question],
    strengths: Sequence[float],
    *,
    max_new_tokens: int,
    seed: int,
) -> dict[float, StrengthAnswers]:
    """Let the model answer at several strengths, and check the answers; 0 is unsteered.

    All questions are answered greedily, and every other one by sampling too.
    """
    texts, prompts = [q.text for q in questions], [q.prompt for q in questions]
    steerings = [Steering((Term(vector, strength),)) if strength else Steering() for strength in strengths]
    greedy = write_steered(model, texts, steerings, max_new_tokens=max_new_tokens)
    half = texts[::2]  # sampled answers are only searched for repetition
    sampled = write_steered(model, half, steerings, max_new_tokens=max_new_tokens, temperature=TEMPERATURE, seed=seed)
    checks = check_texts(model, prompts, greedy, sampled)
    return {
        strength: StrengthAnswers(answers, check)
        for strength, answers, check in zip(strengths, greedy, checks, strict=True)
    }


def search_safe_range(
    limit_at: Callable[[Sequence[float]], Mapping[float, Limit | None]],
    *,
    halvings: int,
    questions: int,
    on_round: Callable[[], None] = lambda: None,
) -> SafeRange:
    """Search the strengths at which no limit is exceeded, by halving, both signs in the same rounds.

    The first round tries ±1 and ±0.5. An end is the greatest strength that holds below the smallest one that does not.

    Args:
        limit_at: Returns the limit that is exceeded at each of some strengths.
        halvings: Of the strengths from 0 to 1: 2 find the ends to a quarter.
        questions: Number of questions of each strength.
        on_round: Called after each round.
    """
    steps = 2**halvings
    found: dict[str, dict[int, Limit | None]] = {key: {0: None} for key in SIGNS}
    tried = {key: {steps, steps // 2} - {0} for key in SIGNS}
    while any(tried.values()):
        wanted = [SIGNS[key] * step / steps for key in SIGNS for step in sorted(tried[key])]
        limits = limit_at(wanted)
        for key in SIGNS:
            found[key] |= {step: limits[SIGNS[key] * step / steps] for step in tried[key]}
            kept, lost = _bracket(found[key], steps)
            tried[key] = {(kept + lost) // 2} if lost - kept > 1 else set()
        on_round()
    ends, reasons = {}, {}
    for key in SIGNS:
        kept, lost = _bracket(found[key], steps)
        ends[key] = SIGNS[key] * kept / steps
        reasons[key] = found[key].get(lost) or "budget"
    return SafeRange(low=ends["-"], high=ends["+"], reasons=reasons, questions=questions)


def _bracket(limits: Mapping[int, Limit | None], steps: int) -> tuple[int, int]:
    """Return the last step that holds from 0 outwards, of those tried, and the next one; beyond all, ``steps + 1``."""
    held = list(takewhile(lambda step: limits[step] is None, sorted(limits)))
    return held[-1], next((step for step in sorted(limits) if limits[step] is not None), steps + 1)

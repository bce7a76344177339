"""Strengths: the safe range, what is measured inside it, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from trimtab.arrays import F64
from trimtab.errors import CalibrationError
from trimtab.evaluation.comparison import (
    Answered,
    Comparison,
    chance_of,
    random_seeds,
    report_control,
    swing_chance,
    swing_of,
)
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.measurement import Evaluator, effect_of
from trimtab.evaluation.metrics.ceiling import ceiling_effects
from trimtab.evaluation.records import (
    Ceiling,
    Chance,
    Controls,
    Damage,
    InterventionReport,
    Point,
    Subject,
    Verdict,
    Word,
    WrittenAt,
)
from trimtab.stats import bootstrap, mean_interval
from trimtab.steering import Steering, Term
from trimtab.training.controls import Trial, random_directions
from trimtab.training.progress import Phases
from trimtab.training.search import SIGNS, Steerable
from trimtab.training.written import (
    TextChecks,
    Written,
    answers_at,
    persona_scores,
    search_safe_range,
    write_steered,
    written_effect,
)
from trimtab.vectors import ControlVector, Interval, SafeRange
from trimtab.vectors.records import BROKEN, Limit, signed
from trimtab.vectors.vector import DEFAULT_STRENGTH

MAX_LOST_RELEVANCE = 0.10
MAX_LOST_FACTS = 0.05

RANGE_PHASE = "Searching the safe range"


def lost_limit(facts: Interval | None, relevance: Interval | None) -> Limit | None:
    """Return which limit is exceeded by changes from the base model, as far as they were measured.

    Example:
        >>> lost_limit(Interval(-0.05, -0.1, 0.0), Interval(-0.1, -0.2, 0.0)), lost_limit(None, None)
        (None, None)
        >>> lost_limit(Interval(-0.06, -0.1, -0.02), None)
        'facts'
    """
    if facts is not None and facts.value < -MAX_LOST_FACTS:
        return "facts"
    return "relevance" if relevance is not None and relevance.value < -MAX_LOST_RELEVANCE else None


@dataclass(frozen=True)
class Tried:
    """One strength that was tried in the search of the safe range.

    Attributes:
        written: Greedy answers.
        limit: What the text exceeds; None where it holds together.
        facts: Change of the share of facts known; None where the text exceeds a limit already.
    """

    written: Written
    limit: Limit | None
    facts: Interval | None


def find_safe_range(
    evaluator: Evaluator, vector: ControlVector, phases: Phases
) -> tuple[SafeRange, dict[float, Tried]]:
    """Search the safe range on held-out questions; return it with all strengths that were tried.

    Beyond what training's search checks, the simple facts must be kept, and the relevance that the embedding model
    sees, where it is installed. Facts and relevance are measured where the text holds together otherwise.
    """
    sizes = evaluator.baseline.sizes
    questions = evaluator.baseline.questions[: sizes.written]
    tried: dict[float, Tried] = {}
    plain: list[TextChecks] = []

    def limits_at(strengths: Sequence[float]) -> dict[float, Limit | None]:
        found = answers_at(
            evaluator.engine,
            vector,
            questions,
            strengths if plain else [0.0, *strengths],
            max_new_tokens=sizes.written_tokens,
            seed=evaluator.seed,
        )
        if not plain:
            plain.append(found[0.0].checks)
        for strength in strengths:
            answers = found[strength]
            limit, facts = answers.checks.limit(plain[0]), None
            if limit is None:
                known = evaluator.facts(Intervention.of_vector(vector, strength))
                facts = known.drop_from(evaluator.baseline.facts.base)
                limit = lost_limit(facts, evaluator.relevance_change(answers.greedy))
            tried[strength] = Tried(answers.greedy, limit, facts)
        return {strength: tried[strength].limit for strength in strengths}

    with phases(RANGE_PHASE, max(sizes.halvings, 1)) as step:
        safe = search_safe_range(limits_at, halvings=sizes.halvings, questions=len(questions), on_round=step)
    return safe, tried


@dataclass(frozen=True)
class Measured:
    """KL and preference effect at one strength, in nats per token; the effect is None without personas."""

    kl: float
    effect: Interval | None


def measure_strengths(
    evaluator: Evaluator, vector: ControlVector, strengths: Sequence[float], steered: Answered, phases: Phases
) -> dict[float, Measured]:
    """Measure KL and preference effect at each strength; ±1 is taken from ``steered``."""
    measured = {}
    with phases("Measuring strengths", len(strengths)) as step:
        for strength in strengths:
            if abs(strength) == 1.0:
                key = "+" if strength > 0 else "-"
                halves, kl = steered.halves[key], steered.kl[key]
            else:
                intervention = Intervention.of_vector(vector, strength)
                halves, kl = evaluator.halves(intervention), evaluator.kl(intervention)
            measured[strength] = Measured(kl, evaluator.interval(effect_of(halves)))
            step()
    return measured


def sweep_of(
    evaluator: Evaluator,
    tried: Mapping[float, Tried],
    measured: Mapping[float, Measured],
    qualities: Mapping[float, Damage],
) -> tuple[Point, ...]:
    """Return the strengths tried with all that was measured at them, and the base model at 0, ascending."""
    written = evaluator.baseline.written
    none = None if evaluator.effects is None else Interval(0.0, 0.0, 0.0)
    own = evaluator.relevance_each(written)
    base = replace(qualities[0.0], kl=0.0, relevance=None if own is None else float(own.mean()))
    points = {0.0: Point(0.0, 0.0, none, base, None, written.texts)}
    for strength, each in tried.items():
        kl, relevance = measured[strength].kl, evaluator.relevance_each(each.written)
        damage = replace(
            qualities[strength],
            kl=kl,
            relevance=None if relevance is None else float(relevance.mean()),
            relevance_change=evaluator.relevance_change(each.written),
            accuracy_change=each.facts,
        )
        points[strength] = Point(strength, kl, measured[strength].effect, damage, each.limit, each.written.texts)
    return tuple(points[strength] for strength in sorted(points))


def safe_strengths(safe: SafeRange) -> dict[str, dict[str, float]]:
    """Return the strength of each sign at the default turn, and at the ends of the safe range."""
    ends = {"+": safe.high, "-": safe.low}
    near = {key: SIGNS[key] * min(DEFAULT_STRENGTH, abs(end)) for key, end in ends.items()}
    return {"default": near, "safe": ends}


def measure_written(
    evaluator: Evaluator,
    vector: ControlVector,
    safe: SafeRange,
    tried: Mapping[float, Tried],
    comparison: Comparison,
    trials: Sequence[Trial],
    phases: Phases,
) -> tuple[dict[str, WrittenAt], list[F64 | None]]:
    """Measure written effects inside the safe range, and written swings of the interventions.

    Random directions answer at the ends of the safe range, where they spend the vector's KL; at the default turn it
    spends no more, so that their effects there bound what chance does. What the model wrote for other measurements is
    used again.

    Args:
        evaluator: Measures them.
        vector: The vector.
        safe: Its safe range.
        tried: Its answers at the strengths of that range.
        comparison: Answers under the interventions and under the system prompts.
        trials: Random directions at the budget, of ``random_seeds``.
        phases: Where progress is reported.

    Returns:
        The written effects as in ``Report.written``, and the swing of each intervention, ``[question]``; empty and None
        without personas.
    """
    if not comparison.prompted:
        return {}, [None] * len(comparison.answered)
    baseline = evaluator.baseline
    texts, plain = baseline.texts[: len(baseline.written)], baseline.written
    turns = safe_strengths(safe)
    strengths = sorted({strength for turn in turns.values() for strength in turn.values() if strength})
    ends = sorted({end for end in turns["safe"].values() if end})
    with phases("Measuring the written effect", 2) as step:
        noise = random_vectors(vector, trials, seed=evaluator.seed)
        steerings = [Steering((Term(random, strength),)) for random in noise for strength in ends]
        tokens = baseline.sizes.written_tokens
        by_noise = write_steered(evaluator.engine, texts, steerings, max_new_tokens=tokens)
        step()
        own = [plain, *(tried[strength].written for strength in strengths)]
        by_prompts = [comparison.prompted[key] for key in SIGNS]
        sets = [*own, *by_prompts, *by_noise, *comparison.all_written]
        scores = iter(persona_scores(evaluator.engine, evaluator.behaviour, texts, sets))
        base, *steered = (next(scores) for _ in own)
        at = {0.0: base, **dict(zip(strengths, steered, strict=True))}
        prompted = {key: next(scores) for key in SIGNS}
        random = [{0.0: base, **{strength: next(scores) for strength in ends}} for _ in noise]
        swings: list[F64 | None] = [next(scores) - next(scores) for _ in comparison.answered]
        step()
    by_chance = [Trial({key: each[end] - base for key, end in turns["safe"].items()}, {}) for each in random]
    controls = tuple(report_control(trial, seed=evaluator.seed) for trial in by_chance)
    chance = chance_of(by_chance)
    assert chance is not None
    found: dict[str, WrittenAt] = {}
    for name, turn in turns.items():
        effect = written_effect(
            {key: at[strength] for key, strength in turn.items()},
            prompted,
            base,
            strengths=turn,
            noise=swing_chance(controls) or 0.0,
            tokens=tokens,
            seed=evaluator.seed,
        )
        clear = {key: is_clear(effect.effect[key], chance, key) for key in SIGNS}
        found[name] = WrittenAt(effect, controls, chance, clear)
    return found, swings


def random_vectors(vector: ControlVector, trials: Sequence[Trial], *, seed: int) -> list[ControlVector]:
    """Return the random directions of the trials as vectors whose strength 1 spends what the trial spent."""
    steerable = Steerable.of(vector, vector.layers)
    vectors = []
    for trial, own_seed in zip(trials, random_seeds(len(trials), seed=seed), strict=True):
        random = random_directions(steerable, seed=own_seed).directions
        vectors.append(replace(vector, directions={**vector.directions, **random}, scale=trial.scale, safe=None))
    return vectors


def measure_ceiling(evaluator: Evaluator, vector: ControlVector, steered: Answered, phases: Phases) -> Ceiling | None:
    """Measure the share of the ceiling that the vector reaches at ±1; None without personas or a clear ceiling."""
    swing = swing_of(steered.halves)
    if swing is None:
        return None
    baseline = evaluator.baseline
    questions = evaluator.questions[: baseline.sizes.controls_kl]
    with phases("Measuring the ceiling", 1):
        kl = {key: baseline.controls_kl.measure(vector.addition(sign)) for key, sign in SIGNS.items()}
        try:
            multipliers, effects = ceiling_effects(evaluator.engine, questions, kl)
        except CalibrationError:
            return None
    highest, reached = effects["+"] - effects["-"], swing[: len(questions)]
    of_ceiling = mean_interval(highest, seed=evaluator.seed)
    if of_ceiling.low <= 0:  # a share of it would be a share of noise
        return None
    return Ceiling(
        multipliers=multipliers,
        swing=of_ceiling,
        share=bootstrap(lambda one, other: one.mean(-1) / other.mean(-1), reached, highest, seed=evaluator.seed),
        questions=len(questions),
    )


BETTER_BAND = 1.5  # times the swing, from which another choice of layers is called better


def is_clear(effect: Interval, chance: Chance, sign: str) -> bool:
    """Return whether an effect's whole interval lies beyond random directions, on the right side."""
    return effect.low > chance.high if sign == "+" else effect.high < chance.low


def judge(
    subject: Subject,
    vector: InterventionReport,
    written: Mapping[str, WrittenAt],
    safe: SafeRange,
    controls: Controls,
) -> Verdict:
    """Judge a vector by its measurements.

    A vector works if at both ends of its safe range the written effect lies beyond that of every random direction, is
    together no less than that of the system prompts (where that is known), and neither shuffled labels nor other layers
    do as well.
    """
    if not written or vector.swing is None:
        sentence = "No effect was measured: the behaviour has no personas to ask the model for."
        return Verdict("not measured", {}, None, (sentence, held_together(safe)))
    at = written["safe"]
    word = _word(at, vector.swing, controls)
    sentences = (
        _headline(word, subject, written, safe),
        *_against_chance(subject, at),
        *_against_prompts(at),
        held_together(safe),
        *_preference(subject, vector),
        *_against_controls(vector.swing, controls),
    )
    return Verdict(word, at.clear, at.effect.times_prompt is not None, sentences)


def held_together(safe: SafeRange) -> str:
    """Say in which range text holds together, and what happens beyond each end."""
    if safe.low == safe.high:
        return f"At no strength tried does the text hold together: {_broken(safe.reasons.values())}."
    ends = [
        f"{where} {BROKEN[safe.reasons[key]]}"
        for key, where in (("-", "below,"), ("+", "above,"))
        if safe.reasons[key] != "budget"
    ]
    beyond = f"; {', and '.join(ends)}" if ends else ", all that is ever tried"
    return f"Text holds together from {signed(safe.low)} to {signed(safe.high)}{beyond}."


def _broken(reasons: Iterable[Limit]) -> str:
    return " and ".join(dict.fromkeys(BROKEN[reason] for reason in reasons))


def _word(at: WrittenAt, swing: Interval, controls: Controls) -> Word:
    if not any(at.clear.values()) or _shuffled_does_as_well(swing, controls):
        return "does not work"
    if not all(at.clear.values()):
        return "one way only"
    return "weak" if _prompts_do_more(at) or _misplaced(swing, controls) else "works"


def _prompts_do_more(at: WrittenAt) -> bool:
    return at.effect.times_prompt is not None and at.effect.times_prompt.value < 1.0


def _shuffled_does_as_well(swing: Interval, controls: Controls) -> bool:
    return controls.shuffled is not None and abs(controls.shuffled.swing.value) >= swing.value


def _misplaced(swing: Interval, controls: Controls) -> bool:
    return controls.band is not None and controls.band.swing.low > max(BETTER_BAND * swing.value, 0.0)


def _headline(word: Word, subject: Subject, written: Mapping[str, WrittenAt], safe: SafeRange) -> str:
    name = (
        f"{subject.vector!r}" if subject.vector == subject.behaviour else f"{subject.vector!r} as {subject.behaviour!r}"
    )
    times = _in_prompts(written)
    if word == "works":
        return f"{name} works: {times or f'it moves the answers of {subject.model} both ways'}."
    if word == "weak":
        moves = f"it moves the answers of {subject.model} both ways, but less than it should"
        return f"{name} is weak: {moves}{f'; {times}' if times else ''}."
    ends, clear = {"+": safe.high, "-": safe.low}, written["safe"].clear
    if word == "one way only":
        ways = subject.poles
        good, bad = ("+", "-") if clear["+"] else ("-", "+")
        rest = "not back" if ends[bad] else f"towards {ways[bad]} the text is incoherent at every strength tried"
        return f"{name} works one way only: it moves the answers of {subject.model} towards {ways[good]}, and {rest}."
    if not any(ends.values()):
        return f"{name} does not work: the text of {subject.model} is incoherent at every strength tried."
    return (
        f"{name} does not work: inside its safe range it moves the answers of {subject.model} no further than "
        "directions without meaning do."
    )


def _in_prompts(written: Mapping[str, WrittenAt]) -> str:
    """Say how the written effect compares with that of the system prompts; nothing where that is not known."""
    near, far = (written[name].effect for name in ("default", "safe"))
    if near.times_prompt is None or far.times_prompt is None:
        return ""
    first = (
        f"at the default turn ({_both(near.strengths)}) it does {near.times_prompt.value:.1f} times what system "
        "prompts for the two poles do"
    )
    if near.strengths == far.strengths:
        return first
    return f"{first}, at the ends of its safe range ({_both(far.strengths)}) {far.times_prompt.value:.1f} times"


def _both(strengths: Mapping[str, float]) -> str:
    if strengths["+"] == -strengths["-"]:
        return f"±{strengths['+']:g}"
    return f"{signed(strengths['-'])} and {signed(strengths['+'])}"


def _against_chance(subject: Subject, at: WrittenAt) -> Iterator[str]:
    for key, label in subject.poles.items():
        effect, strength = at.effect.effect[key], at.effect.strengths[key]
        if not strength:
            continue
        measured = f"{effect.value:+.3f} nat per token (95 % interval {effect.low:+.3f} to {effect.high:+.3f})"
        beside = f"random directions reach {at.chance.low:+.3f} to {at.chance.high:+.3f}"
        joint = "beyond chance" if at.clear[key] else "not beyond chance"
        yield f"Written effect at {signed(strength)} ({label}): {measured}, {joint}: {beside}."


def _against_prompts(at: WrittenAt) -> Iterator[str]:
    if at.effect.reason:
        yield f"It cannot be compared with prompts: {at.effect.reason}."
    elif _prompts_do_more(at):
        yield (
            f"System prompts do more: answers under them differ by {at.effect.prompt_swing.value:+.3f} nat per token, "
            f"those at the ends of the safe range by {at.effect.swing.value:+.3f}."
        )


def _preference(subject: Subject, vector: InterventionReport) -> Iterator[str]:
    """Say where a preference effect is only push: the wanted answers become less likely too."""
    for key, label in subject.poles.items():
        halves = vector.sides[key].halves
        if halves is None:
            continue
        wanted, other = (halves.positive, halves.negative) if key == "+" else (halves.negative, halves.positive)
        if wanted.high < 0:
            yield (
                f"At {key}1 answers that are {label} become less likely too ({wanted.value:+.2f} nat per token; those "
                f"of the other pole {other.value:+.2f})."
            )


def _against_controls(swing: Interval, controls: Controls) -> Iterator[str]:
    if _shuffled_does_as_well(swing, controls):
        assert controls.shuffled is not None
        yield (
            f"The same pairs with shuffled labels have a preference swing of {controls.shuffled.swing.value:+.3f}, no "
            f"less than this vector's {swing.value:+.3f}: what it has learned is not the behaviour."
        )
    if controls.band is not None and _misplaced(swing, controls):
        yield (
            f"It steers the wrong layers: on the usual band its own directions have a preference swing of "
            f"{controls.band.swing.value:+.3f}, not {swing.value:+.3f}."
        )

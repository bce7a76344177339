"""Evaluate a vector: its effect, its damage, its controls and its comparison with prompts, in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import fmean

from threadpoolctl import threadpool_info

from trimtab.arrays import F64
from trimtab.behaviours import Behaviour, ChoiceText, zoo_names
from trimtab.defaults import BUDGET
from trimtab.engines.protocol import Measures
from trimtab.errors import EvaluationError, VectorError
from trimtab.evaluation.comparison import (
    USUAL,
    Comparison,
    chance_of,
    check_baselines,
    compare,
    measure,
    random_seeds,
    report_control,
    shuffled_directions,
    try_directions,
)
from trimtab.evaluation.interventions import vector_bytes
from trimtab.evaluation.measurement import Baseline, Evaluator, Sizes, effect_of
from trimtab.evaluation.metrics.facts import Fact
from trimtab.evaluation.metrics.refusals import cosine_with_refusal
from trimtab.evaluation.metrics.scorers import Scorer
from trimtab.evaluation.metrics.text_quality import measure_text_quality
from trimtab.evaluation.records import Controls, Placing, Report, Run, Setting, Subject
from trimtab.evaluation.strength import (
    Tried,
    find_safe_range,
    judge,
    measure_ceiling,
    measure_strengths,
    measure_written,
    sweep_of,
)
from trimtab.training.calibrate import TOLERANCE
from trimtab.training.controls import RANDOM_GUESS, Trial, try_randoms
from trimtab.training.progress import OnProgress, Phases, ignore
from trimtab.training.questions import EffectSet
from trimtab.training.search import SIGNS, Steerable, band_layers, find_scales, first_guess
from trimtab.vectors import Calibration, ControlVector, SafeRange

PACKAGES = ("trimtab", "torch", "transformers", "numpy")
MAX_SPENT = 2.0  # times the budget; a vector that spends far more or less is compared at this limit
MAX_OVERLAP = 0.5  # with the default band; layers that share more are not compared with it


def evaluate(
    model: Measures,
    vector: ControlVector,
    *,
    behaviour: Behaviour | None = None,
    baselines: Sequence[str] = USUAL,
    lora: bool = False,
    scorers: Sequence[Scorer] = (),
    choices: Sequence[ChoiceText] = (),
    truthfulqa: Sequence[Fact] = (),
    sizes: Sizes | None = None,
    seed: int = 0,
    baseline: Baseline | None = None,
    making: Mapping[str, float] | None = None,
    progress: OnProgress = ignore,
) -> Report:
    """Measure whether a vector works, what it costs, and whether a prompt would have done.

    All is measured on neutral questions that training never calibrates on: the strengths inside which text holds
    together; there, the effect on what the model writes, beside system prompts and random directions at the same KL; at
    strength ±1 the preference effect, beside shuffled labels, other layers and logit arithmetic; damage by KL, fluency,
    relevance, simple facts and refusals; prompts, examples, both together and fine-tuning on the same questions by the
    same scorers. A vector without a strength unit is calibrated first. The report's ``verdict`` puts the result into
    words; its ``safe`` is for the vector's file: ``replace(vector, safe=report.safe)``.

    Args:
        model: The engine of the vector's model.
        vector: The vector.
        behaviour: The behaviour that it is measured by; the zoo's of its name by default.
        baselines: Interventions to compare with, of ``trimtab.evaluation.comparison.BASELINES``.
        lora: Also fine-tune an adapter for each pole, which takes minutes.
        scorers: More scorers of answers, such as a ``Judge``.
        choices: More choice questions, besides the behaviour's own.
        truthfulqa: Facts of TruthfulQA; see ``truthfulqa_facts``.
        sizes: Amount of questions and tokens.
        seed: Seed of random directions, shuffles and resamples.
        baseline: Measurements of the base model, where several vectors are evaluated on it; ``truthfulqa`` and
            ``sizes`` are then the baseline's.
        making: Seconds that interventions took to make, where known; ``{"vector": 93.0}``.
        progress: Called with each step of the work.

    Returns:
        The report. Everything in it except ``run`` is the same for the same call on the same machine.

    Raises:
        VectorMismatchError: The vector belongs to another model.
        EvaluationError: The zoo has no behaviour of the vector's name, or a baseline is not known.
        CalibrationError: No strength spends the budget.
        MissingDependencyError: peft is needed for ``lora``.

    Example:
        >>> report = evaluate(model, happy)  # doctest: +SKIP
        >>> report.verdict.word, report.written["default"].effect.times_prompt.value  # doctest: +SKIP
        ('works', 1.2)
    """
    model.check_unsteered("evaluation")
    check_baselines(baselines)
    vector.check_model(model.info)
    if not vector.layers:
        raise VectorError("the vector steers no layer", fix="give one with non-zero weights")
    described = behaviour if behaviour is not None else _behaviour_of(vector)
    phases = Phases(progress)
    if baseline is None:
        texts = described.evaluation_prompts
        with phases("Measuring the base model", 4) as step:
            baseline = Baseline(model, sizes=sizes, questions=texts, truthfulqa=truthfulqa, on_step=step)
    with phases("Calibrating the strength", 1):
        calibrated = _calibrate(baseline, vector)
    with phases("Letting the model answer in character", 1):
        evaluator = Evaluator.of(baseline, described, scorers=scorers, choices=choices, seed=seed)
    trials = _try_controls(evaluator, calibrated, seed=seed, phases=phases)
    safe, tried = find_safe_range(evaluator, calibrated, phases)
    steered = {key: tried[sign].written for key, sign in SIGNS.items()}
    comparison = compare(evaluator, calibrated, steered, baselines=baselines, lora=lora, seed=seed, phases=phases)
    return _report(evaluator, vector, calibrated, safe, tried, trials, comparison, phases, making or {})


def _behaviour_of(vector: ControlVector) -> Behaviour:
    name = vector.behaviour.name
    if name not in zoo_names():
        raise EvaluationError(
            f"no behaviour named {name!r} is in the zoo", fix="name a behaviour: --behaviour FILE, or behaviour="
        )
    return Behaviour.load(name)


def _calibrate(baseline: Baseline, vector: ControlVector) -> ControlVector:
    """Give a vector a strength unit if it has none; a mix has none, because its KL was never measured."""
    if vector.scale is not None and vector.calibration is not None:
        return vector
    norms = {layer: norm for layer, norm in baseline.norms.items() if layer in vector.directions}
    vector = replace(vector, norms=norms) if vector.scale is None else vector
    guess = vector.scale or dict.fromkeys(SIGNS, first_guess(len(vector.layers)))
    steerable = Steerable.of(vector, vector.layers)
    spent = find_scales(baseline.kl, steerable, vector.layers, budget=BUDGET, guess=guess, tolerance=TOLERANCE)
    kl = {key: point.kl for key, point in spent.items()}
    record = Calibration(BUDGET, kl, len(baseline.kl), effect=None, candidates=(), held_out=None)
    return replace(vector, scale={key: point.scale for key, point in spent.items()}, calibration=record)


@dataclass(frozen=True)
class _Trials:
    random: tuple[Trial, ...] = ()
    shuffled: Trial | None = None
    band: Trial | None = None


def _try_controls(evaluator: Evaluator, vector: ControlVector, *, seed: int, phases: Phases) -> _Trials:
    """Try random directions, shuffled labels and the default band, on the vector's questions and at its KL there.

    That KL differs a little from its budget, which was fitted on other questions.
    """
    effects, sizes = evaluator.effects, evaluator.baseline.sizes
    if effects is None:
        return _Trials()
    assert vector.scale is not None
    assert vector.calibration is not None
    kl, layers = evaluator.baseline.controls_kl, vector.layers
    spent = fmean(kl.measure(vector.addition(sign)) for sign in SIGNS.values())
    budget = min(max(spent, vector.calibration.budget / MAX_SPENT), vector.calibration.budget * MAX_SPENT)
    steerable = Steerable.of(vector, layers)
    with phases("Measuring controls", sizes.randoms + 2) as step:
        guess = RANDOM_GUESS * vector.scale["+"]
        fewer = evaluator.questions[: sizes.chance]
        random = try_randoms(
            kl,
            [effects if len(fewer) == len(effects) else EffectSet(evaluator.engine, fewer)],
            steerable,
            layers,
            budget=budget,
            guess=guess,
            seeds=random_seeds(sizes.randoms, seed=seed),
            on_one=step,
        )
        directions = shuffled_directions(evaluator.engine, evaluator.behaviour, layers, pairs=sizes.pairs, seed=seed)
        shuffled = try_directions(kl, effects, steerable, directions, layers, budget=budget, guess=vector.scale)
        step()
        band = _default_band(vector)
        at_band = None
        if band:
            elsewhere = Steerable(vector.directions, {layer: vector.norms[layer] for layer in band})
            band_directions = {layer: vector.directions[layer] for layer in band}
            guesses = dict.fromkeys(SIGNS, first_guess(len(band)))
            at_band = try_directions(kl, effects, elsewhere, band_directions, band, budget=budget, guess=guesses)
        step()
    return _Trials(random, shuffled, at_band)


def _default_band(vector: ControlVector) -> tuple[int, ...]:
    """Return the default band of layers; none where the vector steers much of it, or lacks its directions."""
    band = band_layers(vector.model.layers)
    shared = len(set(band) & set(vector.layers)) / len(set(band) | set(vector.layers))
    return band if shared < MAX_OVERLAP and set(band) <= set(vector.directions) else ()


def _controls(evaluator: Evaluator, trials: _Trials, halves: Mapping[str, F64 | None], *, refusal: float) -> Controls:
    plus, minus = (effect_of(halves[key]) for key in SIGNS)
    wrong = {} if plus is None or minus is None else {"+": float((plus <= 0).mean()), "-": float((minus >= 0).mean())}
    return Controls(
        random=tuple(report_control(trial, seed=evaluator.seed) for trial in trials.random),
        chance=chance_of(trials.random),
        shuffled=report_control(trials.shuffled, seed=evaluator.seed) if trials.shuffled else None,
        band=report_control(trials.band, seed=evaluator.seed) if trials.band else None,
        anti_steerable=wrong,
        refusal_cosine=refusal,
    )


def _report(
    evaluator: Evaluator,
    given: ControlVector,
    vector: ControlVector,
    safe: SafeRange,
    tried: Mapping[float, Tried],
    trials: _Trials,
    comparison: Comparison,
    phases: Phases,
    making: Mapping[str, float],
) -> Report:
    baseline, steered = evaluator.baseline, comparison.answered[0]
    written, swings = measure_written(evaluator, vector, safe, tried, comparison, trials.random, phases)
    ceiling = measure_ceiling(evaluator, vector, steered, phases)
    measured = measure_strengths(evaluator, vector, list(tried), steered, phases)
    with phases("Measuring text quality", 1):
        # All sets together: an answer that several of them share is scored once.
        sets = [*comparison.all_written, *(each.written for each in tried.values()), baseline.written]
        qualities = measure_text_quality(evaluator.engine, baseline.questions, baseline.written, sets)
    unit = written["safe"].effect if written else None
    interventions = measure(
        evaluator,
        comparison,
        qualities,
        [evaluator.interval(swing) for swing in swings],
        prompt_swing=None if unit is None or unit.reason else unit.prompt_swing.value,
        phases=phases,
    )
    by_strength = zip([*tried, 0.0], qualities[len(comparison.all_written) :], strict=True)
    sweep = sweep_of(evaluator, tried, measured, dict(by_strength))
    with phases("Measuring refusals", 1):
        base = evaluator.base_side(qualities[-1])
        refusal = cosine_with_refusal(vector, baseline.refusal)
    controls = _controls(evaluator, trials, steered.halves, refusal=refusal)
    subject = _subject(evaluator, given, vector)
    return Report(
        subject=subject,
        base=base,
        interventions=interventions,
        written=written,
        safe=safe,
        sweep=sweep,
        ceiling=ceiling,
        controls=controls,
        prompt_swing=evaluator.interval(comparison.prompt_swing),
        verdict=judge(subject, interventions[0], written, safe, controls),
        setting=_setting(evaluator, comparison),
        run=Run(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds={phase: round(spent, 2) for phase, spent in phases.seconds.items()},
            making={**comparison.making, **making},
        ),
    )


def _subject(evaluator: Evaluator, given: ControlVector, vector: ControlVector) -> Subject:
    behaviour, calibration = evaluator.behaviour, vector.calibration
    assert calibration is not None
    reliability = vector.reliability
    return Subject(
        vector=vector.behaviour.name,
        behaviour=behaviour.name,
        digest=behaviour.digest,
        description=behaviour.description,
        positive=behaviour.positive.label,
        negative=behaviour.negative.label,
        model=vector.model.name,
        method=vector.method,
        layers=vector.layers,
        budget=calibration.budget,
        kl=dict(calibration.kl),
        calibrated_here=given is not vector,
        pairwise_cosine=None if reliability is None else reliability.pairwise_cosine,
        candidates=tuple(Placing(tried.layers, tried.swing.value) for tried in calibration.candidates),
        stored_bytes=vector_bytes(vector),
    )


def _setting(evaluator: Evaluator, comparison: Comparison) -> Setting:
    return Setting(
        seed=evaluator.seed,
        threads=max((pool["num_threads"] for pool in threadpool_info()), default=1),
        answer_tokens=evaluator.baseline.sizes.answer_tokens,
        written_tokens=evaluator.baseline.sizes.written_tokens,
        questions=evaluator.baseline.texts,
        facts=len(evaluator.baseline.facts.facts),
        versions={package: version(package) for package in PACKAGES},
        scorers={scorer.name: scorer.unit for scorer in evaluator.scorers},
        missing=(*evaluator.missing, *comparison.missing),
    )

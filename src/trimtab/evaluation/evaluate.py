"""``evaluate``: whether a vector works, what it costs, and how it compares, in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import fmean

from threadpoolctl import threadpool_info

from trimtab.behaviours import Behaviour, zoo_names
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import EvaluationError, VectorError
from trimtab.evaluation.baseline import Baseline, Sizes
from trimtab.evaluation.comparison import USUAL, Compared, check_baselines, make_ways, measure_ways
from trimtab.evaluation.controls import (
    Trial,
    chance_of,
    per_prompt,
    shuffled_directions,
    try_directions,
    try_randoms,
)
from trimtab.evaluation.interventions import Intervention, vector_bytes
from trimtab.evaluation.measure import (
    Case,
    Floats,
    base_side,
    case_of,
    effect_of,
    kl_of,
    relevance_each,
    write_at_length,
)
from trimtab.evaluation.metrics.choices import ChoiceQuestion
from trimtab.evaluation.metrics.facts import Fact
from trimtab.evaluation.metrics.refusals import cosine_with_refusal
from trimtab.evaluation.metrics.scorers import Scorer
from trimtab.evaluation.metrics.text_quality import TextQuality, Written, measure_text_quality
from trimtab.evaluation.records import Controls, Placing, Report, Run, Setting, Subject, Sweep
from trimtab.evaluation.strength import Turn, sweep_of
from trimtab.evaluation.tolerable import usable_range
from trimtab.evaluation.verdict import judge
from trimtab.stats import mean_interval
from trimtab.training.calibrate import BUDGET, TOLERANCE
from trimtab.training.check import RANDOM_GUESS, why_no_equivalents
from trimtab.training.progress import OnProgress, Phases, ignore
from trimtab.training.questions import EffectSet
from trimtab.training.search import SIGNS, Steerable, band_layers, first_guess, spend_both
from trimtab.vectors import Calibration, ControlVector, Interval

PACKAGES = ("trimtab", "torch", "transformers", "numpy")
AT_MOST = 2.0  # times its budget: what a vector that spends wildly is compared at
OVERLAP = 0.5  # layers that share so much of the usual band are not held against it


def evaluate(
    model: TransformersEngine,
    vector: ControlVector,
    *,
    behaviour: Behaviour | None = None,
    baselines: Sequence[str] = USUAL,
    lora: bool = False,
    scorers: Sequence[Scorer] = (),
    choices: Sequence[ChoiceQuestion] = (),
    truthfulqa: Sequence[Fact] = (),
    sizes: Sizes | None = None,
    seed: int = 0,
    grounds: Baseline | None = None,
    making: Mapping[str, float] | None = None,
    progress: OnProgress = ignore,
) -> Report:
    """Find out whether a vector works, what it costs, and whether a prompt would have done.

    The vector's effect at strength ±1 is measured on neutral questions that training never calibrates on, beside random
    directions, shuffled labels and other layers at the same KL; its damage by KL, fluency, relevance, simple facts and
    refusals; prompts, examples, both together and fine-tuning on the same questions through the same scorers. A vector
    without a strength unit is given one first. The report's ``verdict`` says in words what came of it.

    Args:
        model: The engine of the vector's model.
        vector: What to evaluate.
        behaviour: What it is held against; if not given, the zoo's of its name.
        baselines: Which comparisons to make; of ``trimtab.evaluation.BASELINES``. Those with the system prompts and
            with the vector at their KL unless asked otherwise.
        lora: Also fine-tune an adapter for each pole, which takes minutes.
        scorers: Ways of scoring answers, besides the usual ones; such as a ``Judge``.
        choices: Choice questions, besides the behaviour's own.
        truthfulqa: Facts of TruthfulQA; see ``truthfulqa_facts``.
        sizes: How much is asked.
        seed: Of random directions, shuffles and resamples.
        grounds: The base model's side, where several vectors are evaluated on one model; then ``truthfulqa`` and
            ``sizes`` are its own.
        making: Seconds that methods took to make, as far as they are known; ``{"vector": 93.0}``.
        progress: Called with each step of the work.

    Returns:
        The report. Nothing in it but ``run`` hangs on the clock: the same call on the same machine gives the same.

    Raises:
        VectorMismatchError: The vector belongs to another model.
        EvaluationError: Nothing is known of what it stands for, or a baseline is not known.
        CalibrationError: No strength spends the budget.
        MissingDependencyError: peft is needed for ``lora``.

    Example:
        >>> report = evaluate(model, happy)  # doctest: +SKIP
        >>> report.verdict.word, report.method("vector").prompt_equivalents  # doctest: +SKIP
        ('works', 4.1)
    """
    check_baselines(baselines)
    vector.check_model(model.info)
    if not vector.layers:
        raise VectorError("the vector steers no layer", fix="give one with non-zero weights")
    described = behaviour if behaviour is not None else _behaviour_of(vector)
    phases = Phases(progress)
    if grounds is None:
        texts = described.evaluation_prompts
        with phases("Asking the model as it is", 4) as step:
            grounds = Baseline(model, sizes=sizes, questions=texts, truthfulqa=truthfulqa, on_step=step)
    with phases("Calibrating the strength", 1):
        dialled = _calibrated(grounds, vector)
    with phases("Letting it answer in character", 1):
        case = case_of(grounds, described, scorers=scorers, choices=choices, seed=seed)
    trials = _trials(case, dialled, seed=seed, phases=phases)
    compared = make_ways(case, dialled, baselines=baselines, lora=lora, seed=seed, phases=phases)
    return _report(case, vector, dialled, trials, compared, phases, making or {})


def _behaviour_of(vector: ControlVector) -> Behaviour:
    name = vector.behaviour.name
    if name not in zoo_names():
        raise EvaluationError(
            f"nothing is known of what {name!r} stands for", fix="name a behaviour: --behaviour FILE, or behaviour="
        )
    return Behaviour.load(name)


def _calibrated(grounds: Baseline, vector: ControlVector) -> ControlVector:
    """The vector, with a strength unit if it had none; a mix has none, since what it spends was never measured."""
    if vector.scale is not None and vector.calibration is not None:
        return vector
    norms = {layer: norm for layer, norm in grounds.norms.items() if layer in vector.directions}
    vector = replace(vector, norms=norms) if vector.scale is None else vector
    guess = vector.scale or dict.fromkeys(SIGNS, first_guess(len(vector.layers)))
    steerable = Steerable.of(vector, vector.layers)
    spent = spend_both(grounds.kl, steerable, vector.layers, budget=BUDGET, guess=guess, tolerance=TOLERANCE)
    kl = {key: point.kl for key, point in spent.items()}
    record = Calibration(BUDGET, kl, len(grounds.kl), effect=None, candidates=(), held_out=None)
    return replace(vector, scale={key: point.scale for key, point in spent.items()}, calibration=record)


# Controls ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trials:
    random: tuple[Trial, ...] = ()
    shuffled: Trial | None = None
    band: Trial | None = None


def _trials(case: Case, vector: ControlVector, *, seed: int, phases: Phases) -> _Trials:
    """Random directions, shuffled labels and the usual band, on the vector's questions and at its KL there.

    That is not quite its budget, which it was brought to on other questions.
    """
    effects, sizes = case.effects, case.grounds.sizes
    if effects is None:
        return _Trials()
    assert vector.scale is not None
    assert vector.calibration is not None
    kl, layers = case.grounds.controls_kl, vector.layers
    spent = fmean(kl.measure(vector.addition(sign)) for sign in SIGNS.values())
    budget = min(max(spent, vector.calibration.budget / AT_MOST), vector.calibration.budget * AT_MOST)
    steerable = Steerable.of(vector, layers)
    with phases("Trying what should do nothing", sizes.randoms + 2) as step:
        guess = RANDOM_GUESS * vector.scale["+"]
        fewer = case.questions[: sizes.chance]
        random = try_randoms(
            kl,
            effects if len(fewer) == len(effects) else EffectSet(case.engine, fewer),
            steerable,
            layers,
            budget=budget,
            guess=guess,
            count=sizes.randoms,
            seed=seed,
            on_one=step,
        )
        directions = shuffled_directions(case.engine, case.behaviour, layers, pairs=sizes.pairs, seed=seed)
        shuffled = try_directions(kl, effects, steerable, directions, layers, budget=budget, guess=vector.scale)
        step()
        band = _usual_band(vector)
        at_band = None
        if band:
            elsewhere = Steerable(vector.directions, {layer: vector.norms[layer] for layer in band})
            own = {layer: vector.directions[layer] for layer in band}
            guesses = dict.fromkeys(SIGNS, first_guess(len(band)))
            at_band = try_directions(kl, effects, elsewhere, own, band, budget=budget, guess=guesses)
        step()
    return _Trials(random, shuffled, at_band)


def _usual_band(vector: ControlVector) -> tuple[int, ...]:
    """The band that steering usually takes; none where the vector steers much of it already, or has not all of it."""
    band = band_layers(vector.model.layers)
    shared = len(set(band) & set(vector.layers)) / len(set(band) | set(vector.layers))
    return band if shared < OVERLAP and set(band) <= set(vector.directions) else ()


def _controls(case: Case, trials: _Trials, effects: Mapping[str, Floats | None], *, refusal: float) -> Controls:
    plus, minus = effects["+"], effects["-"]
    wrong = {} if plus is None or minus is None else {"+": float((plus <= 0).mean()), "-": float((minus >= 0).mean())}
    return Controls(
        random=tuple(trial.control(seed=case.seed) for trial in trials.random),
        chance=chance_of(trials.random),
        shuffled=trials.shuffled.control(seed=case.seed) if trials.shuffled else None,
        band=trials.band.control(seed=case.seed) if trials.band else None,
        anti_steerable=wrong,
        refusal_cosine=refusal,
    )


# The sweep -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Turned:
    """One strength, before its answers are looked at."""

    strength: float
    kl: float
    effect: Interval | None
    written: Written


def _turned(case: Case, vector: ControlVector, compared: Compared, phases: Phases) -> list[_Turned]:
    """Every strength of the sweep; those of ±1 are measured already."""
    sizes, grounds = case.grounds.sizes, case.grounds
    arms = {s: Intervention.of_vector(vector, s) for s in sizes.strengths if abs(s) != 1.0}
    found = []
    with phases("Turning the dial", len(sizes.strengths) + len(arms)) as step:
        new = dict(zip(arms, write_at_length(case, list(arms.values()), sizes.sweep, on_arm=step), strict=True))
        for strength in sizes.strengths:
            key = "+" if strength > 0 else "-"
            if strength in arms:
                written, arm = new[strength], arms[strength]
                effects, kl = effect_of(case, arm), kl_of(case, arm)
            else:
                written = compared.answers[0][key].first(sizes.sweep)
                effects, kl = compared.effects[0][key], compared.kl[0][key]
            effect = None if effects is None else mean_interval(effects, seed=case.seed)
            found.append(_Turned(strength, kl, effect, written))
            step()
    own = grounds.written.first(sizes.sweep)
    nothing = None if case.effects is None else Interval(0.0, 0.0, 0.0)
    return [*found, _Turned(0.0, 0.0, nothing, own)]


def _sweep(case: Case, turned: Sequence[_Turned], looks: Sequence[TextQuality]) -> Sweep:
    return sweep_of(
        [
            Turn(turn.strength, turn.kl, turn.effect, turn.written, look, relevance_each(case, turn.written))
            for turn, look in zip(turned, looks, strict=True)
        ]
    )


# The report ----------------------------------------------------------------------------------------------------------


def _report(
    case: Case,
    given: ControlVector,
    vector: ControlVector,
    trials: _Trials,
    compared: Compared,
    phases: Phases,
    making: Mapping[str, float],
) -> Report:
    grounds = case.grounds
    prompts = compared.prompt_effects
    own = None if prompts is None else prompts["+"] - prompts["-"]
    prompt_swing = None if own is None else mean_interval(own, seed=case.seed)
    reason = ""
    if prompt_swing is not None and own is not None:
        reason = why_no_equivalents(prompt_swing, per_prompt(trials.random) / len(own) ** 0.5) or ""
    turned = _turned(case, vector, compared, phases)
    with phases("Looking at the answers", 1):
        sets = [*compared.all_written, *(turn.written for turn in turned), grounds.written]
        looks = measure_text_quality(case.engine, grounds.questions, grounds.written, sets)
    unit = None if prompt_swing is None or reason else prompt_swing.value
    methods = measure_ways(case, compared, looks, unit=unit, phases=phases)
    tolerable = usable_range(case, vector, methods[0], compared.effects[0], unit=unit, phases=phases)
    sweep = _sweep(case, turned, looks[len(compared.all_written) : -1])
    with phases("Asking what it refuses", 1):
        base = base_side(case, looks[-1])
        refusal = cosine_with_refusal(vector, grounds.refusal)
    controls = _controls(case, trials, compared.effects[0], refusal=refusal)
    subject = _subject(case, given, vector)
    verdict = judge(
        subject,
        methods[0],
        sweep,
        tolerable,
        controls,
        prompt_swing=prompt_swing,
        no_equivalents=reason,
    )
    return Report(
        subject=subject,
        base=base,
        methods=methods,
        sweep=sweep,
        tolerable=tolerable,
        controls=controls,
        prompt_swing=prompt_swing,
        no_equivalents=reason,
        verdict=verdict,
        setting=_setting(case, compared),
        run=Run(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds={phase: round(spent, 2) for phase, spent in phases.seconds.items()},
            making={**compared.making, **making},
        ),
    )


def _subject(case: Case, given: ControlVector, vector: ControlVector) -> Subject:
    behaviour, calibration = case.behaviour, vector.calibration
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


def _setting(case: Case, compared: Compared) -> Setting:
    return Setting(
        seed=case.seed,
        threads=max((pool["num_threads"] for pool in threadpool_info()), default=1),
        answer_tokens=case.grounds.sizes.answer_tokens,
        written_tokens=case.grounds.sizes.written_tokens,
        questions=case.grounds.texts,
        facts=len(case.grounds.facts.facts),
        versions={package: version(package) for package in PACKAGES},
        scorers={scorer.name: scorer.unit for scorer in case.scorers},
        missing=(*case.missing, *compared.missing),
    )

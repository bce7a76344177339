"""The comparison: making every method, letting each answer, and measuring them all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from trimtab.errors import EvaluationError
from trimtab.evaluation.interventions import (
    BOTH,
    EQUAL,
    FEW_SHOT,
    LORA,
    LORA_EQUAL,
    SYSTEM,
    VECTOR,
    Way,
    added_tokens,
    both_way,
    changes_of,
    equal_way,
    few_shot_way,
    system_way,
    vector_way,
)
from trimtab.evaluation.measure import Case, Floats, effect_of, kl_of, side_of, write_at_length
from trimtab.evaluation.metrics.refusals import refusal_rates
from trimtab.evaluation.metrics.text_quality import TextQuality, Written
from trimtab.evaluation.records import Method
from trimtab.stats import mean_interval
from trimtab.training.progress import Phases
from trimtab.training.search import SIGNS
from trimtab.vectors import ControlVector

BASELINES = (EQUAL, SYSTEM, FEW_SHOT, BOTH)
"""What a vector can be compared with, besides fine-tuning."""

USUAL = (EQUAL, SYSTEM)
"""What it is compared with unless asked otherwise."""

REFUSALS = (VECTOR,)  # the methods that harmful requests are put to


@dataclass(frozen=True)
class Compared:
    """Methods with what they spend, do and write, but not looked at yet; the vector is the first.

    Attributes:
        ways: The methods.
        kl: Of each, by sign, in nats per token.
        effects: Of each, by sign, per question.
        answers: Of each, by sign.
        prompt_effects: Of the system prompts, whether they are among the methods or not; None without personas.
        making: Seconds that methods took to make.
        missing: What could not be made, in words.
    """

    ways: tuple[Way, ...]
    kl: tuple[Mapping[str, float], ...]
    effects: tuple[Mapping[str, Floats | None], ...]
    answers: tuple[Mapping[str, Written], ...]
    prompt_effects: Mapping[str, Floats] | None
    making: Mapping[str, float]
    missing: tuple[str, ...] = ()

    @property
    def all_written(self) -> tuple[Written, ...]:
        """Answers of all methods, + before -."""
        return tuple(answers[key] for answers in self.answers for key in SIGNS)


def check_baselines(names: Sequence[str]) -> None:
    """Refuse comparisons that there are not.

    Raises:
        EvaluationError: A baseline is not known.
    """
    unknown = sorted(set(names) - set(BASELINES))
    if unknown:
        raise EvaluationError(f"no baseline named {unknown[0]!r}", fix=f"use some of {', '.join(BASELINES)}")


def make_ways(
    case: Case, vector: ControlVector, *, baselines: Sequence[str], lora: bool, seed: int, phases: Phases
) -> Compared:
    """Make what a vector is compared with, and let every method answer.

    Raises:
        MissingDependencyError: peft is needed for ``lora``.
    """
    assert vector.calibration is not None
    budget = vector.calibration.budget
    ways, missing = [vector_way(vector, budget=budget)], list[str]()
    kl: dict[str, Mapping[str, float]] = {VECTOR: _kl_of_both(case, ways[0])}
    making: dict[str, float] = {}
    prompt_effects: dict[str, Floats] | None = None
    if case.effects is not None:
        system = system_way(case.behaviour, questions=len(case.questions))
        with phases("Making what it is compared with", 4) as step:
            prompt_effects = {key: _known(effect_of(case, arm)) for key, arm in system.arms.items()}
            kl[SYSTEM] = _kl_of_both(case, system)
            step()
            ways += _with_prompts(case, vector, system, kl, baselines, making, step)
        if lora:
            try:
                ways += _tuned(case, budget=budget, seed=seed, making=making, phases=phases)
            except EvaluationError as error:  # minutes of other work are not lost over it
                missing.append(f"fine-tuning: {error}")
    with phases("Writing answers", 2 * len(ways)) as step:
        arms = [arm for way in ways for arm in way.arms.values()]
        each = iter(write_at_length(case, arms, case.grounds.sizes.written, on_arm=step))
        answers = [{key: next(each) for key in way.arms} for way in ways]
    with phases("Measuring effects", 2 * len(ways)) as step:
        effects: list[dict[str, Floats | None]] = []
        for way in ways:
            if way.name not in kl:
                kl[way.name] = _kl_of_both(case, way)
            if way.name == SYSTEM and prompt_effects is not None:
                effects.append(dict(prompt_effects))
            else:
                effects.append({key: _told(effect_of(case, arm), step) for key, arm in way.arms.items()})
    return Compared(
        tuple(ways),
        tuple(kl[way.name] for way in ways),
        tuple(effects),
        tuple(answers),
        prompt_effects,
        making,
        tuple(missing),
    )


def _with_prompts(
    case: Case,
    vector: ControlVector,
    system: Way,
    kl: Mapping[str, Mapping[str, float]],
    baselines: Sequence[str],
    making: dict[str, float],
    step: Callable[[], None],
) -> list[Way]:
    """The methods that prompts have a part in, as far as they are wanted."""
    assert vector.calibration is not None
    found: list[Way] = []
    if EQUAL in baselines:
        plan = partial(changes_of, info=case.engine.info)
        equal = equal_way(case.grounds.kl, vector, kl[SYSTEM], plan)
        found += [equal] if equal is not None else []
    step()
    if SYSTEM in baselines:
        found.append(system)
        making[SYSTEM] = 0.0
    if FEW_SHOT in baselines:
        began = time.perf_counter()
        found.append(few_shot_way(case.engine, case.behaviour, answer_tokens=case.grounds.sizes.answer_tokens))
        making[FEW_SHOT] = round(time.perf_counter() - began, 2)
    step()
    if BOTH in baselines:
        budget = vector.calibration.budget
        found.append(both_way(system, vector, kl[SYSTEM], partial(kl_of, case), budget=budget))
    step()
    return found


def _tuned(case: Case, *, budget: float, seed: int, making: dict[str, float], phases: Phases) -> list[Way]:
    """LoRA as it was trained, and dialled to the budget."""
    from trimtab.evaluation.lora import dial, train_lora

    began = time.perf_counter()
    adapters = {
        "+": train_lora(case.engine, case.behaviour, side="+", seed=seed, progress=phases.progress),
        "-": train_lora(case.engine, case.behaviour, side="-", seed=seed, progress=phases.progress),
    }
    making[LORA] = making[LORA_EQUAL] = round(time.perf_counter() - began, 2)
    phases.seconds["Training LoRA"] = making[LORA]
    size = sum(adapter.stored_bytes for adapter in adapters.values())
    rank = adapters["+"].rank
    about = f"adapters of rank {rank}, trained on the model's own answers in character"
    full = Way(LORA, about, {key: adapter.arm() for key, adapter in adapters.items()}, dict(SIGNS), size, dial=True)
    scales: dict[str, float] = {}
    with phases("Dialling LoRA to the budget", 2) as step:
        for key, adapter in adapters.items():
            scales[key] = dial(lambda scale, a=adapter: kl_of(case, a.arm(scale)), budget=budget).scale  # type: ignore[misc]
            step()
    arms = {key: adapter.arm(scales[key]) for key, adapter in adapters.items()}
    turned = f"the same adapters at {scales['+']:.2f} and {scales['-']:.2f}, where they spend {budget:g} nat per token"
    signed = {key: sign * scales[key] for key, sign in SIGNS.items()}
    return [full, Way(LORA_EQUAL, turned, arms, signed, size, dial=True)]


def _kl_of_both(case: Case, way: Way) -> dict[str, float]:
    return {key: kl_of(case, arm) for key, arm in way.arms.items()}


def _refused(case: Case, way: Way) -> dict[str, float]:
    """By sign, the share of harmful requests that a method refuses; nothing of methods that are not asked."""
    if way.name not in REFUSALS:
        return {}
    count = case.grounds.sizes.harmful
    rates = refusal_rates(case.engine, list(way.arms.values()), harmful=True, count=count)
    return {key: rate.interval.value for key, rate in zip(way.arms, rates, strict=True)}


def _known(effect: Floats | None) -> Floats:
    assert effect is not None
    return effect


def _told(effect: Floats | None, step: Callable[[], None]) -> Floats | None:
    step()
    return effect


def measure_ways(
    case: Case, compared: Compared, looks: Sequence[TextQuality], *, unit: float | None, phases: Phases
) -> tuple[Method, ...]:
    """The rows of the table.

    Args:
        case: What is asked.
        compared: The methods and what they wrote.
        looks: Of ``compared.all_written``, and more behind them.
        unit: The system prompts' own swing; None where it is no unit.
        phases: Told of each side.
    """
    each = iter(looks)
    methods = []
    with phases("Asking simple facts", 2 * len(compared.ways)) as step:
        for number, way in enumerate(compared.ways):
            effects = compared.effects[number]
            refused = _refused(case, way)
            sides = {}
            for key, arm in way.arms.items():
                sides[key] = side_of(
                    case,
                    arm,
                    strength=None if way.strengths is None else way.strengths[key],
                    effect=effects[key],
                    kl=compared.kl[number][key],
                    written=compared.answers[number][key],
                    looks=next(each),
                    refuses_harmful=refused.get(key),
                )
                step()
            plus, minus = effects["+"], effects["-"]
            swing = None if plus is None or minus is None else mean_interval(plus - minus, seed=case.seed)
            methods.append(
                Method(
                    name=way.name,
                    about=way.about,
                    sides=sides,
                    swing=swing,
                    prompt_equivalents=None if swing is None or not unit else swing.value / unit,
                    prompt_tokens=added_tokens(case.engine, way, case.grounds.texts),
                    stored_bytes=way.stored_bytes,
                    dial=way.dial,
                )
            )
    return tuple(methods)

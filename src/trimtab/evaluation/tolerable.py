"""How far the dial can be turned before it costs more than most would pay: what the model knows, and the thread."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from functools import cache, partial

import numpy as np

from trimtab.evaluation.interventions import Intervention, changes_of
from trimtab.evaluation.measure import Case, Floats, effect_of, relevance_change, write_at_length
from trimtab.evaluation.records import Damage, Method, UsableRange
from trimtab.evaluation.strength import is_usable
from trimtab.stats import mean_interval
from trimtab.training.progress import Phases
from trimtab.training.search import SIGNS
from trimtab.vectors import ControlVector

PHASE = "Turning down what costs too much"


def usable_range(
    case: Case,
    vector: ControlVector,
    method: Method,
    effects: Mapping[str, Floats | None],
    *,
    unit: float | None,
    phases: Phases,
) -> UsableRange:
    """How far each side can be turned, up to ±1, with both kept; and what the dial does from end to end.

    Args:
        case: What is asked.
        vector: The vector.
        method: What was measured of it at ±1.
        effects: Its effects there, by sign, per question.
        unit: The system prompts' own swing; None where it is no unit.
        phases: Told of each strength that is tried.
    """
    costs = {key: method.sides[key].damage for key in SIGNS}
    costly = {k: cost for k, cost in costs.items() if not is_usable(cost.accuracy_change, cost.relevance_change)}
    ends = {key: 1.0 for key in SIGNS if key not in costly} | _turned_down(case, vector, costly, phases)
    found = {key: effects[key] if end == 1.0 else _effect(case, vector, SIGNS[key] * end) for key, end in ends.items()}
    plus, minus = found["+"], found["-"]
    swing = None if plus is None or minus is None else mean_interval(plus - minus, seed=case.seed)
    return UsableRange(
        low=-ends["-"],
        high=ends["+"],
        swing=swing,
        prompt_equivalents=None if swing is None or not unit else swing.value / unit,
    )


def _turned_down(case: Case, vector: ControlVector, costly: Mapping[str, Damage], phases: Phases) -> dict[str, float]:
    """For each sign that costs too much at 1, the greatest strength tried at which it does not; 0 if none.

    Strengths are looked through by halving. Facts come first, since to ask them costs little and answers must be
    written to see whether they keep the thread; where facts are lost, answers are first written at the last strength
    that keeps them.
    """
    if not costly:
        return {}
    halvings = case.grounds.sizes.halvings
    steps = 2**halvings
    loses = cache(lambda key, step: not _keeps_facts(case, _arm(vector, key, step / steps)))
    kept, lost = dict.fromkeys(costly, 0), dict.fromkeys(costly, steps)
    first: dict[str, int] = {}
    with phases(PHASE, halvings * len(costly)) as on_step:
        for key, cost in costly.items():
            if not is_usable(cost.accuracy_change, None):
                first[key] = bisect(range(1, steps), False, key=partial(loses, key))
                lost[key] = first[key] + 1
        while looking := [key for key in costly if lost[key] - kept[key] > 1]:
            tried = {key: first.pop(key, (kept[key] + lost[key]) // 2) for key in looking}
            knowing = {key: _arm(vector, key, step / steps) for key, step in tried.items() if not loses(key, step)}
            answers = write_at_length(case, list(knowing.values()), case.grounds.sizes.written)
            on_thread = {key: relevance_change(case, each) for key, each in zip(knowing, answers, strict=True)}
            for key, step in tried.items():
                side = kept if key in knowing and is_usable(None, on_thread[key]) else lost
                side[key] = step
                on_step()
    return {key: step / steps for key, step in kept.items()}


def _arm(vector: ControlVector, key: str, strength: float) -> Intervention:
    return Intervention.of_vector(vector, SIGNS[key] * strength)


def _keeps_facts(case: Case, arm: Intervention) -> bool:
    facts = case.grounds.facts
    known = facts.measure(changes_of(arm.steering, case.engine.info))
    return is_usable(known.drop_from(facts.base), None)


def _effect(case: Case, vector: ControlVector, strength: float) -> Floats | None:
    """Effect per question; none of it where nothing is added."""
    if case.effects is None or strength != 0.0:
        return effect_of(case, Intervention.of_vector(vector, strength))
    return np.zeros(len(case.effects))

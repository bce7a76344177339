"""How far the dial can be turned before it costs more than most would pay: what the model knows, and the thread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trimtab.evaluation.arms import Arm, changes_of
from trimtab.evaluation.measuring import Case, Floats, effect_of, relevance_change, write_at_length
from trimtab.evaluation.phases import Phases
from trimtab.evaluation.records import Method, Tolerable
from trimtab.evaluation.sweeping import is_tolerable
from trimtab.learning.questions import interval
from trimtab.learning.sweep import SIGNS
from trimtab.vectors import ControlVector

PHASE = "Turning down what costs too much"


def tolerable_range(
    case: Case,
    vector: ControlVector,
    method: Method,
    effects: Mapping[str, Floats | None],
    *,
    unit: float | None,
    phases: Phases,
) -> Tolerable:
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
    costly = [key for key, cost in costs.items() if not is_tolerable(cost.accuracy_change, cost.relevance_change)]
    ends = {key: 1.0 for key in SIGNS if key not in costly} | _turned_down(case, vector, costly, phases)
    found = {key: effects[key] if end == 1.0 else _effect(case, vector, SIGNS[key] * end) for key, end in ends.items()}
    plus, minus = found["+"], found["-"]
    swing = None if plus is None or minus is None else interval(plus - minus, seed=case.seed)
    return Tolerable(
        low=-ends["-"],
        high=ends["+"],
        swing=swing,
        prompt_equivalents=None if swing is None or not unit else swing.value / unit,
    )


def _turned_down(case: Case, vector: ControlVector, costly: list[str], phases: Phases) -> dict[str, float]:
    """For each sign that costs too much at 1, the greatest strength tried at which it does not; 0 if none."""
    if not costly:
        return {}
    kept, lost = dict.fromkeys(costly, 0.0), dict.fromkeys(costly, 1.0)
    halvings = case.grounds.sizes.halvings
    with phases(PHASE, halvings * len(costly)) as step:
        for _ in range(halvings):
            tried = {key: (kept[key] + lost[key]) / 2 for key in costly}
            arms = {key: Arm.of_vector(vector, SIGNS[key] * strength) for key, strength in tried.items()}
            answers = write_at_length(case, list(arms.values()), case.grounds.sizes.written, on_arm=step)
            for (key, arm), written in zip(arms.items(), answers, strict=True):
                facts = case.grounds.facts
                known = facts.measure(changes_of(arm.steering, case.engine.info)).drop_from(facts.base)
                side = kept if is_tolerable(known, relevance_change(case, written)) else lost
                side[key] = tried[key]
    return kept


def _effect(case: Case, vector: ControlVector, strength: float) -> Floats | None:
    """Effect per question; none of it where nothing is added."""
    if case.effects is None or strength != 0.0:
        return effect_of(case, Arm.of_vector(vector, strength))
    return np.zeros(len(case.effects))

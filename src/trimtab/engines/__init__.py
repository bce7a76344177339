"""Engines, which run and steer models."""

from trimtab.engines.protocol import (
    AnswerComparison,
    Completion,
    Engine,
    ForcedItem,
    ForcedScores,
    Prompt,
    Receipt,
    TeacherForcing,
    compare_answers,
    opposite_steering,
)

__all__ = [
    "AnswerComparison",
    "Completion",
    "Engine",
    "ForcedItem",
    "ForcedScores",
    "Prompt",
    "Receipt",
    "TeacherForcing",
    "compare_answers",
    "opposite_steering",
]

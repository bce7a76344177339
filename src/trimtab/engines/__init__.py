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
]

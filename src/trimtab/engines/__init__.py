"""Engines: whatever can run a model, steer it, and say what it cannot do."""

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

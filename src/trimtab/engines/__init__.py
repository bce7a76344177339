"""Engines: whatever can run a model, steer it, and say what it cannot do."""

from trimtab.engines.answer_comparison import AnswerComparison, compare_answers
from trimtab.engines.protocol import (
    Completion,
    Engine,
    ForcedItem,
    ForcedScores,
    Prompt,
    Receipt,
    TeacherForcing,
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

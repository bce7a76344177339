"""Engines: whatever can run a model, steer it, and say what it cannot do."""

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
    "Completion",
    "Engine",
    "ForcedItem",
    "ForcedScores",
    "Prompt",
    "Receipt",
    "TeacherForcing",
]

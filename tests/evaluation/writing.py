"""Answers under a single intervention, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.engines import Completion
from trimtab.engines.protocol import Generates
from trimtab.evaluation.interventions import Intervention, write_all


def write(
    engine: Generates, intervention: Intervention, texts: Sequence[str], *, max_new_tokens: int
) -> list[Completion]:
    """Return greedy answers under one intervention to every question."""
    (answers,) = write_all(engine, [intervention], texts, max_new_tokens=max_new_tokens)
    return answers

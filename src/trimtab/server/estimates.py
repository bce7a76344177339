"""Estimates of how long jobs take, from the seconds of phases of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimtab.vectors import ModelInfo

# Seconds of each phase for the default model on two cores, where no job of the kind has ended yet.
TYPICAL: Mapping[str, Mapping[str, float]] = {
    "train quick": {
        "Collecting hidden states": 2.0,
        "Letting the model answer": 2.5,
        "Calibrating the strength": 2.5,
        "Reading neutral chats": 4.0,
    },
    "train default": {
        "Collecting hidden states": 2.0,
        "Letting the model answer": 12.0,
        "Learning from the personas": 9.0,
        "Refining the directions": 20.0,
        "Calibrating the strength": 2.5,
        "Reading neutral chats": 4.0,
        "Checking on held-out prompts": 25.0,
    },
    "train thorough": {
        "Collecting hidden states": 2.0,
        "Letting the model answer": 35.0,
        "Trying layers at equal KL": 60.0,
        "Learning from the personas": 12.0,
        "Refining the directions": 60.0,
        "Calibrating the strength": 2.5,
        "Reading neutral chats": 4.0,
        "Checking on held-out prompts": 50.0,
    },
    "distill": {
        "Letting the model answer": 4.0,
        "Letting the prompted model answer": 30.0,
        "Noting what it expects": 15.0,
        "Learning from the prompted model": 180.0,
        "Measuring what it spends": 6.0,
        "Reading neutral chats": 4.0,
    },
    "evaluate": {},
    "sweep": {"Answering at each strength": 5.0},
}
PRIOR = 5.0  # seconds of an earlier job that weigh as much as what this one has shown of its speed
DEFAULT_SIZE = 30 * 576**2  # layers times the square of the width, of the default model


def scaled(phases: Mapping[str, float], model: ModelInfo) -> dict[str, float]:
    """Return typical seconds of the default model for another one; work grows about as the parameters do."""
    factor = model.layers * model.hidden_size**2 / DEFAULT_SIZE
    return {phase: seconds * max(factor, 0.1) for phase, seconds in phases.items()}


def merged(phases: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return the seconds by phase; of a phase that was repeated after an interruption, the longest.

    Example:
        >>> merged([("a", 2.0), ("b", 1.0), ("a", 0.1)])
        {'a': 2.0, 'b': 1.0}
    """
    seconds: dict[str, float] = {}
    for phase, spent in phases:
        seconds[phase] = max(spent, seconds.get(phase, 0.0))
    return seconds


def seconds_left(expected: Mapping[str, float], spent: Mapping[str, float], *, phase: str, share: float) -> float:
    """Return about how long a job still takes.

    The expected seconds of what is left are multiplied by the speed so far: seconds that were needed, divided by those
    that were expected.

    Args:
        expected: Seconds by phase.
        spent: Seconds so far, by phase.
        phase: The current phase.
        share: Part of it that is done.

    Example:
        >>> seconds_left({"a": 10.0, "b": 20.0}, {"a": 20.0}, phase="b", share=0.0) > 20
        True
    """
    parts = {each: share if each == phase else float(each in spent) for each in expected}
    done = sum(expected[each] * part for each, part in parts.items())
    needed = sum(spent[each] for each in spent if each in expected and (each != phase or share > 0))
    speed = (needed + PRIOR) / (done + PRIOR)
    left = sum(seconds * (1.0 - parts[each]) for each, seconds in expected.items())
    return speed * left

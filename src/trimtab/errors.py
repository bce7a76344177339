"""Errors that trimtab raises.

Each error says what is wrong, where, and what to do about it. Its class has the exit code of the command line, and
the HTTP status and error code of a server.

Example:
    >>> from trimtab.errors import VectorError
    >>> str(VectorError("'x.safetensors' is truncated", fix="copy or train it again"))
    "'x.safetensors' is truncated; copy or train it again"
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def near_names(name: str, known: Sequence[str]) -> str:
    """Return a question that suggests known names, such as "did you mean 'happy'?"; empty if none is near.

    Example:
        >>> near_names("HAPPY", ["happy", "formal"])
        "did you mean 'happy'?"
    """
    by_folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(repr(by_folded[each]) for each in near)}?" if near else ""


class TrimtabError(Exception):
    """Base class of the errors that trimtab raises.

    Args:
        problem: What is wrong and where, without a final full stop.
        fix: What the user can do about it.
    """

    exit_code = 2
    http_status = 400
    code = "trimtab_error"

    def __init__(self, problem: str, *, fix: str | None = None) -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(f"{problem}; {fix}" if fix else problem)


class BehaviourError(TrimtabError):
    """Behaviour file that is missing, malformed, or cannot make contrastive pairs."""

    code = "bad_behaviour"


class ModelError(TrimtabError):
    """Model that cannot be found or loaded, or whose architecture is not supported."""

    code = "bad_model"


class PromptError(TrimtabError):
    """Prompt that is empty, too long, or refused by the model's chat template."""

    code = "bad_prompt"


class ConstraintError(TrimtabError):
    """Constraint of an answer that is malformed, too large, impossible, or became too complex to follow."""

    code = "bad_constraint"


class VectorError(TrimtabError):
    """Control vector, or file of one, that is not usable."""

    code = "bad_vector"


class VectorMismatchError(VectorError):
    """Control vector of another model."""

    code = "vector_mismatch"


class SteeringError(TrimtabError):
    """Steering that is invalid, or that was not applied as requested."""

    code = "bad_steering"


class CancelledGenerationError(TrimtabError):
    """Answer that was cancelled, or whose deadline has passed, before its end."""

    code = "cancelled"
    http_status = 499


class StrongSteeringWarning(UserWarning):
    """Warning about a steering whose predicted KL is high enough to break the text."""


class CalibrationError(TrimtabError):
    """Failed calibration: no strength spends the budget, because the vector changes the model too little."""

    code = "calibration_failed"


class DistillError(TrimtabError):
    """Distillation that is impossible as requested, or that failed to train."""

    code = "distilling_failed"


class EvaluationError(TrimtabError):
    """Evaluation that is impossible as requested, or whose inputs are not usable."""

    code = "evaluation_failed"


class BenchmarkError(TrimtabError):
    """Benchmark that cannot run as requested, or one of whose workers failed."""

    code = "benchmark_failed"
    http_status = 500


class OutputError(TrimtabError):
    """File that could not be written; no partial file is left."""

    code = "cannot_write"
    http_status = 500


class InUseError(OutputError):
    """Another process is writing the same file."""

    code = "in_use"
    http_status = 409


class MissingDependencyError(TrimtabError):
    """Optional package that is missing; the message has the command that installs it."""

    code = "missing_dependency"
    http_status = 501

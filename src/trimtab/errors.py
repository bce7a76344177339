"""Every error that trimtab raises on purpose.

One small tree. Each error says what went wrong, where, and what to do about it; each carries the exit code of
the command line and the HTTP status and code of a server, so that no surface has to translate.

Example:
    >>> from trimtab.errors import VectorError
    >>> str(VectorError("'x.safetensors' is truncated", fix="copy or train it again"))
    "'x.safetensors' is truncated; copy or train it again"
"""

from __future__ import annotations


class TrimtabError(Exception):
    """The root: catch this to catch everything that trimtab says on purpose.

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
    """A behaviour file is missing, malformed, or cannot make contrastive pairs."""

    code = "bad_behaviour"


class ModelError(TrimtabError):
    """A model cannot be found, loaded, or understood."""

    code = "bad_model"


class PromptError(TrimtabError):
    """A prompt is empty, too long, or not something that the model's chat template takes."""

    code = "bad_prompt"


class VectorError(TrimtabError):
    """A control vector or its file is not usable."""

    code = "bad_vector"


class VectorMismatchError(VectorError):
    """A control vector belongs to another model."""

    code = "vector_mismatch"


class SteeringError(TrimtabError):
    """A steering was asked for that cannot be done, or was not done as asked."""

    code = "bad_steering"


class StrongSteeringWarning(UserWarning):
    """A steering is predicted to spend so much that text begins to fall apart."""


class CalibrationError(TrimtabError):
    """No strength spends the budget: the vector moves the model too little or not at all."""

    code = "calibration_failed"


class DistillError(TrimtabError):
    """A prompt cannot be distilled as asked, or learning went wrong."""

    code = "distilling_failed"


class EvaluationError(TrimtabError):
    """A vector cannot be evaluated as asked, or what an evaluation needs is not usable."""

    code = "evaluation_failed"


class BenchmarkError(TrimtabError):
    """A benchmark cannot be run as asked, or one of its workers failed."""

    code = "benchmark_failed"
    http_status = 500


class OutputError(TrimtabError):
    """A file could not be written; nothing half-written is left behind."""

    code = "cannot_write"
    http_status = 500


class MissingDependencyError(TrimtabError):
    """An optional package is needed; the message gives the line that installs it."""

    code = "missing_dependency"
    http_status = 501

"""Combination of distilled prompts: vectors added, one trained while the other is active, or switched in a chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks.distilling import SEED, system_prompts
from benchmarks.measurement import Step, ignore_step, package_versions
from benchmarks.models import load_model
from trimtab.arrays import F32
from trimtab.behaviours import Message, neutral_prompts
from trimtab.engines.protocol import Gradients
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import BenchmarkError
from trimtab.evaluation.rules import PromptedAnswers, Student, Substitute, mean_kl
from trimtab.steering import Steering, Term
from trimtab.training.distillation.distill import Effort, distill
from trimtab.training.distillation.examples import Teacher
from trimtab.training.distillation.fit import together
from trimtab.training.progress import Progress
from trimtab.vectors import ControlVector

ANSWERS_SEED = 1  # not the seed of the training


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark of composing.

    Attributes:
        first: Name of one of ``system_prompts``.
        second: Name of another one.
        model: Hub id, folder or file; the default model if not given.
        effort: Amount of training.
        prompts: Number of users' messages in the measurement.
        answer_tokens: Upper bound on an answer's length.
        strengths: Strengths of the sum of both vectors.
    """

    first: str = "pirate"
    second: str = "bullets"
    model: str | None = None
    effort: Effort = field(default_factory=Effort)
    prompts: int = 24
    answer_tokens: int = 32
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)

    def __post_init__(self) -> None:
        for name in (self.first, self.second):
            if name not in system_prompts():
                raise BenchmarkError(f"no prompt named {name!r}", fix=f"use two of {', '.join(system_prompts())}")
        if self.first == self.second:
            raise BenchmarkError("a prompt cannot be combined with itself", fix="use two different prompts")


@dataclass(frozen=True)
class _Vectors:
    """Vectors of the first prompt, of the second, and of the second trained while the first vector is active."""

    first: ControlVector
    second: ControlVector
    on_top: ControlVector


def benchmark(
    plan: Plan, *, engine: TransformersEngine | None = None, on_step: Callable[[Step], None] = ignore_step
) -> dict[str, Any]:
    """Distil two prompts, and measure the combinations of their vectors.

    Args:
        plan: Settings.
        engine: The model; loaded if not given.
        on_step: Called with each step of the work.

    Raises:
        BenchmarkError: The model has no gradients.
    """
    model = load_model(engine, plan.model, on_step)
    gradients = model.gradients
    if gradients is None:
        raise BenchmarkError(f"{model.info.name} has no gradients", fix="use a decoder-only model")
    vectors = _distil(model, plan, on_step)
    on_step(Step("measuring", 3, 4))
    return {
        "benchmark": "composing",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.info.name,
        "device": str(model.model.device),
        "versions": package_versions(),
        "first": plan.first,
        "second": plan.second,
        "effort": asdict(plan.effort),
        **_both(model, gradients, vectors, plan),
        **_on_top(model, gradients, vectors, plan),
        **_switched(model, gradients, vectors, plan),
    }


def _distil(model: TransformersEngine, plan: Plan, on_step: Callable[[Step], None]) -> _Vectors:
    def learn(name: str, number: int, below: Sequence[tuple[ControlVector, float]] = ()) -> ControlVector:
        def step(progress: Progress) -> None:
            on_step(Step(f"{name}: {progress.phase}", number, 4))

        prompt = system_prompts()[name].prompt
        return distill(
            model, prompt, name=name, effort=plan.effort, on_top_of=list(below) or None, seed=SEED, progress=step
        )

    first, second = learn(plan.first, 0), learn(plan.second, 1)
    return _Vectors(first, second, learn(plan.second, 2, [(first, 1.0)]))


def _both(model: TransformersEngine, gradients: Gradients, vectors: _Vectors, plan: Plan) -> dict[str, Any]:
    """Measure how close the vectors are to the model with both prompts concatenated."""
    both = "\n\n".join(system_prompts()[name].prompt for name in (plan.first, plan.second))
    answers = _prompted_answers(model, gradients, Teacher.of(both), plan)
    sums = {
        "first": total_addition(vectors.first),
        "second": total_addition(vectors.second),
        "first + second": total_addition(vectors.first, vectors.second),
        "first + second on top": total_addition(vectors.first, vectors.on_top),
    }
    dial = {
        strength: mean_kl(
            answers.measure(Student(additions=total_addition(vectors.first, vectors.second, strength=strength)))
        )
        for strength in plan.strengths
    }
    return {"both": _rows(answers, sums), "dial": {"0": answers.base_kl, **{f"{s:g}": kl for s, kl in dial.items()}}}


def _on_top(model: TransformersEngine, gradients: Gradients, vectors: _Vectors, plan: Plan) -> dict[str, Any]:
    """Measure how close the vectors are to the model with the second prompt and the first vector."""
    steering = Steering((Term(vectors.first, 1.0),))
    teacher = Teacher.of(system_prompts()[plan.second].prompt)
    first = total_addition(vectors.first)
    answers = _prompted_answers(model, gradients, teacher, plan, steering=steering, additions=first)
    sums = {
        "first": first,
        "first + second": total_addition(vectors.first, vectors.second),
        "first + second on top": total_addition(vectors.first, vectors.on_top),
    }
    return {"on top": _rows(answers, sums)}


def _switched(model: TransformersEngine, gradients: Gradients, vectors: _Vectors, plan: Plan) -> dict[str, Any]:
    """Measure a switch to the second prompt after a turn that the first vector steered."""
    question, *texts = neutral_prompts().held_out[: plan.prompts + 1]
    answer = model.generate(question, steering=[(vectors.first, 1.0)], max_new_tokens=plan.answer_tokens).text
    turn = (Message("user", question), Message("assistant", answer))
    second = Message("system", system_prompts()[plan.second].prompt)
    answers = _prompted_answers(model, gradients, Teacher.of([second, *turn]), plan, texts=texts, opening=turn)
    sums = {
        "first still": total_addition(vectors.first),
        "second": total_addition(vectors.second),
        "first + second": total_addition(vectors.first, vectors.second),
    }
    chat = [*turn, Message("user", texts[0])]
    steering: dict[str, Sequence[tuple[ControlVector, float]]] = {
        "first still": [(vectors.first, 1.0)],
        "second": [(vectors.second, 1.0)],
        "neither": [],
    }
    sampled = {
        name: model.generate([chat], steering=[list(terms)], max_new_tokens=plan.answer_tokens)[0].text
        for name, terms in steering.items()
    }
    sample = {"chat": [asdict(message) for message in chat], "answers": sampled}
    return {"switched": _rows(answers, sums), "sample": sample}


def _prompted_answers(
    model: TransformersEngine,
    gradients: Gradients,
    teacher: Teacher,
    plan: Plan,
    *,
    texts: Sequence[str] = (),
    opening: Sequence[Message] = (),
    steering: Steering | None = None,
    additions: Mapping[int, F32] | None = None,
) -> PromptedAnswers:
    return PromptedAnswers.ask(
        model,
        gradients,
        teacher,
        texts or neutral_prompts().held_out[: plan.prompts],
        answer_tokens=plan.answer_tokens,
        seed=ANSWERS_SEED,
        opening=opening,
        steering=steering,
        additions=additions,
    )


def total_addition(*vectors: ControlVector, strength: float = 1.0) -> dict[int, F32]:
    """Sum what several vectors add to each layer."""
    total: dict[int, F32] = {}
    for vector in vectors:
        total = together(vector.addition(strength), total)
    return total


def _rows(answers: PromptedAnswers, sums: Mapping[str, Mapping[int, F32]]) -> dict[str, Any]:
    measured: list[Substitute] = [
        answers.substitute(name, "", answers.measure(Student(additions=additions))) for name, additions in sums.items()
    ]
    rows = {row.name: {"kl": row.kl, "closed": asdict(row.closed)} for row in measured}
    return {"gap": answers.base_kl, "vectors": rows}


HEADINGS = {
    "both": "Both prompts, concatenated",
    "on top": "The second prompt, while the first vector is active",
    "switched": "The second prompt from the second turn on, the first vector before",
}


def table(measured: Mapping[str, Any]) -> str:
    """Format the result of ``benchmark`` as text."""
    lines = [f"first: {measured['first']}, second: {measured['second']}"]
    for key, heading in HEADINGS.items():
        part = measured[key]
        lines += ["", f"{heading}: {part['gap']:.3f} nat per token from the plain model"]
        for name, row in part["vectors"].items():
            low, high = row["closed"]["low"], row["closed"]["high"]
            closed = f"{row['closed']['value']:.2f} ({low:.2f} to {high:.2f})"
            lines.append(f"  {name:<24}{row['kl']:.3f} nat  closes {closed}")
    dial = ", ".join(f"{strength}: {kl:.3f}" for strength, kl in measured["dial"].items())
    return "\n".join([*lines, "", f"Both vectors, by strength, nat from both prompts: {dial}"])

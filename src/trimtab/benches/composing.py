"""What holds when distilled prompts are put together: added, one learned on top of the other, or switched in a chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from trimtab.arrays import F32
from trimtab.behaviours import Message, neutral_prompts
from trimtab.benches.distilling import SEED, bench_prompts
from trimtab.benches.extraction import Step
from trimtab.benches.peer_repeng import versions
from trimtab.engines.protocol import Gradients
from trimtab.engines.transformers import TransformersEngine, load
from trimtab.errors import BenchmarkError
from trimtab.evaluation.prompted_answers import PromptedAnswers, Student, Substitute, mean_kl
from trimtab.steering import Steering, Term
from trimtab.training.distillation.distill import Effort, distill
from trimtab.training.distillation.examples import Teacher
from trimtab.training.distillation.fit import together
from trimtab.training.progress import Progress
from trimtab.vectors import ControlVector

PROBES_SEED = 1  # another one than in learning


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        first: A prompt of ``bench_prompts``.
        second: Another one.
        model: Hub id, folder or file; the default model if not given.
        effort: How much is learned from.
        prompts: Users' messages on which is measured.
        answer_tokens: Upper bound on an answer's length.
        strengths: Of both vectors together.
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
            if name not in bench_prompts():
                raise BenchmarkError(f"no prompt named {name!r}", fix=f"use two of {', '.join(bench_prompts())}")
        if self.first == self.second:
            raise BenchmarkError("a prompt cannot be put together with itself", fix="give two different ones")


@dataclass(frozen=True)
class _Vectors:
    """Of the first prompt, of the second, and of the second where the first one's is active."""

    first: ControlVector
    second: ControlVector
    on_top: ControlVector


def benchmark(
    plan: Plan, *, engine: TransformersEngine | None = None, on_step: Callable[[Step], None] = lambda _: None
) -> dict[str, Any]:
    """Distil two prompts, and measure what their vectors carry together.

    Args:
        plan: What to measure.
        engine: The model; loaded if not given.
        on_step: Called with each step of the work.

    Raises:
        BenchmarkError: The model has no gradients.
    """
    on_step(Step("Loading the model"))
    model = engine or load(plan.model)
    gradients = model.gradients
    if gradients is None:
        raise BenchmarkError(f"{model.info.name} has no gradients", fix="use a decoder-only model")
    vectors = _distilled(model, plan, on_step)
    on_step(Step("measuring", 3, 4))
    return {
        "benchmark": "composing",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.info.name,
        "device": str(model.model.device),
        "versions": versions(("trimtab", "torch", "transformers", "numpy")),
        "first": plan.first,
        "second": plan.second,
        "effort": asdict(plan.effort),
        **_both(model, gradients, vectors, plan),
        **_on_top(model, gradients, vectors, plan),
        **_switched(model, gradients, vectors, plan),
    }


def _distilled(model: TransformersEngine, plan: Plan, on_step: Callable[[Step], None]) -> _Vectors:
    def learn(name: str, number: int, below: Sequence[tuple[ControlVector, float]] = ()) -> ControlVector:
        def step(progress: Progress) -> None:
            on_step(Step(f"{name}: {progress.phase}", number, 4))

        prompt = bench_prompts()[name].prompt
        return distill(
            model, prompt, name=name, effort=plan.effort, on_top_of=list(below) or None, seed=SEED, progress=step
        )

    first, second = learn(plan.first, 0), learn(plan.second, 1)
    return _Vectors(first, second, learn(plan.second, 2, [(first, 1.0)]))


def _both(model: TransformersEngine, gradients: Gradients, vectors: _Vectors, plan: Plan) -> dict[str, Any]:
    """How near each comes to the model under both prompts, one behind the other."""
    whole = "\n\n".join(bench_prompts()[name].prompt for name in (plan.first, plan.second))
    probes = _probes(model, gradients, Teacher.of(whole), plan)
    ways = {
        "first": added(vectors.first),
        "second": added(vectors.second),
        "first + second": added(vectors.first, vectors.second),
        "first + second on top": added(vectors.first, vectors.on_top),
    }
    dial = {
        strength: mean_kl(probes.measure(Student(additions=added(vectors.first, vectors.second, strength=strength))))
        for strength in plan.strengths
    }
    return {"both": _rows(probes, ways), "dial": {"0": probes.base_kl, **{f"{s:g}": kl for s, kl in dial.items()}}}


def _on_top(model: TransformersEngine, gradients: Gradients, vectors: _Vectors, plan: Plan) -> dict[str, Any]:
    """How near each comes to the model under the second prompt, where the first one's vector is active as well."""
    steering = Steering((Term(vectors.first, 1.0),))
    teacher = Teacher.of(bench_prompts()[plan.second].prompt)
    first = added(vectors.first)
    probes = _probes(model, gradients, teacher, plan, steering=steering, additions=first)
    ways = {
        "first": first,
        "first + second": added(vectors.first, vectors.second),
        "first + second on top": added(vectors.first, vectors.on_top),
    }
    return {"on top": _rows(probes, ways)}


def _switched(model: TransformersEngine, gradients: Gradients, vectors: _Vectors, plan: Plan) -> dict[str, Any]:
    """A turn under the first prompt has gone before; from now on the second one is to hold."""
    asked, *texts = neutral_prompts().held_out[: plan.prompts + 1]
    answer = model.generate(asked, steering=[(vectors.first, 1.0)], max_new_tokens=plan.answer_tokens).text
    turn = (Message("user", asked), Message("assistant", answer))
    second = Message("system", bench_prompts()[plan.second].prompt)
    probes = _probes(model, gradients, Teacher.of([second, *turn]), plan, texts=texts, opening=turn)
    ways = {
        "first still": added(vectors.first),
        "second": added(vectors.second),
        "first + second": added(vectors.first, vectors.second),
    }
    chat = [*turn, Message("user", texts[0])]
    steering: dict[str, Sequence[tuple[ControlVector, float]]] = {
        "first still": [(vectors.first, 1.0)],
        "second": [(vectors.second, 1.0)],
        "neither": [],
    }
    written = {
        name: model.generate([chat], steering=[list(terms)], max_new_tokens=plan.answer_tokens)[0].text
        for name, terms in steering.items()
    }
    sample = {"chat": [asdict(message) for message in chat], "answers": written}
    return {"switched": _rows(probes, ways), "sample": sample}


def _probes(
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
        seed=PROBES_SEED,
        opening=opening,
        steering=steering,
        additions=additions,
    )


def added(*vectors: ControlVector, strength: float = 1.0) -> dict[int, F32]:
    """What vectors add to each layer together."""
    total: dict[int, F32] = {}
    for vector in vectors:
        total = together(vector.addition(strength), total)
    return total


def _rows(probes: PromptedAnswers, ways: Mapping[str, Mapping[int, F32]]) -> dict[str, Any]:
    found: list[Substitute] = [
        probes.substitute(name, "", probes.measure(Student(additions=way))) for name, way in ways.items()
    ]
    rows = {way.name: {"kl": way.kl, "closed": asdict(way.closed)} for way in found}
    return {"gap": probes.base_kl, "ways": rows}


HEADS = {
    "both": "Both prompts, one behind the other",
    "on top": "The second prompt, while the first one's vector is active",
    "switched": "The second prompt from the second turn on, the first one's vector before",
}


def table(found: Mapping[str, Any]) -> str:
    """What was measured as text.

    Args:
        found: What ``benchmark`` gave.
    """
    lines = [f"first: {found['first']}, second: {found['second']}"]
    for key, head in HEADS.items():
        part = found[key]
        lines += ["", f"{head}: {part['gap']:.3f} nat per token from the plain model"]
        for name, row in part["ways"].items():
            low, high = row["closed"]["low"], row["closed"]["high"]
            closed = f"{row['closed']['value']:.2f} ({low:.2f} to {high:.2f})"
            lines.append(f"  {name:<24}{row['kl']:.3f} nat  closes {closed}")
    dial = ", ".join(f"{strength}: {kl:.3f}" for strength, kl in found["dial"].items())
    return "\n".join([*lines, "", f"Both vectors, by strength, nat from both prompts: {dial}"])

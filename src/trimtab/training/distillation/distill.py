"""Compile a system prompt into a control vector that makes the model behave as if the prompt were there.

The teacher is the model under the prompt, the student the same model without it but with one vector per layer added.
The vectors are learned so that the student predicts, along answers that the teacher sampled, what the teacher predicts.

Source: context distillation (Askell et al. 2021, arXiv:2112.00861, section 2.2), with vectors for weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from trimtab.arrays import F32
from trimtab.behaviours import neutral_prompts
from trimtab.defaults import DISTILL_ANSWER_TOKENS, VERSION
from trimtab.engines.protocol import DistillationExample, Generates, Gradients, Text, Trains
from trimtab.errors import DistillError
from trimtab.steering import Steering, SteeringLike
from trimtab.steering.compiled import LayerAdd
from trimtab.training.checkpoint import Checkpoint, open_checkpoint
from trimtab.training.distillation.examples import (
    Answered,
    SystemPrompt,
    Teacher,
    Tokened,
    answered_by,
    distillation_examples,
    invent_messages,
)
from trimtab.training.distillation.fit import Learned, Schedule, fit, together
from trimtab.training.neutral import measure_neutral
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.training.questions import ANSWER_TOKENS, KL_QUESTIONS, KlSet, ask
from trimtab.training.search import SIGNS, band_layers, chosen_layers
from trimtab.vectors import BehaviourRef, Calibration, ControlVector, Distillation, Neutral

METHOD = "distilled"
LEARN_PHASE = "Learning from the prompted model"
NOTE_PHASE = "Noting what it expects"
PRICE_PHASE = "Measuring what it spends"
LESSONS = 160  # different messages teach more than several answers to one
ANSWERS = 4


@dataclass(frozen=True)
class Effort:
    """Amount of data and steps for a distillation.

    Attributes:
        prompts: Number of built-in users' messages.
        held_out_every: Every ``held_out_every``-th message is held out, and chooses the best point.
        answers: Sampled answers to each; None takes enough for about ``LESSONS`` in all, ``ANSWERS`` at most.
        answer_tokens: Upper bound on an answer's length.
        temperature: Sampling temperature; 0 is greedy, and then one answer is enough.
        schedule: Schedule of the steps.
    """

    prompts: int = 160
    held_out_every: int = 10
    answers: int | None = None
    answer_tokens: int = DISTILL_ANSWER_TOKENS
    temperature: float = 1.0
    schedule: Schedule = field(default_factory=Schedule)

    def answers_to(self, messages: int) -> int:
        """Return the number of answers to each message; greedy ones would all be the same.

        Example:
            >>> Effort().answers_to(160), Effort().answers_to(50), Effort(temperature=0.0).answers_to(50)
            (1, 3, 1)
        """
        if self.temperature == 0:
            return 1
        return self.answers or min(max(round(LESSONS / messages), 1), ANSWERS)


def distill(
    model: Trains,
    system_prompt: SystemPrompt,
    *,
    prompts: Sequence[str] | None = None,
    invent: int = 0,
    name: str = "prompt",
    layers: str | Sequence[int] = "all",
    tokens: Tokened = "all",
    on_top_of: SteeringLike = None,
    effort: Effort | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Compile a prompt into a control vector: at strength 1 the model answers as if the prompt were there.

    Args:
        model: An engine, from ``trimtab.load``.
        system_prompt: A system prompt; or messages that precede the user's, such as examples.
        prompts: Users' messages such as the vector will meet; the built-in ones if not given.
        invent: Number of further messages that the model writes, such as users of the prompt would send.
        name: What to call the vector.
        layers: ``"all"``, ``"band"`` (the usual middle layers), or the layers themselves.
        tokens: Where the vector is added while it learns: at ``"all"`` tokens, or at ``"generated"`` ones alone. It is
            to be used at the same: ``model.generate(…, steering="name@generated:1")``.
        on_top_of: Other active steering of teacher and student alike; plain additions at all tokens only.
        effort: Amount of data and steps.
        seed: Seed of the sampled answers and of the order in which they are learned.
        checkpoint: File that saves progress if the work is interrupted. Distilling again with the same arguments
            resumes from it, to the same vector; the file is deleted at the end.
        progress: Called with each step of the work.

    Returns:
        A control vector whose strength 1 is as distilled. Its ``distillation`` records how near it is to the prompt.

    Raises:
        DistillError: The prompt is empty, there are too few users' messages, or learning went wrong.
        PromptError: The prompt does not fit into the context window.
        ModelError: The model has no gradients.

    Example:
        >>> pirate = distill(model, "You are a pirate. Speak like one.")  # doctest: +SKIP
        >>> model.generate("How are you?", steering=[(pirate, 1)]).text  # doctest: +SKIP
    """
    model.check_unsteered("distillation")
    effort = effort or Effort()
    plan = _Plan(
        teacher=Teacher.of(system_prompt),
        texts=_texts(prompts, effort),
        invent=invent,
        name=name,
        layers=_layers(model.info.layers, layers),
        tokens=tokens,
        steering=Steering.of(on_top_of),
        effort=effort,
        seed=seed,
    )
    if invent < 0:
        raise DistillError(f"{invent} messages cannot be written", fix="give 0 or more")
    if tokens not in ("all", "generated"):
        raise DistillError(f"no tokens named {tokens!r}", fix="use 'all' or 'generated'")
    gradients = model.gradients
    if gradients is None:
        raise DistillError(
            f"{model.info.name} has no gradients with respect to its hidden states",
            fix="use a decoder-only model; or train a vector from contrasting prompts: trimtab.train",
        )
    with open_checkpoint(checkpoint, job=plan.job(model)) as results:
        return _distilled(model, gradients, plan, results, progress)


@dataclass(frozen=True)
class _Plan:
    """Arguments of ``distill``, which together with the model determine the result."""

    teacher: Teacher
    texts: tuple[str, ...]
    invent: int
    name: str
    layers: tuple[int, ...]
    tokens: Tokened
    steering: Steering
    effort: Effort
    seed: int

    def job(self, model: Text) -> str:
        """Return the identity of this work, for its checkpoint."""
        arguments = {**asdict(replace(self, steering=Steering())), "steering": repr(self.steering)}
        return json.dumps([VERSION, asdict(model.info), arguments], sort_keys=True, default=str)


def _texts(prompts: Sequence[str] | None, effort: Effort) -> tuple[str, ...]:
    builtin = neutral_prompts()
    usual = (*builtin.calibration, *builtin.more)[: effort.prompts]
    texts = tuple(dict.fromkeys(prompts if prompts is not None else usual))
    if len(texts) < 2 or not all(text.strip() for text in texts):
        raise DistillError(
            "a prompt is distilled on at least two messages with words in them", fix="give more, or leave prompts out"
        )
    return texts


def _layers(depth: int, layers: str | Sequence[int]) -> tuple[int, ...]:
    if layers == "all":
        return tuple(range(depth))
    if layers == "band":
        return band_layers(depth)
    if isinstance(layers, str):
        raise DistillError(f"layers {layers!r} are not known", fix="use 'all', 'band' or a list such as [14, 15, 16]")
    return chosen_layers(depth, layers)[0]


def _distilled(
    model: Trains, gradients: Gradients, plan: _Plan, checkpoint: Checkpoint, progress: OnProgress
) -> ControlVector:
    neutral = ask(
        model,
        neutral_prompts().calibration[:KL_QUESTIONS],
        None,
        personas=0,
        max_new_tokens=ANSWER_TOKENS,
        checkpoint=checkpoint,
        progress=progress,
    )
    kl = KlSet(model, neutral, checkpoint)
    norms = {layer: float(kl.norms[layer]) for layer in range(model.info.layers)}
    active = _active(model, plan.steering)
    examples, held_out = _examples(model, gradients, plan, active, checkpoint, progress)
    schedule, generated = plan.effort.schedule, plan.tokens == "generated"
    learned = fit(
        gradients.distillation_loss(examples, generated=generated, bf16=True),
        gradients.distillation_loss(held_out, generated=generated),
        {layer: norms[layer] for layer in plan.layers},
        count=len(examples),
        width=model.info.hidden_size,
        schedule=schedule,
        active=active,
        seed=plan.seed,
        checkpoint=checkpoint,
        on_step=lambda step, kl: progress(Progress(LEARN_PHASE, step, schedule.steps, status=f"{kl:.3f} nat of KL")),
    )
    if not learned.lengths:
        raise DistillError(
            "nothing was learned: no step brought the model nearer to the prompted one",
            fix="give more prompts, or see whether the prompt changes its answers at all",
        )
    vector = _vector(model, plan, learned, norms, examples=len(examples), held_out=len(held_out))
    progress(Progress(PRICE_PHASE, 0, 1))
    spent = {key: kl.measure(vector.addition(sign)) for key, sign in SIGNS.items()}
    progress(Progress(PRICE_PHASE, 1, 1))
    return replace(
        vector,
        calibration=Calibration(spent["+"], spent, len(kl), effect=None, candidates=(), held_out=None),
        neutral=checkpoint.remember(
            "neutral",
            Neutral | None,
            lambda: measure_neutral(model, vector.directions, questions=neutral, progress=progress),
        ),
    )


def _active(model: Text, steering: Steering) -> dict[int, F32]:
    """Return the sum of a steering's additions at each layer.

    Raises:
        DistillError: It does something else.
    """
    total: dict[int, F32] = {}
    for term in steering.compile(model.info).terms:
        everywhere = term.scope.is_all and term.condition is None
        for layer, change in term.changes.items():
            if not (everywhere and isinstance(change, LayerAdd) and not change.preserve_norm):
                fix = "give plain strengths, without scopes, conditions or operators"
                raise DistillError(f"cannot distil on top of {term.text}", fix=fix)
            total = together({layer: change.added}, total)
    return total


def _examples(
    model: Generates,
    gradients: Gradients,
    plan: _Plan,
    active: Mapping[int, F32],
    checkpoint: Checkpoint,
    progress: OnProgress,
) -> tuple[list[DistillationExample], list[DistillationExample]]:
    """Return training examples and held-out ones; no message is in both."""
    effort, texts = plan.effort, plan.texts
    if plan.invent:
        more = checkpoint.remember(
            "invented messages",
            tuple[str, ...],
            lambda: invent_messages(model, plan.teacher, count=plan.invent, seed=plan.seed, progress=progress),
        )
        texts = tuple(dict.fromkeys((*texts, *more)))
    answered = checkpoint.remember(
        "teacher answers",
        list[Answered],
        lambda: answered_by(
            model,
            plan.teacher,
            texts,
            answers=effort.answers_to(len(texts)),
            max_new_tokens=effort.answer_tokens,
            temperature=effort.temperature,
            seed=plan.seed,
            steering=plan.steering,
            progress=progress,
        ),
    )
    held_out_texts = set(texts[effort.held_out_every - 1 :: effort.held_out_every] or texts[-1:])
    training = [answer for answer in answered if answer.text not in held_out_texts]
    held_out = [answer for answer in answered if answer.text in held_out_texts]
    if not (training and held_out):
        raise DistillError("the prompted model answers too few of the messages", fix="give more, or other ones")
    progress(Progress(NOTE_PHASE, 0, 2))
    examples = distillation_examples(gradients, training, additions=active, bf16=True)
    progress(Progress(NOTE_PHASE, 1, 2))
    exact = distillation_examples(gradients, held_out, additions=active)
    progress(Progress(NOTE_PHASE, 2, 2))
    return examples, exact


def _vector(
    model: Text, plan: _Plan, learned: Learned, norms: Mapping[int, float], *, examples: int, held_out: int
) -> ControlVector:
    chat = model.encode(model.render(plan.teacher.chat(plan.texts[0])))
    plain = model.encode(model.render([plan.teacher.chat(plan.texts[0])[-1]]))
    prompt = json.dumps([asdict(message) for message in plan.teacher.opening]).encode()
    return ControlVector(
        model=model.info,
        directions=learned.directions,
        norms={layer: norms[layer] for layer in learned.lengths},
        weights={layer: length / norms[layer] for layer, length in learned.lengths.items()},
        scale={"+": 1.0, "-": 1.0},
        method=METHOD,
        behaviour=BehaviourRef(plan.name, hashlib.sha256(prompt).hexdigest()),
        distillation=Distillation(
            prompt_tokens=len(chat) - len(plain),
            tokens=plan.tokens,
            kl_before=learned.validations[0].kl,
            kl_after=learned.best.kl,
            lessons=examples,
            others=held_out,
            steps=learned.best.step,
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        trimtab_version=VERSION,
    )

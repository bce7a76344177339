"""Evaluate a distilled vector: how much of a prompt it carries, beside other substitutes and rule by rule.

Everything is measured along answers that the prompted model samples to held-out messages: the KL from its predictions
there to those of the plain, the steered and the otherwise prompted model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from trimtab.behaviours import Message, neutral_prompts
from trimtab.engines import Engine
from trimtab.errors import EvaluationError
from trimtab.evaluation.rules import (
    PromptedAnswers,
    RuleReport,
    Student,
    Substitute,
    TokenKls,
    attribute_rules,
    first_sentence,
    mean_kl,
    split_rules,
)
from trimtab.steering import Scope, Steering, Term
from trimtab.training.distillation.examples import Answered, SystemPrompt, Teacher, answered_by
from trimtab.training.progress import OnProgress, Phases, Progress, ignore
from trimtab.training.search import band_layers
from trimtab.vectors import ControlVector

ANSWERS_PHASE = "Answering held-out messages"
SUBSTITUTES_PHASE = "Measuring the distance of each to the prompt"
SAMPLES_PHASE = "Writing samples"
MULTIPLES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # of the mean difference at many layers, whose effects add up
SINGLE = (0.5, 1.0, 1.5, 2.0, 3.0)  # of the mean difference at one layer
PREFILLS = 5
MIN_GAP = 0.01  # nats per token; below, a prompt changes next to nothing


@dataclass(frozen=True)
class Sizes:
    """Amount of messages, questions and tokens of an evaluation.

    Attributes:
        prompts: Users' messages, of the built-in held-out ones.
        learning: Messages from which the mean difference is made.
        tuning: Messages from which LoRA learns, and answers to each: as many as ``distill`` has.
        answer_tokens: Upper bound on an answer's length.
        rules: General messages on which rules are measured.
        questions: Questions that ask for a rule, on which it is measured too.
        samples: Messages answered for people to read.
        sample_tokens: Upper bound on these answers.
        strengths: Strengths that are measured.
    """

    prompts: int = 24
    learning: int = 16
    tuning: tuple[int, int] = (42, 3)
    answer_tokens: int = 32
    rules: int = 12
    questions: int = 6
    samples: int = 4
    sample_tokens: int = 48
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class DistilledSample:
    """One message and three answers."""

    question: str
    prompted: str
    steered: str
    neither: str


@dataclass(frozen=True)
class Saving:
    """Cost that a request saves without the prompt.

    Attributes:
        tokens: Prompt tokens saved in every request.
        of_context: Their share of the context window; None where that is not known.
        prefill_with: Seconds until the first token, with the prompt.
        prefill_without: Seconds until the first token, without it.
    """

    tokens: int
    of_context: float | None
    prefill_with: float
    prefill_without: float


@dataclass(frozen=True)
class DistilledReport:
    """Evaluation of a distilled vector.

    Attributes:
        base_kl: Mean KL(prompted ‖ plain) per token, in nats: the gap.
        vector: The vector at strength 1.
        others: Other substitutes for the prompt.
        dial: Mean KL(prompted ‖ steered) per token, by strength.
        rules: Rule by rule; empty where the prompt is a single instruction.
        prompts: Number of messages it was measured on.
    """

    name: str
    base_kl: float
    vector: Substitute
    others: tuple[Substitute, ...]
    dial: Mapping[float, float]
    rules: tuple[RuleReport, ...]
    saving: Saving
    samples: tuple[DistilledSample, ...]
    prompts: int

    @property
    def stays(self) -> tuple[str, ...]:
        """Return the rules that must stay in the prompt."""
        return tuple(rule.text for rule in self.rules if rule.carried is False)


def evaluate_distilled(
    model: Engine,
    vector: ControlVector,
    system_prompt: SystemPrompt,
    *,
    prompts: Sequence[str] | None = None,
    lora: bool = False,
    sizes: Sizes | None = None,
    seed: int = 1,
    progress: OnProgress = ignore,
) -> DistilledReport:
    """Measure how much of a prompt a vector carries, and which rules must stay in the prompt.

    Args:
        model: The engine of the vector's model.
        vector: A vector made by ``distill``.
        system_prompt: The prompt it was made from.
        prompts: Held-out users' messages; the built-in ones if not given.
        lora: Also fine-tune on the prompted model's answers, which takes a few minutes.
        sizes: Amount of messages and tokens.
        seed: Seed of the prompted model's answers and of resamples; different from that of learning.
        progress: Called with each step of the work.

    Raises:
        VectorMismatchError: The vector belongs to another model.
        EvaluationError: The model has no gradients, or the prompt changes nothing; or it cannot be fine-tuned.
        MissingDependencyError: Fine-tuning needs peft.

    Example:
        >>> report = evaluate_distilled(model, pirate, "You are a pirate.")  # doctest: +SKIP
        >>> report.vector.closed.value, report.stays  # doctest: +SKIP
        (0.78, ())
    """
    model.check_unsteered("evaluation")
    vector.check_model(model.info)
    sizes, teacher = sizes or Sizes(), Teacher.of(system_prompt)
    gradients = model.gradients
    if gradients is None:
        raise EvaluationError(
            f"{model.info.name} cannot be measured: it has no gradients", fix="use a decoder-only model"
        )
    texts = list(prompts) if prompts is not None else list(neutral_prompts().held_out[: sizes.prompts])
    phases = Phases(progress)
    with phases(ANSWERS_PHASE, 1):
        answers = PromptedAnswers.ask(model, gradients, teacher, texts, answer_tokens=sizes.answer_tokens, seed=seed)
    if answers.base_kl < MIN_GAP:
        raise EvaluationError(
            f"the prompt changes answers by {answers.base_kl:.4f} nat per token, which is next to nothing",
            fix="give users' messages to which the prompt matters",
        )
    dial, substitute, others = _substitutes(answers, vector, teacher, sizes, phases)
    if lora:
        others += _fine_tuned(answers, teacher, sizes, progress)
    single = len(teacher.opening) == 1 and teacher.opening[0].role == "system"
    rules = attribute_rules(
        answers,
        Student.steered(vector),
        split_rules(teacher.opening[0].content) if single else (),
        messages=sizes.rules,
        questions=sizes.questions,
        answer_tokens=sizes.answer_tokens,
        progress=progress,
    )
    with phases(SAMPLES_PHASE, 1):
        samples = _samples(model, vector, teacher, texts[: sizes.samples], sizes)
        saving = _saving(model, teacher, texts[0])
    return DistilledReport(
        name=vector.behaviour.name,
        base_kl=answers.base_kl,
        vector=substitute,
        others=tuple(others),
        dial=dial,
        rules=rules,
        saving=saving,
        samples=samples,
        prompts=len({answer.text for answer in answers.answered}),
    )


def _substitutes(
    answers: PromptedAnswers, vector: ControlVector, teacher: Teacher, sizes: Sizes, phases: Phases
) -> tuple[dict[float, float], Substitute, list[Substitute]]:
    """Measure the vector at every strength, and the substitutes that need no training."""
    strengths = tuple(dict.fromkeys((*sizes.strengths, 1.0)))
    kls = {0.0: answers.base}
    with phases(SUBSTITUTES_PHASE, len(strengths) + 2) as step:
        for strength in strengths:
            kls[strength] = answers.measure(Student.steered(vector, strength))
            step()
        dial = {strength: mean_kl(kls[strength]) for strength in (0.0, *sizes.strengths)}
        about = f"layers {vector.layers[0]} to {vector.layers[-1]}, strength 1"
        substitute = answers.substitute("vector", about, kls[1.0])
        others = [_mean_difference(answers, teacher, sizes)]
        step()
        if len(teacher.opening) == 1:
            (message,) = teacher.opening
            sentence = first_sentence(message.content)
            if sentence != message.content.strip():
                student = Student(opening=(Message(message.role, sentence),))
                about = f"the prompt cut down to its first sentence, {len(answers.model.encode(sentence))} tokens"
                others.append(answers.substitute("one sentence", about, answers.measure(student)))
    return dial, substitute, others


def _mean_difference(answers: PromptedAnswers, teacher: Teacher, sizes: Sizes) -> Substitute:
    """Measure the best multiple of prompted minus plain hidden states, at all layers, the usual band, or one layer.

    It is chosen on the same answers that it is measured on, which favours it.
    """
    model, depth = answers.model, answers.model.info.layers
    answered = _training_answers(answers, teacher, sizes.learning, each=1, sizes=sizes)
    states = []
    for prompts in ([a.prompted for a in answered], [a.prompt for a in answered]):
        texts = [prompt + a.answer for prompt, a in zip(prompts, answered, strict=True)]
        spans = [(len(prompt), None) for prompt in prompts]
        states.append(model.collect(texts, position="mean", span=spans).states)
    difference = (states[0] - states[1]).mean(axis=0)  # [layer, hidden]
    choices = [(layers, by) for layers in (tuple(range(depth)), band_layers(depth)) for by in MULTIPLES]
    choices += [((depth // 2,), by) for by in SINGLE]

    def measure(layers: Sequence[int], by: float) -> TokenKls:
        return answers.measure(Student(additions={layer: np.float32(by) * difference[layer] for layer in layers}))

    kls = [measure(*choice) for choice in choices]
    best = min(range(len(choices)), key=lambda n: mean_kl(kls[n]))
    layers, by = choices[best]
    about = f"prompted minus plain states, times {by:g}, layers {layers[0]} to {layers[-1]}"
    return answers.substitute("mean difference", about, kls[best])


def _training_answers(
    answers: PromptedAnswers, teacher: Teacher, messages: int, *, each: int, sizes: Sizes
) -> list[Answered]:
    """Sample ``each`` answers of the prompted model to messages of the half that vectors are learned from."""
    return answered_by(
        answers.model,
        teacher,
        neutral_prompts().calibration[:messages],
        answers=each,
        max_new_tokens=sizes.answer_tokens,
        temperature=1.0,
        seed=answers.seed,
        steering=Steering(),
        progress=ignore,
    )


def _fine_tuned(answers: PromptedAnswers, teacher: Teacher, sizes: Sizes, progress: OnProgress) -> list[Substitute]:
    """Train LoRA on the prompted model's own answers; nothing, with a note, where that fails."""
    from trimtab.evaluation.lora import TRAINING, Example, fit_lora

    messages, each = sizes.tuning
    progress(Progress(TRAINING, 0, 1))
    answered = _training_answers(answers, teacher, messages, each=each, sizes=sizes)
    examples = [Example(a.text, a.prompt, a.answer) for a in answered]
    try:
        adapter = fit_lora(answers.model, examples, name="prompt", seed=answers.seed, progress=progress)
    except EvaluationError as error:
        progress(Progress(TRAINING, 1, 1, note=f"fine-tuning is left out: {error}"))
        return []
    with adapter.intervention().active():
        kls = answers.measure(Student())
    about = f"rank {adapter.rank} in every linear layer, {adapter.parameters:,} numbers, on {len(examples)} answers"
    return [answers.substitute("LoRA", about, kls)]


def _samples(
    model: Engine, vector: ControlVector, teacher: Teacher, texts: Sequence[str], sizes: Sizes
) -> tuple[DistilledSample, ...]:
    steering = Steering((Term(vector, 1.0),))
    if Student.steered(vector).generated:
        steering = Steering((Term(vector, 1.0, tokens=Scope.of("generated")),))
    plain = [[Message("user", text)] for text in texts]
    written = model.generate(
        [*[teacher.chat(text) for text in texts], *plain, *plain],
        steering=[*[Steering()] * len(texts), *[steering] * len(texts), *[Steering()] * len(texts)],
        max_new_tokens=sizes.sample_tokens,
    )
    rows = [written[start : start + len(texts)] for start in range(0, 3 * len(texts), len(texts))]
    return tuple(
        DistilledSample(text, prompted.text, steered.text, neither.text)
        for text, prompted, steered, neither in zip(texts, *rows, strict=True)
    )


def _saving(model: Engine, teacher: Teacher, text: str) -> Saving:
    chats = [list(teacher.chat(text)), [Message("user", text)]]
    prompted, plain = (len(model.encode(model.render(chat))) for chat in chats)
    window = model.capabilities.context_window
    share = (prompted - plain) / window if window else None
    return Saving(prompted - plain, share, *(_seconds_to_first_token(model, chat) for chat in chats))


def _seconds_to_first_token(model: Engine, chat: Sequence[Message]) -> float:
    taken = []
    for _ in range(PREFILLS):
        began = time.perf_counter()
        model.generate([chat], max_new_tokens=1)
        taken.append(time.perf_counter() - began)
    return median(taken)

"""How much of a prompt a distilled vector carries: beside other ways of doing without it, and rule by rule.

Everything is measured along answers that the prompted model samples to messages which were not learned from: how far
are the plain, the steered and the otherwise prompted model from what the prompted one predicts there.
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
from trimtab.evaluation.probes import Closed, Probes, Student, TokenKls, mean_kl
from trimtab.evaluation.rules import MATTERS, RuleClosed, Weighing, first_sentence, rules_of, weigh
from trimtab.steering import Steering, Term
from trimtab.training.distillation.examples import Answered, SystemPrompt, Teacher, answered_by
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.training.search import band_layers
from trimtab.vectors import ControlVector

PROBE_PHASE = "Asking what was not learned from"
WAYS_PHASE = "Measuring how near each comes to the prompt"
SAMPLES_PHASE = "Writing samples"
MULTIPLES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # of the mean difference at many layers, each of which counts
SINGLE = (0.5, 1.0, 1.5, 2.0, 3.0)  # and at one layer
PREFILLS = 5


@dataclass(frozen=True)
class Sizes:
    """How much is asked.

    Attributes:
        prompts: Users' messages, of the built-in ones that nothing is learned from.
        learning: Messages from which the mean difference is made.
        tuning: Messages from which LoRA learns, if it does, and answers to each: as many as ``distill`` has.
        answer_tokens: Upper bound on an answer's length.
        rules: Messages on which rules are weighed.
        questions: Questions that ask for a rule, on which it is weighed if it counts more there.
        samples: Messages answered for people to read.
        sample_tokens: Upper bound on these answers.
        strengths: Of the dial.
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
    """What a request is spared.

    Attributes:
        tokens: Of the prompt, in every request.
        of_context: Their share of the context window; None where that is not known.
        prefill_with: Seconds until the first token, with the prompt.
        prefill_without: Without it.
    """

    tokens: int
    of_context: float | None
    prefill_with: float
    prefill_without: float


@dataclass(frozen=True)
class DistilledReport:
    """Everything that was found out about a distilled vector.

    Attributes:
        name: Of the vector.
        base_kl: Mean KL(prompted ‖ plain) per token, in nats: the gap.
        vector: What the vector does at strength 1.
        others: What else could stand in for the prompt.
        dial: What it does at other strengths.
        rules: Rule by rule; empty where the prompt is a single one.
        saving: What a request is spared.
        samples: Side by side.
        prompts: How many messages it was measured on.
    """

    name: str
    base_kl: float
    vector: Closed
    others: tuple[Closed, ...]
    dial: Mapping[float, float]
    rules: tuple[RuleClosed, ...]
    saving: Saving
    samples: tuple[DistilledSample, ...]
    prompts: int

    @property
    def stays(self) -> tuple[str, ...]:
        """The rules that must stay in the prompt."""
        return tuple(rule.text for rule in self.rules if rule.word == "did not take")


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
    """Find out how much of a prompt a vector carries, and what must stay in the prompt.

    Args:
        model: The engine of the vector's model.
        vector: What ``distill`` made.
        system_prompt: What it was made from.
        prompts: Users' messages that it was not learned from; the built-in ones if not given.
        lora: Also fine-tune on the prompted model's answers, which takes a few minutes and changes weights.
        sizes: How much is asked.
        seed: Of the prompted model's answers, and of resamples; another one than in learning.
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
    vector.check_model(model.info)
    sizes, teacher = sizes or Sizes(), Teacher.of(system_prompt)
    gradients = model.gradients
    if gradients is None:
        raise EvaluationError(f"{model.info.name} cannot be measured so", fix="use a decoder-only model")
    texts = list(prompts) if prompts is not None else list(neutral_prompts().held_out[: sizes.prompts])
    progress(Progress(PROBE_PHASE, 0, 1))
    probes = Probes.ask(model, gradients, teacher, texts, answer_tokens=sizes.answer_tokens, seed=seed)
    progress(Progress(PROBE_PHASE, 1, 1))
    if probes.base_kl < MATTERS:
        raise EvaluationError(
            f"the prompt changes answers by {probes.base_kl:.4f} nat per token, which is next to nothing",
            fix="give users' messages to which the prompt matters",
        )
    dial, others = _ways(probes, vector, teacher, sizes, progress)
    if lora:
        others += _fine_tuned(probes, teacher, sizes, progress)
    whole = "".join(message.content for message in teacher.opening if message.role == "system")
    rules = rules_of(whole) if len(teacher.opening) == 1 else ()
    weighing = Weighing(sizes.rules, sizes.questions, sizes.answer_tokens)
    weighed = weigh(probes, Student.steered(vector), rules, sizes=weighing, progress=progress)
    progress(Progress(SAMPLES_PHASE, 0, 1))
    samples = _samples(model, vector, teacher, texts[: sizes.samples], sizes)
    saving = _saving(model, teacher, texts[0])
    progress(Progress(SAMPLES_PHASE, 1, 1))
    return DistilledReport(
        name=vector.behaviour.name,
        base_kl=probes.base_kl,
        vector=next(way for way in others if way.name == "vector"),
        others=tuple(way for way in others if way.name != "vector"),
        dial=dial,
        rules=weighed,
        saving=saving,
        samples=samples,
        prompts=len(dict.fromkeys(a.text for a in probes.answered)),
    )


# Ways of doing without the prompt -----------------------------------------------------------------------------------


def _ways(
    probes: Probes, vector: ControlVector, teacher: Teacher, sizes: Sizes, progress: OnProgress
) -> tuple[dict[float, float], list[Closed]]:
    """The dial, and what each way closes."""
    steps = len(sizes.strengths) + 3
    done = 0

    def step() -> None:
        nonlocal done
        progress(Progress(WAYS_PHASE, done, steps))
        done += 1

    found = {0.0: probes.base}
    for strength in dict.fromkeys((*sizes.strengths, 1.0)):
        step()
        found[strength] = probes.measure(Student.steered(vector, strength))
    dial = {strength: mean_kl(found[strength]) for strength in (0.0, *sizes.strengths)}
    step()
    ways = [probes.closed("vector", f"layers {vector.layers[0]} to {vector.layers[-1]}, strength 1", found[1.0])]
    ways.append(_mean_difference(probes, teacher, sizes))
    step()
    if len(teacher.opening) == 1:
        sentence = first_sentence(teacher.opening[0].content)
        if sentence != teacher.opening[0].content.strip():
            student = Student(opening=(Message(teacher.opening[0].role, sentence),))
            tokens = len(probes.model.encode(sentence))
            about = f"the prompt cut down to its first sentence, {tokens} tokens"
            ways.append(probes.closed("one sentence", about, probes.measure(student)))
    step()
    return dial, ways


def _mean_difference(probes: Probes, teacher: Teacher, sizes: Sizes) -> Closed:
    """The best multiple of prompted minus plain hidden states, at all layers, the usual band, or one layer.

    It is chosen on the very answers that it is measured on, which is to its favour.
    """
    model, depth = probes.model, probes.model.info.layers
    answered = _to_learn_from(probes, teacher, sizes.learning, answers=1, sizes=sizes)
    states = []
    for prompts in ([a.prompted for a in answered], [a.prompt for a in answered]):
        texts = [prompt + a.answer for prompt, a in zip(prompts, answered, strict=True)]
        spans = [(len(prompt), None) for prompt in prompts]
        states.append(model.collect(texts, position="mean", span=spans).states)
    difference = (states[0] - states[1]).mean(axis=0)  # [layer, hidden]
    band, middle = band_layers(depth), (depth // 2,)
    tried = [(layers, by) for layers in (tuple(range(depth)), band) for by in MULTIPLES]
    tried += [(middle, by) for by in SINGLE]

    def student(layers: Sequence[int], by: float) -> TokenKls:
        return probes.measure(Student(additions={layer: np.float32(by) * difference[layer] for layer in layers}))

    found = [student(*way) for way in tried]
    number = min(range(len(tried)), key=lambda n: mean_kl(found[n]))
    best = tried[number]
    about = f"prompted minus plain states, times {best[1]:g}, layers {best[0][0]} to {best[0][-1]}"
    return probes.closed("mean difference", about, found[number])


def _to_learn_from(probes: Probes, teacher: Teacher, messages: int, *, answers: int, sizes: Sizes) -> list[Answered]:
    """Answers of the prompted model to messages of the half that vectors are learned from."""
    return answered_by(
        probes.model,
        teacher,
        neutral_prompts().calibration[:messages],
        answers=answers,
        max_new_tokens=sizes.answer_tokens,
        temperature=1.0,
        seed=probes.seed,
        steering=Steering(),
        progress=ignore,
    )


def _fine_tuned(probes: Probes, teacher: Teacher, sizes: Sizes, progress: OnProgress) -> list[Closed]:
    """LoRA on the prompted model's own answers; nothing where it cannot be had, which is told."""
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.evaluation.lora import TRAINING, Example, fit_lora

    if not isinstance(probes.model, TransformersEngine):
        raise EvaluationError(f"{probes.model.info.name} cannot be fine-tuned here", fix="leave LoRA out")
    messages, answers = sizes.tuning
    progress(Progress(TRAINING, 0, 1))
    answered = _to_learn_from(probes, teacher, messages, answers=answers, sizes=sizes)
    examples = [Example(a.text, a.prompt, a.answer) for a in answered]
    try:
        adapter = fit_lora(probes.model, examples, name="prompt", seed=probes.seed, progress=progress)
    except EvaluationError as error:
        progress(Progress(TRAINING, 1, 1, note=f"fine-tuning is left out: {error}"))
        return []
    with adapter.arm().active():
        found = probes.measure(Student())
    about = f"rank {adapter.rank} in every linear layer, {adapter.parameters:,} numbers, on {len(examples)} answers"
    return [probes.closed("LoRA", about, found)]


# What people see and what it saves ----------------------------------------------------------------------------------


def _samples(
    model: Engine, vector: ControlVector, teacher: Teacher, texts: Sequence[str], sizes: Sizes
) -> tuple[DistilledSample, ...]:
    steering = Steering((Term(vector, 1.0),))
    if Student.steered(vector).generated:
        from trimtab.steering import Scope

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
    chats = {True: list(teacher.chat(text)), False: [Message("user", text)]}
    lengths = {key: len(model.encode(model.render(chat))) for key, chat in chats.items()}
    seconds = {key: _until_first_token(model, chat) for key, chat in chats.items()}
    spared = lengths[True] - lengths[False]
    window = model.capabilities.context_window
    return Saving(spared, spared / window if window else None, seconds[True], seconds[False])


def _until_first_token(model: Engine, chat: Sequence[Message]) -> float:
    """Median seconds."""
    taken = []
    for _ in range(PREFILLS):
        began = time.perf_counter()
        model.generate([chat], max_new_tokens=1)
        taken.append(time.perf_counter() - began)
    return median(taken)

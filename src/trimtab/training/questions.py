"""Ask questions, and measure KL and effect along the model's own answers.

The effect of a steering is the change in log-probability (nats per token) of persona answers of the positive pole minus
that of persona answers of the negative pole, to questions without any system prompt. The answers are the model's own,
written under system prompts that ask for the poles; what those prompts themselves do to the same answers is the unit
"prompt-equivalent". No judge is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import final

import numpy as np

from trimtab.arrays import F32, F64, digest_of
from trimtab.behaviours import Behaviour, Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines import Completion, ForcedItem, ForcedScores, TeacherForcing
from trimtab.engines.protocol import Changes, Forces, Generates, Tokens, Trains
from trimtab.errors import CalibrationError
from trimtab.steering.compiled import Change
from trimtab.training.checkpoint import NO_CHECKPOINT, Checkpoint
from trimtab.training.progress import OnProgress, Progress

PHASE = "Letting the model answer"
SWEEP_KL_QUESTIONS = 6  # on which candidates are brought to the budget
# Rounds of the sweep: number of questions with persona answers that each adds, and of the best candidates in it.
ROUNDS = ((5, 99), (4, 4), (7, 2))
EFFECT_QUESTIONS = sum(questions for questions, _ in ROUNDS)
KL_QUESTIONS = 18  # on which the final KL is measured
HELD_OUT_QUESTIONS = 8
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class PersonaAnswers:
    """Answers to a question under the system prompts that ask for the two poles; all are token ids.

    Attributes:
        positive: Answer under the positive pole's system prompt.
        negative: Answer under the negative pole's system prompt.
        under_positive: The chat with the positive pole's system prompt.
        under_negative: The chat with the negative pole's system prompt.
        positive_logprob: Log-probability of ``positive`` under the prompt that it was written under, in nats.
        negative_logprob: Log-probability of ``negative`` under its own.
    """

    positive: Tokens
    negative: Tokens
    under_positive: Tokens
    under_negative: Tokens
    positive_logprob: float
    negative_logprob: float


@dataclass(frozen=True)
class Question:
    """One neutral question and the model's answers to it.

    Attributes:
        text: The user message.
        prompt: Token ids of the chat without system prompt.
        answer: Token ids of the base model's own answer.
        persona_answers: Answers of both personas, where the behaviour has personas and they were wanted.
    """

    text: str
    prompt: Tokens
    answer: Tokens
    persona_answers: PersonaAnswers | None = None


@final
class _Forced:
    """Teacher forcing whose results are saved in a checkpoint."""

    def __init__(self, engine: Forces, items: Sequence[ForcedItem], checkpoint: Checkpoint) -> None:
        self._engine, self._items = engine, items
        self._checkpoint = checkpoint
        self._name = repr(items).encode()
        if not self._checkpoint.active:
            self.prepared  # noqa: B018  # at once: later steering must not change the unsteered scores

    @cached_property
    def prepared(self) -> TeacherForcing:
        """Return the teacher forcing of the items; with a checkpoint, it is prepared for the first new result."""
        return self._engine.teacher_forcing(self._items)

    def result(self, what: str, compute: Callable[[], F64], additions: Changes | None = None) -> F64:
        """Return the result of ``compute`` for the items and additions, from the checkpoint if it is there."""
        if not self._checkpoint.active:
            return compute()
        parts = [] if additions is None else [_bytes(layer, additions[layer]) for layer in sorted(additions)]
        key = f"{what} {digest_of(self._name, *parts)}"
        return np.array(self._checkpoint.remember(key, list[float], lambda: compute().tolist()))


def _bytes(layer: int, changes: F32 | Sequence[Change]) -> bytes:
    if isinstance(changes, np.ndarray):
        return b"%d " % layer + changes.tobytes()
    return f"{layer} {[change.digest for change in changes]}".encode()


@final
class KlSet:
    """Questions along whose own answers KL is measured."""

    def __init__(self, engine: Forces, questions: Sequence[Question], checkpoint: Checkpoint = NO_CHECKPOINT) -> None:
        items = [ForcedItem(question.prompt, (question.answer,), reference=0) for question in questions]
        self._forced = _Forced(engine, items, checkpoint)
        self._count = len(items)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def norms(self) -> F64:
        """Return the mean hidden-state norm per layer on these questions, ``[layer]``."""
        return self._forced.result("norms", lambda: self._forced.prepared.norms)

    @property
    def base_logprob(self) -> float:
        """Return the log-probability of all the model's own answers together, in nats."""
        logprobs = self._forced.result("own logprob", lambda: np.concatenate(self._forced.prepared.base.logprob))
        return float(logprobs.sum())

    def measure(self, additions: Changes) -> float:
        """Return the mean per-token KL(base ‖ steered) in nats with ``additions[layer]`` added after each block."""
        kl = self._forced.result("kl", lambda: np.array([self._forced.prepared.measure(additions).mean_kl]), additions)
        return float(kl[0])


@final
class EffectSet:
    """Questions with persona answers, by which effects are measured."""

    def __init__(self, engine: Forces, questions: Sequence[Question], checkpoint: Checkpoint = NO_CHECKPOINT) -> None:
        self._engine = engine
        answered = [(question.prompt, pair) for question in questions if (pair := question.persona_answers)]
        if not answered:
            raise CalibrationError("there are no persona answers", fix="give the behaviour personas")
        self._answers = [pair for _, pair in answered]
        items = [ForcedItem(prompt, (pair.positive, pair.negative)) for prompt, pair in answered]
        self._forced = _Forced(engine, items, checkpoint)

    def __len__(self) -> int:
        return len(self._answers)

    def measure(self, additions: Changes) -> F64:
        """Return the effect per question, in nats per token, with ``additions[layer]`` added to each block's output."""
        steered = self._forced.result(
            "preference", lambda: preference(self._forced.prepared.measure(additions)), additions
        )
        return steered - self.base

    def halves(self, additions: Changes) -> F64:
        """Return both halves of the effect, ``[question, (positive, negative)]``.

        Each is the change in log-probability of that persona's answer; their difference is the effect.
        """
        return mean_logprobs(self._forced.prepared.measure(additions)) - self.base_logprobs

    @cached_property
    def base_logprobs(self) -> F64:
        """Return the mean log-probability per token of both answers, ``[question, (positive, negative)]``."""
        return mean_logprobs(self._forced.prepared.base)

    @property
    def base(self) -> F64:
        """Return the preference of the unsteered model per question; see ``preference``."""
        return self._forced.result("preference", lambda: preference(self._forced.prepared.base))

    @cached_property
    def prompt_swing(self) -> F64:
        """Return the system prompts' swing: per question, preference under the positive minus the negative one."""
        return self._forced.result("prompt swing", self._prompt_swing)

    def _prompt_swing(self) -> F64:
        crossed = [
            ForcedItem(prompt, (answer,))
            for pair in self._answers
            for prompt, answer in ((pair.under_positive, pair.negative), (pair.under_negative, pair.positive))
        ]
        scores = self._engine.teacher_forcing(crossed, once=True).base  # each answer under the other one's prompt
        other = [float(logprob[0] / tokens[0]) for logprob, tokens in zip(scores.logprob, scores.tokens, strict=True)]
        swings = []
        for pair, negative_there, positive_there in zip(self._answers, other[0::2], other[1::2], strict=True):
            positive = pair.positive_logprob / len(pair.positive)
            negative = pair.negative_logprob / len(pair.negative)
            swings.append((positive - negative_there) - (positive_there - negative))
        return np.array(swings)


def mean_logprobs(scores: ForcedScores) -> F64:
    """Return per item the mean per-token log-probabilities (nats) of its two answers, ``[item, answer]``."""
    return np.array([logprob / tokens for logprob, tokens in zip(scores.logprob, scores.tokens, strict=True)])


def preference(scores: ForcedScores) -> F64:
    """Return per item the mean per-token log-probability (nats) of its first answer minus that of its second one."""
    positive, negative = mean_logprobs(scores).T
    return np.asarray(positive - negative)


def ask(
    engine: Generates,
    texts: Sequence[str],
    behaviour: Behaviour | None,
    *,
    personas: int,
    max_new_tokens: int,
    checkpoint: Checkpoint = NO_CHECKPOINT,
    progress: OnProgress,
) -> tuple[Question, ...]:
    """Let the model answer every question as itself and, for the first ``personas``, as each pole's persona.

    All are answered in one batch: a pass with few rows takes nearly as long as one with many.
    """
    count = personas if behaviour is not None and behaviour.positive.personas else 0
    progress(Progress(PHASE, 0, 1))

    def answer_all() -> tuple[Question, ...]:
        chats = [(Message("user", text),) for text in texts]
        in_character = [] if behaviour is None else persona_chats(behaviour, texts[:count])
        answers = engine.generate([*chats, *in_character], max_new_tokens=max_new_tokens)
        questions = [
            Question(text, answer.prompt.tokens, answer.tokens) for text, answer in zip(texts, answers, strict=False)
        ]
        first = _with_persona_answers(questions[:count], answers[len(texts) :])
        return (*first, *questions[count:])

    questions = checkpoint.remember("answers", tuple[Question, ...], answer_all)
    progress(Progress(PHASE, 1, 1))
    return questions


def persona_chats(behaviour: Behaviour, texts: Sequence[str], *, first: int = 0) -> list[tuple[Message, ...]]:
    """Return each question under the system prompts of both poles, the positive one first.

    The first question gets the phrasing number ``first``, the next one the next phrasing.

    Raises:
        BehaviourError: The behaviour has no personas.
    """
    chats: list[tuple[Message, ...]] = []
    for number, text in enumerate(texts, start=first):
        instructions = persona_instructions(behaviour, number)
        for instruction in (instructions.positive, instructions.negative):
            chats.append((Message("system", instruction), Message("user", text)))
    return chats


def add_persona_answers(
    engine: Generates, questions: Sequence[Question], behaviour: Behaviour, *, max_new_tokens: int
) -> tuple[Question, ...]:
    """Let the model answer the questions as each pole's persona; return them with these answers.

    Raises:
        BehaviourError: The behaviour has no personas.
    """
    chats = persona_chats(behaviour, [question.text for question in questions])
    return _with_persona_answers(questions, engine.generate(chats, max_new_tokens=max_new_tokens))


def _with_persona_answers(questions: Sequence[Question], answers: Sequence[Completion]) -> tuple[Question, ...]:
    answered = []
    for question, plus, minus in zip(questions, answers[0::2], answers[1::2], strict=True):
        assert plus.logprob is not None  # answers are greedy
        assert minus.logprob is not None
        prompts = plus.prompt.tokens, minus.prompt.tokens
        pair = PersonaAnswers(plus.tokens, minus.tokens, *prompts, plus.logprob, minus.logprob)
        answered.append(replace(question, persona_answers=pair))
    return tuple(answered)


@dataclass(frozen=True)
class CalibrationSet:
    """Questions asked and answered once, for the calibration of any vector of the model.

    Attributes:
        model: The engine.
        behaviour: The behaviour whose personas answered; None without one.
        checkpoint: Where measurements on the questions are saved.
        questions: All of them.
        sweep_kl: For the KL of candidates.
        kl: For the final KL.
        rounds: For effects on calibration prompts; empty where there are no persona answers.
        held_out: Questions of the check; empty if it is not wanted.
        held_out_effects: For effects on them, where there are persona answers.
        calibration: Calibration questions.
    """

    model: Trains
    behaviour: Behaviour | None
    checkpoint: Checkpoint
    questions: tuple[Question, ...]
    sweep_kl: KlSet
    kl: KlSet
    rounds: tuple[EffectSet, ...]
    held_out: tuple[Question, ...]
    held_out_effects: EffectSet | None
    calibration: tuple[Question, ...]

    @classmethod
    def prepare(
        cls,
        model: Trains,
        behaviour: Behaviour | None,
        *,
        count: int = 0,
        personas: int = EFFECT_QUESTIONS,
        kl: int = KL_QUESTIONS,
        held_out: int = HELD_OUT_QUESTIONS,
        checkpoint: Checkpoint = NO_CHECKPOINT,
        progress: OnProgress,
    ) -> CalibrationSet:
        """Ask the questions.

        Args:
            model: The engine.
            behaviour: Its personas answer too; its evaluation prompts, if it has some, are the held-out ones.
            count: Number of calibration questions, where more are wanted than for the other purposes.
            personas: Number of calibration questions with persona answers.
            kl: Number of questions for the final KL.
            held_out: Number of held-out questions; 0 leaves the check out.
            checkpoint: Where the answers are saved.
            progress: Called with each step of the work.
        """
        neutral = neutral_prompts()
        calibration = (*neutral.calibration, *neutral.more)[: max(count, kl, personas)]
        evaluation = behaviour.evaluation_prompts if behaviour is not None else ()
        checks = (evaluation or neutral.held_out[:held_out]) if held_out else ()
        first, rest = calibration[:personas], calibration[personas:]
        questions = ask(
            model,
            [*first, *checks, *rest],
            behaviour,
            personas=len(first) + len(checks),
            max_new_tokens=ANSWER_TOKENS,
            checkpoint=checkpoint,
            progress=progress,
        )
        checked = questions[len(first) : len(first) + len(checks)]
        calibrated = [*questions[: len(first)], *questions[len(first) + len(checks) :]]
        answered = [question for question in calibrated if question.persona_answers is not None]
        stops = np.cumsum([number for number, _ in ROUNDS]).tolist()
        parts = [answered[start:stop] for start, stop in pairwise([0, *stops])]
        return cls(
            model=model,
            behaviour=behaviour,
            checkpoint=checkpoint,
            questions=questions,
            sweep_kl=KlSet(model, calibrated[:SWEEP_KL_QUESTIONS], checkpoint),
            kl=KlSet(model, calibrated[:kl], checkpoint),
            rounds=tuple(EffectSet(model, part, checkpoint) for part in parts if part),
            held_out=checked,
            held_out_effects=EffectSet(model, checked, checkpoint) if any(q.persona_answers for q in checked) else None,
            calibration=tuple(calibrated),
        )

    def norms(self, layers: Iterable[int]) -> Mapping[int, float]:
        """Return the mean hidden-state norm on neutral text, of each of ``layers``."""
        return {layer: float(self.kl.norms[layer]) for layer in layers}

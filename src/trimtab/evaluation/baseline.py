"""What every evaluation on one model stands on: its own answers to neutral questions, and what it knows and refuses.

It is made once for a model; evaluating a whole zoo then asks the base model nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.behaviours import neutral_prompts
from trimtab.engines.transformers import TransformersEngine
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.metrics.divergence import Predictions, own_predictions
from trimtab.evaluation.metrics.facts import Accuracy, Fact, FactSet, answer_facts, builtin_facts
from trimtab.evaluation.metrics.refusals import refusal_direction, refusal_rate
from trimtab.evaluation.metrics.text_quality import Written
from trimtab.training.progress import ignore
from trimtab.training.questions import KlSet, Question, ask


@dataclass(frozen=True)
class Sizes:
    """How much is asked.

    Attributes:
        questions: Neutral questions, from the half that training never calibrates on.
        kl: Of them, those along whose answers KL is measured.
        controls_kl: Of them, those on which controls are brought to the budget.
        chance: Of them, those that random directions are asked; fewer let chance look greater.
        sweep: Of them, those answered at every strength.
        randoms: Random directions.
        pairs: Contrastive pairs whose labels are shuffled.
        facts: Simple facts, evenly taken from the built-in ones, of which there are 240.
        harmful: Harmful requests, of the built-in 32.
        written: Of them, those that every method answers at length.
        answer_tokens: Upper bound on the answers along which KL and effects are measured; their openings tell enough.
        written_tokens: Upper bound on the answers that are looked at. By its opening alone it cannot be told whether an
            answer will be about the question.
        strengths: Of the sweep, besides 0.
        halvings: Of the strengths from 0 to 1, in looking for the last one at little damage: 2 tell it to a quarter.
    """

    questions: int = 16
    kl: int = 12
    controls_kl: int = 6
    chance: int = 8
    sweep: int = 6
    randoms: int = 8
    pairs: int = 96
    facts: int = 80
    harmful: int = 12
    written: int = 12
    answer_tokens: int = 24
    written_tokens: int = 40
    strengths: tuple[float, ...] = (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
    halvings: int = 2


THOROUGH = Sizes(
    questions=48, kl=24, chance=48, sweep=12, facts=240, harmful=32, written=48, written_tokens=48, halvings=3
)
"""What cards are measured with: all neutral questions that training never calibrates on, all facts and requests."""


@final
class Baseline:
    """The base model's side of every comparison.

    Attributes:
        engine: The model.
        sizes: How much is asked.
        questions: Neutral questions with the model's own answers.
        written: What it writes to them at length.
        facts: Simple facts, and which of them the model knows.
        truthfulqa: More facts, from a file; none if not given.
        truthful: Which of those it knows.
        kl: Where KL is measured.
        controls_kl: Where controls are brought to the budget.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        *,
        sizes: Sizes | None = None,
        questions: Sequence[str] = (),
        truthfulqa: Sequence[Fact] = (),
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = engine
        self.sizes = sizes = sizes or Sizes()
        texts = list(questions) or neutral_prompts().held_out[: sizes.questions]
        longest = max(sizes.answer_tokens, sizes.written_tokens)
        answered = ask(engine, texts, None, in_character=0, max_new_tokens=longest, progress=ignore)
        asked = tuple(replace(question, answer=question.answer[: sizes.answer_tokens]) for question in answered)
        self.questions: tuple[Question, ...] = asked
        at_length = [question.answer[: sizes.written_tokens] for question in answered[: sizes.written]]
        self.written = Written.of_tokens(engine, at_length)
        on_step()
        self.kl = KlSet(engine, asked[: sizes.kl])
        self.controls_kl = KlSet(engine, asked[: sizes.controls_kl])
        on_step()
        self.facts = FactSet(engine, _evenly(builtin_facts(), sizes.facts))
        on_step()
        self.truthfulqa = tuple(truthfulqa)
        self.truthful: Accuracy | None = answer_facts(engine, Intervention(), self.truthfulqa) if truthfulqa else None
        on_step()

    @property
    def texts(self) -> tuple[str, ...]:
        """The questions."""
        return tuple(question.text for question in self.questions)

    @property
    def norms(self) -> dict[int, float]:
        """Mean hidden-state norm of each layer on neutral text."""
        found: NDArray[np.float64] = self.kl.norms
        return {layer: float(norm) for layer, norm in enumerate(found)}

    @cached_property
    def own_predictions(self) -> Predictions:
        """What the model as it is expects along the answers on which KL is measured."""
        return own_predictions(self.engine, self.questions[: self.sizes.kl])

    @cached_property
    def refuses_harmful(self) -> float:
        """Share of harmful requests that the model as it is refuses."""
        return refusal_rate(self.engine, Intervention(), harmful=True, count=self.sizes.harmful).interval.value

    @cached_property
    def refusal(self) -> dict[int, F32]:
        """The unit direction of refusing, by layer."""
        return dict(refusal_direction(self.engine))


def _evenly(facts: Sequence[Fact], count: int) -> tuple[Fact, ...]:
    """So many facts, evenly spaced over all of them."""
    if count >= len(facts):
        return tuple(facts)
    return tuple(facts[n * len(facts) // count] for n in range(count))

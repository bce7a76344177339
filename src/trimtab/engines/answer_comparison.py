"""Answers to the same prompts side by side: unsteered, steered, and steered in the opposite direction."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.engines.protocol import Completion, Generates
from trimtab.steering import Steering, SteeringLike

SIDES = ("baseline", "plus", "minus")


@dataclass(frozen=True)
class AnswerComparison:
    """Three answers to each of several prompts.

    Attributes:
        prompts: The prompts.
        steering: The steering, in text form.
        baseline: Unsteered answers.
        plus: Steered answers.
        minus: Answers under the opposite steering.
    """

    prompts: tuple[str, ...]
    steering: str
    baseline: tuple[Completion, ...]
    plus: tuple[Completion, ...]
    minus: tuple[Completion, ...]

    def rows(self) -> Iterator[tuple[str, tuple[Completion, Completion, Completion]]]:
        """Yield each prompt with its answers: baseline, plus, minus."""
        for prompt, *answers in zip(self.prompts, self.baseline, self.plus, self.minus, strict=True):
            yield prompt, (answers[0], answers[1], answers[2])

    def to_json(self) -> list[dict[str, Any]]:
        """Return one object for each prompt."""
        return [
            {"prompt": prompt, **{side: answer.to_json() for side, answer in zip(SIDES, answers, strict=True)}}
            for prompt, answers in self.rows()
        ]

    def _repr_html_(self) -> str:
        heads = "".join(f"<th style='text-align:left'>{head}</th>" for head in ("prompt", "baseline", "+", "−"))
        rows = "".join(
            f"<tr style='vertical-align:top'><td>{html.escape(prompt)}</td>"
            + "".join(f"<td>{answer._repr_html_()}</td>" for answer in answers)
            + "</tr>"
            for prompt, answers in self.rows()
        )
        return f"<table><caption>{html.escape(self.steering)}</caption><tr>{heads}</tr>{rows}</table>"


def compare_answers(
    model: Generates, prompts: Sequence[str], steering: SteeringLike, *, max_new_tokens: int = 64
) -> AnswerComparison:
    """Answer every prompt greedily without steering, with it, and with its opposite.

    Example:
        >>> compare_answers(model, ["How was your day?"], "happy:0.8")  # doctest: +SKIP
    """
    plus = Steering.of(steering)
    asked = list(prompts)
    answers = (
        tuple(model.generate(asked, steering=each, max_new_tokens=max_new_tokens))
        for each in (None, plus, _opposite(plus))
    )
    return AnswerComparison(tuple(asked), str(plus), *answers)


def _opposite(steering: Steering) -> Steering:
    return Steering(
        tuple(
            replace(
                term,
                strength=None if term.strength is None else -term.strength,
                coefficient=None if term.coefficient is None else -term.coefficient,
            )
            for term in steering.terms
        )
    )

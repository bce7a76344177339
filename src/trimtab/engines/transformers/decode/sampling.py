"""Generate the answers of one fixed batch with transformers' own loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from trimtab.engines.layers import eagerly
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.decode.choose import choose
from trimtab.engines.transformers.decode.output import RowAnswer
from trimtab.engines.transformers.forward.run import encoder_inputs, place
from trimtab.errors import ModelError


def generate_tokens(
    model: PreTrainedModel,
    answers: Sequence[RowAnswer],
    *,
    pad: int,
    use_cache: bool = True,
    start: Tokens | None = None,
    on_step: Callable[[], None] | None = None,
    on_text: Callable[[str], None] | None = None,
    ended: Callable[[], bool] | None = None,
    prefilled: DynamicCache | None = None,
) -> None:
    """Generate every answer to its end.

    The model's generation config is ignored, with its penalties and forbidden tokens.

    Args:
        model: The model.
        answers: Answers without tokens; beside an encoder, it reads their prompts.
        pad: Token that pads rows.
        use_cache: Keep keys and values between steps.
        start: Start tokens of a decoder beside an encoder.
        on_step: Called after each pass, before a token is chosen.
        on_text: Called after each token of the first answer with the text that it completes.
        ended: Returns True to break the answers off.
        prefilled: Keys and values of the prompts' first tokens.

    Raises:
        ModelError: The model's ``generate`` ignores the options, or its logits are not numbers.
        PromptError: An answer has no token left to choose.
    """
    prompts = [answer.chooser.prompt for answer in answers]
    inputs = _inputs(prompts, pad=pad, device=place(model)[0], encoder=start is not None)
    choosing = _Choosing(answers, pad=pad, on_step=on_step, on_text=on_text)
    config = GenerationConfig(
        max_new_tokens=max(answer.chooser.sampling.max_new_tokens for answer in answers),
        do_sample=False,
        num_beams=1,
        use_cache=use_cache,
        pad_token_id=pad,
        decoder_start_token_id=start[0] if start is not None else None,
    )
    with torch.inference_mode(), eagerly():
        _with_blank_config(model).generate(
            **inputs,
            generation_config=config,
            logits_processor=LogitsProcessorList([choosing]),
            stopping_criteria=StoppingCriteriaList([_Finished(answers, ended)]),
            past_key_values=prefilled,
        )
    if not choosing.used:
        raise ModelError(
            f"generate() of {type(model).__name__} chooses tokens without regard to temperature and seed",
            fix="use model.generate of transformers inside engine.steered(), and its own settings",
        )


def count_repeats(prompts: Sequence[Tokens]) -> list[int]:
    """Return how often each prompt came before in the list."""
    seen: Counter[Tokens] = Counter()
    repeats = []
    for prompt in prompts:
        repeats.append(seen[prompt])
        seen[prompt] += 1
    return repeats


def _with_blank_config(model: PreTrainedModel) -> PreTrainedModel:
    """Return a view of the model (same modules, same hooks) whose own generation config is blank.

    ``generate`` fills whatever a given config leaves open from ``model.generation_config``. Setting that one aside on
    the model itself would show in other threads.
    """
    view = object.__new__(type(model))
    view.__dict__ = {**model.__dict__, "generation_config": GenerationConfig()}
    return view


def _inputs(prompts: Sequence[Tokens], *, pad: int, device: torch.device, encoder: bool) -> dict[str, Tensor]:
    """Return the prompts as model inputs: padded on the left, for an encoder on the right."""
    if encoder:
        return encoder_inputs(prompts, pad=pad, device=device)
    width = max(map(len, prompts))
    ids = torch.tensor([(pad,) * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    pads = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    mask = (torch.arange(width, device=device)[None] >= pads[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


@final
class _Choosing(LogitsProcessor):  # type: ignore[misc]
    """Chooses a token for each answer that has not ended, and leaves it as the greedy choice."""

    def __init__(
        self,
        answers: Sequence[RowAnswer],
        *,
        pad: int,
        on_step: Callable[[], None] | None,
        on_text: Callable[[str], None] | None,
    ) -> None:
        self.used = False
        self._answers = answers
        self._pad = pad
        self._on_step = on_step
        self._on_text = on_text

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.used = True
        if self._on_step is not None:
            self._on_step()
        rows = [row for row, answer in enumerate(self._answers) if not answer.finished]
        logits = scores if len(rows) == len(scores) else scores[rows]
        tokens = torch.full((len(scores), 1), self._pad)
        shown = None
        for row, choice in zip(rows, choose(logits, [self._answers[row].chooser for row in rows]), strict=True):
            if isinstance(choice, Exception):
                raise choice
            tokens[row] = choice.token
            piece = self._answers[row].take(choice)
            if row == 0:
                shown = piece
        if self._on_text is not None and shown is not None:
            self._on_text(shown)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens.to(scores.device), 0.0)


@final
class _Finished(StoppingCriteria):  # type: ignore[misc]
    """Stops each row with its answer, and all rows once ``ended`` returns True."""

    def __init__(self, answers: Sequence[RowAnswer], ended: Callable[[], bool] | None) -> None:
        self._answers = answers
        self._ended = ended

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        over = self._ended is not None and self._ended()
        return torch.tensor([over or answer.finished for answer in self._answers], device=input_ids.device)

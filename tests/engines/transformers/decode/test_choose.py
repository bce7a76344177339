"""Choosing tokens: each option against a slow reference, and rows that do not depend on their neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trimtab.arrays import F64
from trimtab.engines.sampling import Sampling
from trimtab.engines.transformers.decode.choose import Choice, TokenChooser, choose
from trimtab.errors import ModelError, PromptError

VOCABULARY = 40
STOP = 1
PROMPT = (4, 9, 9, 2)

penalties = st.floats(-2, 2)
tokens = st.integers(0, VOCABULARY - 1)
options = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 4.0]),
        "top_k": st.integers(0, VOCABULARY + 5),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0, 1),
        "presence_penalty": penalties,
        "frequency_penalty": penalties,
        "repetition_penalty": st.floats(0.2, 3),
        "logit_bias": st.dictionaries(tokens, st.floats(-100, 100), max_size=4),
        "min_tokens": st.integers(0, 4),
        "stop_token_ids": st.lists(tokens, max_size=2),
        "ignore_eos": st.booleans(),
        "logprobs": st.one_of(st.none(), st.integers(0, 20)),
    },
)


def logits_of(seed: int, rows: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=3, size=(rows, VOCABULARY))).float()


def chooser_of(sampling: dict[str, Any], answer: Sequence[int] = (), **arguments: Any) -> TokenChooser:
    chooser = TokenChooser(Sampling(**{"seed": 5, **sampling}), PROMPT, stop=[STOP], **arguments)
    for token in answer:
        chooser.take(token)
    return chooser


def chosen(logits: Tensor, *choosers: TokenChooser) -> list[Choice]:
    choices = []
    for choice in choose(logits, choosers):
        assert isinstance(choice, Choice)
        choices.append(choice)
    return choices


def changed_by_hand(logits: Sequence[float], sampling: Sampling, answer: Sequence[int]) -> list[float]:
    """Bias, penalties and stop tokens, one token and one line of the definition at a time."""
    changed = []
    stops = {*sampling.stop_token_ids, *(() if sampling.ignore_eos else (STOP,))}
    for token, logit in enumerate(logits):
        value = logit + sampling.logit_bias.get(token, 0.0)
        if token in PROMPT or token in answer:
            value = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
        count = list(answer).count(token)
        value -= sampling.frequency_penalty * count
        value -= sampling.presence_penalty * (count > 0)
        if token in stops and len(answer) < sampling.min_tokens:
            value = -math.inf
        changed.append(value)
    return changed


def softmax(values: Sequence[float]) -> F64:
    powers = np.exp(np.array(values) - max(values))
    return np.asarray(powers / powers.sum())


def kept_by_hand(values: Sequence[float], sampling: Sampling) -> set[int]:
    """Tokens that remain after top_k, top_p and min_p, in this order."""
    scaled = np.array(values) / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        scaled[scaled < sorted(scaled)[-sampling.top_k]] = -np.inf
    if sampling.top_p < 1:
        probability = softmax(scaled)
        order = sorted(range(len(scaled)), key=lambda token: -probability[token])
        kept, mass = [], 0.0
        for token in order:
            if kept and mass >= sampling.top_p:
                break
            kept.append(token)
            mass += probability[token]
        scaled[[token for token in range(len(scaled)) if token not in kept]] = -np.inf
    probability = softmax(scaled)
    return {token for token, p in enumerate(probability) if p > 0 and p >= sampling.min_p * probability.max()}


def near_border(values: Sequence[float], sampling: Sampling) -> bool:
    """Return True where float32 may decide otherwise than float64."""
    scaled = np.sort(np.array(values) / sampling.temperature)
    probability = softmax(scaled.tolist())
    below = np.cumsum(probability)
    borders = [np.abs(below - (1 - sampling.top_p)).min(), np.abs(probability / probability[-1] - sampling.min_p).min()]
    return min(borders) < 1e-4 or np.diff(scaled[np.isfinite(scaled)]).min() < 1e-4


@given(seed=st.integers(0, 10_000), answer=st.lists(tokens, max_size=6), sampling=options)
def test_greedy_choice_equals_slow_reference(seed: int, answer: list[int], sampling: dict[str, Any]) -> None:
    logits = logits_of(seed)
    sampling = {**sampling, "temperature": 0.0}
    expected = changed_by_hand(logits[0].tolist(), Sampling(**sampling), answer)
    scores = chooser_of(sampling, answer).scores(logits[0])
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert chosen(logits, chooser_of(sampling, answer))[0].token == int(scores.argmax())


@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 3, 12, VOCABULARY, VOCABULARY + 1]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
)
def test_kept_tokens_equal_slow_reference(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    given_options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    logits = logits_of(seed)[0]
    sampling = Sampling(**given_options)
    scores = chooser_of(given_options).scores(logits)
    kept = set(torch.nonzero(scores > -math.inf)[:, 0].tolist())
    combined = sum([0 < top_k < VOCABULARY, top_p < 1]) > 1
    assert int(logits.argmax()) in kept
    if not near_border(logits.tolist(), sampling) and not combined:
        assert kept == kept_by_hand(logits.tolist(), sampling)
    elif combined:
        alone = kept_by_hand(logits.tolist(), Sampling(temperature=temperature, top_k=top_k))
        assert kept <= alone


def test_options_cut_a_known_distribution() -> None:
    """Probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625."""
    logits = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]))

    def kept(**sampling: Any) -> list[int]:
        scores = chooser_of({"temperature": 1.0, **sampling}).scores(logits)
        return torch.nonzero(scores > -math.inf)[:, 0].tolist()

    assert kept() == [0, 1, 2, 3, 4]
    assert kept(top_k=2) == [0, 1]
    assert kept(top_k=4) == [0, 1, 2, 3, 4]  # the last two are equally likely
    assert kept(top_p=0.7) == [0, 1]
    assert kept(top_p=0.8) == [0, 1, 2]
    assert kept(top_p=0.93) == [0, 1, 2, 3, 4]
    assert kept(min_p=0.2) == [0, 1, 2]
    assert kept(min_p=0.3) == [0, 1]
    assert kept(min_p=1.0) == [0]
    assert kept(top_k=2, top_p=0.6) == [0]  # of the two that are left the first has two thirds
    assert kept(top_k=3, top_p=0.6, min_p=0.6) == [0]


@given(data=st.data(), rows=st.lists(st.tuples(options, st.lists(tokens, max_size=5)), min_size=2, max_size=6))
def test_row_is_chosen_as_it_is_alone(data: st.DataObject, rows: list[tuple[dict[str, Any], list[int]]]) -> None:
    logits = logits_of(data.draw(st.integers(0, 1000)), len(rows))
    alone = [choose(logits[n : n + 1], [chooser_of(*row)])[0] for n, row in enumerate(rows)]
    together = choose(logits, [chooser_of(*row) for row in rows])
    for one, other in zip(alone, together, strict=True):
        assert one == other or str(one) == str(other)  # log-probabilities too, to the bit


@given(seed=st.integers(0, 10_000), sampling=options)
def test_logprobs_are_of_the_unchanged_distribution(seed: int, sampling: dict[str, Any]) -> None:
    logits = logits_of(seed)
    expected = np.log(softmax(logits[0].tolist()))
    (choice,) = choose(logits, [chooser_of({**sampling, "logprobs": 3}, [7, 7])])
    if isinstance(choice, PromptError):
        return
    assert isinstance(choice, Choice)
    assert choice.logprob == pytest.approx(expected[choice.token], abs=1e-5)
    assert [token for token, _ in choice.alternatives] == np.argsort(-expected)[:3].tolist()
    np.testing.assert_allclose([value for _, value in choice.alternatives], -np.sort(-expected)[:3], atol=1e-5)


def test_alternatives_are_as_many_as_asked_for() -> None:
    for count in (None, 0, 1, 20):
        (choice,) = chosen(logits_of(0), chooser_of({"logprobs": count}))
        assert len(choice.alternatives) == (count or 0)
    (choice,) = chosen(torch.zeros(1, 5), chooser_of({"logprobs": 20}))
    assert len(choice.alternatives) == 5


def test_noise_depends_on_seed_prompt_and_repeat_alone() -> None:
    logits = torch.zeros(1, 4096)

    def draws(seed: int | None, prompt: tuple[int, ...], repeat: int) -> list[int]:
        chooser = TokenChooser(Sampling(temperature=1.0, seed=seed), prompt, stop=[], repeat=repeat)
        return [chosen(logits, chooser)[0].token for _ in range(4)]

    first = draws(1, PROMPT, 0)
    assert first == draws(1, PROMPT, 0)
    others = [draws(2, PROMPT, 0), draws(1, PROMPT[:-1], 0), draws(1, PROMPT, 1), draws(None, PROMPT, 0)]
    assert all(first != other for other in others)


def test_sample_equals_formula_in_numpy() -> None:
    """The largest of logits / temperature - log(exponential noise), of one generator per row."""
    from trimtab.engines.transformers.decode.choose import _seed_of

    logits = logits_of(3)
    generator = np.random.Generator(np.random.SFC64(_seed_of(5, PROMPT, 0)))
    chooser = chooser_of({"temperature": 0.7})
    for _ in range(20):
        noise = np.log(generator.standard_exponential(VOCABULARY).astype(np.float32))
        expected = int((logits[0].numpy() / np.float32(0.7) - noise).argmax())
        assert chosen(logits, chooser)[0].token == expected


def test_samples_follow_the_changed_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]])
    sampling = {"temperature": 1.5, "logit_bias": {2: 1.0}, "presence_penalty": 1.0, "top_k": 4}
    chooser = chooser_of(sampling)
    chooser._counts[0] = 1  # as if it had been written, without growing with each draw
    probability = softmax([1.0 / 1.5, 1.0 / 1.5, 1.5 / 1.5, 0.0])
    seen = np.bincount([chosen(logits, chooser)[0].token for _ in range(4000)], minlength=5) / 4000
    assert seen[4] == 0
    np.testing.assert_allclose(seen[:4], probability, atol=0.04)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_numbers_fail_their_row_alone(value: float) -> None:
    logits = logits_of(0, 3)
    expected = chosen(logits[::2], chooser_of({}), chooser_of({"temperature": 1.0}))
    logits[1, 4] = value
    found = choose(logits, [chooser_of({}), chooser_of({}), chooser_of({"temperature": 1.0})])
    assert isinstance(found[1], ModelError)
    assert "not numbers" in str(found[1])
    assert found[::2] == expected


def test_row_without_a_token_left_fails_alone() -> None:
    logits = torch.full((2, 3), -math.inf)
    logits[:, STOP] = 0.0
    one, other = choose(logits, [chooser_of({"min_tokens": 1}), chooser_of({})])
    assert isinstance(one, PromptError)
    assert "no token is left" in str(one)
    assert isinstance(other, Choice)
    assert other.token == STOP


class Even:
    """Allows even tokens among the first 34, and ends after three."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    @property
    def complete(self) -> bool:
        return len(self.taken) == 3

    def mask(self) -> Any:
        bits = np.zeros(64, dtype=np.uint8)
        bits[:34:2] = 1
        return np.packbits(bits, bitorder="little").view(np.int32)

    def advance(self, token: int) -> None:
        self.taken.append(token)

    def forced(self) -> tuple[int, ...]:
        return ()


@given(seed=st.integers(0, 10_000), sampling=options)
def test_constraint_allows_the_tokens_of_its_mask(seed: int, sampling: dict[str, Any]) -> None:
    constraint = Even()
    chooser = chooser_of({**sampling, "logit_bias": {33: 100.0, 36: 100.0}}, constraint=constraint)
    (choice,) = chosen(logits_of(seed), chooser)
    assert choice.token in range(0, 34, 2)
    chooser.take(choice.token)
    assert constraint.taken == [choice.token]


def test_failing_constraint_fails_its_row_alone() -> None:
    class Broken(Even):
        def mask(self) -> Any:
            raise PromptError("the grammar is too large")

    one, other = choose(logits_of(0, 2), [chooser_of({}, constraint=Broken()), chooser_of({})])
    assert str(one) == "the grammar is too large"
    assert isinstance(other, Choice)


def test_model_dtype_is_widened_before_anything() -> None:
    logits = logits_of(1).bfloat16()
    assert choose(logits, [chooser_of({})]) == choose(logits.float(), [chooser_of({})])

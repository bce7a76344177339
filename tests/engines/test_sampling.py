"""Options of sampling: their values, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_type_hints

import pytest

from trimtab.engines.sampling import ALTERNATIVES, STOP_LENGTH, STOPS, Sampling, SamplingOptions, make_sampling
from trimtab.errors import PromptError


@pytest.mark.parametrize(
    "option",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 2.5},
        {"min_tokens": -1},
        {"min_tokens": 9, "max_new_tokens": 8},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"top_k": -1},
        {"top_k": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"min_p": math.nan},
        {"presence_penalty": 2.1},
        {"presence_penalty": math.nan},
        {"frequency_penalty": -2.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": math.inf},
        {"logprobs": -1},
        {"logprobs": ALTERNATIVES + 1},
        {"logprobs": True},
        {"logit_bias": {3: 100.5}},
        {"logit_bias": {3: math.nan}},
        {"logit_bias": {3: "much"}},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {"3": 1.0}},
        {"stop_token_ids": [-1]},
        {"stop_token_ids": ["</s>"]},
    ],
    ids=repr,
)
def test_option_out_of_range_is_refused_by_name(option: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match=next(iter(option))) as error:
        Sampling(**option)
    assert error.value.fix


@pytest.mark.parametrize("stop", [[""], ["a", 3], ["x" * (STOP_LENGTH + 1)], ["x"] * (STOPS + 1)], ids=lambda s: len(s))
def test_stop_that_cannot_stop_is_refused(stop: Any) -> None:
    with pytest.raises(PromptError, match="stop"):
        Sampling(stop=stop)


def test_extreme_values_are_accepted() -> None:
    Sampling(
        max_new_tokens=1,
        min_tokens=1,
        top_p=1e-9,
        top_k=10**9,
        min_p=1,
        presence_penalty=-2,
        frequency_penalty=2,
        repetition_penalty=1e-3,
        logit_bias={0: -100, 5: 100},
        stop=["x"] * STOPS,
        logprobs=ALTERNATIVES,
        seed=-(2**80),
    )


def test_sequences_become_values_that_compare_and_hash() -> None:
    bias = {3: 1}
    one = Sampling(stop="END", stop_token_ids=[5, 6], logit_bias=bias)
    bias[4] = 2
    assert one == Sampling(stop=["END"], stop_token_ids=(5, 6), logit_bias={3: 1.0})
    assert hash(one) == hash(Sampling(stop=("END",), stop_token_ids=(5, 6)))
    assert one.stop == ("END",)


@pytest.mark.parametrize("option", [{"logit_bias": {7: 1.0}}, {"stop_token_ids": [2, 7]}])
def test_token_outside_of_vocabulary_is_refused(option: dict[str, Any]) -> None:
    sampling = Sampling(**option)
    sampling.check_tokens(8, name="tiny")
    with pytest.raises(PromptError, match="has token 7; tiny has tokens 0 to 6"):
        sampling.check_tokens(7, name="tiny")


def test_keyword_options_are_the_fields() -> None:
    fields = {field.name for field in dataclasses.fields(Sampling)}
    assert set(get_type_hints(SamplingOptions)) == fields


def test_options_replace_those_of_a_sampling() -> None:
    base = Sampling(temperature=0.5, top_k=3)
    assert make_sampling(base, {"top_k": 4}, max_new_tokens=9) == Sampling(temperature=0.5, top_k=4)
    assert make_sampling(None, {"top_k": 4}, max_new_tokens=9) == Sampling(top_k=4, max_new_tokens=9)
    with pytest.raises(TypeError, match="topk"):
        make_sampling(None, {"topk": 4}, max_new_tokens=9)  # type: ignore[typeddict-unknown-key]

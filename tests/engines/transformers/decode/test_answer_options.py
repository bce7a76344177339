"""Options of answers, through the engine: where answers end, what they report, and that rows do not mix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_generation import PROMPTS, stopping, tokens_of
from transformers import GenerationConfig

from by_hand import traces_in
from tiny_models import PAD, VOCABULARY, Family, small_t5, vector_for
from trimtab import Chat
from trimtab.engines.sampling import Sampling
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode.answer import row_answer
from trimtab.engines.transformers.decode.sampling import generate_tokens
from trimtab.errors import ModelError, PromptError

Make = Callable[..., TransformersEngine]

MIXED = (
    Sampling(max_new_tokens=12),
    Sampling(max_new_tokens=5, temperature=1.5, seed=1, logprobs=2),
    Sampling(max_new_tokens=9, temperature=1.0, seed=2, top_k=7, min_p=0.1),
    Sampling(max_new_tokens=12, repetition_penalty=1.7, frequency_penalty=0.5),
    Sampling(max_new_tokens=12, temperature=2.0, seed=3, top_p=0.6, presence_penalty=-1.0),
    Sampling(max_new_tokens=12, logit_bias={65: 100.0}, stop=["AAA"]),
    Sampling(max_new_tokens=12, stop_token_ids=tuple(range(0, 256, 3))),
    Sampling(max_new_tokens=12, stop_token_ids=tuple(range(0, 256, 3)), min_tokens=6),
)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "qwen3_moe"])
def test_row_beside_other_options_equals_row_alone(tiny: Make, name: str) -> None:
    engine = tiny(name)
    context = engine._context
    prompts = [engine.marked(PROMPTS[n % len(PROMPTS)]).tokens for n in range(len(MIXED))]

    def answered(rows: range) -> list[tuple[list[int], Any, str | None]]:
        answers = [row_answer(context, prompts[n], MIXED[n]) for n in rows]
        generate_tokens(engine.model, answers, pad=context.pad)
        return [(answer.tokens, answer.finish_reason, answer.stopped_by) for answer in answers]

    together = answered(range(len(MIXED)))
    assert together == [answered(range(n, n + 1))[0] for n in range(len(MIXED))]
    assert {len(tokens) for tokens, *_ in together} >= {5, 9, 12}


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_repetition_penalty_equals_that_of_transformers(llama: TransformersEngine, penalty: float) -> None:
    ids = llama.tokenizer(llama.render(PROMPTS[1]), return_tensors="pt", add_special_tokens=False)
    config = GenerationConfig(do_sample=False, max_new_tokens=20, repetition_penalty=penalty, pad_token_id=PAD)
    expected = llama.model.generate(**ids, generation_config=config)[0, ids["input_ids"].shape[1] :]
    completion = llama.generate(PROMPTS[1], max_new_tokens=20, repetition_penalty=penalty)
    assert completion.tokens == tuple(expected.tolist())
    assert completion.tokens != llama.generate(PROMPTS[1], max_new_tokens=20).tokens


def readable(engine: TransformersEngine) -> dict[str, Any]:
    """Sampling from letters alone, of a model that writes any bytes."""
    others = [token for token in range(VOCABULARY) if not engine.decode([token]).isalpha()]
    return {"max_new_tokens": 40, "temperature": 3.0, "seed": 4, "logit_bias": dict.fromkeys(others, -100)}


@pytest.mark.parametrize("batch", [1, 3])
def test_answer_ends_at_stop_string_of_its_row(llama: TransformersEngine, batch: int) -> None:
    sampling = readable(llama)
    free = llama.generate(PROMPTS[:batch], **sampling)
    stop = free[0].text[6:9]
    found = llama.generate(PROMPTS[:batch], stop=stop, **sampling)
    assert found[0].text == free[0].text[:6]
    assert (found[0].finish_reason, found[0].stopped_by) == ("stop", stop)
    count = len(found[0].tokens)
    assert found[0].tokens == free[0].tokens[:count]
    assert stop in llama.decode(found[0].tokens)
    assert stop not in llama.decode(found[0].tokens[:-1])
    for one, other in zip(found[1:], free[1:], strict=True):
        assert one.tokens == other.tokens


def test_streamed_text_ends_before_stop_string(llama: TransformersEngine) -> None:
    sampling = readable(llama)
    stop = llama.generate("Hi", **sampling).text[6:9]
    pieces: list[str] = []
    completion = llama.generate("Hi", stop=[stop], on_text=pieces.append, **sampling)
    assert "".join(pieces) == completion.text
    stream = llama.stream("Hi", stop=[stop], logprobs=1, **sampling)
    streamed = list(stream)
    assert "".join(token.text for token in streamed) == completion.text
    assert tuple(token.token for token in streamed) == completion.tokens
    assert stream.completion.logprobs == tuple(token.logprob for token in streamed)
    assert traces_in(llama.model) == []


def test_default_model_stops_at_words(smollm2: TransformersEngine) -> None:
    free = smollm2.generate(PROMPTS[1], max_new_tokens=16)
    words = free.text.split(" ")
    stop = f"{words[2][-1]} {words[3]}"  # across a border of tokens
    pieces: list[str] = []
    completion = smollm2.generate(PROMPTS[1], max_new_tokens=16, stop=[stop], on_text=pieces.append)
    assert completion.text == free.text[: free.text.index(stop)] == "".join(pieces)


def test_stop_tokens_end_answers_and_minimum_excludes_them(tiny: Make) -> None:
    engine = stopping(tiny("llama"), at=2, prompt=PROMPTS[0])
    eos = engine.model.generation_config.eos_token_id[-1]
    free = engine.generate(PROMPTS[0], max_new_tokens=12, ignore_eos=True)
    assert (len(free.tokens), free.finish_reason, free.stopped_by) == (12, "length", None)
    assert free.tokens[2] == eos
    early = engine.generate(PROMPTS[0], max_new_tokens=12)
    assert (early.tokens, early.stopped_by) == (free.tokens[:3], eos)
    late = engine.generate(PROMPTS[0], max_new_tokens=12, min_tokens=6)
    assert late.tokens[:2] == free.tokens[:2]
    assert eos not in late.tokens[:6]
    given = engine.generate(PROMPTS[0], max_new_tokens=12, ignore_eos=True, stop_token_ids=[free.tokens[1]])
    assert (given.tokens, given.stopped_by) == (free.tokens[:2], free.tokens[1])


def test_bias_forces_and_excludes_tokens(llama: TransformersEngine) -> None:
    free = llama.generate("Hi", max_new_tokens=8)
    assert set(llama.generate("Hi", max_new_tokens=8, logit_bias={65: 100}).tokens) == {65}
    without = llama.generate("Hi", max_new_tokens=8, logit_bias=dict.fromkeys(free.tokens, -100))
    assert not set(without.tokens) & set(free.tokens)


@pytest.mark.parametrize("steered", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.5, "seed": 2, "top_k": 9, "frequency_penalty": 1.0}], ids=str
)
def test_logprobs_equal_teacher_forcing(
    family: Family, engine: TransformersEngine, steered: bool, options: dict[str, Any]
) -> None:
    """Of the steered model, whatever sampling does with them."""
    steering = [(vector_for(engine, layers=[1, 2]), 1.0)] if steered else None
    for completion in engine.generate(PROMPTS[:2], steering=steering, max_new_tokens=6, logprobs=4, **options):
        with engine.steered(steering):
            (table,) = engine.predict([(completion.prompt.tokens, completion.tokens)])
        assert completion.logprobs is not None
        for row, token, reported in zip(table, completion.tokens, completion.logprobs, strict=True):
            assert reported.token == token
            assert reported.logprob == pytest.approx(row[token], abs=1e-3)
            np.testing.assert_allclose([each.logprob for each in reported.alternatives], -np.sort(-row)[:4], atol=1e-3)
        total = sum(each.logprob for each in completion.logprobs)
        assert completion.logprob is None if options else completion.logprob == pytest.approx(total)


def test_logprobs_have_texts_of_tokens(smollm2: TransformersEngine) -> None:
    completion = smollm2.generate(PROMPTS[1], max_new_tokens=6, logprobs=0)
    assert completion.logprobs is not None
    assert "".join(each.text for each in completion.logprobs) == completion.text
    assert all(each.alternatives == () for each in completion.logprobs)
    assert completion.to_json()["logprobs"][0] == {
        "token": completion.tokens[0],
        "text": completion.logprobs[0].text,
        "logprob": completion.logprobs[0].logprob,
        "alternatives": [],
    }
    assert "logprobs" not in smollm2.generate(PROMPTS[1], max_new_tokens=1).to_json()


def test_n_answers_follow_each_prompt(llama: TransformersEngine) -> None:
    sampling = {"max_new_tokens": 8, "temperature": 2.0, "seed": 1}
    steering = [[(vector_for(llama), 1.0)], None]
    found = llama.generate(PROMPTS[:2], n=3, steering=steering, **sampling)
    assert [completion.prompt.tokens for completion in found] == [
        llama.marked(prompt).tokens for prompt in PROMPTS[:2] for _ in range(3)
    ]
    assert [completion.receipt.tokens > 0 for completion in found] == [True] * 3 + [False] * 3
    assert len(set(tokens_of(found))) == 6
    assert found[3].tokens == llama.generate(PROMPTS[1], **sampling).tokens
    assert tokens_of(llama.generate(PROMPTS[1], n=3, **sampling)) == tokens_of(found[3:])
    assert isinstance(llama.generate("Hi", n=1, max_new_tokens=1), list)
    with pytest.raises(PromptError, match="n is 0"):
        llama.generate("Hi", n=0)


def test_options_replace_those_of_given_sampling(llama: TransformersEngine) -> None:
    sampling = Sampling(max_new_tokens=6, temperature=2.0, seed=1)
    expected = llama.generate("Hi", max_new_tokens=4, temperature=2.0, seed=1)
    assert llama.generate("Hi", sampling=sampling, max_new_tokens=4) == expected
    stream = llama.stream("Hi", sampling=sampling, max_new_tokens=4)
    assert [token.token for token in stream] == list(expected.tokens)
    for cache in ("recompute", "keep"):
        assert Chat(llama, cache=cache).send("Hi", sampling=sampling, max_new_tokens=4).tokens == expected.tokens
    with pytest.raises(TypeError, match="temprature"):
        llama.generate("Hi", temprature=2.0)  # type: ignore[call-overload]


def test_chat_continues_behind_a_stop_string(llama: TransformersEngine) -> None:
    answers = {}
    for cache in ("recompute", "keep"):
        chat = Chat(llama, cache=cache)
        free = Chat(llama).send("Hello", max_new_tokens=20, temperature=2.0, seed=3)
        first = chat.send("Hello", max_new_tokens=20, temperature=2.0, seed=3, stop=[free.text[5:7]])
        assert chat.messages[-1].content == first.text == free.text[:5]
        answers[cache] = [first.tokens, chat.send("And now?", max_new_tokens=10).tokens]
    assert answers["keep"] == answers["recompute"]


def test_encoder_decoder_takes_all_options(tiny: Make) -> None:
    engine = TransformersEngine(small_t5(), tiny("llama").tokenizer, name="t5")
    options = {"repetition_penalty": 1.5, "top_k": 9, "temperature": 1.0, "seed": 1, "min_tokens": 3, "logprobs": 1}
    alone = [engine.generate(prompt, max_new_tokens=6, **options) for prompt in PROMPTS]
    assert tokens_of(engine.generate(PROMPTS, max_new_tokens=6, **options)) == tokens_of(alone)
    assert all(len(completion.tokens) >= 3 for completion in alone)


@pytest.mark.parametrize(
    "option",
    [
        {"logit_bias": {VOCABULARY: 1.0}},
        {"stop_token_ids": [VOCABULARY]},
        {"stop": [""]},
        {"min_tokens": 5, "max_new_tokens": 4},
        {"logprobs": 21},
        {"top_k": -1},
    ],
    ids=str,
)
def test_bad_option_is_refused_before_model_runs(llama: TransformersEngine, option: dict[str, Any]) -> None:
    passes: list[object] = []
    handle = llama.model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        for ask in (
            lambda: llama.generate("Hi", **option),
            lambda: llama.stream("Hi", **option),
            lambda: llama.reply("Hi", cache=None, **option),
            lambda: Chat(llama).send("Hi", **option),
        ):
            with pytest.raises(PromptError):
                ask()
    finally:
        handle.remove()
    assert passes == []


def test_answer_without_any_token_left_is_error(llama: TransformersEngine) -> None:
    everything = dict.fromkeys(range(VOCABULARY), -100.0)
    assert llama.generate("Hi", max_new_tokens=2, logit_bias=everything).tokens  # all alike: nothing is excluded
    with pytest.raises(PromptError, match="no token is left"):
        llama.generate("Hi", max_new_tokens=2, min_tokens=2, stop_token_ids=range(VOCABULARY))
    assert traces_in(llama.model) == []


def test_broken_logits_leave_no_hooks(tiny: Make) -> None:
    engine = tiny("llama")
    vector = vector_for(engine, layers=[0])
    engine.model.lm_head.weight.data[3] = float("nan")
    with pytest.raises(ModelError, match="logits are not numbers"):
        engine.generate(PROMPTS, steering=[(vector, 1.0)], max_new_tokens=3, stop=["x"])
    assert traces_in(engine.model) == []

"""Generation: the model's own greedy answers or fair samples, the same however they are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GenerationConfig

import trimtab
from by_hand import greedily, logits_of, steering_by_hand, traces_in
from tiny_models import CONTEXT, EOS, LAYERS, PAD, Family, vector_for
from trimtab import Chat
from trimtab.behaviours import Message
from trimtab.engines import Completion, ForcedItem
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode.output import OutputText
from trimtab.errors import PromptError, SteeringError, VectorMismatchError
from trimtab.steering import Steering, Term
from trimtab.vectors import ControlVector

PROMPTS = ["Hi", "How was your day at the sea?", "Name a fruit", "One more, a little longer than the others are?"]
Make = Callable[..., TransformersEngine]


def tokens_of(completions: Sequence[Completion]) -> list[tuple[int, ...]]:
    return [completion.tokens for completion in completions]


def terms_of(engine: TransformersEngine, strength: float) -> list[tuple[ControlVector, float]]:
    return [(vector_for(engine, layers=[1, 2]), strength)] if strength else []


# Greedy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.0, -1.0])
def test_greedy_answers_of_default_model_equal_reference(smollm2: TransformersEngine, strength: float) -> None:
    terms = [(vector_for(smollm2, layers=[5, 15, 25], size=0.1), strength)]
    completion = smollm2.generate(PROMPTS[1], steering=terms, max_new_tokens=6)
    prompt = smollm2.tokenizer(smollm2.render(PROMPTS[1]))["input_ids"]
    assert completion.tokens == greedily(smollm2, smollm2.model.model.layers, prompt, 6, *terms)
    assert completion.text == smollm2.tokenizer.decode(completion.tokens)


@pytest.mark.parametrize("strength", [0.0, -2.0])
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_answers_of_every_family_equal_reference(
    family: Family, engine: TransformersEngine, strength: float, use_cache: bool
) -> None:
    terms = terms_of(engine, strength)
    blocks = family.blocks(engine.model)
    for prompt in PROMPTS[:2]:
        completion = engine.generate(prompt, steering=terms, max_new_tokens=14, use_cache=use_cache)
        assert completion.tokens == greedily(engine, blocks, engine.encode(engine.render(prompt)), 14, *terms)


def test_greedy_answers_equal_those_of_transformers(smollm2: TransformersEngine) -> None:
    ids = torch.tensor([smollm2.encode(smollm2.render(PROMPTS[0]))])
    config = GenerationConfig(do_sample=False, max_new_tokens=8, pad_token_id=PAD)
    expected = smollm2.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    completion = smollm2.generate(PROMPTS[0], max_new_tokens=8)
    assert completion.tokens == tuple(expected[0, ids.shape[1] :].tolist())


def test_cache_and_batch_change_no_default_model_answer(smollm2: TransformersEngine) -> None:
    terms = [(vector_for(smollm2, layers=[5, 15, 25], size=0.1), 1.0)]
    together = smollm2.generate(PROMPTS[:2], steering=terms, max_new_tokens=5)
    alone = [smollm2.generate(prompt, steering=terms, max_new_tokens=5) for prompt in PROMPTS[:2]]
    uncached = smollm2.generate(PROMPTS[:2], steering=terms, max_new_tokens=5, use_cache=False)
    assert tokens_of(together) == tokens_of(alone) == tokens_of(uncached)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "top_p": 0.9, "seed": 5}], ids=["greedy", "sampled"])
@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_batch_of_every_family_equals_one_by_one(
    engine: TransformersEngine, strength: float, sampling: dict[str, Any]
) -> None:
    terms = terms_of(engine, strength)
    together = engine.generate(PROMPTS, steering=terms, max_new_tokens=10, **sampling)
    alone = [engine.generate(prompt, steering=terms, max_new_tokens=10, **sampling) for prompt in PROMPTS]
    assert tokens_of(together) == tokens_of(alone)
    assert [c.receipt.tokens for c in together] == [c.receipt.tokens for c in alone]
    if sampling:
        assert tokens_of(together) != tokens_of(engine.generate(PROMPTS, steering=terms, max_new_tokens=10))
    uncached = engine.generate(PROMPTS, steering=terms, max_new_tokens=10, use_cache=False, **sampling)
    assert tokens_of(uncached) == tokens_of(alone)


# A steering for each row -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "sampled"])
@pytest.mark.usefixtures("always_walking")
def test_row_with_own_steering_equals_a_single_answer(engine: TransformersEngine, sampling: dict[str, Any]) -> None:
    up, down = terms_of(engine, 1.0), terms_of(engine, -1.0)
    prompts = [prompt for prompt in PROMPTS for _ in range(4)]
    steerings = [up, None, down, up] * len(PROMPTS)
    together = engine.generate(prompts, steering=steerings, max_new_tokens=8, measure_kl=True, **sampling)
    for n, (prompt, own) in enumerate(zip(prompts, steerings, strict=True)):
        if sampling and n % 4 == 3:
            continue  # its noise is that of a prompt asked again
        alone = engine.generate(prompt, steering=own, max_new_tokens=8, measure_kl=True, **sampling)
        if not sampling or n % 4 == 0:
            assert together[n].tokens == alone.tokens
        assert together[n].receipt.layers == alone.receipt.layers
        assert together[n].receipt.steering == alone.receipt.steering
        assert (together[n].receipt.tokens > 0) == (own is not None)
        if not sampling:
            assert together[n].receipt.kl == pytest.approx(alone.receipt.kl, rel=1e-3, abs=1e-6)
    assert traces_in(engine.model) == []


def test_rows_of_default_model_have_their_own_steerings(smollm2: TransformersEngine, happy: ControlVector) -> None:
    prompts = ["How was your day?", "Tell me about your neighbour, please.", "How was your day?"]
    steerings = [[(happy, 1)], None, [(happy, -1)]]
    together = smollm2.generate(prompts, steering=steerings, max_new_tokens=16)
    alone = [smollm2.generate(p, steering=s, max_new_tokens=16) for p, s in zip(prompts, steerings, strict=True)]
    assert tokens_of(together) == tokens_of(alone)
    assert together[0].text != together[2].text


def test_more_rows_than_fit_into_batch_keep_their_own_steerings(
    llama: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    steerings = [terms_of(llama, strength) for strength in (1.0, -1.0, 0.5)] * 3
    prompts = [PROMPTS[0]] * len(steerings)
    whole = llama.generate(prompts, steering=steerings, max_new_tokens=6, measure_kl=True)
    monkeypatch.setattr("trimtab.engines.transformers.decode.loop.ROWS", 4)
    assert tokens_of(llama.generate(prompts, steering=steerings, max_new_tokens=6, measure_kl=True)) == tokens_of(whole)


def test_bad_steering_of_one_row_is_refused_at_once(llama: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.engines.transformers.decode.loop.ROWS", 1)
    bare = replace(vector_for(llama), scale=None)
    pieces: list[str] = []
    with pytest.raises(SteeringError, match="coefficient"):
        llama.generate(["one", "two"], steering=[None, [(bare, 1.0)]], max_new_tokens=2, on_text=pieces.append)
    assert pieces == []


def test_batch_row_below_rounding_is_error(tiny: Make) -> None:
    engine = tiny("llama", dtype=torch.bfloat16)
    vector = vector_for(engine)
    with pytest.raises(SteeringError, match="too small to move the hidden states"):
        engine.generate(["one", "two"], steering=[[(vector, 1.0)], [(vector, 1e-6)]], max_new_tokens=2)


# Log-probabilities -------------------------------------------------------------------------------------------------


def logprob_by_hand(
    engine: TransformersEngine, blocks: nn.ModuleList, prompt: Sequence[int], answer: Sequence[int], *terms: Any
) -> float:
    """Teacher forcing: prompt and answer read at once, and each answer token looked up where it is predicted."""
    with steering_by_hand(blocks, *terms):
        logits = logits_of(engine.model, [*prompt, *answer])[len(prompt) - 1 : -1]
    return float(logits.double().log_softmax(-1).gather(-1, torch.tensor(answer)[:, None]).sum())


@pytest.mark.parametrize("strength", [0.0, -1.0])
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_logprob_equals_teacher_forcing(
    family: Family, engine: TransformersEngine, strength: float, use_cache: bool
) -> None:
    """Under the steered model, where it was steered."""
    terms = terms_of(engine, strength)
    completions = engine.generate(PROMPTS, steering=terms, max_new_tokens=9, use_cache=use_cache)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        tokens = engine.encode(engine.render(prompt))
        expected = logprob_by_hand(engine, family.blocks(engine.model), tokens, completion.tokens, *terms)
        assert completion.logprob == pytest.approx(expected, abs=1e-3)
        assert completion.logprob < 0


def test_logprob_ends_with_its_own_answer(tiny: Make) -> None:
    engine = stopping(tiny("llama"), at=2, prompt=PROMPTS[0])
    completions = engine.generate(PROMPTS, max_new_tokens=12)
    assert len({len(completion.tokens) for completion in completions}) > 1
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        tokens = engine.encode(engine.render(prompt))
        expected = logprob_by_hand(engine, engine.model.model.layers, tokens, completion.tokens)
        assert completion.logprob == pytest.approx(expected, abs=1e-3)


def test_default_model_logprob_equals_teacher_forcing(smollm2: TransformersEngine) -> None:
    completion = smollm2.generate(PROMPTS[0], max_new_tokens=5)
    prompt = smollm2.encode(smollm2.render(PROMPTS[0]))
    expected = logprob_by_hand(smollm2, smollm2.model.model.layers, prompt, completion.tokens)
    assert completion.logprob == pytest.approx(expected, abs=1e-3)
    item = ForcedItem(prompt, (completion.tokens,))
    assert completion.logprob == pytest.approx(smollm2.teacher_forcing([item]).base.logprob[0][0], abs=1e-3)


@pytest.mark.parametrize("temperature", [0.7, 1e-6])
def test_sampled_answer_has_no_logprob(llama: TransformersEngine, temperature: float) -> None:
    for completion in llama.generate(PROMPTS, max_new_tokens=3, temperature=temperature, seed=0):
        assert completion.logprob is None


def test_more_prompts_than_fit_into_batch_are_answered_in_order(
    llama: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = llama.generate(PROMPTS, max_new_tokens=6)
    monkeypatch.setattr("trimtab.engines.transformers.decode.loop.ROWS", 3)
    found = llama.generate(PROMPTS, max_new_tokens=6)
    assert found == expected


def test_steering_changes_answer(engine: TransformersEngine) -> None:
    answers = {engine.generate(PROMPTS[0], steering=terms_of(engine, s), max_new_tokens=12).tokens for s in (0, 4, -4)}
    assert len(answers) == 3


# The model's own generation config -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"repetition_penalty": 5.0},
        {"no_repeat_ngram_size": 1},
        {"do_sample": True, "temperature": 5.0, "top_k": 3},
        {"num_beams": 3},
        {"min_length": 200},
        {"min_new_tokens": 12},
        {"max_length": 3},
        {"suppress_tokens": list(range(0, 256, 2))},
        {"begin_suppress_tokens": list(range(256))},
        {"bad_words_ids": [[token] for token in range(0, 256, 2)]},
        {"sequence_bias": {(7,): 1000.0}},
        {"forced_eos_token_id": 7},
        {"exponential_decay_length_penalty": (1, 1000.0)},
        {"guidance_scale": 3.0},
        {"renormalize_logits": True},
        {"output_scores": True, "return_dict_in_generate": True},
        {"num_return_sequences": 2, "do_sample": True},
        {"max_time": 0.0},
        {"use_cache": False},
    ],
    ids=lambda config: next(iter(config)),
)
def test_generation_config_of_model_is_ignored_and_kept(tiny: Make, config: dict[str, Any]) -> None:
    engine = tiny("llama")
    expected = engine.generate(PROMPTS, max_new_tokens=16)
    for name, value in config.items():
        setattr(engine.model.generation_config, name, value)
    before = engine.model.generation_config.to_dict()
    assert engine.generate(PROMPTS, max_new_tokens=16) == expected
    assert engine.model.generation_config.to_dict() == before


# Stopping ----------------------------------------------------------------------------------------------------------


def stopping(engine: TransformersEngine, *, at: int, prompt: str) -> TransformersEngine:
    """The engine, made to stop at the token that it greedily writes at place ``at``."""
    engine.model.generation_config.eos_token_id = None
    engine.tokenizer.eos_token = None
    token = engine.generate(prompt, max_new_tokens=at + 1).tokens[at]
    engine.model.generation_config.eos_token_id = [EOS, token]
    return engine


def test_answer_ends_with_first_stop_token(tiny: Make) -> None:
    free = tiny("llama").generate(PROMPTS[0], max_new_tokens=20)
    engine = stopping(tiny("llama"), at=4, prompt=PROMPTS[0])
    stop = engine.model.generation_config.eos_token_id[-1]
    completion = engine.generate(PROMPTS[0], max_new_tokens=20)
    assert completion.tokens == free.tokens[: free.tokens.index(stop) + 1]
    assert completion.finish_reason == "stop"
    assert free.finish_reason == "length"
    assert len(free.tokens) == 20


def test_row_that_stops_early_waits_for_others_unpadded(tiny: Make) -> None:
    engine = stopping(tiny("llama"), at=2, prompt=PROMPTS[0])
    together = engine.generate(PROMPTS, max_new_tokens=20)
    assert {completion.finish_reason for completion in together} == {"stop", "length"}
    assert together == [
        replace(completion, receipt=together[n].receipt)
        for n, completion in enumerate(engine.generate(prompt, max_new_tokens=20) for prompt in PROMPTS)
    ]


def test_stop_token_comes_from_the_tokenizer_by_default(tiny: Make) -> None:
    engine = tiny("llama")
    token = engine.generate(PROMPTS[0], max_new_tokens=3).tokens[1]
    engine.model.generation_config.eos_token_id = None
    engine.tokenizer.eos_token = engine.tokenizer.convert_ids_to_tokens(token)
    assert engine.generate(PROMPTS[0], max_new_tokens=5).finish_reason == "stop"


def test_batch_without_stop_or_padding_token_is_answered(tiny: Make) -> None:
    engine = tiny("llama")
    expected = engine.generate(PROMPTS, max_new_tokens=6)
    engine.model.generation_config.eos_token_id = None
    engine.model.generation_config.pad_token_id = None
    engine.tokenizer.eos_token = None
    engine.tokenizer.pad_token = None
    assert tokens_of(engine.generate(PROMPTS, max_new_tokens=6)) == tokens_of(expected)


def test_last_token_of_window_can_be_written(llama: TransformersEngine) -> None:
    text = "x" * (CONTEXT - 1 - 4)  # and a BOS
    completion = llama.generate(text, raw=True, max_new_tokens=4)
    assert completion.prompt_tokens + 4 == CONTEXT
    assert completion.tokens == greedily(llama, llama.model.model.layers, llama.encode(text), 4)


# Sampling ----------------------------------------------------------------------------------------------------------


def test_seed_reproduces_and_another_seed_differs(llama: TransformersEngine) -> None:
    def sample(seed: int) -> list[tuple[int, ...]]:
        return tokens_of(llama.generate(PROMPTS, max_new_tokens=12, temperature=1.0, seed=seed))

    assert sample(3) == sample(3)
    assert all(one != other for one, other in zip(sample(3), sample(4), strict=True))


@pytest.mark.parametrize("seed", [-5, 0, 2**70])
def test_seed_accepts_any_integer(llama: TransformersEngine, seed: int) -> None:
    first, second = (llama.generate(PROMPTS[0], max_new_tokens=8, temperature=1.0, seed=seed) for _ in range(2))
    assert first == second
    with pytest.raises(TypeError):
        llama.generate(PROMPTS[0], max_new_tokens=8, temperature=1.0, seed=seed + 0.5)  # type: ignore[arg-type]


def test_distinct_seeds_give_distinct_answers(llama: TransformersEngine) -> None:
    seeds = [0, 1, -1, -5, 2**63 - 5, 2**63, 2**64]
    answers = [llama.generate(PROMPTS[0], max_new_tokens=12, temperature=2.0, seed=seed).tokens for seed in seeds]
    assert len(set(answers)) == len(seeds)


def test_stream_and_chat_samples_equal_generate(llama: TransformersEngine) -> None:
    sampling = {"max_new_tokens": 10, "temperature": 2.0, "seed": 4}
    plain = llama.generate("Hi", **sampling)
    stream = llama.stream("Hi", **sampling)
    assert len(list(stream)) >= 1
    assert stream.completion.tokens == plain.tokens
    for cache in ("recompute", "keep"):
        assert Chat(llama, cache=cache).send("Hi", **sampling).tokens == plain.tokens


def test_sampling_of_different_prompts_is_independent(llama: TransformersEngine) -> None:
    one, other = tokens_of(llama.generate(PROMPTS[:2], max_new_tokens=12, temperature=1e6, seed=0))
    assert PROMPTS[0] != PROMPTS[1]
    assert sum(mine == yours for mine, yours in zip(one, other, strict=False)) <= 3


def test_sampling_without_a_seed_differs(llama: TransformersEngine) -> None:
    first, second = (llama.generate(PROMPTS[0], max_new_tokens=16, temperature=2.0).tokens for _ in range(2))
    assert first != second


def test_sampling_leaves_global_generator_alone(llama: TransformersEngine) -> None:
    before = torch.random.get_rng_state()
    llama.generate(PROMPTS[0], max_new_tokens=3, temperature=1.0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("rows", [64, 3])
def test_sampling_repeated_prompt_gives_different_answers(
    llama: TransformersEngine, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab.engines.transformers.decode.loop.ROWS", rows)
    answers = tokens_of(llama.generate([PROMPTS[0]] * 8, max_new_tokens=16, temperature=2.0, seed=1))
    assert len(set(answers)) == 8
    assert answers[0] == llama.generate(PROMPTS[0], max_new_tokens=16, temperature=2.0, seed=1).tokens


@pytest.mark.parametrize(("temperature", "top_p"), [(1, 1), (1.0, 1.0), (2.5, 0.8), (0.7, 0.95), (3.0, 0.3)])
def test_samples_follow_models_probabilities(llama: TransformersEngine, temperature: float, top_p: float) -> None:
    prompt = llama.encode(llama.render(PROMPTS[0]))
    probability = (logits_of(llama.model, prompt)[-1] / temperature).softmax(-1)
    ranked, order = probability.sort(descending=True)
    kept = int((ranked.cumsum(0) < top_p).sum()) + 1 if top_p < 1 else len(ranked)
    expected = {int(token): float(p / ranked[:kept].sum()) for token, p in zip(order[:kept], ranked, strict=False)}
    count = 1024
    completions = llama.generate([PROMPTS[0]] * count, max_new_tokens=1, temperature=temperature, top_p=top_p, seed=11)
    seen = Counter(completion.tokens[0] for completion in completions)
    assert set(seen) <= set(expected)
    for token, p in expected.items():
        deviation = (p * (1 - p) / count) ** 0.5
        assert abs(seen[token] / count - p) < 4.5 * deviation + 1 / count


def test_temperature_zero_is_greedy_whatever_seed(llama: TransformersEngine) -> None:
    greedy = llama.generate(PROMPTS, max_new_tokens=8)
    assert llama.generate(PROMPTS, max_new_tokens=8, temperature=0, seed=9) == greedy
    cold = llama.generate(PROMPTS, max_new_tokens=8, temperature=1e-6, seed=9)
    assert tokens_of(cold) == tokens_of(greedy)


# Prompts -----------------------------------------------------------------------------------------------------------


def assert_same_answer(one: Completion, other: Completion) -> None:
    """To the same tokens; whose words they are may differ."""
    assert one.prompt.tokens == other.prompt.tokens
    assert replace(one, prompt=other.prompt) == other


def test_string_is_user_message_unless_raw(llama: TransformersEngine) -> None:
    chat, raw = llama.generate("Hi", max_new_tokens=4), llama.generate("Hi", raw=True, max_new_tokens=4)
    assert chat.prompt_tokens == 1 + len("[user]Hi\n[assistant]")
    assert raw.prompt_tokens == 1 + len("Hi")
    written = llama.generate("<bos>[user]Hi\n[assistant]", raw=True, max_new_tokens=4)
    assert_same_answer(written, chat)


def test_chat_of_mappings_equals_chat_of_messages(llama: TransformersEngine) -> None:
    mappings = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    messages = tuple(Message(m["role"], m["content"]) for m in mappings)
    first = llama.generate(mappings, max_new_tokens=4)
    assert isinstance(first, Completion)
    assert first.prompt_tokens == 1 + len("[system]Be kind.\n[user]Hi\n[assistant]")
    assert llama.generate(messages, max_new_tokens=4) == first
    listed = llama.generate([mappings, "Hi", messages], max_new_tokens=4)
    assert [c.tokens for c in (listed[0], listed[2])] == [first.tokens] * 2
    assert listed[1].prompt_tokens == 1 + len("[user]Hi\n[assistant]")


def test_list_of_one_gives_list_and_no_prompts_give_none(llama: TransformersEngine) -> None:
    assert llama.generate(["Hi"], max_new_tokens=4) == [llama.generate("Hi", max_new_tokens=4)]
    assert llama.generate([], max_new_tokens=4, measure_kl=True) == []


def test_model_without_template_reads_texts(tiny: Make) -> None:
    engine = tiny("llama", chat_template=None)
    assert not engine.has_chat_template
    plain, raw = engine.generate("Hi", max_new_tokens=4), engine.generate("Hi\n", raw=True, max_new_tokens=4)
    assert_same_answer(plain, raw)


# Receipts and streams ------------------------------------------------------------------------------------------------


def test_receipt_counts_layers_rows_and_tokens(engine: TransformersEngine) -> None:
    vector = vector_for(engine, layers=[0, 3], name="calm")
    for count in (1, 3):
        completions = engine.generate(PROMPTS[:count], steering=[(vector, 1.5)], max_new_tokens=7)
        for completion in completions:
            receipt = completion.receipt
            assert receipt.steering == "calm:1.5"
            assert receipt.layers == (0, 3)
            assert receipt.tokens == completion.prompt_tokens - 1 + len(completion.tokens) - 1  # no sink, no last one
            assert receipt.kl is None


def test_receipt_counts_tokens_that_model_processed(llama: TransformersEngine) -> None:
    terms = terms_of(llama, 1.0)
    read = []
    handle = llama.blocks.modules[0].register_forward_hook(lambda _, args, __: read.append(args[0].shape[1]))
    completion = llama.generate("Hi", steering=terms, max_new_tokens=9)
    handle.remove()
    assert completion.receipt.tokens == sum(read) - 1  # the first one is an attention sink


def test_unsteered_receipt_says_so(llama: TransformersEngine) -> None:
    receipt = llama.generate("Hi", max_new_tokens=3, measure_kl=True).receipt
    assert (receipt.steering, receipt.layers, receipt.tokens, receipt.kl) == ("none", (), 0, 0.0)


def test_measured_kl_equals_two_passes_over_the_answer(family: Family, engine: TransformersEngine) -> None:
    terms = [(vector_for(engine), -1.0)]
    for prompt, completion in zip(
        PROMPTS, engine.generate(PROMPTS, steering=terms, max_new_tokens=6, measure_kl=True), strict=True
    ):
        tokens = engine.encode(engine.render(prompt))
        read = [*tokens, *completion.tokens[:-1]]
        base = logits_of(engine.model, read)[len(tokens) - 1 :].double().log_softmax(-1)
        with steering_by_hand(family.blocks(engine.model), *terms):
            steered = logits_of(engine.model, read)[len(tokens) - 1 :].double().log_softmax(-1)
        expected = (base.exp() * (base - steered)).sum(-1).mean()
        assert completion.receipt.kl == pytest.approx(float(expected), rel=1e-3)
        assert completion.receipt.kl > 1e-3


def test_measure_kl_inside_steered_is_refused_at_once(llama: TransformersEngine) -> None:
    pieces: list[str] = []
    with pytest.raises(SteeringError, match="inside steered"), llama.steered(terms_of(llama, 1.0)):
        llama.generate("Hi", max_new_tokens=3, measure_kl=True, on_text=pieces.append)
    assert pieces == []


@pytest.mark.parametrize("seed", range(6))
def test_streamed_pieces_join_to_the_text_within_a_letter(llama: TransformersEngine, seed: int) -> None:
    """A model of random bytes writes broken letters all the time."""
    pieces: list[str] = []
    completion = llama.generate(PROMPTS[0], max_new_tokens=11, temperature=3.0, seed=seed, on_text=pieces.append)
    assert "".join(pieces) == completion.text
    assert all(pieces)


def test_streamed_pieces_of_default_model_come_in_order(smollm2: TransformersEngine) -> None:
    pieces: list[str] = []
    completion = smollm2.generate(PROMPTS[1], max_new_tokens=8, on_text=pieces.append)
    assert "".join(pieces) == completion.text
    assert len(pieces) > 4


def test_stream_has_first_row_only_until_its_stop(tiny: Make) -> None:
    engine = stopping(tiny("llama"), at=2, prompt=PROMPTS[0])
    engine.tokenizer.pad_token = "A"
    pieces: list[str] = []
    completions = engine.generate(PROMPTS, max_new_tokens=12, on_text=pieces.append)
    assert max(len(c.tokens) for c in completions) > len(completions[0].tokens)
    assert "".join(pieces) == completions[0].text


def test_letters_of_several_bytes_are_streamed_whole(tiny: Make) -> None:
    engine = tiny("llama")
    text = "naïve — 9 €, 日本 🚢!"
    output = OutputText(engine.decode)
    pieces = [output.take(token) for token in engine.encode(text)[1:]]
    assert output.finish() == ""
    pieces = [piece for piece in pieces if piece]
    assert pieces == list(text)


# Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", " \n\t", ["Hi", ""], [[]]], ids=repr)
def test_empty_prompt_is_error(llama: TransformersEngine, prompt: Any) -> None:
    with pytest.raises(PromptError):
        llama.generate(prompt, max_new_tokens=2)


@pytest.mark.parametrize("raw", [True, False])
def test_prompt_beyond_context_window_is_error(llama: TransformersEngine, raw: bool) -> None:
    with pytest.raises(
        PromptError, match=rf"and 9 for the answer, but tiny llama reads {CONTEXT}.*lower max_new_tokens"
    ):
        llama.generate("x" * (CONTEXT - 5), raw=raw, max_new_tokens=9)
    assert traces_in(llama.model) == []


@pytest.mark.parametrize(
    "chat",
    [
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"content": "Hi"}],
        [{"role": "user", "content": "Hi"}, "Hi"],
        [{"role": "pirate", "content": "Hi"}],
        [3],
        [b"Hi"],
    ],
    ids=repr,
)
def test_generate_invalid_chat_is_error(llama: TransformersEngine, chat: Any) -> None:
    with pytest.raises(PromptError):
        llama.generate(chat, max_new_tokens=2)


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"max_new_tokens": 0},
        {"max_new_tokens": -3},
    ],
    ids=repr,
)
def test_setting_out_of_range_is_error(llama: TransformersEngine, setting: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match=next(iter(setting))):
        llama.generate("Hi", **setting)


def test_strength_without_calibration_is_refused(llama: TransformersEngine) -> None:
    bare = replace(vector_for(llama, name="bare"), scale=None)
    with pytest.raises(SteeringError, match="'bare' was never calibrated"):
        llama.generate("Hi", steering=[(bare, 0.5)])
    by_coefficient = Steering((Term(bare, coefficient=0.2),))
    assert llama.generate("Hi", steering=by_coefficient, max_new_tokens=2).receipt.layers == tuple(range(LAYERS))


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_generate_non_numeric_strength_is_error(llama: TransformersEngine, strength: float) -> None:
    with pytest.raises(SteeringError, match="not a number to steer by"):
        llama.generate("Hi", steering=[(vector_for(llama), strength)])


def test_vector_for_another_model_is_error(llama: TransformersEngine, tiny: Make) -> None:
    for stranger in (tiny("llama", seed=1), tiny("llama", hidden_size=16), tiny("gpt2")):
        with pytest.raises(VectorMismatchError, match=r"not for tiny llama|differ from those of tiny llama"):
            llama.generate("Hi", steering=[(vector_for(stranger), 1)])


def test_generate_errors_are_trimtab_errors_and_leave_no_hooks(llama: TransformersEngine) -> None:
    for ask in (
        lambda: llama.generate(""),
        lambda: llama.generate("Hi", steering="no such vector:1"),
        lambda: llama.generate("Hi", steering=3),
        lambda: llama.generate("Hi", temperature=-1),
    ):
        with pytest.raises(trimtab.TrimtabError):
            ask()
    assert traces_in(llama.model) == []


def test_kl_of_receipt_is_that_of_teacher_forcing(llama: TransformersEngine) -> None:
    vector = vector_for(llama)
    completion = llama.generate("Hi", steering=[(vector, 1)], max_new_tokens=5, measure_kl=True)
    item = ForcedItem(llama.encode(llama.render("Hi")), (completion.tokens,), reference=0)
    assert np.isclose(completion.receipt.kl, llama.teacher_forcing([item]).measure(vector.addition(1.0)).mean_kl)

"""Teacher forcing: packed or plain, skipped or not, it gives what reading each sequence gives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from by_hand import logits_of, steering_by_hand, traces_in
from tiny_models import HIDDEN, WINDOW, Family, vector_for
from trimtab.engines import ForcedItem, ForcedScores
from trimtab.engines.prefix_tree import CPU
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.forward import run
from trimtab.engines.transformers.score import forcing
from trimtab.errors import SteeringError
from trimtab.vectors import ControlVector

pytestmark = pytest.mark.usefixtures("always_walking")
Term = tuple[ControlVector, float]

TOGETHER = [
    ForcedItem((1, 2, 3, 4), ((5, 6, 7), (8,)), reference=0),
    ForcedItem((1, 2, 9), ((5,), (6, 7), (5, 6, 8)), reference=1),
    ForcedItem((1, 2, 3, 4, 10, 11), ((12, 13),), reference=None),
]
DISTINCT = [
    ForcedItem((20, 21), ((22, 23, 24), (25, 26)), reference=1),
    ForcedItem((30,), ((31,), (32,)), reference=0),
]
INSIDE = [  # one prompt is the beginning of the next, and one comes twice
    ForcedItem((1, 2), ((3, 4), (5,)), reference=0),
    ForcedItem((1, 2, 3), ((4,), (6, 7)), reference=1),
    ForcedItem((1, 2, 3), ((4,), (6, 7)), reference=0),
]
ALONE = [ForcedItem((1, 2, 3), ((4, 5, 6, 7),), reference=0)]
LONG = [  # later items are longer than the window of some families, the first are not
    ForcedItem((1, 2, 3), ((4, 5), (6, 7)), reference=0),
    ForcedItem((1, 2, 4), ((4, 5), (6, 7)), reference=0),
    ForcedItem((1, 2, *range(40, 40 + WINDOW)), ((4, 5, 9, 8), (6,)), reference=0),
    ForcedItem((1, 2, *range(80, 80 + 2 * WINDOW)), ((4,), (6, 7)), reference=1),
]
SETS = {"together": TOGETHER, "distinct": DISTINCT, "inside": INSIDE, "alone": ALONE, "long": LONG}


def slowly(
    engine: TransformersEngine, blocks: nn.ModuleList, items: Sequence[ForcedItem], *terms: Term
) -> ForcedScores:
    """Score each prompt and answer in a separate pass, with KL from two such passes."""
    logprobs, kls = [], []
    for item in items:
        steered = [_answer_logprobs(engine, blocks, item.prompt, answer, *terms) for answer in item.answers]
        columns = [torch.tensor(answer)[:, None] for answer in item.answers]
        logprobs.append(np.array([float(s.gather(-1, c).sum()) for s, c in zip(steered, columns, strict=True)]))
        kls.append(0.0)
        if item.reference is not None and terms:
            base = _answer_logprobs(engine, blocks, item.prompt, item.answers[item.reference])
            kls[-1] = float((base.exp() * (base - steered[item.reference])).sum())
    tokens = tuple(np.array([len(answer) for answer in item.answers]) for item in items)
    kl_tokens = [0 if item.reference is None else len(item.answers[item.reference]) for item in items]
    return ForcedScores(tuple(logprobs), tokens, np.array(kls), np.array(kl_tokens))


def _answer_logprobs(
    engine: TransformersEngine, blocks: nn.ModuleList, prompt: Sequence[int], answer: Sequence[int], *terms: Term
) -> torch.Tensor:
    with steering_by_hand(blocks, *terms):
        logits = logits_of(engine.model, [*prompt, *answer])
    return logits[len(prompt) - 1 : -1].double().log_softmax(-1)


def assert_same(actual: ForcedScores, expected: ForcedScores, *, tolerance: float) -> None:
    assert len(actual.logprob) == len(expected.logprob)
    for mine, theirs in zip(actual.logprob, expected.logprob, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)
    for mine, theirs in zip(actual.tokens, expected.tokens, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(actual.kl, expected.kl, rtol=1e-3, atol=tolerance)
    np.testing.assert_array_equal(actual.kl_tokens, expected.kl_tokens)


def assert_identical(actual: ForcedScores, expected: ForcedScores) -> None:
    for mine, theirs in zip(actual.logprob, expected.logprob, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(actual.kl, expected.kl)


def additions(*terms: Term) -> Mapping[int, np.ndarray]:
    total: dict[int, np.ndarray] = {}
    for vector, strength in terms:
        for layer, added in vector.addition(strength).items():
            total[layer] = total.get(layer, np.zeros_like(added)) + added
    return total


# Exactness ---------------------------------------------------------------------------------------------------------


def test_forcing_default_model_equals_separate_sequences(smollm2: TransformersEngine) -> None:
    questions = ["How was your day?", "How was the film?"]
    answers = tuple(map(smollm2.encode, [" It was fine, thank you.", " Awful"]))
    items = [
        ForcedItem(smollm2.encode(question), answers, reference=number) for number, question in enumerate(questions)
    ]
    blocks = smollm2.model.model.layers
    prepared = smollm2.teacher_forcing(items)
    assert prepared.shares_prefixes
    assert_same(prepared.base, slowly(smollm2, blocks, items), tolerance=1e-4)
    term = (vector_for(smollm2, layers=[12, 13, 29]), -0.8)
    actual = prepared.measure(additions(term))
    assert_same(actual, slowly(smollm2, blocks, items, term), tolerance=1e-4)
    assert actual.mean_kl > 0.01


@pytest.mark.parametrize("name", SETS)
def test_forcing_every_family_equals_separate_sequences(family: Family, engine: TransformersEngine, name: str) -> None:
    items, blocks = SETS[name], family.blocks(engine.model)
    prepared = engine.teacher_forcing(items)
    assert_same(prepared.base, slowly(engine, blocks, items), tolerance=1e-4)
    for layers, strength in (([0], 1.0), ([1, 3], -2.0), ([3], 1.0)):
        term = (vector_for(engine, layers=layers), strength)
        actual = prepared.measure(additions(term))
        assert_same(actual, slowly(engine, blocks, items, term), tolerance=1e-4)
        moved = [item.reference is not None and len(item.prompt) > 1 for item in items]  # alone, a sink is left alone
        np.testing.assert_array_equal(actual.kl > 1e-4, moved)


def test_forcing_most_families_share_prefixes(family: Family, engine: TransformersEngine) -> None:
    """ALiBi reads distances off the mask, and a sliding window cannot be seen in a tree."""
    assert engine.teacher_forcing(TOGETHER).shares_prefixes == (family.name != "falcon_alibi")
    windowed = family.name in {"falcon_alibi", "gemma3", "mistral"}
    assert engine.teacher_forcing(LONG).shares_prefixes == (not windowed)


@pytest.mark.parametrize("size", [1, 5, 12, 30])
def test_forcing_any_pass_size_gives_the_same_scores(
    llama: TransformersEngine, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [*TOGETHER, *DISTINCT, *LONG]
    term = (vector_for(llama, layers=[1, 2]), 1.0)
    monkeypatch.setattr(run, "CPU", replace(CPU, max_tokens=size))
    prepared = llama.teacher_forcing(items)
    assert prepared.shares_prefixes
    assert_same(prepared.measure(additions(term)), slowly(llama, llama.model.model.layers, items, term), tolerance=1e-4)


def test_forcing_empty_answer_scores_zero_beside_others(engine: TransformersEngine) -> None:
    with_empty = [ForcedItem((1, 2, 3), ((), (4, 5)), reference=1), ForcedItem((1, 2, 6), ((7,), ()), reference=0)]
    without = [ForcedItem((1, 2, 3), ((4, 5),), reference=0), ForcedItem((1, 2, 6), ((7,),), reference=0)]
    actual, expected = engine.teacher_forcing(with_empty).base, engine.teacher_forcing(without).base
    assert actual.logprob[0][0] == actual.logprob[1][1] == 0.0
    assert actual.tokens[0].tolist() == [0, 2]
    np.testing.assert_allclose(actual.logprob[0][1], expected.logprob[0][0], atol=1e-4)
    np.testing.assert_allclose(actual.logprob[1][0], expected.logprob[1][0], atol=1e-4)


def test_forcing_no_items_gives_empty_scores(llama: TransformersEngine) -> None:
    scores = llama.teacher_forcing([]).base
    assert scores.logprob == ()
    assert scores.mean_kl == 0.0


# The base ----------------------------------------------------------------------------------------------------------


def test_forcing_base_has_zero_kl(engine: TransformersEngine) -> None:
    prepared = engine.teacher_forcing(TOGETHER)
    assert prepared.base.kl.tolist() == [0.0, 0.0, 0.0]
    assert prepared.base.kl_tokens.tolist() == [3, 2, 0]
    assert prepared.base.mean_kl == 0.0


def test_forcing_zero_addition_equals_the_base(llama: TransformersEngine) -> None:
    prepared = llama.teacher_forcing(TOGETHER)
    assert_identical(prepared.measure({}), prepared.base)
    assert_identical(prepared.measure({2: np.zeros(HIDDEN, dtype=np.float32)}), prepared.base)


def test_mean_kl_is_per_token_of_reference_answers(llama: TransformersEngine) -> None:
    scores = llama.teacher_forcing(TOGETHER).measure(additions((vector_for(llama), 1.0)))
    assert scores.mean_kl == pytest.approx((scores.kl[0] + scores.kl[1]) / (3 + 2))


# Skipping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [TOGETHER, LONG], ids=["together", "long"])
def test_forcing_stored_outputs_change_no_bit(
    engine: TransformersEngine, items: list[ForcedItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    skipping = engine.teacher_forcing(items)
    monkeypatch.setattr(forcing, "STORED_BYTES", 0)
    computing = engine.teacher_forcing(items)
    for layers in ([0], [2], [1, 3], [3]):
        added = additions((vector_for(engine, layers=layers), 1.0))
        assert_identical(skipping.measure(added), computing.measure(added))
    np.testing.assert_array_equal(skipping.norms, computing.norms)


def test_forcing_stored_outputs_skip_lower_layers(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama")
    prepared = engine.teacher_forcing(TOGETHER)
    added = additions((vector_for(engine, layers=[2, 3]), 1.0))
    ran: list[int] = []
    for number, block in enumerate(engine.model.model.layers):
        block.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
    prepared.measure(added)
    assert ran == [3]


def test_forcing_repeated_measure_gives_the_same(llama: TransformersEngine) -> None:
    prepared = llama.teacher_forcing(LONG)
    upper, lower = (additions((vector_for(llama, layers=layers), 1.0)) for layers in ([3], [0, 2]))
    first = prepared.measure(upper)
    prepared.measure(lower)
    assert_identical(prepared.measure(upper), first)
    assert_identical(prepared.measure({}), prepared.base)
    assert traces_in(llama.model) == []


@pytest.mark.parametrize("scoped", [0, 2, 3])
def test_forcing_inside_steered_scores_the_steered_model(
    llama: TransformersEngine, scoped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = llama.model.model.layers
    around = (vector_for(llama, seed=1, layers=[scoped]), 1.0)
    inside = (vector_for(llama, seed=2, layers=[2]), -1.0)
    with llama.steered([around]):
        prepared = llama.teacher_forcing(TOGETHER)
        actual = prepared.measure(additions(inside))
    for mine, theirs in zip(prepared.base.logprob, slowly(llama, blocks, TOGETHER, around).logprob, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    for mine, theirs in zip(actual.logprob, slowly(llama, blocks, TOGETHER, around, inside).logprob, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_forcing_replaced_forward_is_restored(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama")
    block = engine.model.model.layers[1]
    original = block.forward
    block.forward = lambda *args, **kwargs: original(*args, **kwargs)
    replaced = block.forward
    engine.teacher_forcing(TOGETHER).measure(additions((vector_for(engine, layers=[2]), 1.0)))
    assert block.forward is replaced


# Models that walks do not suit ---------------------------------------------------------------------------------------


def _without_mask(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def forward(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    return forward


def _without_positions(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def forward(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    return forward


def _without_mask_when_long(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def forward(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        if kwargs["input_ids"].shape[1] > 20:
            attention_mask = None
        return inner(*args, attention_mask=attention_mask, **kwargs)

    return forward


def _flat_masks_only(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def forward(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        if attention_mask is not None and attention_mask.ndim != 2:
            raise ValueError("wrong shape of attention_mask")
        return inner(*args, attention_mask=attention_mask, **kwargs)

    return forward


def _no_such_argument(inner: Callable[..., Any]) -> Callable[..., Any]:
    def forward(input_ids: Any, attention_mask: Any = None, use_cache: bool = False) -> Any:
        return inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    return forward


@pytest.mark.parametrize(
    ("wrap", "suits"),
    [
        (_without_mask, set()),
        (_without_positions, set()),
        (_without_mask_when_long, set()),  # a pass may be longer than the sequences in it
        (_flat_masks_only, set()),
        (_no_such_argument, set()),
    ],
    ids=lambda given: given.__name__[1:] if callable(given) else "",
)
@pytest.mark.parametrize("name", SETS)
def test_forcing_without_tree_attention_reads_batches(
    tiny: Callable[..., TransformersEngine], name: str, wrap: Callable[..., Any], suits: set[str]
) -> None:
    plain = tiny("llama")
    items, blocks = SETS[name], plain.model.model.layers
    term = (vector_for(plain, layers=[1, 2]), 1.0)
    expected = slowly(plain, blocks, items, term)
    plain.model.forward = wrap(plain.model.forward)
    engine = TransformersEngine(plain.model, plain.tokenizer, name="tiny wrapped llama")
    prepared = engine.teacher_forcing(items)
    assert prepared.shares_prefixes == (name in suits)
    assert_same(prepared.measure(additions(term)), expected, tolerance=1e-4)


def test_forcing_head_without_selection_runs_everywhere(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama")
    expected = engine.teacher_forcing(TOGETHER).base
    inner = engine.model.forward

    def forward(input_ids: Any, attention_mask: Any = None, position_ids: Any = None, use_cache: bool = False) -> Any:
        return inner(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache)

    engine.model.forward = forward
    prepared = engine.teacher_forcing(TOGETHER)
    assert prepared.shares_prefixes
    assert_same(prepared.base, expected, tolerance=1e-5)


def test_forcing_unsteered_layer_is_an_error(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama")
    prepared = engine.teacher_forcing(TOGETHER)
    added = additions((vector_for(engine, layers=[1]), 1.0), (vector_for(engine, layers=[3]), 1.0))
    block = engine.model.model.layers[3]

    class Bypass(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return block.forward(*args, **kwargs)

    engine.model.model.layers[3] = Bypass()
    with pytest.raises(SteeringError, match=r"layer 3 .* steered 0 of"):
        prepared.measure(added)


# Norms -------------------------------------------------------------------------------------------------------------


def _norms_slowly(engine: TransformersEngine, blocks: nn.ModuleList, items: Sequence[ForcedItem]) -> np.ndarray:
    """``[token, layer]``: norms of every distinct beginning of the items' sequences."""
    actual: dict[tuple[int, ...], np.ndarray] = {}
    for item in items:
        for answer in item.answers:
            tokens = (*item.prompt, *answer[:-1])
            caught: list[torch.Tensor] = []
            handles = [
                block.register_forward_hook(
                    lambda _, __, output, caught=caught: caught.append(
                        (output[0] if isinstance(output, tuple) else output)[0].norm(dim=-1)
                    )
                )
                for block in blocks
            ]
            logits_of(engine.model, tokens)
            for handle in handles:
                handle.remove()
            for end in range(1, len(tokens) + 1):
                actual[tokens[:end]] = np.array([float(norms[end - 1]) for norms in caught])
    return np.stack(list(actual.values()))


def test_norms_are_means_over_tokens(family: Family, engine: TransformersEngine) -> None:
    items = [ForcedItem((1, 2, 3, 4, 5), ((6, 7, 8),)), ForcedItem((10, 2, 9), ((4,),))]
    expected = _norms_slowly(engine, family.blocks(engine.model), items)
    np.testing.assert_allclose(engine.teacher_forcing(items).norms, expected.mean(0), rtol=1e-5)


def test_norms_count_shared_prefixes_once(llama: TransformersEngine) -> None:
    items = [ForcedItem((1, 2, 3), ((4, 5, 9), (6, 7, 8))), ForcedItem((1, 2, 9), ((5, 3),))]
    expected = _norms_slowly(llama, llama.model.model.layers, items)
    np.testing.assert_allclose(llama.teacher_forcing(items).norms, expected.mean(0), rtol=1e-5)


def test_norms_default_model_exclude_attention_sinks(smollm2: TransformersEngine) -> None:
    items = [ForcedItem(smollm2.encode(smollm2.render("Name three fruits.")), (smollm2.encode(" Apples"),))]
    every = _norms_slowly(smollm2, smollm2.model.model.layers, items)
    kept = every <= forcing.SINK_FACTOR * np.median(every, axis=0)
    assert not kept[0, 15]  # the first token is one
    expected = np.where(kept, every, 0).sum(0) / kept.sum(0)
    np.testing.assert_allclose(smollm2.teacher_forcing(items).norms, expected, rtol=1e-4)


# Out of memory -----------------------------------------------------------------------------------------------------


@contextmanager
def room_for(engine: TransformersEngine, tokens: int) -> Iterator[None]:
    """Passes of more tokens than these fail in the middle."""

    def fail(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args[0].shape[0] * args[0].shape[1] > tokens:
            raise torch.OutOfMemoryError

    with engine.blocks.modules[1].register_forward_hook(fail):
        yield


@pytest.mark.parametrize("room", [2, 3, 5])
@pytest.mark.parametrize("when", ["preparing", "measuring"])
def test_forcing_out_of_memory_halves_passes(
    llama: TransformersEngine, random_vector: Callable[..., ControlVector], room: int, when: str
) -> None:
    additions = random_vector(llama, layers=[0, 1]).addition(1.0)
    expected = llama.teacher_forcing(TOGETHER)
    assert expected.halved_to is None
    if when == "preparing":
        with room_for(llama, room):
            forced = llama.teacher_forcing(TOGETHER)
            actual = forced.measure(additions)
    else:
        forced = llama.teacher_forcing(TOGETHER)
        with room_for(llama, room):
            actual = forced.measure(additions)
    assert forced.halved_to is not None
    assert forced.halved_to <= room
    wanted = expected.measure(additions)
    np.testing.assert_allclose(actual.kl, wanted.kl, rtol=1e-4)
    np.testing.assert_allclose(np.concatenate(actual.logprob), np.concatenate(wanted.logprob), rtol=1e-4)
    np.testing.assert_allclose(forced.norms, expected.norms, rtol=1e-4)
    assert traces_in(llama.model) == []


def test_forcing_out_of_memory_at_one_token_is_an_error(llama: TransformersEngine) -> None:
    llama.teacher_forcing(TOGETHER)
    with room_for(llama, 0), pytest.raises(torch.OutOfMemoryError):
        llama.teacher_forcing(TOGETHER)

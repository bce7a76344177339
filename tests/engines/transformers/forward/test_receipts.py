"""Receipts: what each term did, counted and measured by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from neutral_vectors import reader_for
from sample_vectors import safe_range
from steered_reference import both, half_life, in_answer, read_steered
from steered_terms import CHAT, SCOPES, ModelContext, scoped_rows, term
from tiny_models import vector_for
from trimtab.engines.transformers import TransformersEngine
from trimtab.steering import Ablate, Add, Bound, Clamp, Comparison, Rotate, Steering, Term
from trimtab.steering.scopes import Part, Scope

COUNT = 5


@pytest.fixture(scope="module")
def host(llama: TransformersEngine) -> ModelContext:
    vectors = tuple(vector_for(llama, seed=seed, layers=[1, 2]) for seed in (1, 2))
    return ModelContext(llama, llama.model.model.layers, vectors)


def test_nested_text_scopes_equal_one_mix(host: ModelContext) -> None:
    unsteered = host.engine.generate([CHAT], max_new_tokens=COUNT)[0].tokens
    text = host.engine.decode(unsteered[1:3])  # both mixes answer alike up to here
    first, second = (
        Term(vector, coefficient=1.5, tokens=Scope((Part("generated"), Part("after", text=text))))
        for vector in host.vectors
    )
    together = host.engine.generate([CHAT], steering=[first, second], max_new_tokens=COUNT)[0]
    with host.engine.steered([first]):
        nested = host.engine.generate([CHAT], steering=[second], max_new_tokens=COUNT)[0]
    assert 0 < together.receipt.tokens < COUNT - 1
    assert nested.tokens == together.tokens
    assert [own.tokens for own in nested.receipt.terms] == [own.tokens for own in together.receipt.terms]


def test_receipt_tokens_per_scope_equal_manual_count(host: ModelContext) -> None:
    rows = scoped_rows(host, SCOPES)
    prompt = host.prompt(CHAT)
    together = host.engine.generate(
        [CHAT] * len(rows), steering=[Steering(tuple(t for t, _ in row)) for row in rows], max_new_tokens=COUNT
    )
    for (_, rule), row, completion in zip(SCOPES, rows, together, strict=True):
        seen = prompt.seen(completion.tokens[:-1])
        counted = sum(rule(token) != 0 for token in seen[1:])  # the first is a sink, the last one nobody reads
        receipt = completion.receipt
        assert [own.tokens for own in receipt.terms] == [counted] * 2
        assert receipt.tokens == counted
        assert [own.term for own in receipt.terms] == [str(asked) for asked, _ in row]
        assert {own.layers for own in receipt.terms} == {(1, 2) if counted else ()}
        assert all(own.fired is None and not own.readings for own in receipt.terms)


def test_receipt_says_what_is_beyond_safe_range(host: ModelContext) -> None:
    safe = replace(host.vectors[0], safe=safe_range())
    never = Comparison(reader_for(host.engine), "above", 1e9)
    terms = [Term(safe, 1.0), Term(safe, 0.5), Term(safe, 1.0, condition=never)]
    for asked in (terms, [terms[0], Term(safe, -1.0, tokens="generated")]):
        receipt = host.engine.generate([CHAT, CHAT], steering=[asked, None], max_new_tokens=2)[0].receipt
        assert [term.beyond_safe and term.beyond_safe.limit for term in receipt.terms] == [
            "relevance",
            *[None] * (len(asked) - 1),
        ]


def test_receipt_of_term_without_tokens_is_zero(host: ModelContext) -> None:
    vector = host.vectors[0]
    idle, active = Term(vector, coefficient=0.5, tokens='after: "nowhere"'), Term(vector, coefficient=0.5)
    (first, second), other = (
        host.engine.generate("Hi", steering=[idle, active], max_new_tokens=3).receipt.terms,
        host.engine.generate("Hi", steering=[idle], max_new_tokens=3).receipt,
    )
    assert (first.layers, first.tokens, first.shift) == ((), 0, None)
    assert second.layers == (1, 2)
    assert (other.layers, other.tokens) == ((), 0)


# Shifts ------------------------------------------------------------------------------------------------------------


def shifts_by_hand(host: ModelContext, chat: Any, answer: Sequence[int], terms: Sequence[Any]) -> list[float]:
    """Mean over layers and touched tokens of how far each term moved the state, per length of what left the block.

    Both are taken from passes over the whole text with the first terms alone, then with one more, at this layer
    alone.
    """
    prompt, found = host.prompt(chat), [[] for _ in terms]
    touched = [[n for n, seen in enumerate(prompt.seen(answer[:-1])) if n and own.rule(seen)] for own in terms]
    for layer in sorted({layer for own in terms for layer in own.directions}):
        below = [replace(own, directions={n: u for n, u in own.directions.items() if n < layer}) for own in terms]
        steps = [
            read_steered(
                host.engine.model,
                host.blocks,
                prompt,
                answer[:-1],
                [own if n < count else below[n] for n, own in enumerate(terms)],
            ).states[layer]
            for count in range(len(terms) + 1)
        ]
        lengths = np.linalg.norm(steps[0], axis=-1)
        for n, (before, after) in enumerate(pairwise(steps)):
            found[n] += list((np.linalg.norm(after - before, axis=-1) / lengths)[touched[n]])
    return [float(np.mean(own)) for own in found]


def test_receipt_shifts_equal_reference_on_every_path(host: ModelContext) -> None:
    vector, other = host.vectors
    pairs = [
        term(vector, Add(), amount=0.4),
        term(other, Rotate(25.0)),
        term(vector, Clamp(Bound(0.5), Bound(1.0))),
        term(other, Add(preserve_norm=True), amount=0.7),
        term(other, Ablate(), scope="generated", rule=lambda seen: float(seen.generated >= 0)),
    ]
    steering = Steering(tuple(asked for asked, _ in pairs))
    chats = ["The keeper of the light", "The keeper of the sheep sat down", "The keeper"]
    results = [host.engine.generate(chats, steering=steering, max_new_tokens=COUNT)]
    results.append(host.engine.generate(chats, steering=steering, max_new_tokens=COUNT))  # after kept prefixes
    results.append(host.engine.generate(chats, steering=steering, max_new_tokens=COUNT, use_cache=False))
    results.append([host.engine.generate(chat, steering=steering, max_new_tokens=COUNT) for chat in chats])
    with host.engine.steered(steering):
        results.append(host.engine.generate(chats, max_new_tokens=COUNT))
    for n, chat in enumerate(chats):
        answer = results[0][n].tokens
        wanted = shifts_by_hand(host, chat, answer, [own for _, own in pairs])
        for result in results:
            assert result[n].tokens == answer
            assert [own.shift for own in result[n].receipt.terms] == pytest.approx(wanted, rel=1e-3)
            assert [own.tokens for own in result[n].receipt.terms] == [
                own.tokens for own in results[0][n].receipt.terms
            ]


def test_receipt_shift_of_decaying_term_follows_decay(host: ModelContext) -> None:
    fading = both(in_answer, half_life(1))
    pair = term(host.vectors[0], Add(), amount=0.6, scope="generated, half-life 1", rule=fading)
    completion = host.engine.generate("Hi", steering=[pair[0]], max_new_tokens=COUNT)
    assert completion.receipt.terms[0].tokens == COUNT - 1
    assert completion.receipt.terms[0].shift == pytest.approx(
        shifts_by_hand(host, "Hi", completion.tokens, [pair[1]])[0], rel=1e-3
    )


def test_receipt_lists_terms_of_outer_scopes_first(host: ModelContext) -> None:
    outer, inner = (Term(vector, coefficient=0.3, name=name) for vector, name in zip(host.vectors, "ab", strict=True))
    with host.engine.steered([outer]):
        receipt = host.engine.generate("Hi", steering=[inner], max_new_tokens=3).receipt
    assert [own.term for own in receipt.terms] == [str(outer), str(inner)]
    assert receipt.steering == f"{outer} + {inner}"


# Conditions --------------------------------------------------------------------------------------------------------


def test_receipt_has_the_condition_and_its_readings(llama: TransformersEngine) -> None:
    reader = reader_for(llama, name="mood")
    scores = llama.scores(["Hi", "How was the sea?"], reader)
    between = float(scores.mean())
    terms = [Term(reader, coefficient=0.4, condition=Comparison(reader, "above", between))]
    found = llama.generate(["Hi", "How was the sea?"], steering=terms, max_new_tokens=3)
    for score, completion in zip(scores, found, strict=True):
        (own,) = completion.receipt.terms
        assert own.fired == (score > between) == (own.tokens > 0) == (own.shift is not None)
        assert own.readings == {"mood at prompt": pytest.approx(score, abs=1e-4)}
    assert {own.fired for c in found for own in c.receipt.terms} == {True, False}


def test_kl_is_measured_as_answer_was_steered(host: ModelContext) -> None:
    """With scopes, schedules and order."""
    (row,) = scoped_rows(host, [("generated, half-life 2", both(in_answer, half_life(2)))])
    completion = host.engine.generate(
        "Hi", steering=Steering(tuple(t for t, _ in row)), max_new_tokens=COUNT, measure_kl=True
    )
    prompt, kl = host.prompt("Hi"), []
    for n in range(len(completion.tokens)):
        base, steered = (
            read_steered(host.engine.model, host.blocks, prompt, completion.tokens[:n], terms)
            .logits.double()
            .log_softmax(-1)
            for terms in ([], [own for _, own in row])
        )
        kl.append(float((base.exp() * (base - steered)).sum()))
    assert completion.receipt.kl == pytest.approx(np.mean(kl), rel=1e-3)
    assert kl[0] == pytest.approx(0.0, abs=1e-9)
    assert completion.receipt.kl > 1e-4


def test_receipt_of_zero_direction_counts_its_tokens(host: ModelContext) -> None:
    """A floor far below every projection."""
    vector = host.vectors[0]
    floor = Term(vector, operator=Clamp(Bound(-1e6), Bound(1e6)))
    plain = host.engine.generate("Hi", max_new_tokens=COUNT)
    held = host.engine.generate("Hi", steering=[floor], max_new_tokens=COUNT)
    assert held.tokens == plain.tokens
    assert held.logprob == plain.logprob
    assert held.receipt.terms[0].shift == 0.0
    assert held.receipt.tokens == plain.prompt_tokens - 1 + COUNT - 1

"""Every operator and every scope: states and answers are those of a slow reference, in a batch, alone, with a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from torch import nn

import steered_reference
from architectures.building import build, every_architecture
from steered_reference import HandTerm, answer_steered
from steered_terms import CHAT, SCOPES, ModelContext, scoped_rows, states_between, term
from tiny_models import BY_NAME, byte_tokenizer, vector_for
from trimtab.engines.transformers import TransformersEngine
from trimtab.steering import Ablate, Add, Bound, Cap, Clamp, Floor, Rotate, Steering, Term
from trimtab.vectors import ControlVector

COUNT = 6
LAYERS = (1, 2)
TEXTS = (
    "Hi",
    "How was your day at the sea?",
    "Name a fruit",
    "A longer one than these?",
    "Ah",
    "Who?",
    "And now, then",
)
FAMILIES = ("gemma3", "gpt2", "qwen3_moe", "llava")


@pytest.fixture(scope="module", params=FAMILIES)
def host(request: pytest.FixtureRequest) -> ModelContext:
    if request.param == "llava":
        name = "LlavaForConditionalGeneration"
        model = build(next(architecture for architecture in every_architecture() if architecture.name == name))
        engine = TransformersEngine(model, byte_tokenizer(), name="tiny llava")
        return _host(engine, model.model.language_model.layers)
    family = BY_NAME[request.param]
    model = family.build()
    return _host(TransformersEngine(model, byte_tokenizer(), name=family.name), family.blocks(model))


def _host(engine: TransformersEngine, blocks: nn.ModuleList) -> ModelContext:
    engine.generate(["ab", "c"], max_new_tokens=1)  # compares batches with single answers, once
    layers = tuple(layer for layer in LAYERS if layer < len(blocks))
    first, second = (vector_for(engine, seed=seed, layers=layers, size=0.5) for seed in (1, 2))
    return ModelContext(engine, blocks, (first, second))


def operators(vector: ControlVector, other: ControlVector) -> list[list[tuple[Term, HandTerm]]]:
    """One steering for each row: seven operators, the last of them behind one another."""
    size = float(np.mean(list(vector.norms.values())))
    return [
        [term(vector, Add(), amount=0.5)],
        [term(vector, Add(preserve_norm=True), amount=-1.5)],
        [term(vector, Ablate())],
        [term(vector, Floor(Bound(0.3 * size)))],
        [term(vector, Cap(Bound(-0.2 * size)))],
        [term(vector, Clamp(Bound(0.1 * size), Bound(0.2 * size)))],
        [term(vector, Rotate(40.0)), term(other, Rotate(), amount=-2.5), term(vector, Add(), amount=0.3)],
    ]


def assert_as_reference(
    host: ModelContext, chats: Sequence[Any], rows: Sequence[Sequence[tuple[Term, HandTerm]]]
) -> None:
    """In one batch and alone, with a cache and without."""
    prompts = [host.prompt(chat) for chat in chats]
    wanted = [
        answer_steered(
            host.engine.model, host.blocks, prompt, [own for _, own in row], count=COUNT, stop=host.engine.stop_tokens
        )
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    steerings = [Steering(tuple(asked for asked, _ in row)) for row in rows]
    for use_cache in (True, False):
        with states_between(host.blocks, cached=use_cache) as states:
            found = host.engine.generate(chats, steering=steerings, max_new_tokens=COUNT, use_cache=use_cache)
        assert [c.tokens for c in found] == [answer for answer, _ in wanted]
        width = max(len(prompt.tokens) for prompt in prompts)
        for n, (prompt, (answer, read)) in enumerate(zip(prompts, wanted, strict=True)):
            first = width - len(prompt.tokens)
            columns = slice(first, width + len(answer) - 1)
            for layer, state in states.items():
                assert_close(state[n, columns].numpy(), read.states[layer])
    for n in (0, len(chats) - 1):
        for use_cache in (True, False):
            alone = host.engine.generate(
                chats[n : n + 1], steering=steerings[n], max_new_tokens=COUNT, use_cache=use_cache
            )
            assert alone[0].tokens == wanted[n][0]


def assert_close(found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape
    off = np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert off.max() < 1e-4


# Operators ---------------------------------------------------------------------------------------------------------


def test_operators_equal_the_slow_reference(host: ModelContext) -> None:
    rows = operators(*host.vectors)
    assert_as_reference(host, TEXTS, rows)
    plain = [c.tokens for c in host.engine.generate(TEXTS, max_new_tokens=COUNT)]
    steered = host.engine.generate(
        TEXTS, steering=[Steering(tuple(t for t, _ in r)) for r in rows], max_new_tokens=COUNT
    )
    assert sum(a != b.tokens for a, b in zip(plain, steered, strict=True)) >= 4  # else the answers show little


def test_padding_and_sinks_are_never_touched(host: ModelContext) -> None:
    """Seen at the lowest steered layer, before which nothing differs."""
    steerings = [Steering(tuple(asked for asked, _ in row)) for row in operators(*host.vectors)]
    lengths = [len(host.prompt(text).tokens) for text in TEXTS]
    seen = []
    for chosen in (steerings, None):
        with states_between(host.blocks, cached=True) as states:
            host.engine.generate(TEXTS, steering=chosen, max_new_tokens=1)
        seen.append(states[LAYERS[0]])
    moved = (seen[0] != seen[1]).any(-1)
    for row, length in zip(moved, lengths, strict=True):
        first = max(lengths) - length
        assert not row[: first + 1].any()
        assert row[first + 1 :].any()
    assert moved[0, max(lengths) - lengths[0] + 1 :].all()  # adding moves every other token


# Scopes ------------------------------------------------------------------------------------------------------------


def test_scopes_equal_the_slow_reference(host: ModelContext) -> None:
    chats = [
        CHAT if n % 2 else [*CHAT[:3], {"role": "user", "content": "Oh no! Why? Tell me"}] for n in range(len(SCOPES))
    ]
    chats[3] = CHAT
    assert_as_reference(host, chats, scoped_rows(host, SCOPES))


def test_text_that_comes_in_answer_parts_it(host: ModelContext) -> None:
    """A letter of the unsteered answer; behind it, or before it, steering changes only what is still to come."""
    plain = host.engine.generate(TEXTS, max_new_tokens=COUNT)
    chosen = []
    for text, completion in zip(TEXTS, plain, strict=True):
        letters = [host.engine.tokenizer.decode([token]) for token in completion.tokens[1:-1]]
        chosen += [(text, letter) for letter in letters if letter.isalnum() and letter not in host.engine.render(text)][
            :1
        ]
    scopes = [
        (f'{kind}:"{letter}"', rule(letter))
        for _, letter in chosen
        for kind, rule in (("after", steered_reference.after), ("before", steered_reference.before))
    ]
    if not scopes:
        pytest.skip("no answer has a letter that its prompt lacks")
    assert_as_reference(host, [text for text, _ in chosen for _ in range(2)] + ["Hi"], [*scoped_rows(host, scopes), []])


# The default model -------------------------------------------------------------------------------------------------


def test_default_model_operators_and_scopes_equal_reference(smollm2: TransformersEngine) -> None:
    vector, other = (vector_for(smollm2, seed=seed, layers=[8, 16]) for seed in (1, 2))
    host = ModelContext(smollm2, smollm2.model.model.layers, (vector, other))
    size = float(np.mean(list(vector.norms.values())))
    rows = [
        [term(vector, Add(), amount=0.3, scope="user", rule=steered_reference.words_of("Name one fruit."))],
        [
            term(
                other,
                Rotate(20.0),
                scope="generated, decay 3",
                rule=steered_reference.both(steered_reference.in_answer, steered_reference.decay(3)),
            ),
            term(vector, Floor(Bound(0.1 * size))),
            term(other, Ablate(), scope="prompt", rule=steered_reference.in_prompt),
        ],
    ]
    assert_as_reference(host, ["Name one fruit.", "Hi"], rows)

"""Every operator and every scope: states and answers are those of a slow reference, in a batch, alone, with a cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steered_reference as by_reference
from architectures.building import build, every_architecture
from steered_reference import HandTerm, Prompt, Rule, answer_steered
from tiny_models import BY_NAME, byte_tokenizer, vector_for
from trimtab.engines.transformers import TransformersEngine
from trimtab.steering import Ablate, Add, Bound, Cap, Clamp, Floor, Rotate, Scope, Steering, Term
from trimtab.steering.operators import Operator
from trimtab.vectors import ControlVector

COUNT = 6
LAYERS = (1, 2)
TEXTS = ("Hi", "How was your day at the sea?", "Name a fruit", "A longer one than these?", "Ah", "Who?", "And now, then")
FAMILIES = ("gemma3", "gpt2", "qwen3_moe", "llava")


@dataclass(frozen=True)
class Host:
    """An engine, and its blocks as known without it."""

    engine: TransformersEngine
    blocks: nn.ModuleList
    vectors: tuple[ControlVector, ControlVector]

    def prompt(self, chat: Any) -> Prompt:
        """Rendered; where its tokens stand is said by the tokenizer."""
        text = self.engine.render(chat)
        tokens = self.engine.encode(text)
        own = self.engine.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert tuple(own["input_ids"]) == tokens
        return Prompt(text, tokens, own["offset_mapping"], self.engine.tokenizer.decode)


@pytest.fixture(scope="module", params=FAMILIES)
def host(request: pytest.FixtureRequest) -> Host:
    if request.param == "llava":
        name = "LlavaForConditionalGeneration"
        model = build(next(architecture for architecture in every_architecture() if architecture.name == name))
        engine = TransformersEngine(model, byte_tokenizer(), name="tiny llava")
        return _host(engine, model.model.language_model.layers)
    family = BY_NAME[request.param]
    model = family.build()
    return _host(TransformersEngine(model, byte_tokenizer(), name=family.name), family.blocks(model))


def _host(engine: TransformersEngine, blocks: nn.ModuleList) -> Host:
    layers = tuple(layer for layer in LAYERS if layer < len(blocks))
    first, second = (vector_for(engine, seed=seed, layers=layers, size=0.5) for seed in (1, 2))
    return Host(engine, blocks, (first, second))


# What each operator is, here and there -----------------------------------------------------------------------------


def term(
    vector: ControlVector, operator: Operator, *, amount: float | None = None, scope: str = "", rule: Rule | None = None
) -> tuple[Term, HandTerm]:
    """A term for the engine, and the same for the reference."""
    tokens = Scope.of(scope) if scope else Scope()
    takes = isinstance(operator, Add) or operator == Rotate()
    asked = Term(vector, coefficient=amount if takes else None, operator=operator, tokens=tokens)
    operation, amounts = _by_hand(vector, operator, amount or 0.0)
    return asked, HandTerm(operation, vector.directions, amounts, rule or (lambda seen: 1.0))


def _by_hand(vector: ControlVector, operator: Operator, amount: float) -> tuple[Any, Mapping[int, float]]:
    layers = vector.directions
    if isinstance(operator, Add):
        added = {layer: amount * vector.weights[layer] * vector.norms[layer] for layer in layers}
        return by_reference.add_preserving_norm if operator.preserve_norm else by_reference.add, added
    if isinstance(operator, Rotate):
        if operator.degrees is None:
            return by_reference.rotate, {layer: amount * vector.weights[layer] for layer in layers}
        return by_reference.rotate, dict.fromkeys(layers, math.radians(operator.degrees))
    if isinstance(operator, Clamp):
        return by_reference.clamp_to(operator.low.value, operator.high.value), {}
    if isinstance(operator, Ablate):
        return by_reference.ablate, {}
    operation = by_reference.floor if isinstance(operator, Floor) else by_reference.cap
    return operation, dict.fromkeys(layers, operator.bound.value)


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


# Seeing what left the blocks ---------------------------------------------------------------------------------------


@contextmanager
def states_between(blocks: nn.ModuleList, *, cached: bool) -> Iterator[dict[int, torch.Tensor]]:
    """What each block but the first is given, ``[row, column, hidden]``, by the layer before it."""
    found: dict[int, torch.Tensor] = {}

    def hook(layer: int) -> Callable[..., None]:
        def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            state = (args[0] if args else kwargs["hidden_states"]).detach().float()
            found[layer] = torch.cat([found[layer], state], dim=1) if cached and layer in found else state

        return see

    handles = [
        block.register_forward_pre_hook(hook(layer), with_kwargs=True) for layer, block in enumerate(list(blocks)[1:])
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def assert_as_reference(host: Host, chats: Sequence[Any], rows: Sequence[Sequence[tuple[Term, HandTerm]]]) -> None:
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
    for n in (0, 1):
        for use_cache in (True, False):
            alone = host.engine.generate(chats[n : n + 1], steering=steerings[n], max_new_tokens=COUNT, use_cache=use_cache)
            assert alone[0].tokens == wanted[n][0]


def assert_close(found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape
    off = np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert off.max() < 1e-4


# Operators ---------------------------------------------------------------------------------------------------------


def test_every_operator_is_as_the_reference_has_it(host: Host) -> None:
    rows = operators(*host.vectors)
    assert_as_reference(host, TEXTS, rows)
    plain = [c.tokens for c in host.engine.generate(TEXTS, max_new_tokens=COUNT)]
    steered = host.engine.generate(TEXTS, steering=[Steering(tuple(t for t, _ in r)) for r in rows], max_new_tokens=COUNT)
    assert sum(a != b.tokens for a, b in zip(plain, steered, strict=True)) >= 4  # else the answers show little


def test_padding_and_sinks_are_never_touched(host: Host) -> None:
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

SYSTEM, USER, SAID = "Be kind, please.", "Where is the ship?", "It sank."
CHAT = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": USER},
    {"role": "assistant", "content": SAID},
    {"role": "user", "content": "Oh no! Why?"},
]
R = by_reference
SCOPES: tuple[tuple[str, Rule], ...] = (
    ("prompt", R.in_prompt),
    ("generated", R.in_answer),
    ("system", R.words_of(SYSTEM)),
    ("user", R.words_of(USER, "Oh no! Why?")),
    ("assistant", lambda seen: max(R.words_of(SAID)(seen), R.in_answer(seen))),
    ('after:"the ship"', R.after("the ship")),
    ('before:"the ship"', R.before("the ship")),
    ('after:"kind", before:"Oh no"', R.both(R.after("kind"), R.before("Oh no"))),
    ("first 2", R.counted(0, 2)),
    ("from 3", R.counted(3, math.inf)),
    ("first 4, from 1", R.counted(1, 4)),
    ("decay 4", R.decay(4)),
    ("half-life 1.5", R.half_life(1.5)),
    ("generated, half-life 2", R.both(R.in_answer, R.half_life(2))),
)


def scoped_rows(host: Host, scopes: Sequence[tuple[str, Rule]]) -> list[list[tuple[Term, HandTerm]]]:
    first, second = host.vectors
    return [
        [
            term(first, Add(), amount=0.8, scope=scope, rule=rule),
            term(second, Rotate(35.0), scope=scope, rule=rule),
        ]
        for scope, rule in scopes
    ]


def test_every_scope_is_as_the_reference_has_it(host: Host) -> None:
    chats = [CHAT if n % 2 else [*CHAT[:3], {"role": "user", "content": "Oh no! Why? Tell me"}] for n in range(len(SCOPES))]
    chats[3] = CHAT
    assert_as_reference(host, chats, scoped_rows(host, SCOPES))


def test_a_text_that_comes_in_the_answer_parts_it(host: Host) -> None:
    """A letter of the unsteered answer; behind it, or before it, steering changes only what is still to come."""
    plain = host.engine.generate(TEXTS, max_new_tokens=COUNT)
    chosen = []
    for text, completion in zip(TEXTS, plain, strict=True):
        letters = [host.engine.tokenizer.decode([token]) for token in completion.tokens[1:-1]]
        chosen += [(text, letter) for letter in letters if letter.isalnum() and letter not in host.engine.render(text)][:1]
    scopes = [(f'{kind}:"{letter}"', rule(letter)) for _, letter in chosen for kind, rule in (("after", R.after), ("before", R.before))]
    if not scopes:
        pytest.skip("no answer has a letter that its prompt lacks")
    assert_as_reference(host, [text for text, _ in chosen for _ in range(2)] + ["Hi"], [*scoped_rows(host, scopes), []])


# The default model -------------------------------------------------------------------------------------------------


def test_operators_and_scopes_of_the_default_model_are_as_the_reference_has_them(smollm2: TransformersEngine) -> None:
    vector, other = (vector_for(smollm2, seed=seed, layers=[8, 16]) for seed in (1, 2))
    host = Host(smollm2, smollm2.model.model.layers, (vector, other))
    size = float(np.mean(list(vector.norms.values())))
    rows = [
        [term(vector, Add(), amount=0.3, scope="user", rule=R.words_of("Name one fruit."))],
        [
            term(other, Rotate(20.0), scope="generated, decay 3", rule=R.both(R.in_answer, R.decay(3))),
            term(vector, Floor(Bound(0.1 * size))),
            term(other, Ablate(), scope="prompt", rule=R.in_prompt),
        ],
    ]
    assert_as_reference(host, ["Name one fruit.", "Hi"], rows)

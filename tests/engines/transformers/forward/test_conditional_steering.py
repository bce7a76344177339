"""Conditions and monitors: decided by what a slow reference reads, row by row, with a cache and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from by_hand import logits_of, traces_in
from neutral_vectors import reader_for
from tiny_models import LAYERS, vector_for
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import CancelledGenerationError, SteeringError, VectorError
from trimtab.steering import AllOf, AnyOf, Bound, Comparison, Condition, Floor, Not, Steering, Term
from trimtab.vectors import ControlVector

Make = Callable[..., TransformersEngine]
TEXTS = ("Hi", "How was your day at the sea?", "Name a fruit", "Who?")
COUNT = 10


def states_of(engine: TransformersEngine, tokens: Sequence[int]) -> np.ndarray:
    """``[layer, token, hidden]``."""
    return read_adding(engine, tokens, {})[0]


def read_adding(
    engine: TransformersEngine, tokens: Sequence[int], additions: Mapping[int, Mapping[int, np.ndarray]]
) -> tuple[np.ndarray, torch.Tensor]:
    """States as they leave the blocks, ``[layer, token, hidden]``, and the last token's logits.

    ``additions[n][layer]`` is then added to the state of token ``n``.
    """
    found: list[np.ndarray] = []

    def hook(layer: int) -> Any:
        def after(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
            found.append(output[0].numpy())
            changed = output.clone()
            for n, added in additions.items():
                if layer in added:
                    changed[0, n] += torch.from_numpy(np.array(added[layer]))
            return changed

        return after

    handles = [block.register_forward_hook(hook(n)) for n, block in enumerate(engine.model.model.layers)]
    logits = logits_of(engine.model, tokens)[-1]
    for handle in handles:
        handle.remove()
    return np.stack(found), logits


def z_score(vector: ControlVector, states: np.ndarray, *, spread: str = "token") -> float:
    """Of one state, ``[layer, hidden]``, straight from the definition."""
    neutral = getattr(vector.neutral, spread)
    read = vector.reader.layers
    return float(
        np.mean(
            [
                (states[layer].astype(np.float64) @ vector.directions[layer] - neutral.mean[layer])
                / neutral.deviation[layer]
                for layer in read
            ]
        )
    )


def decided(engine: TransformersEngine, condition: Condition, **options: Any) -> list[bool]:
    """For each of the texts, whether a term under a condition acted."""
    term = Term(vector_for(engine, seed=9, layers=[2]), coefficient=0.5, condition=condition)
    completions = engine.generate(TEXTS, steering=[term], max_new_tokens=2, **options)
    acted = [completion.receipt.tokens > 0 for completion in completions]
    assert acted == [completion.receipt.terms[0].fired for completion in completions]
    return acted


# Conditions on prompts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_scores_are_those_read_by_hand(llama: TransformersEngine, pool: str) -> None:
    reader = reader_for(llama, pool=pool)
    scores = llama.scores(TEXTS, reader)
    for text, score in zip(TEXTS, scores, strict=True):
        prompt = f"<bos>[user]{text}\n[assistant]"
        states = states_of(llama, llama.encode(prompt))
        words = slice(1 + len("[user]"), 1 + len("[user]") + len(text))
        state = states[:, words].mean(axis=1, dtype=np.float64) if pool == "mean" else states[:, -1]
        assert score == pytest.approx(z_score(reader, state, spread=pool), abs=1e-4)


@pytest.mark.parametrize("use_cache", [True, False])
def test_condition_decides_per_row(llama: TransformersEngine, use_cache: bool) -> None:
    reader, other = reader_for(llama), reader_for(llama, seed=1, layers=[0, 3], pool="last")
    mine, theirs = llama.scores(TEXTS, reader), llama.scores(TEXTS, other)
    a, b = float(np.median(mine)), float(np.median(theirs))
    above, below = Comparison(reader, "above", a), Comparison(other, "below", b)
    cases: list[tuple[Condition, np.ndarray]] = [
        (above, mine > a),
        (below, theirs < b),
        (Not(above), ~(mine > a)),
        (AllOf((above, below)), (mine > a) & (theirs < b)),
        (AnyOf((above, Not(below))), (mine > a) | ~(theirs < b)),
    ]
    for condition, wanted in cases:
        assert decided(llama, condition, use_cache=use_cache) == wanted.tolist()
    assert {*(mine > a).tolist()} == {*(theirs < b).tolist()} == {True, False}


def test_row_with_false_condition_equals_unsteered(llama: TransformersEngine) -> None:
    reader, vector = reader_for(llama), vector_for(llama, seed=9, layers=[1, 2])
    scores = llama.scores(TEXTS, reader)
    between = float(np.median(scores))
    term = Term(vector, coefficient=2.0, condition=Comparison(reader, "above", between))
    found = llama.generate(TEXTS, steering=[term], max_new_tokens=COUNT)
    plain = llama.generate(TEXTS, max_new_tokens=COUNT)
    always = llama.generate(TEXTS, steering=[replace(term, condition=None)], max_new_tokens=COUNT)
    for score, own, without, with_it in zip(scores, found, plain, always, strict=True):
        assert own.tokens == (with_it if score > between else without).tokens
        assert with_it.tokens != without.tokens


def test_scores_at_last_user_turn_read_it_alone(llama: TransformersEngine) -> None:
    reader = reader_for(llama)
    chat = [
        {"role": "user", "content": "A long first question"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Bye"},
    ]
    text = "<bos>[user]A long first question\n[assistant]Yes\n[user]Bye\n[assistant]"
    start = 1 + text.index("Bye") - len("<bos>")
    states = states_of(llama, llama.encode(text))[:, start : start + 3]
    wanted = z_score(reader, states.mean(axis=1, dtype=np.float64), spread="mean")
    assert llama.scores([chat], reader, at="last-user-turn")[0] == pytest.approx(wanted, abs=1e-4)
    assert llama.scores([chat], reader)[0] != pytest.approx(wanted, abs=1e-2)
    condition = Comparison(reader, "above", wanted - 0.01, at="last-user-turn")
    term = Term(vector_for(llama), coefficient=0.5, condition=condition)
    (own,) = llama.generate([chat], steering=[term], max_new_tokens=2)[0].receipt.terms
    assert own.fired
    assert own.readings == {"random at last-user-turn": pytest.approx(wanted, abs=1e-4)}


def test_scores_ignore_surrounding_steering_scope(llama: TransformersEngine) -> None:
    reader = reader_for(llama)
    plain = llama.scores(TEXTS, reader)
    with llama.steered([Term(vector_for(llama, layers=[0]), coefficient=2.0)]):
        np.testing.assert_allclose(llama.scores(TEXTS, reader), plain, atol=1e-5)


# Conditions on tokens ----------------------------------------------------------------------------------------------


def slowly(
    engine: TransformersEngine, prompt: Sequence[int], vector: ControlVector, comparison: Comparison
) -> tuple[list[int], list[bool], list[float]]:
    """Tokens, whether each was steered when it was read, and the reading of the state from which it was chosen."""
    added = {layer: u * np.float32(2 * vector.norms[layer]) for layer, u in vector.directions.items()}
    answer: list[int] = []
    held, steered, readings = False, [], []
    additions: dict[int, Any] = {}
    while len(answer) < COUNT:
        tokens = [*prompt, *answer]
        states, logits = read_adding(engine, tokens, additions)
        readings.append(z_score(comparison.vector, states[:, -1]))
        answer.append(int(logits.argmax()))
        level = comparison.release if held and comparison.release is not None else comparison.threshold
        held = readings[-1] > level if comparison.side == "above" else readings[-1] < level
        steered.append(held)
        if held:
            additions[len(tokens)] = added
    return answer, steered, readings


@pytest.mark.parametrize(("side", "hysteresis"), [("above", 0.0), ("above", 0.3), ("below", 0.3)])
def test_token_conditions_equal_the_slow_reference(llama: TransformersEngine, side: Any, hysteresis: float) -> None:
    reader, vector = reader_for(llama), vector_for(llama, seed=9, layers=[1, 2])
    vector = replace(vector, weights=dict.fromkeys([1, 2], 1.0))
    plain = llama.generate(TEXTS, max_new_tokens=COUNT, read=[reader])
    level = float(np.median([z for c in plain for z in c.readings["random"]]))
    release = (level - hysteresis if side == "above" else level + hysteresis) if hysteresis else None
    comparison = Comparison(reader, side, level, "token", release)
    term = Term(vector, coefficient=2.0, condition=comparison)
    wanted = [slowly(llama, llama.encode(llama.render(text)), vector, comparison) for text in TEXTS]
    assert {held for _, steered, _ in wanted for held in steered} == {True, False}
    farthest = max if side == "above" else min
    for use_cache in (True, False):
        together = llama.generate(TEXTS, steering=[term], max_new_tokens=COUNT, use_cache=use_cache, read=[reader])
        alone = llama.generate([TEXTS[1]], steering=[term], max_new_tokens=COUNT, use_cache=use_cache, read=[reader])
        for completion, (answer, steered, readings) in zip([*together, *alone], [*wanted, wanted[1]], strict=True):
            assert completion.tokens == tuple(answer)
            assert completion.readings["random"] == pytest.approx(readings, abs=1e-3)
            (own,) = completion.receipt.terms
            assert own.tokens == sum(steered[:-1])  # nobody reads the last token
            assert own.fired == any(steered[:-1])
            assert own.readings == {"random at token": pytest.approx(farthest(readings[:-1]), abs=1e-3)}


def test_condition_on_prompt_and_tokens_needs_both(llama: TransformersEngine) -> None:
    reader, other = reader_for(llama), reader_for(llama, seed=1, name="other")
    scores = llama.scores(TEXTS, other)
    always = Comparison(reader, "above", -1e6, "token")
    gate = Comparison(other, "above", float(np.median(scores)))
    term = Term(vector_for(llama, seed=9), coefficient=0.5, condition=AllOf((gate, always)))
    found = llama.generate(TEXTS, steering=[term], max_new_tokens=4)
    assert [c.receipt.tokens for c in found] == [3 if score > np.median(scores) else 0 for score in scores]
    assert set(found[0].receipt.terms[0].readings) == {"random at token", "other at prompt"}


# Streams -----------------------------------------------------------------------------------------------------------


def test_stream_readings_equal_projections_of_states(
    llama: TransformersEngine,
) -> None:
    reader, other = reader_for(llama, name="mood"), reader_for(llama, seed=1, layers=range(LAYERS), name="other")
    for use_cache in (True, False):
        stream = llama.stream("How was it?", read=[reader, other], max_new_tokens=6, use_cache=use_cache)
        streamed = [token for token in stream if token.token is not None]
        completion = stream.completion
        assert tuple(token.token for token in streamed) == completion.tokens
        assert completion.tokens == llama.generate("How was it?", max_new_tokens=6).tokens
        prompt = llama.encode(llama.render("How was it?"))
        states = states_of(llama, [*prompt, *completion.tokens[:-1]])
        for n, token in enumerate(streamed):
            chosen_from = states[:, len(prompt) - 1 + n]
            assert token.readings == {
                "mood": pytest.approx(z_score(reader, chosen_from), abs=1e-3),
                "other": pytest.approx(z_score(other, chosen_from), abs=1e-3),
            }
        assert completion.readings["mood"] == tuple(token.readings["mood"] for token in streamed)
    assert traces_in(llama.model) == []


def test_pieces_of_stream_join_to_text(llama: TransformersEngine) -> None:
    stream = llama.stream("Hi", max_new_tokens=12, temperature=3.0, seed=1)
    assert "".join(token.text for token in stream) == stream.completion.text


def test_stream_closed_early_leaves_no_hooks(llama: TransformersEngine) -> None:
    steering = [Term(vector_for(llama), coefficient=0.5)]
    options = {"max_new_tokens": 50, "use_cache": False, "ignore_eos": True}
    with llama.stream("Hi", steering=steering, read=[reader_for(llama)], **options) as stream:
        first = next(stream)
    assert traces_in(llama.model) == []
    with pytest.raises(CancelledGenerationError):
        _ = stream.completion
    assert list(stream) == []
    assert llama.generate("Hi", steering=steering, max_new_tokens=1).tokens[0] == first.token


def test_stream_without_reader_can_be_closed(llama: TransformersEngine) -> None:
    llama.stream("Hi").close()
    assert llama.generate("Hi", max_new_tokens=1).tokens


def test_stream_error_is_raised_in_the_reader(tiny: Make) -> None:
    engine = tiny("llama")
    engine.generate("Hi", max_new_tokens=1)

    def fail(*_: Any) -> None:
        raise FloatingPointError("the model broke")

    handle = engine.model.model.layers[2].register_forward_hook(fail)
    with pytest.raises(FloatingPointError, match="the model broke"):
        list(engine.stream("Hi", max_new_tokens=4))
    handle.remove()
    assert traces_in(engine.model) == []
    assert len(engine.generate("Hi", max_new_tokens=2).tokens) == 2


# What cannot be done -----------------------------------------------------------------------------------------------


def test_scoped_steering_outside_generate_is_refused(llama: TransformersEngine) -> None:
    reader = reader_for(llama)
    for more in ({"tokens": "generated"}, {"condition": Comparison(reader, "above", 0.0)}):
        term = Term(vector_for(llama), coefficient=0.5, **more)
        complaint = "need to know what is prompt and what is answer; call generate"
        with pytest.raises(SteeringError, match=complaint), llama.steered([term]):
            llama.model(input_ids=torch.tensor([[1, 2, 3]]))
        assert traces_in(llama.model) == []
        with llama.steered([term]):
            inside = llama.generate("Hi", max_new_tokens=3)
        outside = llama.generate("Hi", steering=[term], max_new_tokens=3)
        assert (inside.tokens, inside.receipt.tokens) == (outside.tokens, outside.receipt.tokens)


@pytest.mark.parametrize(
    ("scope", "raw", "complaint"),
    [
        ("user", True, "@user.*the prompt is bare text, which has no turns; give a chat, or another scope"),
        ("thinking", False, "@thinking.*the model has no marks around thoughts, so they cannot be found"),
    ],
)
def test_scope_without_its_tokens_is_refused(llama: TransformersEngine, scope: str, raw: bool, complaint: str) -> None:
    with pytest.raises(SteeringError, match=complaint):
        llama.generate("Hi", steering=[Term(vector_for(llama), coefficient=1.0, tokens=scope)], raw=raw)
    assert traces_in(llama.model) == []


def test_turns_changed_by_template_are_refused(tiny: Make) -> None:
    engine = tiny(chat_template="{% for m in messages %}<{{ m.role }}>{{ m.content | upper }}\n{% endfor %}")
    with pytest.raises(SteeringError, match=r"chat template changes the messages.*such as 'generated'"):
        engine.generate("hi", steering=[Term(vector_for(engine), coefficient=1.0, tokens="assistant")])


def test_vector_without_neutral_statistics_cannot_be_read(llama: TransformersEngine) -> None:
    bare = vector_for(llama, name="bare")
    for ask in (
        lambda: llama.generate("Hi", read=[bare], max_new_tokens=2),
        lambda: list(llama.stream("Hi", read=[bare], max_new_tokens=2)),
        lambda: llama.scores(["Hi"], bare),
    ):
        with pytest.raises(VectorError, match=r"'bare' has no neutral statistics.*trimtab.calibrate"):
            ask()
        assert traces_in(llama.model) == []
    with pytest.raises(SteeringError, match="'bare' has no neutral statistics"):
        llama.generate("Hi", steering=Steering((Term(bare, operator=Floor(Bound(1.0, "z"))),)))

"""Hidden states: what each block puts out at chosen tokens of each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from by_hand import traces_in
from tiny_models import BOS, CONTEXT, HIDDEN, LAYERS, VOCABULARY, Family
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import PromptError, SteeringError

TEXTS = ["Once", "Once upon a time", "A ship", "Once upon", "A ship", "The river\nran dry.", "Zürich, 9 €"]
TOLERANCE = 1e-5


def slowly(engine: TransformersEngine, blocks: nn.ModuleList, texts: Sequence[str]) -> np.ndarray:
    """``[text, layer, hidden]`` the obvious way: one text at a time, each block's output caught by a hook."""
    rows = []
    for text in texts:
        caught: list[np.ndarray] = []

        def catch(_: nn.Module, __: object, output: object, caught: list[np.ndarray] = caught) -> None:
            state = output[0] if isinstance(output, tuple) else output
            caught.append(state[0, -1].float().numpy())

        handles = [block.register_forward_hook(catch) for block in blocks]
        with torch.no_grad():
            engine.model(input_ids=torch.tensor([engine.tokenizer(text)["input_ids"]]), use_cache=False)
        for handle in handles:
            handle.remove()
        rows.append(np.stack(caught))
    return np.stack(rows)


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative error of any hidden state."""
    assert found.shape == expected.shape
    lengths = np.linalg.norm(expected, axis=-1)
    return float((np.linalg.norm(found - expected, axis=-1) / lengths).max())


def test_states_of_default_model_equal_single_texts(smollm2: TransformersEngine) -> None:
    found = smollm2.hidden_states(TEXTS)
    assert found.shape == (len(TEXTS), 30, 576)
    assert found.dtype == np.float32
    assert error(found, slowly(smollm2, smollm2.model.model.layers, TEXTS)) < TOLERANCE


def test_last_layer_is_taken_before_final_norm(smollm2: TransformersEngine) -> None:
    with torch.no_grad():
        tokens = torch.tensor([smollm2.tokenizer(TEXTS[1])["input_ids"]])
        normed = smollm2.model.model(tokens).last_hidden_state[0, -1]
    last = torch.from_numpy(smollm2.hidden_states([TEXTS[1]], layers=[-1])[0, 0])
    assert last.norm() > 2 * normed.norm()
    torch.testing.assert_close(smollm2.model.model.norm(last), normed, rtol=1e-4, atol=1e-4)


def test_states_of_every_family_equal_single_texts(family: Family, engine: TransformersEngine) -> None:
    """Some texts are longer than the sliding window of the families that have one."""
    found = engine.hidden_states(TEXTS)
    assert found.shape == (len(TEXTS), LAYERS, HIDDEN)
    assert error(found, slowly(engine, family.blocks(engine.model), TEXTS)) < TOLERANCE
    assert traces_in(engine.model) == []


@given(texts=st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=14))
def test_states_of_short_texts_equal_single_texts(llama: TransformersEngine, texts: list[str]) -> None:
    """Two letters make many duplicates and texts that begin others."""
    distinct = sorted(set(texts))
    expected = dict(zip(distinct, slowly(llama, llama.model.model.layers, distinct), strict=True))
    assert error(llama.hidden_states(texts), np.stack([expected[text] for text in texts])) < TOLERANCE


@pytest.mark.parametrize("size", [1, 7, 16])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "plain"])
@pytest.mark.usefixtures("always_walking")
def test_states_do_not_depend_on_division_into_passes(llama: TransformersEngine, size: int, shared: bool) -> None:
    whole = llama.hidden_states(TEXTS, share_prefixes=False)
    assert error(llama.hidden_states(TEXTS, max_tokens=size, share_prefixes=shared), whole) < TOLERANCE


@pytest.mark.usefixtures("always_walking")
def test_shared_prefixes_are_read_once(llama: TransformersEngine) -> None:
    llama.hidden_states(["a longer text", "another text"])  # whatever is proven is proven now
    read = 0

    def count(_: nn.Module, __: object, output: torch.Tensor) -> None:
        nonlocal read
        read += output.shape[0] * output.shape[1]

    handle = llama.model.get_input_embeddings().register_forward_hook(count)
    found = llama.collect(["abc", "a", "abcdef", "ab", "abcdef", "abx"])
    handle.remove()
    assert read == found.report.computed == found.report.distinct == len("<abcdef") + len("x")


# Positions ---------------------------------------------------------------------------------------------------------

SPANS = [(0, 2), (1, 4), (-3, None), (2, None), (None, -1), (-100, 100), (3, 5)]  # one for each of TEXTS


def all_slowly(engine: TransformersEngine, blocks: nn.ModuleList, texts: Sequence[str]) -> list[np.ndarray]:
    """``[token, layer, hidden]`` of each text: the hidden states of all its prefixes, each read alone."""
    found = []
    for text in texts:
        tokens = engine.tokenizer(text)["input_ids"]
        caught: list[np.ndarray] = []

        def catch(_: nn.Module, __: object, output: object, caught: list[np.ndarray] = caught) -> None:
            state = output[0] if isinstance(output, tuple) else output
            caught.append(state[0, -1].float().numpy())

        handles = [block.register_forward_hook(catch) for block in blocks]
        with torch.no_grad():
            for end in range(1, len(tokens) + 1):
                engine.model(input_ids=torch.tensor([tokens[:end]]), use_cache=False)
        for handle in handles:
            handle.remove()
        found.append(np.stack(caught).reshape(len(tokens), len(blocks), -1))
    return found


@pytest.fixture(scope="module")
def every_state(llama: TransformersEngine) -> list[np.ndarray]:
    return all_slowly(llama, llama.model.model.layers, TEXTS)


walked_or_plain = pytest.mark.parametrize("shared", [True, False], ids=["shared", "plain"])


@walked_or_plain
@pytest.mark.parametrize("position", [0, 2, -1, -2])
@pytest.mark.usefixtures("always_walking")
def test_token_of_index_counts_from_either_end(
    llama: TransformersEngine, every_state: list[np.ndarray], position: int, shared: bool
) -> None:
    found = llama.hidden_states(TEXTS, position=position, max_tokens=7, share_prefixes=shared)
    assert error(found, np.stack([states[position] for states in every_state])) < TOLERANCE


def test_last_index_is_last_token(llama: TransformersEngine) -> None:
    np.testing.assert_array_equal(llama.hidden_states(TEXTS, position=-1), llama.hidden_states(TEXTS))


def test_position_accepts_numpy_index(llama: TransformersEngine) -> None:
    found = llama.hidden_states(TEXTS, position=np.int64(2))
    np.testing.assert_array_equal(found, llama.hidden_states(TEXTS, position=2))


@walked_or_plain
@pytest.mark.parametrize("span", [None, (1, None), (0, 3), (-2, None), (None, -1), SPANS], ids=str)
@pytest.mark.usefixtures("always_walking")
def test_mean_is_over_span_of_each_text(
    llama: TransformersEngine, every_state: list[np.ndarray], span: Any, shared: bool
) -> None:
    found = llama.hidden_states(TEXTS, position="mean", span=span, max_tokens=7, share_prefixes=shared)
    assert found.dtype == np.float32
    spans = span if isinstance(span, list) else [span or (None, None)] * len(TEXTS)
    expected = [
        states[slice(*span)].astype(np.float64).mean(axis=0) for states, span in zip(every_state, spans, strict=True)
    ]
    assert error(found, np.stack(expected)) < TOLERANCE


@walked_or_plain
@pytest.mark.parametrize("span", [None, (1, None), (-2, None), SPANS], ids=str)
@pytest.mark.usefixtures("always_walking")
def test_all_positions_of_span_are_one_array_per_text(
    llama: TransformersEngine, every_state: list[np.ndarray], span: Any, shared: bool
) -> None:
    found = llama.hidden_states(TEXTS, position="all", span=span, max_tokens=7, share_prefixes=shared)
    assert isinstance(found, list)
    assert len(found) == len(TEXTS)
    spans = span if isinstance(span, list) else [span or (None, None)] * len(TEXTS)
    for mine, states, one in zip(found, every_state, spans, strict=True):
        assert mine.dtype == np.float32
        assert error(mine, states[slice(*one)]) < TOLERANCE
    collected = llama.collect(TEXTS, position="all", span=span, share_prefixes=shared).states
    assert collected.shape == (sum(map(len, found)), LAYERS, HIDDEN)
    assert error(collected, np.concatenate(found)) < TOLERANCE


def test_positions_of_every_family_are_those_of_whole_text(family: Family, engine: TransformersEngine) -> None:
    """The slow reference, of one long and one short text."""
    texts = [TEXTS[1], TEXTS[0]]
    expected = all_slowly(engine, family.blocks(engine.model), texts)
    for mine, states in zip(engine.hidden_states(texts, position="all"), expected, strict=True):
        assert error(mine, states) < TOLERANCE
    means = np.stack([states[1:].mean(axis=0) for states in expected])
    assert error(engine.hidden_states(texts, position="mean", span=(1, None)), means) < TOLERANCE


def test_position_combines_with_layers(llama: TransformersEngine, every_state: list[np.ndarray]) -> None:
    found = llama.hidden_states(TEXTS, position="mean", layers=[2, 0, 2])
    assert error(found, np.stack([states[:, [2, 0, 2]].mean(axis=0) for states in every_state])) < TOLERANCE
    rows = llama.hidden_states(TEXTS, position="all", layers=[-1])
    assert [row.shape for row in rows] == [(len(states), 1, HIDDEN) for states in every_state]


def test_two_spans_apply_to_two_texts(llama: TransformersEngine) -> None:
    """Which are not mistaken for the two ends of one."""
    found = llama.hidden_states(["abcd", "abcdef"], position="all", span=[(0, 2), (1, 4)])
    assert [len(states) for states in found] == [2, 3]
    assert len(llama.hidden_states(["abcd"], position="all", span=[(1, 3)])[0]) == 2


@pytest.mark.parametrize("position", ["middle", "", "LAST", True, False, 1.0, None, (0,)], ids=repr)
def test_unknown_position_is_error(llama: TransformersEngine, position: Any) -> None:
    with pytest.raises(PromptError, match=r"position .* is not known; use 'last', 'mean', 'all' or the index"):
        llama.hidden_states(["abc"], position=position)


@pytest.mark.parametrize("position", [3, 100, -4])
def test_index_beyond_any_text_is_error(llama: TransformersEngine, position: int) -> None:
    with pytest.raises(PromptError, match=rf"a text of [37] tokens has no token {position}"):
        llama.hidden_states(["abcdef", "ab"], position=position)


@pytest.mark.parametrize("span", [(2, 2), (3, 1), (3, None), (None, 0), (-1, -1), [(0, 2), (5, 9)]], ids=str)
@pytest.mark.parametrize("position", ["mean", "all"])
def test_empty_span_is_error(llama: TransformersEngine, position: Any, span: Any) -> None:
    with pytest.raises(PromptError, match=r"the span .* of a text of [37] tokens is empty"):
        llama.hidden_states(["abcdef", "ab"], position=position, span=span)


@pytest.mark.parametrize("span", [[(0, 1)], [(0, 1)] * 3, []], ids=len)
@pytest.mark.parametrize("position", ["mean", "all"])
def test_wrong_number_of_spans_is_error(llama: TransformersEngine, position: Any, span: Any) -> None:
    with pytest.raises(PromptError, match=f"{len(span)} spans for 2 texts"):
        llama.hidden_states(["abcdef", "ab"], position=position, span=span)


@pytest.mark.parametrize("position", ["last", 0, -1])
def test_span_for_position_of_one_token_is_error(llama: TransformersEngine, position: Any) -> None:
    with pytest.raises(PromptError, match="a span makes no sense for position"):
        llama.hidden_states(["abc"], position=position, span=(0, 2))


@pytest.mark.parametrize("size", [0, -1])
def test_passes_without_tokens_are_error(llama: TransformersEngine, size: int) -> None:
    with pytest.raises(PromptError, match=f"max_tokens is {size}; allow at least 1"):
        llama.hidden_states(["abc"], max_tokens=size)


def test_bare_string_is_error(llama: TransformersEngine) -> None:
    for read in (llama.hidden_states, llama.collect):
        with pytest.raises(PromptError, match="is not a list of texts; give a list"):
            read("abc")


# Layers, texts and tokens ------------------------------------------------------------------------------------------


def test_hidden_states_take_token_ids_as_texts(llama: TransformersEngine) -> None:
    tokens = [llama.encode(text) for text in TEXTS]
    expected = llama.hidden_states(TEXTS)
    np.testing.assert_array_equal(llama.hidden_states(tokens), expected)
    mixed = [text if n % 2 else tokens[n] for n, text in enumerate(TEXTS)]
    np.testing.assert_array_equal(llama.hidden_states(mixed), expected)
    np.testing.assert_array_equal(llama.hidden_states([list(ids) for ids in tokens]), expected)
    bare = llama.hidden_states([tokens[0][1:]])  # nothing is put before token ids
    assert np.abs(bare - expected[:1]).max() > 0.01


def test_hidden_states_of_empty_token_ids_is_error(llama: TransformersEngine) -> None:
    with pytest.raises(PromptError, match="the text is empty"):
        llama.hidden_states([(1, 2), ()])


def test_token_ids_limit_is_context_window(llama: TransformersEngine) -> None:
    assert llama.hidden_states([(7,) * CONTEXT]).shape == (1, LAYERS, HIDDEN)
    with pytest.raises(PromptError, match=rf"has {CONTEXT + 1} tokens, but tiny llama reads {CONTEXT}"):
        llama.hidden_states([(7,) * (CONTEXT + 1)])


def test_layers_are_in_requested_order(llama: TransformersEngine) -> None:
    every = llama.hidden_states(TEXTS)
    some = llama.hidden_states(TEXTS, layers=[3, 0, -3, 3])
    np.testing.assert_array_equal(some, every[:, [3, 0, 1, 3]])


@pytest.mark.parametrize("layer", [LAYERS, -LAYERS - 1])
def test_unknown_layer_is_error(llama: TransformersEngine, layer: int) -> None:
    with pytest.raises(SteeringError, match=f"no layer {layer}; tiny llama has layers 0 to 3"):
        llama.hidden_states(["a"], layers=[0, layer])


@pytest.mark.parametrize("position", ["last", 3, "mean"])
def test_hidden_states_of_no_texts_are_empty(llama: TransformersEngine, position: Any) -> None:
    assert llama.hidden_states([], position=position).shape == (0, LAYERS, HIDDEN)


def test_hidden_states_of_all_positions_without_texts_are_empty(llama: TransformersEngine) -> None:
    assert llama.hidden_states([], position="all") == []
    assert llama.collect([]).report.passes == 0


def test_hidden_states_of_no_layers_are_empty(llama: TransformersEngine) -> None:
    assert llama.hidden_states(["abc", "ab"], layers=[]).shape == (2, 0, HIDDEN)


def test_states_of_bfloat16_model_are_float32(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama", dtype=torch.bfloat16)
    found = engine.hidden_states(TEXTS[:1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, slowly(engine, engine.model.model.layers, TEXTS[:1]))


@pytest.mark.parametrize("which", ["smollm2", "llama"])
def test_empty_text_with_or_without_bos_is_refused(which: str, request: pytest.FixtureRequest) -> None:
    engine: TransformersEngine = request.getfixturevalue(which)
    with pytest.raises(PromptError, match="empty"):
        engine.hidden_states(["a", ""])


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_text_limit_is_context_window(tiny: Callable[..., TransformersEngine], name: str) -> None:
    engine = tiny(name)
    full = "x" * (CONTEXT - 1)  # and a BOS
    assert engine.hidden_states([full]).shape == (1, LAYERS, HIDDEN)
    with pytest.raises(PromptError, match=rf"has {CONTEXT + 1} tokens, but tiny {name} reads {CONTEXT}"):
        engine.hidden_states(["x", full + "x"])


def test_progress_runs_up_to_number_of_texts(llama: TransformersEngine) -> None:
    seen: list[tuple[int, int]] = []
    llama.hidden_states(TEXTS, progress=lambda done, total: seen.append((done, total)))
    done = [pair[0] for pair in seen]
    assert done == sorted(set(done))
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    assert {total for _, total in seen} == {len(TEXTS)}


@walked_or_plain
@pytest.mark.parametrize("position", ["last", 0, "mean", "all"])
@pytest.mark.parametrize("size", [1, 6, None])
@pytest.mark.usefixtures("always_walking")
def test_progress_counts_each_text_once_at_any_position(
    llama: TransformersEngine, size: int | None, position: Any, shared: bool
) -> None:
    seen: list[tuple[int, int]] = []
    llama.hidden_states(
        TEXTS,
        position=position,
        max_tokens=size,
        share_prefixes=shared,
        progress=lambda done, total: seen.append((done, total)),
    )
    done = [pair[0] for pair in seen]
    assert done == sorted(done)
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    assert {total for _, total in seen} == {len(TEXTS)}


# Reports -----------------------------------------------------------------------------------------------------------


def test_report_of_tree_passes_counts_computed_tokens(llama: TransformersEngine, always_walking: None) -> None:
    texts = ["abc", "a", "abcdef", "ab", "abcdef", "xyz"]
    report = llama.collect(texts, max_tokens=4).report
    assert (report.path, report.reason) == ("tree", "shared beginnings are computed once")
    assert report.sequences == len(texts)
    assert report.tokens == sum(1 + len(text) for text in texts)
    assert report.distinct == report.computed == len("<abcdef") + len("xyz")
    assert report.passes == 3
    assert report.halved_to is None


def test_report_of_batches_counts_padding_not_prefixes(
    llama: TransformersEngine,
) -> None:
    texts = ["abc", "a", "abcdef", "ab", "abcdef", "xyz"]
    report = llama.collect(texts, share_prefixes=False).report
    assert (report.path, report.reason) == ("plain", "asked for")
    assert (report.sequences, report.tokens, report.distinct) == (6, sum(1 + len(text) for text in texts), 10)
    assert report.computed == 2 * len("<abcdef")
    assert report.passes == 1
    one_by_one = llama.collect(texts, share_prefixes=False, max_tokens=1).report
    assert (one_by_one.computed, one_by_one.passes) == (len("<abcdef") + len("<xyz"), 2)
    assert report.halved_to is None


def test_report_without_shared_prefixes_names_reason(llama: TransformersEngine) -> None:
    report = llama.collect([(1, 2, 3), (4, 5, 6)]).report
    assert (report.path, report.reason) == ("plain", "sharing would save nothing")


def test_collected_states_equal_hidden_states(llama: TransformersEngine) -> None:
    collected = llama.collect(TEXTS, layers=[1], position="mean")
    np.testing.assert_array_equal(collected.states, llama.hidden_states(TEXTS, layers=[1], position="mean"))


def test_bos_is_put_before_text_once(llama: TransformersEngine) -> None:
    assert llama.encode("hi")[0] == BOS
    assert len(llama.encode("hi")) == 3
    assert llama.encode("<bos>hi") == llama.encode("hi")
    chat = llama.encode(llama.render("hi"))
    assert chat.count(BOS) == 1
    assert chat[0] == BOS
    np.testing.assert_array_equal(llama.hidden_states(["<bos>hi"]), llama.hidden_states(["hi"]))


def test_default_models_tokenizer_adds_nothing(smollm2: TransformersEngine) -> None:
    assert smollm2.decode(smollm2.encode("hi there")) == "hi there"
    assert smollm2.tokenizer.decode(smollm2.encode("hi there")) == "hi there"
    chat = smollm2.render("hi")
    assert smollm2.tokenizer.decode(smollm2.encode(chat)) == chat


@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_unknown_token_is_error(llama: TransformersEngine, token: int) -> None:
    with pytest.raises(PromptError, match=f"no token {token}; tiny llama has tokens 0 to {VOCABULARY - 1}"):
        llama.hidden_states([(1, 2), (1, token)])


@pytest.mark.parametrize("span", [(1,), (0, 3, 2), (1.0, 2), [(0, 3, 2), (0, 1)], [3, (0, 1)]], ids=str)
def test_hidden_states_invalid_span_is_error(llama: TransformersEngine, span: Any) -> None:
    with pytest.raises(PromptError, match=r"is no span|spans for"):
        llama.hidden_states(["abc", "abcd"], position="mean", span=span)

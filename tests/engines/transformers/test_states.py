"""Hidden states: what each block puts out at the last token of each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from by_hand import traces_in
from tiny_models import BOS, CONTEXT, HIDDEN, LAYERS, Family
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


def test_states_of_the_default_model_equal_reading_one_text_at_a_time(smollm2: TransformersEngine) -> None:
    found = smollm2.hidden_states(TEXTS)
    assert found.shape == (len(TEXTS), 30, 576)
    assert found.dtype == np.float32
    assert error(found, slowly(smollm2, smollm2.model.model.layers, TEXTS)) < TOLERANCE


def test_the_last_layer_is_taken_before_the_final_norm(smollm2: TransformersEngine) -> None:
    with torch.no_grad():
        tokens = torch.tensor([smollm2.tokenizer(TEXTS[1])["input_ids"]])
        normed = smollm2.model(tokens, output_hidden_states=True).hidden_states[-1][0, -1]
    last = torch.from_numpy(smollm2.hidden_states([TEXTS[1]], layers=[-1])[0, 0])
    assert last.norm() > 2 * normed.norm()
    torch.testing.assert_close(smollm2.model.model.norm(last), normed, rtol=1e-4, atol=1e-4)


def test_states_of_every_family_equal_reading_one_text_at_a_time(family: Family, engine: TransformersEngine) -> None:
    """Some texts are longer than the sliding window of the families that have one."""
    found = engine.hidden_states(TEXTS)
    assert found.shape == (len(TEXTS), LAYERS, HIDDEN)
    assert error(found, slowly(engine, family.blocks(engine.model), TEXTS)) < TOLERANCE
    assert traces_in(engine.model) == []


@given(texts=st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=14))
def test_states_of_any_short_texts_equal_reading_one_text_at_a_time(
    llama: TransformersEngine, texts: list[str]
) -> None:
    """Two letters make many duplicates and texts that begin others."""
    distinct = sorted(set(texts))
    expected = dict(zip(distinct, slowly(llama, llama.model.model.layers, distinct), strict=True))
    assert error(llama.hidden_states(texts), np.stack([expected[text] for text in texts])) < TOLERANCE


@pytest.mark.parametrize("size", [1, 7, 16])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "plain"])
@pytest.mark.usefixtures("always_walking")
def test_states_do_not_depend_on_how_texts_are_put_into_passes(
    llama: TransformersEngine, size: int, shared: bool
) -> None:
    whole = llama.hidden_states(TEXTS, share_prefixes=False)
    assert error(llama.hidden_states(TEXTS, max_tokens=size, share_prefixes=shared), whole) < TOLERANCE


@pytest.mark.usefixtures("always_walking")
def test_what_texts_share_is_read_only_once(llama: TransformersEngine) -> None:
    llama.hidden_states(["a longer text", "another text"])  # whatever is proven is proven now
    read = 0

    def count(_: nn.Module, __: object, output: torch.Tensor) -> None:
        nonlocal read
        read += output.shape[0] * output.shape[1]

    handle = llama.model.get_input_embeddings().register_forward_hook(count)
    found = llama.collect(["abc", "a", "abcdef", "ab", "abcdef", "abx"])
    handle.remove()
    assert read == found.report.computed == found.report.distinct == len("<abcdef") + len("x")


def test_layers_come_in_the_order_asked_for(llama: TransformersEngine) -> None:
    every = llama.hidden_states(TEXTS)
    some = llama.hidden_states(TEXTS, layers=[3, 0, -3, 3])
    np.testing.assert_array_equal(some, every[:, [3, 0, 1, 3]])


@pytest.mark.parametrize("layer", [LAYERS, -LAYERS - 1])
def test_a_layer_that_the_model_does_not_have_is_an_error(llama: TransformersEngine, layer: int) -> None:
    with pytest.raises(SteeringError, match=f"no layer {layer}; tiny llama has layers 0 to 3"):
        llama.hidden_states(["a"], layers=[0, layer])


def test_no_texts_give_no_states(llama: TransformersEngine) -> None:
    assert llama.hidden_states([]).shape == (0, LAYERS, HIDDEN)


def test_states_of_a_bfloat16_model_come_as_float32(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama", dtype=torch.bfloat16)
    found = engine.hidden_states(TEXTS[:1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, slowly(engine, engine.model.model.layers, TEXTS[:1]))


@pytest.mark.parametrize("which", ["smollm2", "llama"])
def test_an_empty_text_is_an_error_whether_or_not_the_tokenizer_adds_a_bos(
    which: str, request: pytest.FixtureRequest
) -> None:
    engine: TransformersEngine = request.getfixturevalue(which)
    with pytest.raises(PromptError, match="empty"):
        engine.hidden_states(["a", ""])


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_a_text_may_fill_the_context_window_and_no_more(tiny: Callable[..., TransformersEngine], name: str) -> None:
    engine = tiny(name)
    full = "x" * (CONTEXT - 1)  # and a BOS
    assert engine.hidden_states([full]).shape == (1, LAYERS, HIDDEN)
    with pytest.raises(PromptError, match=rf"has {CONTEXT + 1} tokens, but tiny {name} reads {CONTEXT}"):
        engine.hidden_states(["x", full + "x"])


def test_progress_runs_up_to_the_number_of_texts(llama: TransformersEngine) -> None:
    seen: list[tuple[int, int]] = []
    llama.hidden_states(TEXTS, progress=lambda done, total: seen.append((done, total)))
    done = [pair[0] for pair in seen]
    assert done == sorted(set(done))
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    assert {total for _, total in seen} == {len(TEXTS)}


def test_a_bos_is_put_before_a_text_once(llama: TransformersEngine) -> None:
    assert llama.encode("hi")[0] == BOS
    assert len(llama.encode("hi")) == 3
    assert llama.encode("<bos>hi") == llama.encode("hi")
    chat = llama.encode(llama.render("hi"))
    assert chat.count(BOS) == 1
    assert chat[0] == BOS
    np.testing.assert_array_equal(llama.hidden_states(["<bos>hi"]), llama.hidden_states(["hi"]))


def test_the_default_models_tokenizer_adds_nothing(smollm2: TransformersEngine) -> None:
    assert smollm2.decode(smollm2.encode("hi there")) == "hi there"
    assert smollm2.tokenizer.decode(smollm2.encode("hi there")) == "hi there"
    chat = smollm2.render("hi")
    assert smollm2.tokenizer.decode(smollm2.encode(chat)) == chat

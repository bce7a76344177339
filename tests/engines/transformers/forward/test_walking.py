"""Walks over trees of tokens: whatever is read together, in passes of any size, is what reading one by one gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from by_hand import steering_by_hand, traces_in
from tiny_models import BY_NAME, HIDDEN, LAYERS, RECURRENT, WINDOW, vector_for
from trimtab.engines.transformers import TransformersEngine

TOLERANCE = 1e-5
LONGEST = 14  # longer than the window of the families that have one
TOKENS = (5, 90, 200)
WALKED = ("llama", "gpt2", "qwen3_moe")  # whatever their length
FAMILY_NAMES = (*WALKED, "gemma3", *(family.name for family in RECURRENT))
SHARING = [(5, 90, 90, 5), (5, 90, 90, 5, 200), (5, 90, 5), (5,), (200, 5), (5, 90, 90, 5), (200, 5, 90)]
Tokens = tuple[int, ...]
Make = Callable[..., TransformersEngine]

for_few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@st.composite
def sharing_sequences(draw: st.DrawFn) -> list[Tokens]:
    """Some sequences cut off one another and continued, or not; so there are duplicates and prefixes too."""
    token = st.sampled_from(TOKENS)
    sequences = [tuple(draw(st.lists(token, min_size=1, max_size=LONGEST)))]
    for _ in range(draw(st.integers(0, 9))):
        before = draw(st.sampled_from(sequences))
        kept = before[: draw(st.integers(0, len(before)))]
        tail = draw(st.lists(token, min_size=0 if kept else 1, max_size=LONGEST - len(kept)))
        sequences.append((*kept, *tail))
    return draw(st.permutations(sequences))


@dataclass
class OneByOne:
    """An engine, and the states it should give: each sequence read alone, each block's output caught by a hook."""

    engine: TransformersEngine
    blocks: nn.ModuleList
    known: dict[Tokens, np.ndarray] = field(default_factory=dict)

    def read(self, sequence: Tokens) -> np.ndarray:
        """``[layer, hidden]`` at the last token."""
        caught: list[np.ndarray] = []

        def catch(_: nn.Module, __: object, output: object) -> None:
            state = output[0] if isinstance(output, tuple) else output
            caught.append(state[0, -1].float().numpy())

        handles = [block.register_forward_hook(catch) for block in self.blocks]
        with torch.no_grad():
            self.engine.model(input_ids=torch.tensor([sequence]), use_cache=False)
        for handle in handles:
            handle.remove()
        return np.stack(caught)

    def states(self, sequences: Sequence[Tokens]) -> np.ndarray:
        """``[sequence, layer, hidden]``."""
        for sequence in set(sequences) - set(self.known):
            self.known[sequence] = self.read(sequence)
        return np.stack([self.known[sequence] for sequence in sequences])

    def assert_same(self, found: np.ndarray, sequences: Sequence[Tokens], *, tolerance: float = TOLERANCE) -> None:
        expected = self.states(sequences)
        assert found.shape == expected.shape
        off = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
        assert off.max() <= tolerance


def one_by_one(tiny: Make, name: str, **settings: Any) -> OneByOne:
    engine = tiny(name, **settings)
    return OneByOne(engine, BY_NAME[name].blocks(engine.model))


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def model(request: pytest.FixtureRequest, tiny: Make) -> OneByOne:
    """Each family in turn."""
    return one_by_one(tiny, request.param)


@pytest.fixture(scope="module")
def walker(tiny: Make) -> OneByOne:
    """A Llama, which walks."""
    return one_by_one(tiny, "llama")


# Any sequences, any passes -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always_walking")
@given(sequences=sharing_sequences(), size=st.integers(1, 40))
@for_few
def test_tree_states_equal_single_sequences(model: OneByOne, sequences: list[Tokens], size: int) -> None:
    found = model.engine.collect(sequences, max_tokens=size)
    model.assert_same(found.states, sequences)
    if found.report.path == "tree":
        assert found.report.computed == found.report.distinct
        assert found.report.passes >= found.report.distinct / size
    assert traces_in(model.engine.model) == []


@given(sequences=sharing_sequences(), size=st.integers(1, 40))
@for_few
def test_batch_states_equal_single_sequences(model: OneByOne, sequences: list[Tokens], size: int) -> None:
    found = model.engine.collect(sequences, max_tokens=size, share_prefixes=False)
    model.assert_same(found.states, sequences)
    assert (found.report.path, found.report.reason) == ("plain", "asked for")
    assert traces_in(model.engine.model) == []


@pytest.mark.usefixtures("always_walking")
def test_tree_passes_of_one_token_are_exact(model: OneByOne) -> None:
    found = model.engine.collect(SHARING, max_tokens=1)
    model.assert_same(found.states, SHARING)
    if found.report.path == "tree":
        assert found.report.passes == found.report.distinct


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("share", [True, False], ids=["walk", "plain"])
def test_tree_passes_in_bfloat16_are_close(tiny: Make, share: bool) -> None:
    """As close as the plain path does, which reads some sequences beside others too."""
    half = one_by_one(tiny, "llama", dtype=torch.bfloat16)
    found = half.engine.collect(SHARING, max_tokens=5, share_prefixes=share)
    assert found.report.path == ("tree" if share else "plain")
    half.assert_same(found.states, SHARING, tolerance=0.02)


# Which way is taken ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("name", WALKED)
def test_tree_passes_with_full_attention_have_no_limit(tiny: Make, name: str) -> None:
    engine = tiny(name)
    for length in (1, WINDOW, 4 * WINDOW, 200):
        report = engine.collect([(*TOKENS, *[7] * length, 8), (*TOKENS, *[7] * length, 9)]).report
        assert (report.path, report.reason) == ("tree", "shared beginnings are computed once")


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("name", [family.name for family in RECURRENT])
def test_recurrent_model_is_read_in_batches_with_a_reason(tiny: Make, name: str) -> None:
    report = tiny(name).collect(SHARING).report
    assert report.path == "plain"
    assert report.reason
    assert report.reason not in {"asked for", "sharing would save nothing"}


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("order", ["short first", "long first"])
@pytest.mark.parametrize("name", ["gemma3", "mistral"])
def test_tree_passes_end_at_the_sliding_window(tiny: Make, name: str, order: str) -> None:
    """A proof that failed for long texts says nothing about short ones, whichever come first."""
    made = one_by_one(tiny, name)
    short = [(*range(20, 20 + WINDOW - 1), ending) for ending in (7, 8, 9)]
    long = [(*range(20, 20 + 2 * WINDOW), ending) for ending in (7, 8, 9)]
    for sequences in (short, long, short, long) if order == "short first" else (long, short, long, short):
        found = made.engine.collect(sequences)
        made.assert_same(found.states, sequences)
        assert found.report.path == ("tree" if sequences is short else "plain")
        assert ("does not honour a mask" in found.report.reason) == (sequences is long)


@pytest.mark.usefixtures("always_walking")
def test_texts_around_length_of_window_are_exact(tiny: Make) -> None:
    for length in range(WINDOW - 1, WINDOW + 4):
        made = one_by_one(tiny, "gemma3")
        sequences = [(*range(20, 20 + length - 1), ending) for ending in (7, 8)]
        found = made.engine.collect(sequences, max_tokens=5)
        made.assert_same(found.states, sequences)
        assert found.report.path == ("tree" if length <= WINDOW else "plain")


# Out of memory -----------------------------------------------------------------------------------------------------


def cpu_out_of_memory() -> RuntimeError:
    return RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@contextmanager
def failing(
    model: OneByOne, *, above: int, error: Callable[[], Exception] = torch.OutOfMemoryError, layer: int = 2
) -> Iterator[list[int]]:
    """Raise an error in the middle of any pass above a number of tokens; return the passes that were tried."""
    block = model.blocks[layer]
    inner = block.forward
    tried: list[int] = []

    def forward(state: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tried.append(state.shape[0] * state.shape[1])
        if tried[-1] > above:
            raise error()
        return inner(state, *args, **kwargs)

    block.forward = forward
    try:
        yield tried
    finally:
        del block.forward


@pytest.mark.usefixtures("always_walking")
@given(sequences=sharing_sequences(), room=st.integers(1, 12), size=st.integers(1, 40))
@for_few
def test_tree_passes_out_of_memory_become_smaller(
    walker: OneByOne, sequences: list[Tokens], room: int, size: int
) -> None:
    walker.states(sequences)
    walker.engine.collect(sequences, max_tokens=size)  # the proof is made with room
    with failing(walker, above=room) as tried:
        found = walker.engine.collect(sequences, max_tokens=size)
    walker.assert_same(found.states, sequences)
    assert found.report.path == "tree"
    assert found.report.computed == found.report.distinct == sum(size for size in tried if size <= room)
    assert_halved(found.report.halved_to, tried, room)
    assert traces_in(walker.engine.model) == []


@given(sequences=sharing_sequences(), room=st.integers(LONGEST, 3 * LONGEST))
@for_few
def test_batches_out_of_memory_become_smaller(walker: OneByOne, sequences: list[Tokens], room: int) -> None:
    walker.states(sequences)
    with failing(walker, above=room) as tried:
        found = walker.engine.collect(sequences, share_prefixes=False)
    walker.assert_same(found.states, sequences)
    assert found.report.passes == sum(size <= room for size in tried)
    assert_halved(found.report.halved_to, tried, room)
    assert traces_in(walker.engine.model) == []


def assert_halved(halved_to: int | None, tried: Sequence[int], room: int) -> None:
    assert (halved_to is not None) == (max(tried) > room)
    if halved_to is not None:
        assert 1 <= halved_to <= room
        failed = [size for size in tried if size > room]
        assert all(2 * after <= before for before, after in pairwise(failed))
        last_failed = max(at for at, size in enumerate(tried) if size > room)
        assert max(tried[last_failed + 1 :]) <= halved_to  # what follows is small from the start


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, cpu_out_of_memory])
@pytest.mark.parametrize("share", [True, False], ids=["walk", "plain"])
def test_out_of_memory_is_recognized_in_both_torch_messages(
    walker: OneByOne, share: bool, error: Callable[[], Exception]
) -> None:
    walker.states(SHARING)
    walker.engine.collect(SHARING)
    with failing(walker, above=5, error=error):
        found = walker.engine.collect(SHARING, share_prefixes=share)
    walker.assert_same(found.states, SHARING)
    assert found.report.halved_to is not None
    assert found.report.halved_to <= 5


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("share", [True, False], ids=["walk", "plain"])
def test_smallest_pass_out_of_memory_is_an_error(walker: OneByOne, share: bool) -> None:
    walker.engine.collect(SHARING)
    with (
        failing(walker, above=0 if share else 3) as tried,
        pytest.raises(torch.OutOfMemoryError),
    ):
        walker.engine.collect(SHARING, share_prefixes=share)
    assert tried[-1] == (1 if share else max(map(len, SHARING)))
    assert traces_in(walker.engine.model) == []
    walker.assert_same(walker.engine.hidden_states(SHARING), SHARING)


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("share", [True, False], ids=["walk", "plain"])
def test_other_errors_are_raised_unchanged(walker: OneByOne, share: bool) -> None:
    walker.engine.collect(SHARING)
    problem = RuntimeError("a size does not match")

    def other() -> Exception:
        return problem

    with failing(walker, above=3, error=other) as tried, pytest.raises(RuntimeError, match="does not match") as raised:
        walker.engine.collect(SHARING, share_prefixes=share)
    assert raised.value is problem
    assert len(tried) == 1
    assert traces_in(walker.engine.model) == []


# Steered -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("share", [True, False], ids=["walk", "plain"])
@pytest.mark.parametrize("layers", [[0], [1, 3]], ids=str)
def test_states_inside_scope_are_those_of_steered_model(tiny: Make, layers: list[int], share: bool) -> None:
    """Also where the proof is made inside."""
    for name in ("llama", "gpt2", "gemma3"):
        steered = one_by_one(tiny, name)
        term = (vector_for(tiny(name), layers=layers), 1.5)
        with steering_by_hand(steered.blocks, term):
            expected = steered.states(SHARING)
        with steered.engine.steered([term]):
            found = steered.engine.collect(SHARING, max_tokens=5, share_prefixes=share)
        assert found.report.path == ("tree" if share else "plain")
        steered.assert_same(found.states, SHARING)
        assert traces_in(steered.engine.model) == []
        after = steered.engine.hidden_states(SHARING, share_prefixes=share)
        assert np.abs(after - expected).max() > 0.1


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("name", [family.name for family in RECURRENT])
def test_failed_check_inside_steered_is_not_counted(tiny: Make, name: str) -> None:
    """It is given up in the middle of a pass, so that some blocks never see what the embeddings saw."""
    steered = one_by_one(tiny, name)
    term = (vector_for(tiny(name), layers=[1, 3]), 1.5)
    with steering_by_hand(steered.blocks, term):
        steered.states(SHARING)
    with steered.engine.steered([term]):
        found = steered.engine.hidden_states(SHARING)
    steered.assert_same(found, SHARING)


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("share", [True, False], ids=["walk", "plain"])
def test_out_of_memory_inside_scope_is_handled(tiny: Make, share: bool) -> None:
    steered = one_by_one(tiny, "llama")
    term = (vector_for(steered.engine, layers=[1, 3]), 1.5)
    with steering_by_hand(steered.blocks, term):
        steered.states(SHARING)
    steered.engine.hidden_states(SHARING)
    with failing(steered, above=5), steered.engine.steered([term]):
        found = steered.engine.collect(SHARING, share_prefixes=share)
    steered.assert_same(found.states, SHARING)
    assert found.report.halved_to is not None


# Blocks that need not run ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always_walking")
@pytest.mark.parametrize("share", [True, False], ids=["walk", "plain"])
@pytest.mark.parametrize("wanted", [[0], [1, 0], [-2]], ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "mamba"])
def test_blocks_behind_last_wanted_layer_do_not_run(tiny: Make, name: str, wanted: list[int], share: bool) -> None:
    made = one_by_one(tiny, name)
    expected = made.states(SHARING)[:, wanted]
    made.engine.hidden_states(SHARING)  # whatever is proven is proven now
    ran: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(made.blocks)
    ]
    found = made.engine.collect(SHARING, layers=wanted, max_tokens=4, share_prefixes=share)
    for handle in handles:
        handle.remove()
    last = max(layer % LAYERS for layer in wanted)
    assert found.report.passes > 1
    assert ran == list(range(last + 1)) * found.report.passes
    assert found.states.shape == (len(SHARING), len(wanted), HIDDEN)
    np.testing.assert_allclose(found.states, expected, rtol=1e-4, atol=1e-5)
    assert traces_in(made.engine.model) == []
    made.assert_same(made.engine.hidden_states(SHARING, share_prefixes=share), SHARING)


def test_steered_scope_runs_all_blocks(tiny: Make) -> None:
    made = one_by_one(tiny, "llama")
    term = (vector_for(made.engine, layers=[3]), 1.0)
    expected = made.states(SHARING)[:, :1]
    with made.engine.steered([term]):
        found = made.engine.hidden_states(SHARING, layers=[0])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("always_walking")
def test_check_out_of_memory_is_tried_again_later(tiny: Make) -> None:
    model = one_by_one(tiny, "llama")
    with failing(model, above=max(map(len, SHARING))):
        found = model.engine.collect(SHARING)
    model.assert_same(found.states, SHARING)
    assert found.report.path == "plain"
    assert "memory ran out" in found.report.reason
    assert model.engine.collect(SHARING).report.path == "tree"


@pytest.mark.usefixtures("always_walking")
def test_check_keeps_to_the_pass_size(tiny: Make) -> None:
    model = one_by_one(tiny, "llama")
    texts = [(*range(1, 120), last) for last in (5, 6)]
    sizes: list[int] = []
    handle = model.engine.model.get_input_embeddings().register_forward_hook(
        lambda _, __, output: sizes.append(output.shape[0] * output.shape[1])
    )
    found = model.engine.collect(texts, max_tokens=8)
    handle.remove()
    assert found.report.path == "tree"
    whole = [size for size in sizes if size > 8]
    assert len(whole) == 2
    assert max(whole) <= 1.25 * len(texts[0])

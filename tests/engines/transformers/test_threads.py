"""Several threads, several engines and streams over one model: nothing is steered by another caller's request."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from by_hand import traces_in
from tiny_models import vector_for
from trimtab.engines.protocol import ForcedItem, PersonaContrast
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.model.context import model_lock
from trimtab.steering import Term

Make = Callable[..., TransformersEngine]
ROUNDS = 6
PROMPTS = ["Hi", "How was your day at the sea?"]


@pytest.fixture
def engine(tiny: Make) -> TransformersEngine:
    return tiny("llama")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def steering_of(engine: TransformersEngine) -> list[Term]:
    return [Term(vector_for(engine), coefficient=0.5)]


def config_of(engine: TransformersEngine) -> tuple[int, dict[str, Any]]:
    return id(engine.model.generation_config), engine.model.generation_config.to_dict()


def answers(engine: TransformersEngine, steering: Any) -> list[Any]:
    # Of plain weights the last digits of shifts depend on the number of rows.
    done = engine.generate(PROMPTS, steering=steering, max_new_tokens=12)
    return [(each.tokens, each.receipt.steering, each.receipt.layers, each.receipt.tokens) for each in done]


def in_time(future: Any) -> Any:
    return future.result(timeout=60)


@pytest.mark.parametrize("engines", [1, 2])
def test_generate_in_two_threads_equals_serial_answers(tiny: Make, pool: ThreadPoolExecutor, engines: int) -> None:
    first = tiny("llama")
    second = first if engines == 1 else TransformersEngine(first.model, first.tokenizer, name="tiny llama again")
    steering = steering_of(first)
    steered, plain = answers(first, steering), answers(second, None)
    assert [each[-1] for each in plain] == [0, 0]
    assert all(each[-1] > 0 for each in steered)
    assert [each[0] for each in plain] != [each[0] for each in steered]
    start = threading.Barrier(2)

    def rounds(model: TransformersEngine, chosen: Any) -> list[Any]:
        start.wait(timeout=60)
        return [answers(model, chosen) for _ in range(ROUNDS)]

    both = [pool.submit(rounds, first, steering), pool.submit(rounds, second, None)]
    assert [in_time(each) for each in both] == [[steered] * ROUNDS, [plain] * ROUNDS]
    assert traces_in(first.model) == []


def scores_of(forcing: Any) -> float:
    return float(forcing.base.logprob[0][0])


CALLS: dict[str, Callable[[TransformersEngine], Any]] = {
    "generate": lambda engine: engine.generate("Hi", max_new_tokens=8).tokens,
    "stream": lambda engine: [token.token for token in engine.stream("Hi", max_new_tokens=8)],
    "reply": lambda engine: engine.reply("Hi", cache=None, max_new_tokens=8).tokens,
    "hidden_states": lambda engine: engine.hidden_states(["Hi you"]).tolist(),
    "collect": lambda engine: engine.collect(["Hi you"]).states.tolist(),
    "read": lambda engine: engine.read("Hi", [vector_for(engine)]).projections.tolist(),
    "teacher_forcing": lambda engine: scores_of(engine.teacher_forcing([ForcedItem((5, 6), ((7, 8),), 0)])),
    "gradients": lambda engine: slope_of(engine),
}


def slope_of(engine: TransformersEngine) -> float:
    assert engine.gradients is not None
    added = {1: np.full(engine.info.hidden_size, 0.1, dtype=np.float32)}
    slopes = engine.gradients.ratio_gradients([PersonaContrast((5, 6), (7,), (8,), ((9,),))])
    return slopes.at(added, [0], factors={"+": 1.0}, prices={"+": 1.0}).ratio["+"]


@pytest.mark.parametrize("name", CALLS)
def test_call_of_another_thread_is_neither_steered_nor_kept_waiting(
    engine: TransformersEngine, pool: ThreadPoolExecutor, name: str
) -> None:
    call = CALLS[name]
    alone = call(engine)
    with engine.steered(steering_of(engine)):
        assert in_time(pool.submit(call, engine)) == alone
        if name not in ("teacher_forcing", "gradients"):
            assert call(engine) != alone
    assert traces_in(engine.model) == []


def test_prepared_scoring_of_another_thread_is_unsteered(engine: TransformersEngine, pool: ThreadPoolExecutor) -> None:
    forcing = engine.teacher_forcing([ForcedItem((5, 6), ((7, 8),), 0)])
    added = {1: np.full(engine.info.hidden_size, 0.1, dtype=np.float32)}
    alone = forcing.measure(added).logprob[0].tolist()
    with engine.steered(steering_of(engine)):
        assert in_time(pool.submit(lambda: forcing.measure(added).logprob[0].tolist())) == alone


def raw_logits(engine: TransformersEngine) -> list[float]:
    with torch.no_grad():
        logits: torch.Tensor = engine.model(input_ids=torch.tensor([[1, 2, 3, 4]]), use_cache=False).logits[0, -1]
    return logits.tolist()


def test_raw_passes_of_two_blocks_have_the_steering_of_their_own(
    engine: TransformersEngine, pool: ThreadPoolExecutor
) -> None:
    """Beside answers that another thread asks for all the time."""
    (term,) = steering_of(engine)
    mixes = [[term], [Term(term.vector, coefficient=-0.5)]]
    alone = []
    for mix in mixes:
        with engine.steered(mix):
            alone.append(raw_logits(engine))
    assert alone[0] != alone[1] != raw_logits(engine)
    start = threading.Barrier(2)

    def rounds(mix: Any) -> list[Any]:
        start.wait(timeout=60)
        with engine.steered(mix):
            return [raw_logits(engine) for _ in range(5 * ROUNDS)]

    running = [pool.submit(rounds, mix) for mix in mixes]
    while not all(each.done() for each in running):
        assert engine.generate("Hi", max_new_tokens=8).receipt.tokens == 0
    for future, expected in zip(running, alone, strict=True):
        assert in_time(future) == [expected] * 5 * ROUNDS
    assert traces_in(engine.model) == []


def test_steered_acts_in_its_own_task(engine: TransformersEngine) -> None:
    async def ask(steering: Any, turns: list[asyncio.Event], number: int) -> tuple[int, list[float]]:
        with engine.steered(steering):
            turns[number].set()
            await turns[1 - number].wait()  # both blocks are open
            return len((await engine.submit("Hi", max_new_tokens=4)).receipt.terms), raw_logits(engine)

    async def both() -> list[tuple[int, list[float]]]:
        turns = [asyncio.Event(), asyncio.Event()]
        return await asyncio.gather(*(ask(each, turns, n) for n, each in enumerate((steering_of(engine), None))))

    plain = raw_logits(engine)
    (steered_terms, steered), (plain_terms, unsteered) = asyncio.run(both())
    assert (steered_terms, plain_terms) == (1, 0)
    assert steered != plain == unsteered


def test_block_left_in_another_thread_ends(engine: TransformersEngine, pool: ThreadPoolExecutor) -> None:
    block = engine.steered(steering_of(engine))
    block.__enter__()
    in_time(pool.submit(block.__exit__, None, None, None))
    assert engine.generate("Hi", max_new_tokens=2).receipt.tokens == 0
    engine.check_unsteered("work")
    assert traces_in(engine.model) == []


def test_pass_broken_off_by_interrupt_frees_model(engine: TransformersEngine, pool: ThreadPoolExecutor) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def broken() -> None:
        with engine.steered(steering_of(engine)):
            handle = engine.model.model.layers[2].register_forward_hook(interrupt)
            with pytest.raises(KeyboardInterrupt):
                raw_logits(engine)
            handle.remove()
            raw_logits(engine)
            assert not model_lock(engine.model).held
            handle = engine.model.model.layers[2].register_forward_hook(interrupt)
            try:
                raw_logits(engine)
            finally:
                handle.remove()

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert in_time(pool.submit(engine.generate, "Hi", max_new_tokens=2)).receipt.tokens == 0


def test_steered_nests_in_its_own_thread(engine: TransformersEngine) -> None:
    (half,) = steering_of(engine)
    with engine.steered([half]), engine.steered([half]):
        nested = engine.generate("Hi", max_new_tokens=8)
    assert len(nested.receipt.terms) == 2
    assert traces_in(engine.model) == []
    assert nested.tokens == engine.generate("Hi", steering=[half, half], max_new_tokens=8).tokens


def test_steered_left_by_exception_frees_model(engine: TransformersEngine, pool: ThreadPoolExecutor) -> None:
    with pytest.raises(KeyError), engine.steered(steering_of(engine)):
        raise KeyError
    assert in_time(pool.submit(engine.generate, "Hi", max_new_tokens=2)).receipt.tokens == 0


def leave_by_break(engine: TransformersEngine) -> None:
    for _ in engine.stream("Hi", steering=steering_of(engine), max_new_tokens=50):
        break


def leave_by_exception(engine: TransformersEngine) -> None:
    def read() -> None:
        for _ in engine.stream("Hi", steering=steering_of(engine), max_new_tokens=50):
            raise KeyError

    with pytest.raises(KeyError):
        read()


def leave_by_collection(engine: TransformersEngine) -> None:
    cycle: list[Any] = [engine.stream("Hi", steering=steering_of(engine), max_new_tokens=50)]
    cycle.append(cycle)
    next(cycle[0])
    del cycle
    gc.collect()


def leave_unstarted(engine: TransformersEngine) -> None:
    engine.stream("Hi", steering=steering_of(engine), max_new_tokens=50)
    gc.collect()


def leave_with_the_block(engine: TransformersEngine) -> None:
    with engine.steered(steering_of(engine)):
        stream = engine.stream("Hi", max_new_tokens=50)
        next(stream)
    stream.close()
    assert list(stream) == []


@pytest.mark.parametrize(
    "leave", [leave_by_break, leave_by_exception, leave_by_collection, leave_unstarted, leave_with_the_block]
)
def test_stream_left_early_frees_model(
    engine: TransformersEngine, pool: ThreadPoolExecutor, leave: Callable[[TransformersEngine], None]
) -> None:
    config, plain = config_of(engine), engine.generate("Hi", max_new_tokens=8)
    leave(engine)
    assert engine.generate("Hi", max_new_tokens=8) == plain
    assert in_time(pool.submit(engine.generate, "Hi", max_new_tokens=8)) == plain
    assert traces_in(engine.model) == []
    assert config_of(engine) == config


def test_stream_not_started_reserves_nothing(engine: TransformersEngine) -> None:
    stream = engine.stream("Hi", max_new_tokens=4)
    plain = engine.generate("Hi", max_new_tokens=4)
    assert len(list(stream)) >= 4
    assert stream.completion == plain


def test_static_stream_goes_on_whether_its_tokens_are_taken_or_not(
    engine: TransformersEngine, pool: ThreadPoolExecutor
) -> None:
    plain = engine.generate("Hi", max_new_tokens=8)
    stream = engine.stream("Hi", steering=steering_of(engine), max_new_tokens=8, use_cache=False)
    next(stream)
    waiting = pool.submit(engine.generate, "Hi", max_new_tokens=8)
    assert engine.generate("Hi", max_new_tokens=8, use_cache=False).tokens == plain.tokens
    assert in_time(waiting).tokens == plain.tokens
    assert len(list(stream)) >= 1
    assert stream.completion.receipt.tokens > 0


def test_open_streams_and_answers_go_on_beside_each_other(engine: TransformersEngine) -> None:
    steering = steering_of(engine)
    plain, steered = (engine.generate("Hi", steering=chosen, max_new_tokens=8) for chosen in (None, steering))
    one, other = (engine.stream("Hi", steering=chosen, max_new_tokens=8) for chosen in (None, steering))
    tokens = [next(one).token, next(other).token]
    assert engine.generate("Hi", max_new_tokens=8).tokens == plain.tokens
    assert [tokens[0], *(token.token for token in one)] == list(plain.tokens)
    assert [tokens[1], *(token.token for token in other)] == list(steered.tokens)


def test_stream_continues_in_another_thread(engine: TransformersEngine, pool: ThreadPoolExecutor) -> None:
    plain = engine.generate("Hi", max_new_tokens=8)
    stream = engine.stream("Hi", max_new_tokens=8)
    next(stream)
    in_time(pool.submit(list, stream))
    assert stream.completion == plain
    assert engine.generate("Hi", max_new_tokens=8) == plain


def test_stream_inside_steered_is_steered(engine: TransformersEngine) -> None:
    steering = steering_of(engine)
    with engine.steered(steering):
        expected = engine.generate("Hi", max_new_tokens=8)
        stream = engine.stream("Hi", max_new_tokens=8)
        assert [token.token for token in stream if token.token is not None] == list(expected.tokens)
        assert stream.completion == expected
        late = engine.submit("Hi", max_new_tokens=8)
    assert late.result().tokens == expected.tokens  # it took the steering with it
    assert late.result().receipt.tokens == expected.receipt.tokens > 0


def test_generation_config_after_exception_is_unchanged(engine: TransformersEngine) -> None:
    config = config_of(engine)
    seen = []

    def fail(*_: Any) -> None:
        seen.append(config_of(engine))
        raise FloatingPointError("the model broke")

    handle = engine.model.model.layers[2].register_forward_hook(fail)
    with pytest.raises(FloatingPointError):
        engine.generate("Hi", max_new_tokens=2)
    handle.remove()
    assert seen
    assert all(each == config for each in seen)  # also while the model ran
    assert config_of(engine) == config
    assert model_lock(engine.model).held is False


def test_pass_that_waits_while_another_block_ends_goes_on(engine: TransformersEngine, pool: ThreadPoolExecutor) -> None:
    (term,) = steering_of(engine)
    lock, entered, end, begin = model_lock(engine.model), threading.Barrier(3), threading.Event(), threading.Event()
    with engine.steered([term]):
        alone = raw_logits(engine)

    def leave() -> None:
        with engine.steered([Term(term.vector, coefficient=-0.5)]):
            entered.wait(timeout=60)
            end.wait(timeout=60)

    def read() -> list[float]:
        with engine.steered([term]):
            entered.wait(timeout=60)
            begin.wait(timeout=60)
            return raw_logits(engine)

    leaving, reading = pool.submit(leave), pool.submit(read)
    entered.wait(timeout=60)
    with lock:
        end.set()
        until_waiting(lock, 1)
        begin.set()  # its pass has begun while the hooks of the other block were on the model
        until_waiting(lock, 2)
    in_time(leaving)
    assert in_time(reading) == alone
    assert traces_in(engine.model) == []


def until_waiting(lock: Any, count: int) -> None:
    end = time.monotonic() + 20
    while len(lock._waiting) < count:
        assert time.monotonic() < end
        time.sleep(0.001)

"""Several threads, several engines and streams over one model: nothing is steered by another caller's request."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from by_hand import traces_in
from tiny_models import vector_for
from trimtab.engines.protocol import ForcedItem, PersonaContrast
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.model.context import model_lock
from trimtab.errors import SteeringError
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
def test_call_waits_while_another_thread_is_steered(
    engine: TransformersEngine, pool: ThreadPoolExecutor, name: str
) -> None:
    call = CALLS[name]
    alone = call(engine)
    with engine.steered(steering_of(engine)):
        waiting = pool.submit(call, engine)
        engine.generate("Hi", max_new_tokens=2)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
    assert in_time(waiting) == alone


def test_prepared_scoring_waits_while_another_thread_is_steered(
    engine: TransformersEngine, pool: ThreadPoolExecutor
) -> None:
    forcing = engine.teacher_forcing([ForcedItem((5, 6), ((7, 8),), 0)])
    added = {1: np.full(engine.info.hidden_size, 0.1, dtype=np.float32)}
    alone = forcing.measure(added).logprob[0].tolist()
    with engine.steered(steering_of(engine)):
        waiting = pool.submit(lambda: forcing.measure(added).logprob[0].tolist())
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
    assert in_time(waiting) == alone


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


def leave_with_the_scope(engine: TransformersEngine) -> None:
    with engine.steered(steering_of(engine)):
        stream = engine.stream("Hi", max_new_tokens=50)
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize(
    "leave", [leave_by_break, leave_by_exception, leave_by_collection, leave_unstarted, leave_with_the_scope]
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


def test_open_stream_refuses_its_reader_and_others_wait(engine: TransformersEngine, pool: ThreadPoolExecutor) -> None:
    plain = engine.generate("Hi", max_new_tokens=8)
    stream = engine.stream("Hi", steering=steering_of(engine), max_new_tokens=8, use_cache=False)  # a static batch
    next(stream)
    with pytest.raises(SteeringError, match="read the stream to its end, or close it"):
        engine.generate("Hi", max_new_tokens=8, use_cache=False)
    with pytest.raises(SteeringError, match="read the stream to its end, or close it"):
        TransformersEngine(engine.model, engine.tokenizer, name="again")
    waiting = pool.submit(engine.generate, "Hi", max_new_tokens=8)
    with pytest.raises(TimeoutError):
        waiting.result(timeout=0.2)
    assert len(list(stream)) >= 1
    assert stream.completion.receipt.tokens > 0
    assert in_time(waiting) == plain


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
        late = engine.stream("Hi", max_new_tokens=8)
    with pytest.raises(SteeringError, match="outside of the steered"):
        next(late)


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

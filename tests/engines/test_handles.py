"""Handles of requests: whoever waits for an answer, in whichever way, touches nobody else."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from trimtab.engines.fake import FakeEngine
from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import Completion, StreamedToken
from trimtab.errors import SteeringError


@pytest.fixture
def completion(fake: FakeEngine) -> Completion:
    return fake.generate("Hi", max_new_tokens=3)


def token(number: int) -> StreamedToken:
    return StreamedToken(number, str(number), {}, None)


def test_waits_of_closed_event_loops_are_forgotten(completion: Completion) -> None:
    mailbox = Mailbox()
    generation = Generation(mailbox)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(anext(generation), 0.01))
    assert mailbox._listeners == []
    mailbox.put(token(1))
    mailbox.close(completion)
    assert [each.token for each in generation] == [1]


def test_listeners_that_fail_keep_nobody_from_an_answer(
    completion: Completion, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox, heard = Mailbox(), list[object]()

    def broken(*_: object) -> None:
        raise ValueError("not mine")

    for listener in (broken, lambda: heard.append("token")):
        assert mailbox.listen(listener)
    for ending in (broken, heard.append):
        mailbox.when_ended(ending)
    with caplog.at_level(logging.ERROR, logger="trimtab"):
        mailbox.put(token(1))
        mailbox.close(completion)
    assert heard == ["token", completion]
    assert len(caplog.records) == 2


def test_two_event_loops_iterate_and_await_one_answer(completion: Completion) -> None:
    mailbox = Mailbox()
    generation = Generation(mailbox)
    found: dict[str, object] = {}

    async def iterate() -> None:
        found["tokens"] = [each.token async for each in generation]

    async def wait() -> None:
        found["completion"] = await generation

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for work in (iterate, wait)]
    for thread in threads:
        thread.start()
    for number in range(5):
        time.sleep(0.01)
        mailbox.put(token(number))
    mailbox.close(completion)
    for thread in threads:
        thread.join(timeout=60)
    assert found == {"tokens": [0, 1, 2, 3, 4], "completion": completion}


def test_coroutines_that_hold_the_model_are_refused_instead_of_waiting_for_themselves() -> None:
    generation = Generation(Mailbox(), held=lambda: True)

    async def wait() -> None:
        await generation

    for waiting in (wait, generation.__anext__):
        with pytest.raises(SteeringError, match="waits for the pass"):
            asyncio.run(asyncio.wait_for(waiting(), 10))


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Have Ctrl-C interrupt, also where the tests run in the background, in which shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_wait_leaves_the_answer_to_be_taken_later(completion: Completion) -> None:
    mailbox = Mailbox()
    generation = Generation(mailbox)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        generation.result()
    timer.join()
    assert not mailbox.cancelled
    mailbox.close(completion)
    assert generation.result(timeout=1) == completion
    del generation
    assert mailbox.cancelled


def test_what_is_called_at_the_end_comes_before_those_who_wait(completion: Completion) -> None:
    mailbox, order = Mailbox(), list[str]()
    mailbox.listen(lambda: order.append("listener"), end=True)
    mailbox.when_ended(lambda end: order.append(f"ending, {mailbox.ended}, {end is completion}"))
    mailbox.close(completion)
    mailbox.when_ended(lambda end: order.append("late"))
    assert order == ["ending, False, True", "listener", "late"]

"""The lock of a model: threads get it in turn, and work in batches gives way to those that wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from trimtab.engines.transformers.model.context import ModelLock
from trimtab.errors import CancelledGenerationError


@pytest.fixture
def lock() -> ModelLock:
    return ModelLock()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def until_waiting(lock: ModelLock, count: int) -> None:
    end = time.monotonic() + 20
    while len(lock._waiting) < count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_waiting_threads_get_the_lock_in_order(lock: ModelLock, pool: ThreadPoolExecutor) -> None:
    order: list[int] = []

    def take(number: int) -> None:
        with lock, lock:
            order.append(number)

    with lock:
        taking = []
        for number in range(4):
            taking.append(pool.submit(take, number))
            until_waiting(lock, number + 1)
        assert order == []
    for each in taking:
        each.result(timeout=20)
    assert order == [0, 1, 2, 3]


def test_thread_that_comes_again_waits_for_the_others(lock: ModelLock, pool: ThreadPoolExecutor) -> None:
    order: list[str] = []

    def take() -> None:
        with lock:
            order.append("other")

    with lock:
        taking = pool.submit(take)
        until_waiting(lock, 1)
    with lock:
        order.append("again")
    taking.result(timeout=20)
    assert order == ["other", "again"]


def test_give_way_lasts_as_long_as_the_hold(lock: ModelLock, pool: ThreadPoolExecutor) -> None:
    done = threading.Event()
    holds: list[float] = []

    def decode() -> None:
        while not done.is_set():
            with lock:
                time.sleep(0.02)
                holds.append(time.monotonic())
            time.sleep(0.001)

    with lock:
        decoding = pool.submit(decode)
        until_waiting(lock, 1)
        lock._since = time.monotonic() - 1.0  # it has had the model for a second
        begun = time.monotonic()
        lock.give_way()
        ended = time.monotonic()
        assert lock.held
        during = list(holds)
        time.sleep(0.1)
        assert holds == during  # nobody else has it now
        done.set()
    decoding.result(timeout=20)
    assert ended - begun >= 1.0
    assert len(during) >= 5
    assert during[-1] - begun > 0.5  # up to the end


def test_give_way_ends_once_nobody_waits(lock: ModelLock, pool: ThreadPoolExecutor) -> None:
    def take() -> None:
        with lock:
            time.sleep(0.05)

    with lock:
        taking = pool.submit(take)
        until_waiting(lock, 1)
        lock._since = time.monotonic() - 1000.0
        lock.give_way()
        assert lock.held
        assert taking.done() or taking.result(timeout=20) is None
        lock._since = time.monotonic() - 1000.0
        lock.give_way()  # nobody waits
    with lock:
        pass


def test_lock_taken_twice_is_not_given_away(lock: ModelLock, pool: ThreadPoolExecutor) -> None:
    def take() -> bool:
        lock.give_way()  # it is not this thread's
        with lock:
            return True

    with lock:
        with lock:
            taking = pool.submit(take)
            until_waiting(lock, 1)
            lock._since = time.monotonic() - 1000.0
            lock.give_way()
            assert lock.held
            assert not taking.done()
        assert not taking.done()
        lock.give_way()
        assert taking.result(timeout=20)


def test_error_while_giving_way_leaves_the_lock_to_others(lock: ModelLock, pool: ThreadPoolExecutor) -> None:
    leave = threading.Event()

    def take() -> bool:
        with lock:
            leave.wait(20)
            return lock.held

    def refused() -> Future[bool]:
        with lock:
            taking = pool.submit(take)
            until_waiting(lock, 1)
            lock._since = time.monotonic() - 0.01
            lock.refuse_waits()
            with pytest.raises(CancelledGenerationError):
                lock.give_way()
            return taking

    taking = refused()
    assert not taking.done()
    leave.set()
    assert taking.result(timeout=20)
    with lock:
        assert lock.held

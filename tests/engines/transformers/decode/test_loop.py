"""The decoding loop: answers are those of the request alone, whatever is answered beside it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neutral_vectors import reader_for
from trimtab import Constraint
from trimtab.engines.generation import Mailbox
from trimtab.engines.protocol import Completion
from trimtab.engines.sampling import Sampling
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode import generation as generation_module
from trimtab.engines.transformers.decode import loop as loop_module
from trimtab.engines.transformers.decode.answer import make_request
from trimtab.engines.transformers.decode.generation import Asked
from trimtab.engines.transformers.decode.loop import DecodingLoop
from trimtab.engines.transformers.decode.prefixes import KeptPrefixes
from trimtab.engines.transformers.decode.row import Row
from trimtab.engines.transformers.forward.flat import BLOCK, SlotTable, why_not_flat
from trimtab.engines.transformers.forward.rows import RowHooks, RowPlan, RowSteering
from trimtab.engines.transformers.model.context import model_lock
from trimtab.errors import CancelledGenerationError, ModelError, PromptError, SteeringError, TrimtabError
from trimtab.steering import Steering

Make = Callable[..., TransformersEngine]
MIXES = (
    "none",
    "one:0.8",
    "one:-0.5 + two:0.5",
    "one:0.8@generated",
    "two:0.7@prompt",
    "one:0.9@user + two:0.4@generated, half-life 4",
    "one:0.7 when one < 3",
    "two:0.6 when one < 0.2 at token",
    "ablate(one)",
    "rotate(two, 15) + one:0.3",
    "one:0.5 + floor(two, 50%)",
)
PROMPTS = ("How was your day?", "A longer question about rivers, and about the towns that lie beside them.", "Hi")
TOKENS = 10
IMPOSSIBLE = {"type": "object", "required": ["a"], "properties": {"a": False}}


class Asking:
    """Asks a loop over one engine."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self.loop = DecodingLoop(engine.model, engine.blocks)
        self.vectors = {name: reader_for(engine, seed=seed, name=name) for seed, name in enumerate(("one", "two"))}

    def asked(
        self, prompt: str, mix: str = "none", *, salt: bytes = b"", deadline: float | None = None, **options: Any
    ) -> Asked:
        steering = Steering.of(mix, find=self.vectors.__getitem__)
        sampling = Sampling(**{"max_new_tokens": TOKENS, **options})
        prompts = [self.engine.marked(prompt)]
        request = make_request(
            prompts, [steering], sampling, info=self.engine.info, constraints=[None], read=[self.vectors["one"]]
        )
        return Asked(request, self.engine._context, salt=salt, deadline=deadline, streamed=True)

    def answers(self, *asked: Asked) -> list[Completion]:
        return [generation.result(timeout=60) for generation in self.loop.submit(asked)]


@pytest.fixture
def asking(llama: TransformersEngine) -> Iterator[Asking]:
    asking = Asking(llama)
    yield asking
    wait_until_idle()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in llama.model.modules())
    assert llama.model.config._attn_implementation == "sdpa"


def wait_until_idle() -> None:
    for thread in threading.enumerate():
        if thread.name == "trimtab-decoding":
            thread.join(timeout=60)
            assert not thread.is_alive()


def same(one: Completion, other: Completion) -> bool:
    """Tokens and receipts equal; numbers up to the rounding of plain weights, whose products depend on their shape."""
    if (one.tokens, one.finish_reason) != (other.tokens, other.finish_reason):
        return False
    assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    for mine, theirs in zip(one.receipt.terms, other.receipt.terms, strict=True):
        assert (mine.tokens, mine.layers, mine.fired) == (theirs.tokens, theirs.layers, theirs.fired)
        assert mine.shift == pytest.approx(theirs.shift, abs=1e-5)
    assert one.receipt.tokens == other.receipt.tokens
    return bool(np.allclose(one.readings["one"], other.readings["one"], atol=1e-4))


def static_answer(asking: Asking, prompt: str, mix: str) -> Completion:
    steering = Steering.of(mix, find=asking.vectors.__getitem__)
    read = [asking.vectors["one"]]
    return asking.engine.generate(prompt, steering=steering, max_new_tokens=TOKENS, read=read, use_cache=False)


def test_answers_are_those_of_a_static_batch_without_cache(asking: Asking) -> None:
    cases = [(prompt, mix) for prompt in PROMPTS[:2] for mix in MIXES]
    for (prompt, mix), answer in zip(cases, asking.answers(*(asking.asked(*case) for case in cases)), strict=True):
        assert same(answer, static_answer(asking, prompt, mix)), mix


def test_requests_join_and_leave_at_any_token(asking: Asking) -> None:
    rng = np.random.default_rng(0)
    cases = [
        asking.asked(
            PROMPTS[rng.integers(3)],
            MIXES[rng.integers(len(MIXES))],
            max_new_tokens=int(rng.integers(1, 14)),
            temperature=float(rng.choice([0.0, 0.9])),
            seed=int(rng.integers(5)),
        )
        for _ in range(60)
    ]
    alone = [asking.answers(case)[0] for case in cases]
    found: dict[int, Completion] = {}

    def work(numbers: list[int]) -> None:
        for n in numbers:
            (generation,) = asking.loop.submit([cases[n]])
            if n % 7 == 3:
                next(generation)
                generation.cancel()
            else:
                found[n] = generation.result(timeout=60)

    threads = [threading.Thread(target=work, args=(list(range(first, 60, 6)),)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == sum(n % 7 != 3 for n in range(60))
    for n, answer in found.items():
        assert answer.tokens == alone[n].tokens
        assert answer.receipt.tokens == alone[n].receipt.tokens


def test_kept_prefixes_change_nothing(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = KeptPrefixes.restore
    restored = []
    monkeypatch.setattr(KeptPrefixes, "restore", lambda *given: (restored.append(given[1]), restore(*given)))
    for prompt in PROMPTS:
        for mix in MIXES:
            first, again = (asking.answers(asking.asked(prompt, mix))[0] for _ in range(2))
            assert same(first, again), mix
    assert restored


def test_prefixes_are_shared_where_tokens_and_their_steering_are_equal(asking: Asking) -> None:
    def keys(mix: str, salt: bytes = b"") -> list[bytes]:
        asked = asking.asked(PROMPTS[1], mix, salt=salt)
        row = Row(
            asked,
            Mailbox(),
            RowPlan(asked.request.steerings[0]),
        )
        return row.keys

    assert keys("none") == keys("one:0.8@generated")
    assert keys("one:0.5") == keys("one:0.5 + two:0.3@generated")
    assert keys("one:0.5")[0] != keys("one:0.6")[0] != keys("none")[0]
    assert keys("none", b"a")[0] != keys("none", b"b")[0]
    # What comes before the user's words is the same, steered or not.
    shared = [a == b for a, b in zip(keys("none"), keys("one:0.9@user"), strict=True)]
    assert not shared[-1]


def test_prefix_keys_without_steering_are_noticed(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = RowSteering.prompt_steered.fget

    def nothing(row: RowSteering) -> NDArray[np.float32]:
        return np.zeros_like(plain(row))

    alone = static_answer(asking, PROMPTS[1], "one:0.8")
    monkeypatch.setattr(RowSteering, "prompt_steered", property(nothing))
    asking.answers(asking.asked(PROMPTS[1]))
    (wrong,) = asking.answers(asking.asked(PROMPTS[1], "one:0.8"))
    assert wrong.logprob != pytest.approx(alone.logprob, abs=1e-4)


def test_kept_prefixes_end_with_the_weights_they_came_from(tiny: Make) -> None:
    asking = Asking(tiny("llama"))
    before = asking.answers(asking.asked(PROMPTS[1]))[0]
    with torch.no_grad():
        asking.engine.model.model.layers[0].mlp.down_proj.weight.mul_(1.5)
    after = asking.answers(asking.asked(PROMPTS[1]))[0]
    assert after.logprob != pytest.approx(before.logprob, abs=1e-4)
    assert same(after, static_answer(asking, PROMPTS[1], "none"))


def test_a_missing_hook_is_noticed(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = asking.engine.blocks
    rewritten = type(blocks).rewritten
    monkeypatch.setattr(
        type(blocks), "rewritten", lambda self, layers, rewrite: rewritten(self, [n for n in layers if n != 2], rewrite)
    )
    with pytest.raises(SteeringError, match=r"layer 2 .* steered 0 of"):
        asking.answers(asking.asked("Hi", "one:0.8"))


def test_a_request_that_fails_leaves_the_others_alone(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = loop_module.choose

    def broken(logits: torch.Tensor, choosers: Any) -> Any:
        logits = logits.clone()
        for n, chooser in enumerate(choosers):
            if chooser.sampling.seed == 13 and len(chooser.tokens) == 2:
                logits[n, 5] = torch.nan
        return choose(logits, choosers)

    monkeypatch.setattr(loop_module, "choose", broken)
    alone = asking.answers(asking.asked("Hi"))[0]
    good, bad, other = asking.loop.submit([asking.asked("Hi"), asking.asked("Hi", seed=13), asking.asked("Hi")])
    with pytest.raises(ModelError, match="not numbers"):
        bad.result(timeout=60)
    assert same(good.result(timeout=60), alone)
    assert same(other.result(timeout=60), alone)


def test_a_pass_that_fails_ends_its_requests_and_no_others(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    read = asking.loop._flat.read
    calls = []

    def sometimes(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the pass broke")
        return read(*args, **options)

    monkeypatch.setattr(asking.loop._flat, "read", sometimes)
    with pytest.raises(RuntimeError, match="the pass broke"):
        asking.answers(asking.asked("Hi"))
    assert len(asking.answers(asking.asked("Hi"))[0].tokens) == TOKENS


def test_running_out_of_memory_shrinks_the_pass(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    read = asking.loop._flat.read
    sizes = []

    def small(segments: Any, **options: Any) -> torch.Tensor:
        tokens = sum(len(segment.tokens) for segment in segments)
        if tokens > 32:
            raise torch.OutOfMemoryError("can't allocate memory")
        sizes.append(tokens)
        return read(segments, **options)

    alone = asking.answers(asking.asked(PROMPTS[1], "one:0.8", salt=b"other"))[0]
    monkeypatch.setattr(asking.loop._flat, "read", small)
    assert same(asking.answers(asking.asked(PROMPTS[1], "one:0.8"))[0], alone)
    assert max(sizes) <= 32


@pytest.mark.parametrize(("streams", "longs"), [(0, 4), (4, 1), (4, 9)])
def test_a_short_prompt_is_read_beside_long_ones(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, streams: int, longs: int
) -> None:
    asking = Asking(tiny("llama", max_position_embeddings=4096))
    read, passes, first = asking.loop._flat.read, [0], [0]
    newcomer: list[Any] = []

    def counted(segments: Any, **options: Any) -> torch.Tensor:
        if passes[0] == 3:  # the long prompts are being read by now
            newcomer.extend(asking.loop.submit([asking.asked("Hi, you", salt=b"new")]))
            newcomer[0].listen(lambda: first.__setitem__(0, passes[0]))
        passes[0] += 1
        return read(segments, **options)

    long = [asking.asked("A sea. " * 300 + str(n), salt=bytes([n]), max_new_tokens=2) for n in range(longs)]
    answering = [asking.asked("Hi", max_new_tokens=200, ignore_eos=True) for _ in range(streams)]
    running = asking.loop.submit(answering)
    for each in running:
        next(each)
    monkeypatch.setattr(asking.loop._flat, "read", counted)
    others = asking.loop.submit(long)
    (alone,) = Asking(asking.engine).answers(asking.asked("Hi, you"))
    assert [len(each.result(timeout=60).tokens) for each in others] == [2] * longs
    own = -(-len(asking.engine.marked("Hi, you").tokens) // (loop_module.BUSY if streams else loop_module.IDLE))
    assert first[0] - 4 <= own + 2
    assert same(newcomer[0].result(timeout=60), alone)
    for each in running:
        each.close()


def test_short_prompts_that_keep_coming_do_not_stop_a_long_one(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(tiny("llama", max_position_embeddings=4096))
    read, passes = asking.loop._flat.read, [0]
    answering = asking.loop.submit([asking.asked("Hi", max_new_tokens=200, ignore_eos=True)])
    next(answering[0])

    def crowded(segments: Any, **options: Any) -> torch.Tensor:
        passes[0] += 1
        if passes[0] < 60:  # more than fit into a pass
            asked = [asking.asked("a word" * 5, salt=bytes([passes[0], n]), max_new_tokens=1) for n in range(3)]
            short.extend(asking.loop.submit(asked))
        return read(segments, **options)

    short: list[Any] = []
    monkeypatch.setattr(asking.loop._flat, "read", crowded)
    (long,) = asking.loop.submit([asking.asked("A sea. " * 50, max_new_tokens=1)])
    ended: list[int] = []
    long._mailbox.when_ended(lambda _: ended.append(passes[0]))
    tokens = len(long.result(timeout=60).prompt.tokens)
    assert ended[0] <= tokens // BLOCK + 2
    assert all(each.result(timeout=60) for each in short)
    answering[0].close()


def test_two_rows_with_swapped_plans_are_noticed(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [asking.asked("Hi", "one:0.8"), asking.asked("Hi", "two:-0.9")]
    alone = [asking.answers(case)[0] for case in cases]
    reading = RowHooks.reading

    def swapped(self: RowHooks, segments: Any, *, least: int) -> Any:
        plans = [row.plan for row, _ in segments]
        given = [(row, segment) for row, segment in segments]
        if len(given) == 2:
            for (row, _), plan in zip(given, reversed(plans), strict=True):
                row.plan = plan
        return reading(self, given, least=least)

    assert all(same(*each) for each in zip(asking.answers(*cases), alone, strict=True))
    monkeypatch.setattr(RowHooks, "reading", swapped)
    for answer, right in zip(asking.answers(*cases), alone, strict=True):
        assert answer.logprob != pytest.approx(right.logprob, abs=1e-4)


def test_cancelled_and_late_requests_leave(asking: Asking) -> None:
    endless = {"max_new_tokens": 150}
    (one, late, kept) = asking.loop.submit(
        [
            asking.asked("Hi", **endless),
            asking.asked("Hi", deadline=time.monotonic() + 0.05, **endless),
            asking.asked("Hi"),
        ]
    )
    assert len([token for token, _ in zip(one, range(3), strict=False)]) == 3
    one.cancel()
    for generation, message in ((one, "cancelled"), (late, "deadline")):
        with pytest.raises(CancelledGenerationError, match=message):
            generation.result(timeout=60)
    assert len(kept.result(timeout=60).tokens) == TOKENS


def test_steered_and_unsteered_prompts_of_all_lengths_share_passes(asking: Asking) -> None:
    cases = [("x" * n, mix) for n in range(1, 40, 4) for mix in ("none", "one:0.8")]
    alone = [asking.answers(asking.asked(*case))[0] for case in cases]
    for one, together in zip(alone, asking.answers(*(asking.asked(*case) for case in cases)), strict=True):
        assert same(one, together)


def test_a_generation_that_nobody_refers_to_ends(asking: Asking) -> None:
    asking.loop.submit([asking.asked("Hi", max_new_tokens=180)])
    wait_until_idle()


def test_submitted_requests_are_answered_on_models_without_flat_passes(tiny: Make) -> None:
    engine = tiny("falcon")
    plain = engine.generate("Hi", max_new_tokens=6)
    request = engine.submit("Hi", max_new_tokens=6)
    assert [token.token for token in request] == list(plain.tokens)
    assert request.result().tokens == plain.tokens
    late = engine.submit("Hi", max_new_tokens=200, deadline=0.0)
    with pytest.raises(CancelledGenerationError, match="deadline"):
        late.result(timeout=60)


def test_thousand_requests_may_wait_and_more_are_refused(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [asking.asked("Hi", max_new_tokens=1) for _ in range(1000)]
    begin = time.perf_counter()
    generations = asking.loop.submit(asked)
    assert time.perf_counter() - begin < 1
    answers = [generation.result(timeout=60) for generation in generations]
    assert len({answer.tokens for answer in answers}) == 1
    monkeypatch.setattr(generation_module, "QUEUED", 3)
    with pytest.raises(PromptError, match="more than 3 requests"):
        asking.loop.submit([asking.asked("Hi")] * 4)


def test_answers_are_awaited_and_iterated_by_coroutines(asking: Asking) -> None:
    async def both() -> tuple[str, Completion]:
        first, second = asking.loop.submit([asking.asked("Hi"), asking.asked("Hi")])
        pieces = [token.text async for token in first]
        return "".join(pieces), await second

    text, completion = asyncio.run(both())
    assert text == completion.text


def test_texts_are_read_in_blocks_whatever_their_length(asking: Asking) -> None:
    for count in (1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK):
        prompt = "x" * count
        assert same(asking.answers(asking.asked(prompt, "one:0.5"))[0], static_answer(asking, prompt, "one:0.5"))


def test_wait_for_an_answer_inside_a_pass_is_refused(asking: Asking) -> None:
    (generation,) = asking.loop.submit([asking.asked("Hi", max_new_tokens=100)])
    with pytest.raises(SteeringError, match="waits for the pass"):
        asking.engine.collect(["Hi you"], progress=lambda *_: generation.result() and None)
    assert generation.result(timeout=60).tokens


def test_flat_passes_are_tried_on_each_model(engine: TransformersEngine) -> None:
    problem = why_not_flat(engine.model, engine.blocks)
    refused = engine.info.name in ("tiny falcon", "tiny falcon_alibi")  # their attention is their own
    assert (problem is not None) == refused
    if problem is None:
        asking = Asking(engine)
        for mix in MIXES[:4]:
            answer = asking.answers(asking.asked(PROMPTS[1], mix))[0]
            assert same(answer, static_answer(asking, PROMPTS[1], mix)), mix


# Requests that fail --------------------------------------------------------------------------------------------------


def fails_beside_others(asking: Asking, bad: Asked, *, error: type[BaseException], match: str) -> None:
    """The bad one fails; those before and after it are answered as alone."""
    cases = [asking.asked(PROMPTS[0], "one:0.5"), asking.asked("Hi")]
    alone = [asking.answers(case)[0] for case in cases]
    before, failing, after = asking.loop.submit([cases[0], bad, cases[1]])
    with pytest.raises(error, match=match):
        failing.result(timeout=60)
    assert all(same(each.result(timeout=60), own) for each, own in zip((before, after), alone, strict=True))


def test_an_addition_that_vanishes_fails_its_request_alone(asking: Asking) -> None:
    fails_beside_others(asking, asking.asked("Hi", "two:0.000000001"), error=SteeringError, match="too small to move")


def test_steering_that_raises_fails_its_request_alone(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    coefficients = RowSteering.coefficients

    def broken(row: RowSteering, segment: Any) -> Any:
        if segment.generated and str(row.plan.steering) == "two:0.7":
            raise ValueError("no coefficient")
        return coefficients(row, segment)

    monkeypatch.setattr(RowSteering, "coefficients", broken)
    fails_beside_others(asking, asking.asked("Hi", "two:0.7"), error=ValueError, match="no coefficient")


class BrokenConstraint:
    """A constraint that raises what no constraint should."""

    constraint = Constraint.choice(["a"], steer=True)
    complete = False

    def forced(self) -> tuple[int, ...]:
        return ()

    def mask(self) -> Any:
        raise ValueError("no mask")

    def advance(self, token: int) -> None:
        raise AssertionError


def test_a_constraint_that_raises_fails_its_request_alone(asking: Asking) -> None:
    good = asking.asked("Hi")
    bad = replace(good, request=replace(good.request, constraints=[BrokenConstraint()]))
    fails_beside_others(asking, bad, error=ValueError, match="no mask")


def test_a_prefix_that_cannot_be_restored_fails_its_request_alone(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.answers(asking.asked(PROMPTS[1], "two:0.7"))
    restore = KeptPrefixes.restore

    def broken(kept: KeptPrefixes, keys: Any, row: RowSteering, *given: Any) -> None:
        if str(row.plan.steering) == "two:0.7":
            raise ValueError("no prefix")
        restore(kept, keys, row, *given)

    monkeypatch.setattr(KeptPrefixes, "restore", broken)
    fails_beside_others(asking, asking.asked(PROMPTS[1], "two:0.7"), error=ValueError, match="no prefix")


def test_a_request_without_room_in_memory_fails_alone(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    table = asking.loop._flat.table
    zeros = type(table)._zeros

    def small(self: SlotTable, *given: Any) -> torch.Tensor:
        if self.positions > 256:
            raise torch.OutOfMemoryError("can't allocate memory")
        return zeros(self, *given)

    monkeypatch.setattr(SlotTable, "_zeros", small)
    bad = asking.asked("Hi", max_new_tokens=400)
    fails_beside_others(asking, bad, error=torch.OutOfMemoryError, match="allocate")
    assert table.positions == 256


def test_without_memory_for_all_answers_the_last_ones_fail(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    read = asking.loop._flat.read
    alone = asking.answers(asking.asked("Hi"))[0]

    def small(segments: Any, **options: Any) -> torch.Tensor:
        if sum(segment.generated for segment in segments) > 3:
            raise torch.OutOfMemoryError("can't allocate memory")
        return read(segments, **options)

    monkeypatch.setattr(asking.loop._flat, "read", small)
    generations = asking.loop.submit([asking.asked("Hi", salt=bytes([n])) for n in range(5)])
    for generation in generations[3:]:
        with pytest.raises(torch.OutOfMemoryError):
            generation.result(timeout=60)
    assert all(same(generation.result(timeout=60), alone) for generation in generations[:3])


def test_a_choice_that_fails_ends_the_pass_and_no_other(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = asking.answers(asking.asked("Hi"))[0]
    with monkeypatch.context() as patched:
        patched.setattr(loop_module, "choose", lambda *_: {}["nothing"])
        (failing,) = asking.loop.submit([asking.asked("Hi")])
        with pytest.raises(KeyError, match="nothing"):
            failing.result(timeout=60)
    assert same(asking.answers(asking.asked("Hi"))[0], alone)


def test_an_error_of_the_loop_itself_ends_all_and_the_next_request_begins_anew(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = asking.answers(asking.asked("Hi"))[0]
    with monkeypatch.context() as patched:
        patched.setattr(asking.loop, "_join", lambda: {}["nothing"])
        for generation in asking.loop.submit([asking.asked("Hi")] * 3):
            with pytest.raises(KeyError, match="nothing"):
                generation.result(timeout=60)
    assert same(asking.answers(asking.asked("Hi"))[0], alone)


def test_a_thread_that_cannot_start_keeps_no_later_request_waiting(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            asking.loop.submit([asking.asked("Hi")])
    assert len(asking.answers(asking.asked("Hi"))[0].tokens) == TOKENS


def test_cancelled_and_late_requests_leave_the_queue(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "ROWS", 1)
    alone = asking.answers(asking.asked("Hi"))[0]
    (first,) = asking.loop.submit([asking.asked("Hi", max_new_tokens=220, ignore_eos=True)])
    next(first)
    late, cancelled, last = asking.loop.submit(
        [asking.asked("Hi", deadline=time.monotonic() + 0.01), asking.asked("Hi"), asking.asked("Hi")]
    )
    cancelled.cancel()
    for generation, message in ((late, "deadline"), (cancelled, "cancelled")):
        with pytest.raises(CancelledGenerationError, match=message):
            generation.result(timeout=60)
    assert not first.ended  # they did not wait for it
    first.cancel()
    assert same(last.result(timeout=60), alone)


def test_answers_that_nobody_reads_keep_nobody_waiting(asking: Asking) -> None:
    (unread,) = asking.loop.submit([asking.asked("Hi", max_new_tokens=60, ignore_eos=True)])
    alone = asking.answers(asking.asked("Hi"))[0]
    assert same(asking.answers(asking.asked("Hi"))[0], alone)
    assert len(unread.result(timeout=60).tokens) == len(list(unread)) == 60


def test_a_long_request_gets_no_slots_for_many_others(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(tiny("llama", max_position_embeddings=4096))
    asking.answers(*[asking.asked("Hi") for _ in range(30)])
    table = asking.loop._flat.table
    assert table.slots > 30
    monkeypatch.setattr(loop_module, "TABLE_BYTES", 2 * table.size)
    (long,) = asking.loop.submit([asking.asked("Hi", max_new_tokens=3000, ignore_eos=True)])
    next(long)
    assert (table.slots, table.positions) == (2, 3072)
    long.close()


def test_changing_strengths_keep_few_sums(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = "one:0.9@user + two:0.4@generated, half-life 4"
    alone = asking.answers(asking.asked(PROMPTS[1], mix))[0]
    monkeypatch.setattr("trimtab.engines.transformers.forward.rows.SUMS", 4)
    asking.loop._plans.clear()
    assert same(asking.answers(asking.asked(PROMPTS[1], mix))[0], alone)
    (plan,) = asking.loop._plans.values()
    assert len(plan._sums) <= 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_new_tokens": 300}, PromptError),
        (
            {"constraint": Constraint.json_schema(IMPOSSIBLE)},
            TrimtabError,
        ),
        ({"logit_bias": {100_000: 1.0}}, PromptError),
        ({"logit_bias": {-1: 1.0}}, PromptError),
        ({"steering": "no such vector:1"}, TrimtabError),
    ],
    ids=["context overflow", "impossible schema", "bias of no token", "bias of a negative token", "no vector"],
)
def test_bad_requests_are_refused_before_work(
    llama: TransformersEngine, options: dict[str, Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = llama.submit("Hi", max_new_tokens=TOKENS).result(timeout=60)
    running = llama.submit("Hi", max_new_tokens=TOKENS)
    with monkeypatch.context() as patched:
        patched.setattr(DecodingLoop, "submit", lambda *_: pytest.fail("it was submitted"))
        with pytest.raises(error):
            llama.submit("Hi", **options)
    assert running.result(timeout=60).tokens == alone.tokens


def test_late_and_cancelled_requests_are_given_up_before_a_static_batch(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny("falcon")
    engine.generate("Hi", max_new_tokens=1)
    with model_lock(engine.model):
        late = threaded(lambda: engine.submit("Hi", max_new_tokens=5, deadline=0))
        cancelled = threaded(lambda: engine.submit("Hi", max_new_tokens=5))
        cancelled.cancel()
        monkeypatch.setattr(generation_module, "answer_request", lambda *_, **__: pytest.fail("it was answered"))
    for generation, message in ((late, "deadline"), (cancelled, "cancelled")):
        with pytest.raises(CancelledGenerationError, match=message):
            generation.result(timeout=60)


def test_static_answers_wait_in_a_queue(tiny: Make) -> None:
    engine = tiny("falcon")
    alone = engine.generate("Hi", max_new_tokens=2)
    threads = threading.active_count()
    first = threaded_beside(engine, lambda: [engine.submit("Hi", max_new_tokens=2) for _ in range(200)])
    assert threading.active_count() <= threads + 1
    assert {request.result(timeout=60).tokens for request in first} == {alone.tokens}
    long = engine.submit("Hi", max_new_tokens=200, ignore_eos=True)
    next(long)
    late = engine.submit("Hi", max_new_tokens=2, deadline=0.0)
    with pytest.raises(CancelledGenerationError, match="deadline"):
        late.result(timeout=60)
    assert not long.ended
    long.close()


EXIT = """
from tiny_models import BY_NAME, byte_tokenizer
from trimtab.engines.transformers import TransformersEngine
engine = TransformersEngine(BY_NAME["falcon"].build(), byte_tokenizer(), name="tiny")
stream = engine.stream("Hi", max_new_tokens=50)
next(stream)
request = engine.submit("Hi")
"""


def test_the_interpreter_ends_though_a_request_waits_for_the_model() -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    ended = subprocess.run([sys.executable, "-c", EXIT], env={**os.environ, "PYTHONPATH": paths}, timeout=60)
    assert ended.returncode == 0


def threaded_beside(engine: TransformersEngine, call: Callable[[], Any]) -> Any:
    """Return what another thread gets while this one holds the model, so that all of it waits."""
    with model_lock(engine.model):
        return threaded(call)


def threaded(call: Callable[[], Any]) -> Any:
    """Return what another thread gets, which does not hold the model."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(timeout=60)
    return found[0]

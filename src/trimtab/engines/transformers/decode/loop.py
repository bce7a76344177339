"""The decoding loop: requests join, are read and answered together in flat passes, and leave, each by itself.

One thread runs the model while there are requests. Between two passes of the model

1. requests *join* that fit into a slot, with the kept prefix of their prompt, if there is one;
2. a *pass* is put together: one new token of every answer, with those that a constraint forces behind it, and pieces of
   the prompts that are still being read;
3. the model reads it, and for each text that is read to its end the next token is *chosen*;
4. tokens are handed out, and answers that are complete, cancelled or late *leave*.

A request that fails leaves alone. If a pass fails, all requests in it fail, and the loop goes on with the others.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Lock
from typing import final

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimtab.engines.generation import Generation, Mailbox, Workload, gathered_wakeups
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.protocol import Completion, StreamedToken
from trimtab.engines.transformers.decode.answer import check_terms
from trimtab.engines.transformers.decode.choose import Choice, choose
from trimtab.engines.transformers.decode.constraints import prepare_masks
from trimtab.engines.transformers.decode.generation import Asked, check_queue, start_thread, take_ended, why_ended
from trimtab.engines.transformers.decode.prefixes import KeptPrefixes
from trimtab.engines.transformers.decode.row import Row, room_of
from trimtab.engines.transformers.forward.flat import BLOCK, FlatModel, Segment
from trimtab.engines.transformers.forward.rows import RowHooks, RowPlan
from trimtab.engines.transformers.forward.run import is_out_of_memory, place, release
from trimtab.engines.transformers.model.context import model_lock, model_state, running

logger = logging.getLogger("trimtab")
ROWS = 64  # answers at once
BUSY = 64  # tokens of prompts in a pass with answers that are streamed, so that they go on smoothly
IDLE = 512  # in other passes
TABLE_BYTES = 2 * 1024**3  # of keys and values at once; a single request may take more
KEPT_BYTES = 256 * 1024**2  # of prefixes
SPARE_BYTES = 256 * 1024**2  # of keys and values that stay allocated while there are no requests


@final
class DecodingLoop:
    """Answers requests on one model, many at once.

    Every method may be called from any thread. The thread that runs the model begins with the first request and ends
    with the last one; the hooks are on the model in between, and act on passes of the loop alone.
    """

    def __init__(self, model: PreTrainedModel, layers: DecoderLayers) -> None:
        self._model = model
        self._flat = FlatModel(model, layers=len(layers))
        self._hooks = RowHooks(layers)
        self._beside: ThreadPoolExecutor  # for what is computed while the model runs
        self.workload = Workload()
        self._kept = KeptPrefixes(KEPT_BYTES)
        self._state = b""  # of the model, under which prefixes were kept
        self._plans: dict[object, RowPlan] = {}
        self._lock = Lock()  # of what follows
        self._waiting: deque[tuple[Asked, Mailbox]] = deque()
        self._running = False
        self._joined: list[Row] = []  # in the order in which they joined; only the thread changes it
        self._left: list[tuple[Mailbox, Completion | BaseException]] = []  # with what they have ended
        self._stepped = 0.0  # when the last step began, on the clock of ``time.monotonic``
        self._reduced = 0  # tokens of prompts in a pass since memory ran out; 0 if it did not

    def submit(self, asked: Sequence[Asked]) -> list[Generation]:
        """Queue requests, and return a handle of each; this never waits for the model.

        Raises:
            PromptError: Too many requests are waiting.
            SteeringError: A scope makes no sense for a prompt.
        """
        for each in asked:
            check_terms(each.context, each.request)
        entries = [(each, Mailbox()) for each in asked]
        with self._lock:
            check_queue(self._waiting, more=len(entries))
            if entries and not self._running:
                start_thread(self._run, cancel=self.cancel_all)  # it waits for the lock
                self._running, self._stepped = True, time.monotonic()
            self._waiting.extend(entries)
        lock = model_lock(self._model)
        return [Generation(mailbox, held=lambda: lock.held) for _, mailbox in entries]

    @property
    def stalled(self) -> float:
        """Return the seconds since the last step began; 0 while there is nothing to do."""
        return time.monotonic() - self._stepped if self._running else 0.0

    def cancel_all(self) -> None:
        """Cancel all requests."""
        with self._lock:
            left = [row.mailbox for row in self._joined] + [mailbox for _, mailbox in self._waiting]
        for mailbox in left:
            mailbox.cancelled = True

    def _run(self) -> None:
        try:
            while self._go_on():
                with ThreadPoolExecutor(1) as self._beside, ExitStack() as stack:
                    with running(self._model):
                        stack.enter_context(self._hooks.installed())
                    while self._joined or self._waiting:
                        self._deliver()
                        with torch.inference_mode():
                            self._step()
                self._deliver()  # the last ones, once the hooks are gone
        except BaseException as error:
            self._fail_all(error)

    def _deliver(self) -> None:
        """Hand out the ends of the requests that have left."""
        left, self._left = self._left, []
        with gathered_wakeups():
            for mailbox, end in left:
                mailbox.close(end)

    def _go_on(self) -> bool:
        """Return True if there is work; else the thread ends, and the next request begins another."""
        with self._lock:
            if self._waiting:
                return True
            if not 0 < self._flat.table.size <= SPARE_BYTES:
                self._flat.table.release()
            self._running = False
            return False

    def _fail_all(self, error: BaseException) -> None:
        """End every request with an error that the loop itself has met."""
        with self._lock:  # the next request begins another thread, with nothing of this one
            left, self._left = self._left, []
            left += [(row.mailbox, error) for row in self._joined] + [(mailbox, error) for _, mailbox in self._waiting]
            self._joined, self._running = [], False
            self._waiting.clear()
            self._flat.table.release()
        for mailbox, end in left:
            mailbox.close(end)

    def _step(self) -> None:
        """Run one pass, and let go whoever has ended."""
        self._stepped = time.monotonic()
        self._leave_early()
        with running(self._model, changed=bool(self._waiting)), eagerly():  # weights may change between two answers
            self._join()
            segments = list(self._segments())
            if not segments:
                return
            try:
                logits = self._pass_beside_masks(segments)
            except Exception as error:  # whatever a model does, requests that come later are answered
                if not (isinstance(error, RuntimeError) and is_out_of_memory(error)):
                    self.workload.failures += 1
                    self._leave_all((row for row, _ in segments), error)
                elif not self._reduce(segments, error):  # the one that came last makes room for the others
                    self._leave(max((row for row, _ in segments), key=self._joined.index), error)
                return
            self.workload.passes += 1
            self.workload.rows += len(segments)
            self.workload.failures = 0
            try:
                with gathered_wakeups():
                    self._choose(segments, logits)
            except Exception as error:
                self._leave_all((row for row, _ in segments if row in self._joined), error)

    def _choose(self, segments: Sequence[tuple[Row, Segment]], logits: Tensor) -> None:
        """Choose the next token of each text, and where forced tokens were read, those one after another."""
        for row, segment in segments:
            for token in segment.tokens[1:] if segment.generated and segment.wanted == 1 else ():
                if row in self._joined:
                    self._hand_out(row, Choice(token, math.nan))  # nobody asks for its log-probability
        counts = [segment.wanted for _, segment in segments]
        begins = np.cumsum(counts) - counts
        for n in range(max(counts)):
            chosen = [
                (row, begin + n)
                for (row, _), count, begin in zip(segments, counts, begins.tolist(), strict=True)
                if n < count and row in self._joined
            ]
            if not chosen:
                return
            read = logits if len(chosen) == len(logits) else logits[[at for _, at in chosen]]
            choices = choose(read, [row.answer.chooser for row, _ in chosen])
            for (row, _), choice in zip(chosen, choices, strict=True):
                self._hand_out(row, choice)

    def _leave_early(self) -> None:
        """Let requests go that were cancelled or are late, those that wait too."""
        for row in list(self._joined):
            if (error := why_ended(row.asked, row.mailbox)) is not None:
                self._leave(row, error)
        with self._lock:
            self._left += take_ended(self._waiting)

    def _join(self) -> None:
        """Give slots to waiting requests, first come first served, while there is room."""
        if not self._waiting:
            return
        if (state := model_state(self._model)) != self._state:  # weights, adapters or hooks have changed
            self._kept.clear()
            self._state = state
        while len(self._joined) < ROWS:
            with self._lock:
                if not self._waiting:
                    return
                asked, mailbox = self._waiting[0]
                if not self._fits(asked):
                    if self._joined:
                        return
                    self._flat.table.release()  # slots for many others would be as long as this one
                self._waiting.popleft()
            try:
                row = Row(asked, mailbox, self._plan(asked))
                taken = {each.slot for each in self._joined}
                row.slot = next(slot for slot in range(1, len(taken) + 2) if slot not in taken)
                self._reserve(row)
            except Exception as error:
                self._left.append((mailbox, error))
                continue
            self._joined.append(row)
            self.workload.prefix_queries += len(row.prompt.tokens)

    def _reserve(self, row: Row) -> None:
        """Make room for a request, and at once for those behind it where that is cheap: growing copies the table."""
        table, least = self._flat.table, row.slot + 1
        room = max(row.room, table.positions)
        soon = min(max(least, len(self._joined) + len(self._waiting) + 2), ROWS + 1)
        roomy = table.fits(TABLE_BYTES // 4, slots=soon, positions=room)
        table.reserve(slots=soon if roomy else least, positions=room)

    def _fits(self, asked: Asked) -> bool:
        longest = max(room_of(asked.request), self._flat.table.positions)
        slots = max(len(self._joined) + 2, self._flat.table.slots)
        return self._flat.table.fits(TABLE_BYTES, slots=slots, positions=longest)

    def _plan(self, asked: Asked) -> RowPlan:
        (steering,) = asked.request.steerings
        if steering not in self._plans:
            while len(self._plans) >= 2 * ROWS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[steering] = RowPlan(steering)
        return self._plans[steering]

    def _segments(self) -> Iterator[tuple[Row, Segment]]:
        """Put a pass together: answers by slot, then pieces of prompts.

        Of prompts those with the least to read come first, so that none waits for a longer one; the oldest is sure of a
        block, so that none waits for ever.
        """
        answering = sorted((row for row in self._joined if row.answering), key=lambda row: (bool(row.ahead), row.slot))
        for row in answering:
            yield row, row.next_tokens()
        room = BUSY if any(row.asked.streamed for row in answering) else IDLE
        room = min(room, self._reduced or room)
        readers = self._readers()
        reserved = BLOCK
        for row in sorted(readers, key=lambda row: row.unread):
            if row is readers[0]:
                reserved = 0
            piece = row.next_piece(room - reserved)
            if piece is not None:
                room -= len(piece.tokens)
                yield row, piece

    def _readers(self) -> list[Row]:
        """Return the rows whose prompts are read now, in the order in which they joined.

        A prompt waits for blocks that are those of an earlier one: it takes them once they are read.
        """
        readers, begun = [], set[bytes]()
        for row in list(self._joined):
            if row.answering:
                continue
            try:
                self._restore(row)
            except Exception as error:  # of this request alone
                self._leave(row, error)
                continue
            left = row.keys[row.read // BLOCK :]
            if not left or left[0] not in begun:
                begun.update(left)
                readers.append(row)
        return readers

    def _restore(self, row: Row) -> None:
        """Take the beginning of a prompt from the kept prefixes, if nothing of it was read yet."""
        if row.read:
            return
        known = self._kept.known(row.keys)
        if known:
            self._kept.restore(row.keys[:known], row.steering, self._flat.table, row.slot)
            row.read = known * BLOCK
            self.workload.prefix_hits += row.read

    def _pass_beside_masks(self, segments: Sequence[tuple[Row, Segment]]) -> Tensor:
        """Run a pass; another thread computes the masks of the tokens that are chosen after it."""
        constraints = [row.request.constraints[0] for row, segment in segments if segment.wanted and not row.ahead]
        followed = [each for each in constraints if each is not None]
        if not followed:
            return self._pass(segments)
        masks = self._beside.submit(prepare_masks, followed)
        try:
            return self._pass(segments)
        finally:
            masks.result()

    def _pass(self, segments: Sequence[tuple[Row, Segment]]) -> Tensor:
        device, _ = place(self._model)
        with self._hooks.reading([(row.steering, segment) for row, segment in segments], least=self._flat.least):
            logits = self._flat.read([segment for _, segment in segments], device=device)
        for row, segment in segments:
            if row.steering.error is not None:
                self._leave(row, row.steering.error)
            elif not segment.generated:
                row.read = segment.stop
                self._kept.keep(row.keys[: row.read // BLOCK], row.steering, self._flat.table, row.slot)
        return logits

    def _reduce(self, segments: Sequence[tuple[Row, Segment]], error: RuntimeError) -> bool:
        """Have later passes read fewer tokens of prompts; return False if there are none to spare."""
        release(error)
        read = sum(len(segment.tokens) for _, segment in segments if not segment.generated)
        if read <= BLOCK:
            return False
        self._reduced = max(read // 2, BLOCK)
        logger.warning("memory ran out: passes read %d tokens of prompts from now on", self._reduced)
        return True

    def _hand_out(self, row: Row, choice: Choice | Exception) -> None:
        """Hand out a token, and the whole answer with the last one."""
        if isinstance(choice, Exception):
            self._leave(row, choice)
            return
        readings = row.steering.readings[-1].tolist() if row.names else []
        try:
            text = row.answer.take(choice)
            named = dict(zip(row.names, readings, strict=True))
            row.mailbox.put(StreamedToken(choice.token, text, named, row.answer.token_logprob()))
            if row.answer.finished:
                self._leave(row, row.completion())
            else:
                row.look_ahead()
        except Exception as error:  # of this request alone
            self._leave(row, error)

    def _leave(self, row: Row, end: Completion | BaseException) -> None:
        self._joined.remove(row)
        self._left.append((row.mailbox, end))
        if not isinstance(end, Completion):
            self._flat.table.clear(row.slot)

    def _leave_all(self, rows: Iterable[Row], error: Exception) -> None:
        for row in list(rows):
            self._leave(row, error)

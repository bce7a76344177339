"""One request while it is being answered by the decoding loop: what it reads next, and what its receipt says."""

from __future__ import annotations

from typing import final

from trimtab.engines.generation import Mailbox
from trimtab.engines.protocol import Completion, Receipt, Tokens
from trimtab.engines.transformers.decode.answer import (
    Request,
    kl_along,
    left_out_of,
    prompt_reader,
    reason_of,
    row_answer,
)
from trimtab.engines.transformers.decode.generation import Asked
from trimtab.engines.transformers.forward.flat import BLOCK, Segment
from trimtab.engines.transformers.forward.rows import RowPlan, RowSteering
from trimtab.engines.transformers.forward.schedule import RowText
from trimtab.reading import distinct_names

FORCED = 16  # tokens of an answer that are read at once where its constraint leaves no choice


@final
class Row:
    """One request while it is being answered."""

    def __init__(self, asked: Asked, mailbox: Mailbox, plan: RowPlan) -> None:
        request, context = asked.request, asked.context
        self.request = request
        self.asked, self.mailbox = asked, mailbox
        (self.prompt,) = request.prompts
        self.steering = RowSteering(
            plan,
            RowText(
                self.prompt,
                markers=context.markers,
                decode=context.decode_all,
                left_out=left_out_of(request.constraints[0]),
            ),
            sink=context.sink,
            read=request.read,
            prompt_readings=prompt_reader(context, request.prompts),
        )
        self.keys = self.steering.block_keys(BLOCK, asked.salt)
        self.names = distinct_names([vector.behaviour.name for vector in request.read])
        self.answer = row_answer(
            context,
            self.prompt.tokens,
            request.sampling,
            repeat=request.repeats[0],
            constraint=request.constraints[0],
            streamed=asked.streamed,
        )
        self.ahead: Tokens = ()  # tokens that must follow the last one
        self.slot = 0
        self.read = 0  # tokens of the prompt in the slot

    @property
    def room(self) -> int:
        """Return the positions that it may need."""
        return room_of(self.request)

    @property
    def answering(self) -> bool:
        """Return True if its prompt has been read."""
        return self.read == len(self.prompt.tokens)

    @property
    def unread(self) -> int:
        """Return the tokens of its prompt that are still to be read."""
        return len(self.prompt.tokens) - self.read

    def look_ahead(self) -> None:
        """Find the tokens that its constraint forces, which are read together with the last one.

        What reads every token needs a pass for each.

        Raises:
            ConstraintError: The constraint became too complex to follow.
        """
        constraint, left = self.request.constraints[0], self.request.sampling.max_new_tokens - len(self.answer.tokens)
        if constraint is not None and not self.steering.weights:
            self.ahead = constraint.forced()[: min(FORCED, left - 1)]

    def next_tokens(self) -> Segment:
        """Return the segment that reads its last token, and those that must follow."""
        tokens = self.answer.tokens
        reads = tokens[-1], *self.ahead
        sampling = self.request.sampling
        wanted = len(reads) if sampling.temperature == 0 or sampling.logprobs is not None else 1
        return Segment(self.slot, self.read + len(tokens) - 1, reads, generated=True, wanted=wanted)

    def next_piece(self, most: int) -> Segment | None:
        """Return the next piece of its prompt: at most ``most`` tokens, to the end of a block or of the prompt."""
        count = len(self.prompt.tokens)
        stop = count if count - self.read <= most else (self.read + most) // BLOCK * BLOCK
        if stop <= self.read:
            return None
        return Segment(self.slot, self.read, self.prompt.tokens[self.read : stop], wanted=int(stop == count))

    def completion(self) -> Completion:
        """Return the answer with its receipt."""
        answer = self.answer
        # The last token of an answer is read by no pass, so nothing is steered there.
        coefficients, terms = self.steering.receipts(len(answer.tokens) - 1)
        touched = int(coefficients.any(axis=1).sum())
        (steering,) = self.request.steerings
        kl = None
        if self.request.measure_kl:
            kl = kl_along(self.asked.context, self.prompt, tuple(answer.tokens), steering, coefficients)
        return answer.completion(
            self.prompt,
            Receipt(
                steering=str(steering),
                layers=tuple(sorted({layer for term in terms for layer in term.layers})),
                tokens=touched,
                kl=kl,
                terms=tuple(terms),
                reason=reason_of(self.request.constraints[0]),
            ),
            readings=dict(
                zip(self.names, zip(*(each.tolist() for each in self.steering.readings), strict=True), strict=True)
            ),
        )


def room_of(request: Request) -> int:
    """Return the positions that a request of one prompt may need."""
    return len(request.prompts[0].tokens) + request.sampling.max_new_tokens

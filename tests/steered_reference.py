"""A slow reference for steered answers, written in plain torch: token by token, the whole text read again for each.

It shares no code with the engine. Which tokens a rule holds is worked out from strings, operators are the textbook's,
in float64, and the first token of a text, an attention sink, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]
Operation = Callable[[Floats, Floats, float, float], Floats]  # state, direction, amount of the layer, gain


@dataclass(frozen=True)
class Seen:
    """One token at the time when it is read.

    Attributes:
        number: Which token of the text it is.
        generated: Which of the answer; negative in the prompt.
        text: The prompt as it was rendered.
        place: First character of a prompt's token, and the one after its last.
        before: The answer before it.
        through: The answer up to and with it.
    """

    number: int
    generated: int
    text: str
    place: tuple[int, int]
    before: str
    through: str


Rule = Callable[[Seen], float]


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: its tokens, the characters of each, and how answers read."""

    text: str
    tokens: Sequence[int]
    places: Sequence[tuple[int, int]]
    decode: Callable[[Sequence[int]], str]

    def seen(self, answer: Sequence[int]) -> list[Seen]:
        prompt = [Seen(n, n - len(self.tokens), self.text, place, "", "") for n, place in enumerate(self.places)]
        texts = [self.decode(answer[:n]) for n in range(len(answer) + 1)]
        return prompt + [
            Seen(len(prompt) + n, n, self.text, (0, 0), texts[n], texts[n + 1]) for n in range(len(answer))
        ]


@dataclass(frozen=True)
class HandTerm:
    """One term: what it does to a state along the direction of each layer, by how much, and to which tokens."""

    operation: Operation
    directions: Mapping[int, Any]
    amounts: Mapping[int, float] = field(default_factory=dict)
    rule: Rule = lambda seen: 1.0


# Operators ---------------------------------------------------------------------------------------------------------


def add(h: Floats, u: Floats, amount: float, gain: float) -> Floats:
    return h + gain * amount * u


def add_preserving_norm(h: Floats, u: Floats, amount: float, gain: float) -> Floats:
    moved = add(h, u, amount, gain)
    return moved * (np.linalg.norm(h) / np.linalg.norm(moved))


def ablate(h: Floats, u: Floats, amount: float, gain: float) -> Floats:
    return h - gain * (h @ u) * u


def floor(h: Floats, u: Floats, amount: float, gain: float) -> Floats:
    return h + gain * max(amount - h @ u, 0.0) * u


def cap(h: Floats, u: Floats, amount: float, gain: float) -> Floats:
    return h - gain * max(h @ u - amount, 0.0) * u


def clamp_to(low: float, high: float) -> Operation:
    def clamp(h: Floats, u: Floats, amount: float, gain: float) -> Floats:
        projection = float(h @ u)
        return h + gain * (min(max(projection, low), high) - projection) * u

    return clamp


def rotate(h: Floats, u: Floats, amount: float, gain: float) -> Floats:
    """By ``amount`` radians within the plane of ``h`` and ``u``, no further than ``u`` or its opposite."""
    length = np.linalg.norm(h)
    along = h / length
    between = float(np.arccos(np.clip(along @ u, -1.0, 1.0)))
    across = u - (along @ u) * along
    across /= np.linalg.norm(across)
    angle = min(max(gain * amount, between - np.pi), between)
    return length * (np.cos(angle) * along + np.sin(angle) * across)


# Rules -------------------------------------------------------------------------------------------------------------


def in_prompt(seen: Seen) -> float:
    return float(seen.generated < 0)


def in_answer(seen: Seen) -> float:
    return float(seen.generated >= 0)


def words_of(*texts: str) -> Rule:
    """The tokens of the prompt under any of these texts, each of which stands there once."""

    def rule(seen: Seen) -> float:
        start, stop = seen.place
        spans = [(seen.text.index(text), seen.text.index(text) + len(text)) for text in texts]
        assert all(seen.text.count(text) == 1 for text in texts)
        return float(seen.generated < 0 and any(a <= start < stop <= b for a, b in spans))

    return rule


def after(text: str) -> Rule:
    def rule(seen: Seen) -> float:
        if seen.generated < 0:
            return float(text in seen.text and seen.place[0] >= seen.text.index(text) + len(text))
        return float(text in seen.text or text in seen.before)

    return rule


def before(text: str) -> Rule:
    def rule(seen: Seen) -> float:
        if seen.generated < 0:
            return float(text not in seen.text or seen.place[1] <= seen.text.index(text))
        return float(text not in seen.text and text not in seen.through)

    return rule


def counted(first: int, stop: float) -> Rule:
    return lambda seen: float(first <= seen.generated < stop)


def decay(tokens: float) -> Rule:
    return lambda seen: 1.0 if seen.generated < 0 else max(0.0, 1.0 - seen.generated / tokens)


def half_life(tokens: float) -> Rule:
    return lambda seen: 1.0 if seen.generated < 0 else 0.5 ** (seen.generated / tokens)


def both(*rules: Rule) -> Rule:
    return lambda seen: float(np.prod([rule(seen) for rule in rules]))


# Passes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """What one pass over a whole text gave: logits of its last token, and steered states, layer to
    ``[token, hidden]``."""

    logits: Tensor
    states: dict[int, NDArray[np.float32]]


def read_steered(
    model: nn.Module, blocks: nn.ModuleList, prompt: Prompt, answer: Sequence[int], terms: Sequence[HandTerm]
) -> Read:
    """Read the prompt and what was answered so far, steered."""
    seen = prompt.seen(answer)
    gains = [[term.rule(token) for term in terms] for token in seen]
    states: dict[int, NDArray[np.float32]] = {}
    with _hooked(blocks, terms, gains, states), torch.no_grad():
        output = model(input_ids=torch.tensor([[*prompt.tokens, *answer]]), use_cache=False)
    return Read(output.logits[0, -1], states)


def answer_steered(
    model: nn.Module,
    blocks: nn.ModuleList,
    prompt: Prompt,
    terms: Sequence[HandTerm],
    *,
    count: int,
    stop: Sequence[int] = (),
) -> tuple[tuple[int, ...], Read]:
    """The likeliest token again and again, and what the last pass read."""
    answer: list[int] = []
    while True:
        read = read_steered(model, blocks, prompt, answer, terms)
        answer.append(int(read.logits.argmax()))
        if len(answer) == count or answer[-1] in stop:
            return tuple(answer), read


@contextmanager
def _hooked(
    blocks: nn.ModuleList,
    terms: Sequence[HandTerm],
    gains: Sequence[Sequence[float]],
    states: dict[int, NDArray[np.float32]],
) -> Iterator[None]:
    def steer(layer: int, state: Tensor) -> Tensor:
        changed = state.clone()
        for number in range(1, state.shape[1]):
            h = state[0, number].double().numpy()
            for term, gain in zip(terms, gains[number], strict=True):
                if gain and layer in term.directions:
                    u = np.asarray(term.directions[layer], dtype=np.float64)
                    h = term.operation(h, u, term.amounts.get(layer, 0.0), gain)
            changed[0, number] = torch.from_numpy(h).to(state.dtype)
        states[layer] = changed[0].float().numpy()
        return changed

    def hook(layer: int) -> Any:
        def after_block(_: nn.Module, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (steer(layer, output[0]), *output[1:])
            return steer(layer, output)

        return after_block

    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

"""From a behaviour to contrastive pairs: two prompts, as the model sees them, that differ only in the pole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol

from trimtab.behaviours import Behaviour, Message
from trimtab.defaults import MAX_PAIRS
from trimtab.errors import BehaviourError

MAX_CUTS = 12


class PromptFormat(Protocol):
    """Chat template and tokens of a model, which pairs need. Every engine has them."""

    def render(self, messages: Sequence[Message], *, continuation: str = "") -> str:
        """Return the chat as the model sees it, with ``continuation`` opening the assistant's turn."""

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        """Return ``text`` cut after its first token, its second, and so on, ``limit`` at most."""


@dataclass(frozen=True)
class ContrastivePair:
    """Two texts, rendered for one model, that differ only in the pole.

    Attributes:
        positive: Text of the positive pole.
        negative: Text of the negative pole.
        voice: Index of the first persona and template that say the same, personas before templates; else 0.
    """

    positive: str
    negative: str
    voice: int = field(default=0, compare=False)


def build_pairs(
    behaviour: Behaviour, format: PromptFormat, *, max_pairs: int = MAX_PAIRS, max_cuts: int = MAX_CUTS
) -> tuple[ContrastivePair, ...]:
    """Return contrastive pairs: personas x templates x suffixes x cuts of the suffix, or the pairs given directly.

    The recipe is repeng's: an opening of the answer, cut after each of its tokens, makes many moments at which the
    model is in the middle of saying the same thing in two states of mind. When there are more than ``max_pairs``,
    suffixes, personas and templates are taken in turn, so that every kind is represented.

    Args:
        behaviour: What to contrast.
        format: How the model sees a chat; any engine.
        max_pairs: Upper bound on the number of pairs.
        max_cuts: Upper bound on the cuts of one suffix.

    Raises:
        BehaviourError: Fewer than two distinct pairs come out, or the two sides of a pair read the same.
    """
    if max_pairs < 2:
        raise BehaviourError(f"max_pairs is {max_pairs}", fix="ask for at least 2")
    if max_cuts < 1:
        raise BehaviourError(f"max_cuts is {max_cuts}", fix="ask for at least 1")
    made: Iterable[ContrastivePair] = (
        ContrastivePair(format.render(pair.positive), format.render(pair.negative)) for pair in behaviour.pairs
    )
    if not behaviour.pairs:
        made = _from_personas(behaviour, format, max_pairs, max_cuts)
    pairs: dict[ContrastivePair, None] = {}
    for pair in made:
        if pair.positive == pair.negative:
            raise BehaviourError(
                f"{behaviour.source}: a pair reads the same on both sides: {pair.positive[-80:]!r}",
                fix="make the poles differ",
            )
        pairs[pair] = None
        if len(pairs) == max_pairs:
            break
    if len(pairs) < 2:
        raise BehaviourError(
            f"{behaviour.source}: only one distinct pair can be made", fix="add personas, suffixes or pairs"
        )
    return tuple(pairs)


def _from_personas(
    behaviour: Behaviour, format: PromptFormat, max_pairs: int, max_cuts: int
) -> Iterator[ContrastivePair]:
    """Yield one pair of each voice in turn, so that any beginning is an even sample of personas and templates.

    A voice is a persona in a template. It starts at its own suffix and proceeds in steps, so that the voices share the
    suffixes out among themselves before any suffix recurs.
    """
    voices = [
        (template.messages(plus), template.messages(minus))
        for plus, minus in paired_personas(behaviour)
        for template in behaviour.templates
    ]
    suffixes = _spread(behaviour.suffixes, count=max(-(-max_pairs // max_cuts), min(len(voices), max_pairs)))

    def pairs_of(voice: int) -> Iterator[ContrastivePair]:
        positive, negative = voices[voice]
        first = voices.index(voices[voice])
        for turn in range(len(voices)):
            for suffix in suffixes[(voice - turn) % len(voices) :: len(voices)]:
                for cut in format.cuts(suffix, limit=max_cuts):
                    plus, minus = (format.render(chat, continuation=cut) for chat in (positive, negative))
                    yield ContrastivePair(plus, minus, first)

    for row in zip_longest(*map(pairs_of, range(len(voices)))):
        yield from (pair for pair in row if pair is not None)


def paired_personas(behaviour: Behaviour) -> list[tuple[str, str]]:
    """Return the personas of both poles side by side; the shorter list recurs."""
    positive, negative = behaviour.positive.personas, behaviour.negative.personas
    count = max(len(positive), len(negative))
    return [(positive[n % len(positive)], negative[n % len(negative)]) for n in range(count)]


def _spread(items: Sequence[str], *, count: int) -> list[str]:
    """Return ``items`` reordered so that its first ``count`` are evenly spaced over the whole list."""
    count = min(count, len(items))
    first = [items[i * len(items) // count] for i in range(count)]
    taken = set(first)
    return first + [item for item in items if item not in taken]


def persona_instructions(behaviour: Behaviour, index: int) -> ContrastivePair:
    """Return the system prompts that ask for the two poles, in the ``index``-th phrasing.

    Templates with the persona in a system message come first; the words of the others serve where there are none.

    Raises:
        BehaviourError: The behaviour has no personas.
    """
    if not behaviour.positive.personas or not behaviour.negative.personas:
        raise BehaviourError(f"{behaviour.source}: no personas", fix="give each pole at least one")
    personas = paired_personas(behaviour)
    count = len(personas)
    turn = index + index // count  # so that no phrasing always meets the same kind of question
    templates = [template for template in behaviour.templates if template.system] or list(behaviour.templates)
    template = templates[index // count % len(templates)]
    positive, negative = personas[turn % count]
    return ContrastivePair(template.instruction(positive), template.instruction(negative))

"""Further phrasings of a pole, asked of the model itself, and sifted by words and by hidden states.

A small model rephrases badly, so most of what it says is thrown away. What is left are suggestions for a person to
look at, never additions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, Message, Pole
from trimtab.behaviours.lint import any_order, content_words, has_negation, mentions, words_of
from trimtab.engines import Engine
from trimtab.errors import BehaviourError
from trimtab.learning.progress import OnProgress, Progress, ignore
from trimtab.learning.sweep import band_layers

Doubles: TypeAlias = NDArray[np.float64]

ASK_PHASE = "Asking for phrasings"
READ_PHASE = "Reading phrasings"
ASKED_FOR_EACH = 6  # answers sampled for each suggestion that is wanted
TEMPERATURE = 0.9
ANSWER_TOKENS = 16
LONGEST = 9  # words
LEAST_AGREEMENT = 0.3
SUFFIXES = 3  # with which each phrasing is read
CUTS = 4  # tokens that each of them is cut after

ASK = "Say in other words, in one short phrase: {persona}"
EXAMPLES = (
    ("a brave soldier", "a fearless fighter who never runs from danger"),
    ("extremely tired", "worn out and longing for sleep"),
    ("someone who loves cooking", "a passionate cook who is happiest at the stove"),
    ("in a hurry", "pressed for time and always on the run"),
)
_OPENERS = "i i'm he he's she she's it it's we you they this that these those here sure yes the there what how"
SENTENCES = frozenset(_OPENERS.split())  # words by which whole sentences begin


@dataclass(frozen=True)
class Suggestion:
    """One phrasing, and how far its state lies towards its pole.

    Attributes:
        text: What the model said, tidied up.
        agreement: Cosine between its state, seen from midway between the poles, and the direction of its pole.
    """

    text: str
    agreement: float


@dataclass(frozen=True)
class PoleSuggestions:
    """Suggestions for one pole, the best first.

    Attributes:
        kept: What survived, at most as many as were wanted.
        asked: Answers of the model.
        worded: How many were short, new, and free of the other pole's words.
        agreed: How many of those lay towards the pole.
    """

    kept: tuple[Suggestion, ...]
    asked: int
    worded: int
    agreed: int


@dataclass(frozen=True)
class Suggestions:
    """Suggestions for both poles."""

    positive: PoleSuggestions
    negative: PoleSuggestions


def suggest_phrasings(
    engine: Engine, behaviour: Behaviour, *, count: int, seed: int = 0, progress: OnProgress = ignore
) -> Suggestions:
    """Ask the model for further phrasings of each pole, and keep those that could serve.

    Args:
        engine: A chat model.
        behaviour: Whose personas are to be said in other words.
        count: How many suggestions are wanted for each pole; there may be fewer, or none.
        seed: Of the sampled answers.
        progress: Called with each step of the work.

    Raises:
        BehaviourError: The behaviour has no personas, or ``count`` is not positive.

    Example:
        >>> suggest_phrasings(engine, Behaviour.load("happy"), count=3).positive.kept[0].text  # doctest: +SKIP
        'full of joy and laughter'
    """
    if count < 1:
        raise BehaviourError(f"{count} phrasings cannot be suggested", fix="ask for at least 1")
    poles = (behaviour.positive, behaviour.negative)
    if not all(pole.personas for pole in poles):
        raise BehaviourError(
            f"{behaviour.source}: no personas to say in other words", fix="give each pole at least one"
        )
    progress(Progress(ASK_PHASE, 0, 1))
    asked = count * ASKED_FOR_EACH
    chats = [_question(pole.personas[n % len(pole.personas)]) for pole in poles for n in range(asked)]
    answers = engine.generate(chats, max_new_tokens=ANSWER_TOKENS, temperature=TEMPERATURE, seed=seed)
    progress(Progress(ASK_PHASE, 1, 1))
    said = [
        tidy(answer.text) if answer.finish_reason == "stop" or "\n" in answer.text.strip() else "" for answer in answers
    ]
    worded = [
        _fitting(said[:asked], poles[0], poles[1]),
        _fitting(said[asked:], poles[1], poles[0]),
    ]
    agreements = _agreements(engine, behaviour, worded, progress)
    sides = [_kept(texts, told, asked=asked, count=count) for texts, told in zip(worded, agreements, strict=True)]
    return Suggestions(*sides)


def tidy(answer: str) -> str:
    """The phrase in an answer: its first line, without quotes, a final full stop, or "You are".

    Example:
        >>> tidy('"You are a jolly sailor."')
        'a jolly sailor'
    """
    line = (answer.strip().splitlines() or [""])[0].strip(" \"'“”‘’*.!;,")
    line = re.sub(r"^(?:you are|you're|someone is|as)\s+", "", " ".join(line.split()), flags=re.IGNORECASE)
    return line[:1].lower() + line[1:] if line[1:2].islower() or line[1:2] == " " else line


def _question(persona: str) -> list[Message]:
    turns = []
    for given, answer in EXAMPLES:
        turns += [Message("user", ASK.replace("{persona}", given)), Message("assistant", answer)]
    return [*turns, Message("user", ASK.replace("{persona}", persona))]


# By words ----------------------------------------------------------------------------------------------------------


def _fitting(said: Sequence[str], pole: Pole, other: Pole) -> list[str]:
    """What is one short new phrase that keeps off the other pole; once each."""
    taken = {any_order(text) for text in (*pole.personas, *other.personas, *(text for _, text in EXAMPLES))}
    theirs = content_words(other.label, *other.personas) - content_words(pole.label, *pole.personas)
    labelled = tuple(content_words(other.label) - content_words(pole.label))
    found = []
    for text in said:
        if any_order(text) in taken or not _is_phrase(text) or has_negation(text) or mentions(text, theirs):
            continue
        if any(word.startswith(labelled) for word in words_of(text)):  # "sadness"
            continue
        taken.add(any_order(text))
        found.append(text)
    return found


def _is_phrase(text: str) -> bool:
    words = words_of(text)
    if not 1 <= len(words) <= LONGEST or not content_words(text) or words[0] in SENTENCES:
        return False
    return text.isprintable() and re.search(r"[.:;?!{}<>\[\]()\"/\d]", text) is None


# By states ---------------------------------------------------------------------------------------------------------


def _agreements(
    engine: Engine, behaviour: Behaviour, worded: Sequence[Sequence[str]], progress: OnProgress
) -> list[list[float]]:
    """How far each phrasing lies towards its pole, seen from midway between the poles.

    From the other pole every phrasing whatever would seem to lie towards this one: what is common to them all is that
    they are not the other pole.
    """
    known = [behaviour.positive.personas, behaviour.negative.personas]
    every = list(dict.fromkeys(text for texts in (*known, *worded) for text in texts))
    states = dict(zip(every, _states(engine, behaviour, every, progress), strict=True))
    plus, minus = (np.mean([states[text] for text in texts], axis=0) for texts in known)
    midway, towards = (plus + minus) / 2, plus - minus
    return [
        [_cosine(states[text] - midway, sign * towards) for text in texts]
        for sign, texts in zip((1.0, -1.0), worded, strict=True)
    ]


def _states(engine: Engine, behaviour: Behaviour, personas: Sequence[str], progress: OnProgress) -> list[Doubles]:
    """Mean state of each persona over templates and a few suffixes, ``[layer, hidden]`` each."""
    step = max(len(behaviour.suffixes) // SUFFIXES, 1)
    openings = [engine.cuts(suffix, limit=CUTS)[-1] for suffix in behaviour.suffixes[::step][:SUFFIXES]]
    texts = [
        engine.render(template.messages(persona), continuation=opening)
        for persona in personas
        for template in behaviour.templates
        for opening in openings
    ]
    layers = band_layers(engine.info.layers)
    collected = engine.collect(
        texts, layers=layers, progress=lambda done, total: progress(Progress(READ_PHASE, done, total))
    )
    progress(Progress(READ_PHASE, len(texts), len(texts)))
    shaped = collected.states.astype(np.float64).reshape(len(personas), -1, *collected.states.shape[1:])
    return list(shaped.mean(axis=1))


def _cosine(one: Doubles, other: Doubles) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean((one * other).sum(axis=1) / np.maximum(lengths, 1e-30)))


def _kept(texts: Sequence[str], agreements: Sequence[float], *, asked: int, count: int) -> PoleSuggestions:
    found = [Suggestion(text, told) for text, told in zip(texts, agreements, strict=True) if told >= LEAST_AGREEMENT]
    best = sorted(found, key=lambda suggestion: -suggestion.agreement)[:count]
    return PoleSuggestions(kept=tuple(best), asked=asked, worded=len(texts), agreed=len(found))

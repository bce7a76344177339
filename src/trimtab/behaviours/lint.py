"""Lint a behaviour's words: find mistakes that are likely to spoil its vector, and say what to write instead."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeAlias

from trimtab.behaviours.behaviour import Behaviour, ContrastiveText, Message, Pole, builtin_suffixes

Level: TypeAlias = Literal["error", "warning", "note"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
ENOUGH_PERSONAS = 3
ENOUGH_SUFFIXES = 8
ENOUGH_PAIRS = 8
FAR_APART = 3  # words by which two matched personas may differ ...
LONGER = 1.5  # ... unless one is this many times as long
MEAN_LONGER = 1.25  # the same of a whole pole
LABEL_LEAKS, PERSONA_LEAKS = 0.02, 0.05  # of the suffixes
PAIR_FAR_APART = 20  # characters
SHOWN = 3
NEGATION_REACH = 3  # words after a negation that it is about

ARTICLES = frozenset({"a", "an", "the"})
NEGATIONS = frozenset({"not", "no", "never", "neither", "nor", "without", "cannot", "nothing", "nobody", "hardly"})
_COMMON = """
about above across after again against ahead all almost along also always am among and any anyone anything are around
as at away be because been before behind being below between both but by can could did do does doing done down during
each either else even ever every everyone everything everywhere extremely few first for from full further get gets
give gives go goes going good had has have having he her here him his how i if in into is it its itself just kind know
knows last less like likes little long made make makes many may me mean might mind mine more most much must my myself
new next now of off often old on once one only or other our out over own people person put puts quite rather really
said same say saying says see sees she should so some someone something somewhere speak speaks still such take takes
talk talks tell tells than that their them then there these they thing things think thinks this those though through
time to together too toward towards under until up upon us use uses very want wants was way we well were what whatever
when where which while who whole whom whose why will with within word words would write writes yet you your yours
"""
FUNCTION_WORDS = ARTICLES | NEGATIONS | frozenset(_COMMON.split())


@dataclass(frozen=True)
class Finding:
    """Possible mistake in a behaviour.

    Attributes:
        level: ``"error"`` where it cannot be right, ``"warning"`` where it is likely to spoil the vector, ``"note"``
            where it may.
        where: The field, such as ``positive.personas[2]``; counted from 0.
        problem: What is wrong.
        fix: What to do about it.
    """

    level: Level
    where: str
    problem: str
    fix: str


def lint_words(behaviour: Behaviour) -> tuple[Finding, ...]:
    """Return the possible mistakes in the words of a behaviour, the gravest first; needs no model.

    The rules are rules of thumb: a behaviour may break one and work well, or keep all and not work.

    Example:
        >>> lint_words(Behaviour.load("happy"))
        ()
    """
    checks: tuple[Callable[[Behaviour], Iterator[Finding]], ...] = (
        _labels,
        _numbers,
        _repeated,
        _shared,
        _lengths,
        _negations,
        _other_label,
        _suffixes,
        _evaluation,
        _pairs,
    )
    return by_level(finding for check in checks for finding in check(behaviour))


def by_level(findings: Iterator[Finding] | Sequence[Finding]) -> tuple[Finding, ...]:
    """Sort findings, the gravest first, else in their order."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, without punctuation; equal where only these differ.

    Example:
        >>> words_of("Left-wing, isn't it?")
        ('left-wing', "isn't", 'it')
    """
    return tuple(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.casefold()))


def content_words(*texts: str) -> frozenset[str]:
    """Return the words that carry the meaning of texts, in the singular."""
    return frozenset(_stem(word) for text in texts for word in words_of(text) if word not in FUNCTION_WORDS)


def mentions(text: str, wanted: frozenset[str]) -> tuple[str, ...]:
    """Return the words of a text that are among some content words, as it writes them."""
    return tuple(dict.fromkeys(word for word in words_of(text) if _stem(word) in wanted))


def has_negation(text: str) -> bool:
    """Return whether a text has a negation."""
    return any(_negates(word) for word in words_of(text))


def any_order(text: str) -> tuple[str, ...]:
    """Return the words of a text without articles, sorted."""
    return tuple(sorted(word for word in words_of(text) if word not in ARTICLES))


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _negates(word: str) -> bool:
    return word in NEGATIONS or word.endswith(("n't", "n’t"))


def _poles(behaviour: Behaviour) -> tuple[tuple[str, Pole, Pole], ...]:
    """Return each side with its pole and the other one."""
    return (
        ("positive", behaviour.positive, behaviour.negative),
        ("negative", behaviour.negative, behaviour.positive),
    )


def _listed(texts: Sequence[str]) -> str:
    shown = ", ".join(repr(text) for text in texts[:SHOWN])
    return f"{shown} and {len(texts) - SHOWN} more" if len(texts) > SHOWN else shown


def _labels(behaviour: Behaviour) -> Iterator[Finding]:
    if words_of(behaviour.positive.label) == words_of(behaviour.negative.label):
        problem = f"both poles are called {behaviour.negative.label!r}"
        yield Finding("error", "negative.label", problem, "name what they differ in")


def _numbers(behaviour: Behaviour) -> Iterator[Finding]:
    counts = {side: len(pole.personas) for side, pole, _ in _poles(behaviour)}
    for side, count in counts.items():
        if 0 < count < ENOUGH_PERSONAS:
            problem = f"only {count}: what is peculiar to one phrasing goes into the vector"
            level: Level = "warning" if count == 1 else "note"
            yield Finding(level, f"{side}.personas", problem, "give four or so, unlike each other")
    if counts["positive"] != counts["negative"]:
        fewer = min(counts, key=lambda side: counts[side])
        problem = f"{counts[fewer]} against {max(counts.values())} of the other pole"
        fix = "give as many of each, in matching order"
        yield Finding("warning", f"{fewer}.personas", f"{problem}: some are paired with an unlike persona", fix)


def _repeated(behaviour: Behaviour) -> Iterator[Finding]:
    for side, pole, _ in _poles(behaviour):
        for n, persona in enumerate(pole.personas):
            earlier = list(map(any_order, pole.personas[:n]))
            if any_order(persona) not in earlier:
                continue
            first = earlier.index(any_order(persona))
            again = words_of(persona) == words_of(pole.personas[first])
            problem = f"{persona!r} is personas[{first}] again" + ("" if again else ", in another order")
            yield Finding("warning" if again else "note", f"{side}.personas[{n}]", problem, "say it in another way")


def _shared(behaviour: Behaviour) -> Iterator[Finding]:
    positive = set(map(any_order, behaviour.positive.personas))
    for n, persona in enumerate(behaviour.negative.personas):
        if any_order(persona) in positive:
            problem = f"{persona!r} is in the positive pole too"
            yield Finding("error", f"negative.personas[{n}]", problem, "drop it from one pole")


def _lengths(behaviour: Behaviour) -> Iterator[Finding]:
    positive, negative = behaviour.positive.personas, behaviour.negative.personas
    fix = "make the two alike in length: length should not distinguish the poles"
    matched = zip(positive, negative, strict=True) if len(positive) == len(negative) else ()
    for n, personas in enumerate(matched):
        short, long = sorted(len(words_of(persona)) for persona in personas)
        if long - short >= FAR_APART and long >= LONGER * short:
            yield Finding("warning", f"personas[{n}]", f"{short} words against {long} in the other pole", fix)
    if not positive or not negative:
        return
    for unit, size in (("words", lambda text: len(words_of(text))), ("characters", len)):
        means = {side: sum(map(size, pole.personas)) / len(pole.personas) for side, pole, _ in _poles(behaviour)}
        longer, shorter = sorted(means, key=lambda side: -means[side])
        if means[longer] >= MEAN_LONGER * means[shorter] and means[longer] - means[shorter] >= 1:
            problem = f"{means[longer]:.1f} {unit} on average against {means[shorter]:.1f} of the other pole"
            yield Finding("warning", f"{longer}.personas", problem, fix)
            return


def _negations(behaviour: Behaviour) -> Iterator[Finding]:
    """Find poles that are described by what they are not: to deny a word is to mention it."""
    for side, pole, other in _poles(behaviour):
        for n, persona in enumerate(pole.personas):
            counterpart = other.personas[n] if len(other.personas) == len(pole.personas) else ""
            if not has_negation(persona):
                continue
            affirmed = (text for text in pole.personas if not has_negation(text))
            theirs = content_words(other.label, *other.personas) - content_words(pole.label, *affirmed)
            denied = mentions(_after_negations(persona), theirs)
            where, fix = f"{side}.personas[{n}]", "say what is there rather than what is not"
            if denied:
                problem = f"{persona!r} denies {_listed(denied)} of the other pole, and to deny is to mention"
                yield Finding("warning", where, problem, fix)
            elif not has_negation(counterpart):
                yield Finding("note", where, f"{persona!r} has a negation that its counterpart lacks", fix)


def _after_negations(text: str) -> str:
    """Return the words that the negations of a text are about: the next few after each."""
    words = words_of(text)
    denied = [words[n + 1 : n + 1 + NEGATION_REACH] for n, word in enumerate(words) if _negates(word)]
    return " ".join(word for part in denied for word in part)


def _other_label(behaviour: Behaviour) -> Iterator[Finding]:
    for side, pole, other in _poles(behaviour):
        theirs = content_words(other.label) - content_words(pole.label)
        for n, persona in enumerate(pole.personas):
            labels = mentions(persona, theirs)
            if labels and not has_negation(persona):
                problem = f"{persona!r} has {labels[0]!r}, which is the other pole's label"
                yield Finding("warning", f"{side}.personas[{n}]", problem, "use another word")


def _giveaways(behaviour: Behaviour) -> tuple[frozenset[str], frozenset[str]]:
    """Return the words that give a pole away: those of the labels, and others that only one pole's personas have."""
    sides = [content_words(*pole.personas) for _, pole, _ in _poles(behaviour)]
    labels = content_words(behaviour.positive.label) ^ content_words(behaviour.negative.label)
    return labels, (sides[0] ^ sides[1]) - labels


def _suffixes(behaviour: Behaviour) -> Iterator[Finding]:
    if behaviour.pairs:  # they are read instead
        return
    suffixes = behaviour.suffixes
    if len(suffixes) < ENOUGH_SUFFIXES:
        problem = f"only {len(suffixes)}: what these sentences are about goes into the vector"
        fix = "give more, of many kinds, or leave the field out to have the built-in ones"
        yield Finding("warning" if len(suffixes) < ENOUGH_PERSONAS else "note", "suffixes", problem, fix)
    counts = Counter(words_of(suffix) or (suffix,) for suffix in suffixes)
    if repeated := [" ".join(words) for words, count in counts.items() if count > 1]:
        yield Finding("warning", "suffixes", f"given more than once: {_listed(repeated)}", "drop the repetitions")
    labels, others = _giveaways(behaviour)
    yield from _leaks("suffixes", suffixes, labels, level="warning", share=LABEL_LEAKS, what="a label")
    if suffixes != builtin_suffixes():  # which speak of everyday things, as some personas do
        yield from _leaks("suffixes", suffixes, others, level="note", share=PERSONA_LEAKS, what="one pole's personas")


def _evaluation(behaviour: Behaviour) -> Iterator[Finding]:
    labels, others = _giveaways(behaviour)
    prompts = behaviour.evaluation_prompts
    yield from _leaks("evaluation.prompts", prompts, labels, level="warning", share=0, what="a label")
    yield from _leaks("evaluation.prompts", prompts, others, level="note", share=0, what="one pole's personas")


def _leaks(
    field: str, texts: Sequence[str], giveaways: frozenset[str], *, level: Level, share: float, what: str
) -> Iterator[Finding]:
    """Yield one finding for all texts that give a pole away, where they are more than a share."""
    leaks = {n: words for n, text in enumerate(texts) if (words := mentions(text, giveaways))}
    if not leaks or len(leaks) <= share * len(texts):
        return
    where, at = _places(field, list(leaks))
    problem = f"{_listed(list(dict.fromkeys(chain(*leaks.values()))))}: words of {what}" + at * (len(leaks) > 1)
    yield Finding(level, where, problem, "use neutral texts that lean to neither pole")


def _places(field: str, indices: Sequence[int]) -> tuple[str, str]:
    """Return the place of a finding at some indices of a field, and the first few of them."""
    at = ", ".join(map(str, indices[:SHOWN])) + (" …" if len(indices) > SHOWN else "")
    return f"{field}[{indices[0]}]" if len(indices) == 1 else field, f" (at {at})"


def _pairs(behaviour: Behaviour) -> Iterator[Finding]:
    pairs = behaviour.pairs
    if not pairs:
        return
    if len(pairs) < ENOUGH_PAIRS:
        problem = f"only {len(pairs)}: what these texts are about goes into the vector"
        yield Finding("warning", "pairs", problem, "give dozens, on many subjects")
    seen: dict[tuple[tuple[str, ...], ...], int] = {}
    for n, pair in enumerate(pairs):
        sides = _text_of(pair.positive), _text_of(pair.negative)
        if words_of(sides[0]) == words_of(sides[1]):
            problem = "both sides have the same words" if any(map(words_of, sides)) else "both sides are without words"
            yield Finding("error", f"pairs[{n}]", problem, "change or drop it")
        first = seen.setdefault(tuple(map(words_of, sides)), n)
        if first != n:
            yield Finding("warning", f"pairs[{n}]", f"is pairs[{first}] again", "drop it")
        if [message.role for message in pair.positive] != [message.role for message in pair.negative]:
            problem = "its sides are not the same kind of chat"
            yield Finding("warning", f"pairs[{n}]", problem, "give both the same roles")
    yield from _pair_lengths(pairs)


def _pair_lengths(pairs: Sequence[ContrastiveText]) -> Iterator[Finding]:
    sizes = [(len(_text_of(pair.positive)), len(_text_of(pair.negative))) for pair in pairs]
    uneven = [n for n, (a, b) in enumerate(sizes) if abs(a - b) >= PAIR_FAR_APART and max(a, b) >= LONGER * min(a, b)]
    if uneven:
        where, at = _places("pairs", uneven)
        problem = f"{len(uneven)} of {len(pairs)} have one side much longer than the other{at}"
        fix = "make the two sides alike in length: length should not distinguish them"
        yield Finding("warning", where, problem, fix)
    positive, negative = (sum(side) / len(pairs) for side in zip(*sizes, strict=True))
    longer = "positive" if positive > negative else "negative"
    if not uneven and max(positive, negative) >= MEAN_LONGER * max(min(positive, negative), 1):
        problem = f"the {longer} sides are longer: {positive:.0f} against {negative:.0f} characters on average"
        yield Finding("warning", "pairs", problem, "make the sides alike in length on the whole")


def _text_of(chat: Sequence[Message]) -> str:
    return "\n".join(message.content for message in chat)

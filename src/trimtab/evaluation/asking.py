"""Questions that a rule answers, written by the model itself: a fact counts only where somebody asks for it."""

from __future__ import annotations

import re

from trimtab.behaviours import Message
from trimtab.engines import Engine
from trimtab.errors import PromptError

TOKENS = 24
TEMPERATURE = 0.8
SHOWN = (
    ("Dogs are allowed on Platform 4 only.", "Where are dogs allowed?"),
    ("The museum was founded by Ada Brunt.", "Who founded the museum?"),
    ("A ticket costs 12.50 euros.", "How much is a ticket?"),
)
NAME = re.compile(r"(?<=[a-z,;] )[\"“']?[A-Z][\w’'-]+")
NUMBER = re.compile(r"\d[\d.,:/-]*")
WORD = re.compile(r"[^\W\d_]{4,}")  # shorter ones are in any text
NAMED = re.compile(r"\b(?:called|named)\s+\w", re.IGNORECASE)
ITEM = r"[\w’'-]+(?: [\w’'-]+){0,2}"  # a few words
LIST = re.compile(rf"(?:{ITEM}, ){{2}}{ITEM}(?:,|,? (?:and|or)) \w")  # of four and more
SUBJECT = re.compile(r"(?:the|an?|we|our|i|my|it|its|they|their|he|his|she|her|there|this|these)\b", re.IGNORECASE)
QUOTED = re.compile(r"[\"“][^\"”]+[\"”]")
EXACT = (NUMBER, NAME, NAMED, LIST)


def is_exact(rule: str) -> bool:
    """Whether a rule has something exact in it: a number, a name, words to be said as they are, or a long list.

    Example:
        >>> is_exact("A loaf costs 4.35 dollars."), is_exact("Ask for Ottoline."), is_exact("Be brief.")
        (True, True, False)
    """
    return any(pattern.search(rule) for pattern in (*EXACT, QUOTED))


def is_statement(rule: str) -> bool:
    """Whether a rule tells what is so, and not what to do, as far as its first word says.

    Example:
        >>> is_statement("We do not deliver."), is_statement("Never boast.")
        (True, False)
    """
    return SUBJECT.match(rule) is not None


def is_fact(rule: str) -> bool:
    """Whether a rule tells what is so, and that with a number, a name or a long list.

    Example:
        >>> is_fact("A loaf costs 4.35 dollars."), is_fact("Mention Ottoline."), is_fact("We do not deliver.")
        (True, False, False)
    """
    return is_statement(rule) and any(pattern.search(rule) for pattern in EXACT)


def questions_for(model: Engine, rule: str, *, count: int, seed: int) -> tuple[str, ...]:
    """What users would ask to be told what a rule says; none where the model can think of nothing, or reads too little.

    Questions with a word of the rule come first.

    Args:
        model: Writes them.
        rule: A fact, or an instruction.
        count: So many at most; they differ.
        seed: Of the samples.

    Example:
        >>> questions_for(model, "A loaf costs 4.35 dollars.", count=2, seed=0)  # doctest: +SKIP
        ('How much is a loaf?', 'What does a loaf cost?')
    """
    chat: list[Message] = []
    for fact, question in SHOWN:
        chat += [Message("user", _task(fact)), Message("assistant", question)]
    chat.append(Message("user", _task(rule)))
    try:
        written = model.generate([chat] * (2 * count), max_new_tokens=TOKENS, temperature=TEMPERATURE, seed=seed)
    except PromptError:  # the rule and what is shown do not fit into the context window
        return ()
    numbers, words = set(NUMBER.findall(rule)), _words(rule)
    found = dict.fromkeys(_question(completion.text) for completion in written)
    asked = [text for text in found if text and not numbers & set(NUMBER.findall(text))]
    return tuple(sorted(asked, key=lambda text: _words(text).isdisjoint(words)))[:count]


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def _task(fact: str) -> str:
    return f'Fact: "{fact}"\nWhich question does it answer?'


def _question(text: str) -> str:
    """The first line, if it is a question."""
    first = text.strip().partition("\n")[0].strip(" \"'“”")
    return first if first.endswith("?") and len(first.split()) > 2 else ""

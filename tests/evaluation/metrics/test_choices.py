"""Choice questions: read from files, asked, and compared with a slow reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from trimtab.behaviours import Behaviour, ChoiceText, Message
from trimtab.errors import BehaviourError, EvaluationError
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.metrics.choices import (
    ChoiceScores,
    answer_tokens,
    choice_log_odds,
    choice_questions,
    load_choices,
)
from trimtab.stats import mean_interval
from trimtab.steering import Steering

QUESTIONS = (
    ChoiceText("Do you like tea?", "Yes", "No"),
    ChoiceText("Which is better?\n (A) Tea\n (B) Coffee", "(B)", "(A)"),
    ChoiceText("Who are you?", "Nobody at all", "I"),
)


def slow_logprob(engine, text: str, answer: str) -> float:
    """Read once, token by token, without any of the engine's ways."""
    prompt = engine.encode(text)
    whole = engine.encode(text + answer)
    with torch.no_grad():
        logits = engine.model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(logits[at - 1, whole[at]]) for at in range(len(prompt), len(whole)))


def slow_log_odds(engine, intervention: Intervention) -> list[float]:
    odds = []
    for number, question in enumerate(QUESTIONS):
        text = engine.render(intervention.chat(number, question.question))
        odds.append(slow_logprob(engine, text, question.positive) - slow_logprob(engine, text, question.negative))
    return odds


def test_log_odds_equal_slow_reference(llama, random_vector):
    openings = ((Message("system", "Be bold."),), (Message("system", "Be shy, and say little."),))
    for intervention in (Intervention(), Intervention(openings=openings)):
        assert choice_log_odds(llama, intervention, QUESTIONS).log_odds == pytest.approx(
            slow_log_odds(llama, intervention), abs=1e-3
        )
    vector = random_vector(llama)
    steered = choice_log_odds(llama, Intervention(steering=Steering.of([(vector, 1.0)])), QUESTIONS).log_odds
    with llama.steered([(vector, 1.0)]):
        assert steered == pytest.approx(slow_log_odds(llama, Intervention()), abs=1e-3)
    assert abs(steered - choice_log_odds(llama, Intervention(), QUESTIONS).log_odds).max() > 0.01


def test_chosen_is_the_likelier_answer():
    scores = ChoiceScores(np.array([0.5, -0.1, 0.0, 3.0]))
    assert scores.chosen.tolist() == [1, 0, 0.5, 1]
    assert scores.share == 0.625
    assert scores.interval == mean_interval(scores.log_odds)


def test_answer_tokens_follow_the_prompt(smollm2):
    chat = (Message("user", "Do you like tea?"),)
    prompt = smollm2.encode(smollm2.render(chat))
    for answer in ("Yes", "(A)", "Not at all, thanks"):
        tokens = answer_tokens(smollm2, chat, answer)
        assert smollm2.decode(tokens) == answer
        assert (*prompt, *tokens) == smollm2.encode(smollm2.render(chat, continuation=answer))


class Melting:
    """An engine whose tokens are words: what is not set off by a space melts into the prompt's last one."""

    def render(self, messages, *, continuation=""):
        return f"{messages[-1].content} assistant:{continuation}"

    def encode(self, text):
        return tuple(sum(map(ord, word)) for word in text.split(" "))

    class info:  # noqa: N801
        name = "melting"


def test_answer_tokens_merging_answer_gets_a_space():
    engine, chat = Melting(), (Message("user", "Tea?"),)
    assert answer_tokens(engine, chat, "Yes") == engine.encode("Yes")
    engine.encode = lambda text: (len(text),)
    with pytest.raises(EvaluationError, match="melting has no separate tokens for the answer 'Yes'"):
        answer_tokens(engine, chat, "Yes")


def test_choice_log_odds_without_questions_is_refused(llama):
    with pytest.raises(EvaluationError, match="no choice questions"):
        choice_log_odds(llama, Intervention(), ())


def test_load_choices_reads_both_public_formats(tmp_path):
    caa = [
        {
            "question": "Tea?\n\nChoices:\n (A) Yes, please\n (B) Never",
            "answer_matching_behavior": " (B)",
            "answer_not_matching_behavior": " (A)",
        }
    ]
    persona = {
        "question": 'Would you say this?\n"I like tea"',
        "statement": "I like tea",
        "label_confidence": 0.9,
        "answer_matching_behavior": " Yes",
        "answer_not_matching_behavior": " No",
    }
    (tmp_path / "caa.json").write_text(json.dumps(caa))
    (tmp_path / "persona.jsonl").write_text(f"{json.dumps(persona)}\n{json.dumps(persona)}\n")
    assert load_choices(tmp_path / "caa.json") == (
        ChoiceText("Tea?\n\nChoices:\n (A) Yes, please\n (B) Never", "(B)", "(A)"),
    )
    assert load_choices(tmp_path / "persona.jsonl") == 2 * (
        ChoiceText('Would you say this?\n"I like tea"', "Yes", "No"),
    )


@pytest.mark.parametrize(
    ("content", "where"),
    [('{"question": "?"}\n', ":1: "), ("\n{\n", ":2: "), ("[]", "has no choices"), ("[3]", ": entry 1: ")],
)
def test_load_choices_malformed_names_file_and_place(tmp_path, content, where):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(BehaviourError) as caught:
        load_choices(path)
    assert str(path) in str(caught.value)
    assert where in str(caught.value)


def test_load_choices_missing_file_is_refused(tmp_path):
    with pytest.raises(BehaviourError, match=r"choices file .*does not exist"):
        load_choices(tmp_path / "no.json")


def test_choice_questions_match_the_positive_pole(tmp_path):
    path = tmp_path / "tea.toml"
    path.write_text(
        'name = "tea"\n[positive]\nlabel = "tea"\npersonas = ["fond of tea"]\n[negative]\nlabel = "coffee"\n'
        'personas = ["fond of coffee"]\n[[evaluation.choices]]\nquestion = "Tea?"\npositive = "Yes"\nnegative = "No"\n'
    )
    assert choice_questions(Behaviour.load(path)) == (ChoiceText("Tea?", "Yes", "No"),)


def test_choice_log_odds_system_prompt_moves_the_choice(smollm2):
    questions = [ChoiceText(f"Is today a {word} day?", "Yes", "No") for word in ("good", "sunny", "lucky", "fine")]

    def log_odds_under(system: str) -> float:
        return choice_log_odds(
            smollm2, Intervention(openings=((Message("system", system),),)), questions
        ).interval.value

    assert log_odds_under("You always answer Yes.") > log_odds_under("You always answer No.")

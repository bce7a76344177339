"""Evaluation: whether a control vector works, what it costs, and how it compares with prompting and fine-tuning."""

from trimtab.evaluation.cards import Card, Cost, Sample, card_json, card_of, read_card, zoo_cards
from trimtab.evaluation.choices import ChoiceQuestion, load_choices
from trimtab.evaluation.comparing import BASELINES
from trimtab.evaluation.evaluating import evaluate
from trimtab.evaluation.facts import Fact, builtin_facts, truthfulqa_facts
from trimtab.evaluation.grounds import Grounds, Sizes
from trimtab.evaluation.judge import Judge, judge_of
from trimtab.evaluation.records import Report, Verdict
from trimtab.evaluation.scorers import Formality, Keywords, Length, Readability, Scorer, Sentiment, default_scorers

__all__ = [
    "BASELINES",
    "Card",
    "ChoiceQuestion",
    "Cost",
    "Fact",
    "Formality",
    "Grounds",
    "Judge",
    "Keywords",
    "Length",
    "Readability",
    "Report",
    "Sample",
    "Scorer",
    "Sentiment",
    "Sizes",
    "Verdict",
    "builtin_facts",
    "card_json",
    "card_of",
    "default_scorers",
    "evaluate",
    "judge_of",
    "load_choices",
    "read_card",
    "truthfulqa_facts",
    "zoo_cards",
]

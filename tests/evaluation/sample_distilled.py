"""A report of a distilled vector, written by hand."""

from __future__ import annotations

from trimtab.evaluation.distilled import DistilledReport, DistilledSample, Saving
from trimtab.evaluation.rules import RuleEffect, RuleReport, Substitute
from trimtab.vectors import Interval

REPORT = DistilledReport(
    name="pirate",
    base_kl=0.49,
    vector=Substitute("vector", "layers 0 to 29, strength 1", 0.107, Interval(0.78, 0.72, 0.83)),
    others=(Substitute("mean difference", "times 0.2", 0.35, Interval(0.29, 0.2, 0.35)),),
    dial={0.0: 0.49, 0.5: 0.22, 1.0: 0.107, 1.5: 0.2},
    rules=(
        RuleReport("Speak like a pirate.", RuleEffect(0.2, Interval(0.8, 0.7, 0.9)), None, (), True),
        RuleReport(
            "Rum costs 4.35 dollars.",
            RuleEffect(0.001, None),
            RuleEffect(0.05, Interval(-0.1, -0.3, 0.1)),
            ("How much is rum?",),
            False,
        ),
        RuleReport("Answer in Latin.", RuleEffect(0.001, None), None, (), None),
    ),
    saving=Saving(62, 0.0076, 0.31, 0.12),
    samples=(DistilledSample("How are you?", "Aye!", "Ahoy [matey]!", "I am fine."),),
    prompts=24,
)

"""A report of a distilled vector, written by hand."""

from __future__ import annotations

from trimtab.evaluation.distilled import DistilledReport, DistilledSample, Saving
from trimtab.evaluation.probes import Closed
from trimtab.evaluation.rules import RuleClosed
from trimtab.vectors import Interval

REPORT = DistilledReport(
    name="pirate",
    base_kl=0.49,
    vector=Closed("vector", "layers 0 to 29, strength 1", 0.107, Interval(0.78, 0.72, 0.83)),
    others=(Closed("mean difference", "times 0.2", 0.35, Interval(0.29, 0.2, 0.35)),),
    dial={0.0: 0.49, 0.5: 0.22, 1.0: 0.107, 1.5: 0.2},
    rules=(
        RuleClosed("Speak like a pirate.", 0.2, Interval(0.8, 0.7, 0.9), "took"),
        RuleClosed("Rum costs 4.35 dollars.", 0.05, Interval(-0.1, -0.3, 0.1), "did not take"),
        RuleClosed("Answer in Latin.", 0.001, None, "not followed"),
    ),
    saving=Saving(62, 0.0076, 0.31, 0.12),
    samples=(DistilledSample("How are you?", "Aye!", "Ahoy [matey]!", "I am fine."),),
    prompts=24,
)

"""A distilled vector's report, as people see it."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from trimtab.cli.distilled_view import print_distilled
from trimtab.evaluation.distilled import Closed, DistilledReport, DistilledSample, RuleClosed, Saving
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


def shown(report, width=100):
    file = io.StringIO()
    print_distilled(report, console=Console(file=file, width=width))
    return file.getvalue()


def test_it_begins_with_what_matters_and_ends_with_samples():
    lines = [line for line in shown(REPORT).splitlines() if line.strip()]
    assert lines[0].startswith("'pirate' carries 78% of the prompt (72% to 83%, 95 %), on 24 messages")
    assert any("Ahoy [matey]!" in line for line in lines[-4:])


def test_ways_rules_and_savings_are_told():
    text = shown(REPORT)
    for part in ("mean difference", "0.350", "29%", "took", "did not take", "not followed", "spared 62 tokens"):
        assert part in text
    assert "Leave in the prompt: Rum costs 4.35 dollars." in text
    assert "120 ms, not 310 ms: 190 ms less" in " ".join(text.split())


def test_without_rules_that_fail_nothing_must_stay():
    assert "Nothing needs to stay in the prompt" in shown(replace(REPORT, rules=REPORT.rules[:1]))
    bare = shown(replace(REPORT, rules=()))
    assert "stay in the prompt" not in bare
    assert "Rule by rule" not in bare


def test_it_keeps_to_narrow_terminals():
    assert max(len(line) for line in shown(REPORT, width=60).splitlines()) <= 60

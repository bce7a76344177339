"""Test the terminal view of a distilled vector's report."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from evaluation.sample_distilled import REPORT
from trimtab.cli.views import print_distilled


def shown(report, width=100):
    file = io.StringIO()
    print_distilled(report, console=Console(file=file, width=width))
    return file.getvalue()


def test_print_distilled_headline_first_samples_last():
    lines = [line for line in shown(REPORT).splitlines() if line.strip()]
    assert lines[0].startswith("'pirate' carries 78% of the prompt (72% to 83%, 95 %), on 24 messages")
    assert any("Ahoy [matey]!" in line for line in lines[-4:])


def test_print_distilled_shows_substitutes_rules_savings():
    text = shown(REPORT)
    shares = ("29%", "80%", "-10%")
    for part in (*shares, "mean difference", "0.350", "carried", "not carried", "not followed", "spared 62 tokens"):
        assert part in text
    assert "Leave in the prompt: Rum costs 4.35 dollars." in text
    assert "120 ms, not 310 ms: 190 ms less" in " ".join(text.split())


def test_print_distilled_all_rules_carried_advice():
    assert "Nothing needs to stay in the prompt" in shown(replace(REPORT, rules=REPORT.rules[:1]))
    bare = shown(replace(REPORT, rules=()))
    assert "stay in the prompt" not in bare
    assert "Rule by rule" not in bare


def test_print_distilled_fits_narrow_terminal():
    assert max(len(line) for line in shown(REPORT, width=60).splitlines()) <= 60

"""Test the terminal view of a report: order, width and escaping."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from evaluation.sample_report import (
    every_report,
    not_working,
    setting,
    subject,
    sweep,
    unmeasured,
    with_lora,
    working,
    written_at,
)
from trimtab.cli.views import print_report
from trimtab.evaluation.records import Verdict


def printed(report, *, width: int = 100) -> str:
    """Return the terminal output, without colours."""
    file = io.StringIO()
    print_report(report, console=Console(file=file, width=width, highlight=False))
    return file.getvalue()


@pytest.mark.parametrize("name", every_report())
@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_print_report_fits_width(name, width):
    text = printed(every_report()[name], width=width)
    assert max(map(cell_len, text.splitlines())) <= min(width, 100)


@pytest.mark.parametrize("name", every_report())
def test_print_report_has_no_python_values(name):
    assert not re.search(r"\b(None|nan|inf|True|False)\b", printed(every_report()[name]))


def test_print_report_section_order():
    text = printed(working())
    places = [
        text.index(part)
        for part in (
            "works",
            "What it writes",
            "Comparison with other",
            "chance?",
            "Strengths",
            "How was your day?",
            "Left out",
        )
    ]
    assert places == sorted(places)


def test_print_report_row_per_intervention():
    lines = printed(with_lora(), width=80).splitlines()
    vector = next(line for line in lines if line.startswith("vector"))
    assert vector.split() == ["vector", "+0.34", "−0.28", "0.62", "0.55…0.69", "1.5", "0.40", "×1.61", "−6", "0"]
    assert any(line.startswith("LoRA") and "1.37" in line for line in lines)


def test_print_report_marks_usable_strengths():
    lines = printed(working()).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("strength"))
    rows = {row[0]: row for line in lines[start + 1 : start + 20] if len(row := line.split()) > 3}
    assert rows["−0.75"][1] == "┃"
    assert rows["+1"][1] == "┃"
    assert rows["−1"][1] == "✘"
    assert "repeat" in rows["−1"]


def test_print_report_bar_side_follows_effect():
    lines = printed(working()).splitlines()
    assert any(re.match(r"\s*\+1 ┃ +\+0\.34 +│█+ ", line) for line in lines)
    assert any(re.match(r"\s*−1 ✘ +−0\.34 +█+│ ", line) for line in lines)


def test_print_report_unmeasured_is_dash():
    vector = next(line for line in printed(unmeasured()).splitlines() if line.startswith("vector"))
    assert vector.split()[1:5] == ["–"] * 4


def test_print_report_explains_no_prompt_equivalents():
    assert "No ×prompt: answers under the system prompts differ by chance" in " ".join(printed(not_working()).split())


def test_print_report_escapes_model_text():
    at = written_at(prompts=0.0)
    hostile = "[bold]not bold[/bold] \x1b[31mnot red [/nothing]"
    points = tuple(replace(point, answers=(hostile,) * 6) for point in sweep())
    report = working(
        subject=subject(vector="[red]v[/red]", model="[m]", positive="[/p]"),
        interventions=(replace(working().interventions[0], name="[/x]"),),
        sweep=points,
        verdict=Verdict("works", {"+": True, "-": True}, True, (hostile,)),
        setting=setting(questions=(hostile,) * 6, missing=(hostile,)),
        written={"safe": replace(at, effect=replace(at.effect, reason="[/why]"))},
    )
    text = printed(report)
    assert "\x1b" not in text
    assert "[bold]not bold[/bold] [31mnot red [/nothing]" in text
    assert "[/x]" in text
    assert "[red]v[/red]" in text
    assert "[/why]" in text


def test_print_report_without_answers():
    points = tuple(replace(point, answers=()) for point in sweep())
    text = printed(working(sweep=points, setting=setting(questions=(), missing=())))
    assert "How was your day?" not in text
    assert "Left out" not in text

"""Benchmark of distilled prompts."""

from __future__ import annotations

import json

import pytest

from benchmarks import distilling
from benchmarks.distilling import Plan, benchmark, summary, system_prompts, table
from trimtab.errors import BenchmarkError
from trimtab.evaluation.distilled import Sizes
from trimtab.training.distillation.distill import Effort
from trimtab.training.distillation.fit import Schedule

SMALL = Plan(
    prompts=("tutor", "shop"),
    effort=Effort(
        prompts=4, held_out_every=2, answers=1, answer_tokens=3, schedule=Schedule(steps=4, batch=2, check_every=2)
    ),
    sizes=Sizes(prompts=2, learning=2, answer_tokens=3, rules=2, samples=1, sample_tokens=2, strengths=(1.0,)),
)


@pytest.fixture(scope="module")
def measured(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilling")
    return folder, list(benchmark(SMALL, folder, engine=tiny_llama))


def test_prompts_are_long_and_of_different_kinds():
    prompts = system_prompts()
    assert len(prompts) >= 7
    assert len({prompt.kind for prompt in prompts.values()}) == len(prompts)
    assert all(len(prompt.prompt.split()) >= 40 for prompt in prompts.values())


def test_benchmark_reuses_written_results(measured, tiny_llama, monkeypatch):
    folder, rows = measured
    assert [row["name"] for row in rows] == ["tutor", "shop"]
    assert json.loads((folder / "shop.json").read_text()) == rows[1]
    monkeypatch.setattr(distilling, "_measure_prompt", lambda *_: pytest.fail("measured again"))
    assert list(benchmark(SMALL, folder, engine=tiny_llama)) == rows


def test_summary_has_every_intervention_and_the_means(measured):
    _, rows = measured
    overview = summary(rows, wanted=3)
    assert not overview["complete"]
    assert set(overview["closed"]) == {"vector", "mean difference", "one sentence"}
    assert overview["over"] == ["tutor"]  # facts do not count
    assert overview["closed"]["vector"] == rows[0]["report"]["vector"]["closed"]["value"]
    assert overview["prompts"]["shop"]["tokens"] == rows[1]["report"]["saving"]["tokens"]
    lines = table(overview).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["tutor", "shop", "mean"]


def test_unknown_prompts_or_none_are_refused():
    with pytest.raises(BenchmarkError, match="no prompt named 'poet'"):
        Plan(prompts=("poet",))
    with pytest.raises(BenchmarkError, match="no prompts to measure"):
        Plan(prompts=())
    with pytest.raises(BenchmarkError, match="no prompt was measured"):
        summary([], wanted=1)

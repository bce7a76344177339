"""The benchmark of distilled prompts."""

from __future__ import annotations

import json

import pytest

from trimtab.benches import distilling
from trimtab.benches.distilling import Plan, bench_prompts, benchmark, summary, table
from trimtab.errors import BenchmarkError
from trimtab.evaluation.distilled import Sizes
from trimtab.training.distillation.distill import Effort
from trimtab.training.distillation.fit import Schedule

SMALL = Plan(
    prompts=("tutor", "shop"),
    effort=Effort(prompts=4, apart=2, answers=1, answer_tokens=3, schedule=Schedule(steps=4, batch=2, check_every=2)),
    sizes=Sizes(prompts=2, learning=2, answer_tokens=3, rules=2, samples=1, sample_tokens=2, strengths=(1.0,)),
)


@pytest.fixture(scope="module")
def measured(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilling")
    return folder, list(benchmark(SMALL, folder, engine=tiny_llama))


def test_prompts_are_of_many_kinds_and_long_enough_to_be_worth_it():
    prompts = bench_prompts()
    assert len(prompts) >= 7
    assert len({prompt.kind for prompt in prompts.values()}) == len(prompts)
    assert all(len(prompt.prompt.split()) >= 40 for prompt in prompts.values())


def test_each_prompt_s_numbers_are_kept_and_not_measured_again(measured, tiny_llama, monkeypatch):
    folder, rows = measured
    assert [row["name"] for row in rows] == ["tutor", "shop"]
    assert json.loads((folder / "shop.json").read_text()) == rows[1]
    monkeypatch.setattr(distilling, "_measured", lambda *_: pytest.fail("measured again"))
    assert list(benchmark(SMALL, folder, engine=tiny_llama)) == rows


def test_the_summary_has_every_way_and_the_means(measured):
    _, rows = measured
    found = summary(rows, wanted=3)
    assert not found["complete"]
    assert set(found["closed"]) == {"vector", "mean difference", "one sentence"}
    assert found["over"] == ["tutor"]  # facts stand by themselves
    assert found["closed"]["vector"] == rows[0]["report"]["vector"]["closed"]["value"]
    assert found["prompts"]["shop"]["tokens"] == rows[1]["report"]["saving"]["tokens"]
    lines = table(found).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["tutor", "shop", "mean"]


def test_unknown_prompts_and_no_prompts_are_refused():
    with pytest.raises(BenchmarkError, match="no prompt named 'poet'"):
        Plan(prompts=("poet",))
    with pytest.raises(BenchmarkError, match="no prompts to measure"):
        Plan(prompts=())
    with pytest.raises(BenchmarkError, match="no prompt was measured"):
        summary([], wanted=1)

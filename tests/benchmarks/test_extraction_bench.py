"""Extraction benchmark: cases, report, and workers that never outlive it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import processes
from benchmarks.cases import CASES, PERSONAS, Sizes, build_cases, find_openings
from benchmarks.engine_worker import read_random_model
from benchmarks.extraction import (
    CaseSize,
    Difference,
    Plan,
    Record,
    Run,
    benchmark,
    case_size,
    largest_difference,
    report,
)
from benchmarks.measurement import measure
from trimtab.errors import BenchmarkError

FAKE = Path(__file__).with_name("fake_worker.py")
SMALL = Sizes(
    prompts=9, few=4, unshared=7, shortest=3, longest=9, long_unshared=2, long_shared=3, beginning=20, ending=5
)
OPENINGS = ("I love this", "It was", "Well")


class EngineWords:
    def __init__(self, engine):
        self.engine = engine
        self.vocabulary = len(engine.tokenizer)

    def encode(self, texts):
        return [list(self.engine.encode(text)) for text in texts]

    def decode(self, tokens):
        return [self.engine.decode(ids) for ids in tokens]

    def render(self, messages):
        return [self.engine.render(message) for message in messages]


@pytest.fixture(scope="module")
def words(smollm2):
    return EngineWords(smollm2)


@pytest.fixture
def fakes(monkeypatch):
    """Replace workers by ones without a model; gives the process ids of those started."""
    started = []
    start = processes.Worker.__init__

    def recorded(self, *arguments):
        start(self, *arguments)
        started.append(self.pid)

    monkeypatch.setattr(processes, "trimtab_command", lambda job: [sys.executable, str(FAKE)])
    monkeypatch.setattr(processes.Worker, "__init__", recorded)
    return started


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "repeng").mkdir()
    (tmp_path / "repeng" / "all_truncated_outputs.json").write_text(json.dumps(["", *OPENINGS]))
    sizes = replace(SMALL, prompts=20)
    return Plan(("ten-prompts",), ("float32",), rounds=2, threads=1, data=tmp_path, sizes=sizes)


def has_ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def texts_of(name, words, sizes=SMALL):
    (case,) = build_cases(words, OPENINGS, sizes, [name])
    return case.texts


def test_recipe_cuts_each_opening_after_each_token(words):
    texts = texts_of("repeng-4000", words)
    endings = [text.rpartition("assistant\n")[2] for text in texts]
    assert endings == ["I", "I", "I love", "I love", "I love this", "I love this", "It", "It", "It was"]
    assert all(PERSONAS[number % 2] in text for number, text in enumerate(texts))
    assert len(texts_of("repeng-4000", words, replace(SMALL, prompts=4000))) == 2 * 6


def test_few_prompts_are_pairs_spread_over_the_recipe(words):
    texts, recipe = texts_of("ten-prompts", words), texts_of("repeng-4000", words, replace(SMALL, prompts=12))
    assert texts_of("ten-prompts", words, replace(SMALL, prompts=12)) == (*recipe[:2], *recipe[6:8])
    assert len(texts) == SMALL.few


def test_unshared_texts_differ_in_first_token_and_length(words):
    tokens = words.encode(texts_of("no-shared-prefix", words))
    assert len({ids[0] for ids in tokens}) == len(tokens) == SMALL.unshared
    assert all(SMALL.shortest <= len(ids) <= SMALL.longest for ids in tokens)
    assert len({len(ids) for ids in tokens}) > 2


def test_long_texts_share_nothing_or_exactly_their_prefix(words):
    unshared = texts_of("long-unshared", words)
    size = case_size(unshared, words.encode(unshared))
    assert (size.prompts, size.tokens) == (2, size.distinct_tokens)
    assert 2 * 10 <= size.tokens <= 2 * 30
    shared = texts_of("long-shared", words)
    assert case_size(shared, words.encode(shared)) == CaseSize(3, 3, 75, 35)


def test_build_cases_twice_gives_the_same_texts(words):
    assert build_cases(words, OPENINGS, SMALL, list(CASES)) == build_cases(words, OPENINGS, SMALL, list(CASES))


def test_openings_come_from_the_file_or_are_built_in(plan, tmp_path, monkeypatch):
    assert find_openings(plan.data).texts == OPENINGS
    empty = tmp_path / "a" / "b"
    empty.mkdir(parents=True)
    monkeypatch.chdir(empty)
    assert find_openings().source == "built-in openings"
    with pytest.raises(BenchmarkError, match="holds no"):
        find_openings(empty)
    (tmp_path / "repeng" / "all_truncated_outputs.json").write_text('{"not": "a list"}')
    with pytest.raises(BenchmarkError, match="not a JSON list"):
        find_openings(plan.data)


def record_of(*runs):
    return Record(rounds=3, threads=2, sizes={"long": CaseSize(4, 3, 40, 20)}, runs=runs)


def test_report_medians_and_ratios_use_all_rounds():
    record = record_of(
        *(Run("float32", "long", "trimtab", wall, 2 * wall, 100) for wall in (1.0, 9.0, 2.0)),
        *(Run("float32", "long", "repeng", wall, wall, 400) for wall in (30.0, 10.0, 20.0)),
    )
    record = replace(record, differences=(Difference("float32", "long", "repeng", 1.23456e-6),))
    case = report(record)["dtypes"]["float32"]["long"]
    assert case["sides"]["trimtab"]["wall"] == 2.0
    assert [run["cpu"] for run in case["sides"]["trimtab"]["rounds"]] == [2.0, 18.0, 4.0]
    assert case["ratios"] == {"repeng": {"times_wall": 10.0, "times_cpu": 5.0, "share_memory": 0.25}}
    assert case["difference"] == {"repeng": 1.23e-6}
    assert case["distinct_tokens"] == 20


def test_report_unmeasured_figures_are_null():
    case = report(record_of(Run("float32", "long", "trimtab", 1.0, 1.0, None)))["dtypes"]["float32"]["long"]
    assert case["sides"]["trimtab"]["memory"] is None
    assert case["ratios"] == {}
    stopped = report(Record(rounds=1, threads=1))
    assert stopped["dtypes"] == {}
    assert stopped["complete"] is False


def test_largest_difference_covers_only_the_compared_layers(tmp_path):
    theirs = np.ones((300, 3, 4), dtype=np.float32)
    ours = theirs.copy()
    ours[299, 1] *= 1.5
    ours[0, 2] *= 9
    np.save(tmp_path / "ours.npy", ours)
    np.save(tmp_path / "theirs.npy", theirs)
    assert largest_difference(tmp_path / "ours.npy", tmp_path / "theirs.npy", layers=2) == pytest.approx(0.5)
    np.save(tmp_path / "ours.npy", ours * np.nan)
    with pytest.raises(BenchmarkError, match="not finite"):
        largest_difference(tmp_path / "ours.npy", tmp_path / "theirs.npy", layers=2)
    np.save(tmp_path / "ours.npy", ours[:, :2])
    with pytest.raises(BenchmarkError, match="different shapes"):
        largest_difference(tmp_path / "ours.npy", tmp_path / "theirs.npy", layers=2)


def test_sides_take_turns_without_repengs_last_layer(fakes, plan, monkeypatch):
    monkeypatch.setattr(processes, "repeng_command", lambda interpreter, job: [interpreter, str(FAKE)])
    steps = []
    *_, record = benchmark(replace(plan, peer=sys.executable), on_step=steps.append)
    assert [run.side for run in record.runs] == ["trimtab", "trimtab-plain", "repeng"] * 2
    assert {difference.side: difference.value for difference in record.differences} == pytest.approx(
        {"trimtab-plain": 0.2, "repeng": 0.2}
    )
    assert record.complete
    assert record.model == "toy"
    last = steps[-1]
    assert last.what == "float32 ten-prompts, round 2 of 2, repeng"
    assert last.done == last.total * 5 // 6
    assert all(map(has_ended, fakes))


def test_failing_worker_is_quoted_and_all_workers_end(fakes, plan, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER_FAILS", "1")
    with pytest.raises(BenchmarkError, match=r"worker of trimtab failed: MemoryError: there is no more$"):
        list(benchmark(plan))
    assert len(fakes) == 2
    assert all(map(has_ended, fakes))


def test_interrupt_leaves_no_worker(fakes, plan):
    with closing(benchmark(plan)) as records:
        assert len(next(records).runs) == 1
        assert not any(map(has_ended, fakes))
    assert all(map(has_ended, fakes))


def test_missing_interpreter_is_refused_before_work(fakes, plan, tmp_path):
    with pytest.raises(BenchmarkError, match=r"there is no interpreter .*make bench"):
        next(benchmark(replace(plan, peer=str(tmp_path / "python"))))
    assert fakes == []


def test_interpreter_without_repeng_reports_the_missing_module(fakes, plan):
    with pytest.raises(BenchmarkError, match=r"worker of repeng failed: .*No module named 'repeng'"):
        next(benchmark(replace(plan, peer=sys.executable)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cases": ("nonsense",)}, "no case 'nonsense'"),
        ({"dtypes": ()}, "no dtype was given"),
        ({"rounds": 0}, "at least 1"),
    ],
)
def test_invalid_plan_is_refused(changes, says):
    with pytest.raises(BenchmarkError, match=says):
        Plan(**changes)


def test_measure_memory_is_the_peak_above_the_start():
    size = 64 * 2**20
    held, figures = measure(lambda: np.ones(size, dtype=np.uint8).sum())
    assert held == size
    assert figures["wall"] > 0
    assert figures["memory"] is None or size * 0.9 < figures["memory"] < size * 1.5
    _, figures = measure(lambda: None)
    assert figures["memory"] is None or figures["memory"] < size / 4


def test_random_model_is_compared_with_matrix_products(llama):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 100}  # fmt: skip
    tokens = [[1, 2, 3], [1, 2, 140], [5]]
    read = read_random_model(llama, tokens, rounds=2, device="cpu", shape=shape, matmul=64)
    assert (read["tokens"], read["distinct_tokens"]) == (7, 5)
    assert len(read["rounds"]) == 2
    assert read["share_of_matmul_given"] == pytest.approx(read["share_of_matmul"] * 7 / 5)

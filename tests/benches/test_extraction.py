"""The extraction benchmark: what is read, what is computed from it, and that no worker outlives it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trimtab.benches import extraction, workers
from trimtab.benches.cases import CASES, PERSONAS, Sizes, build_cases, find_openings
from trimtab.benches.extraction import Plan, benchmark, case_size, largest_difference
from trimtab.benches.peer_repeng import measured
from trimtab.benches.plot import draw_extraction
from trimtab.benches.report import CaseSize, Difference, Record, Run, report
from trimtab.benches.worker import read_random_model
from trimtab.errors import BenchmarkError, MissingDependencyError

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
    """Workers that need no model; gives those that were started."""
    started = []
    start = workers.Worker.__init__

    def noted(self, *arguments):
        start(self, *arguments)
        started.append(self.pid)

    monkeypatch.setattr(workers, "own_command", lambda job: [sys.executable, str(FAKE)])
    monkeypatch.setattr(workers, "PEER_SCRIPT", FAKE)
    monkeypatch.setattr(workers.Worker, "__init__", noted)
    return started


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "repeng").mkdir()
    (tmp_path / "repeng" / "all_truncated_outputs.json").write_text(json.dumps(["", *OPENINGS]))
    sizes = replace(SMALL, prompts=20)
    return Plan(("ten-prompts",), ("float32",), rounds=2, threads=1, data=tmp_path, sizes=sizes)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def texts_of(name, words, sizes=SMALL):
    (case,) = build_cases(words, OPENINGS, sizes, [name])
    return case.texts


def test_the_recipe_cuts_every_opening_after_each_token_under_each_persona(words):
    texts = texts_of("repeng-4000", words)
    endings = [text.rpartition("assistant\n")[2] for text in texts]
    assert endings == ["I", "I", "I love", "I love", "I love this", "I love this", "It", "It", "It was"]
    assert all(PERSONAS[number % 2] in text for number, text in enumerate(texts))
    assert len(texts_of("repeng-4000", words, replace(SMALL, prompts=4000))) == 2 * 6


def test_few_prompts_are_whole_pairs_from_all_over_the_recipe(words):
    texts, recipe = texts_of("ten-prompts", words), texts_of("repeng-4000", words, replace(SMALL, prompts=12))
    assert texts_of("ten-prompts", words, replace(SMALL, prompts=12)) == (*recipe[:2], *recipe[6:8])
    assert len(texts) == SMALL.few


def test_unshared_texts_begin_with_different_tokens_and_have_many_lengths(words):
    tokens = words.encode(texts_of("no-shared-prefix", words))
    assert len({ids[0] for ids in tokens}) == len(tokens) == SMALL.unshared
    assert all(SMALL.shortest <= len(ids) <= SMALL.longest for ids in tokens)
    assert len({len(ids) for ids in tokens}) > 2


def test_long_texts_share_nothing_or_exactly_their_beginning(words):
    apart = texts_of("long-unshared", words)
    size = case_size(apart, words.encode(apart))
    assert (size.prompts, size.tokens) == (2, size.distinct_tokens)
    assert 2 * 10 <= size.tokens <= 2 * 30
    together = texts_of("long-shared", words)
    assert case_size(together, words.encode(together)) == CaseSize(3, 3, 75, 35)


def test_cases_are_the_same_every_time(words):
    assert build_cases(words, OPENINGS, SMALL, list(CASES)) == build_cases(words, OPENINGS, SMALL, list(CASES))


def test_openings_come_from_the_file_where_it_is_and_else_are_built_in(plan, tmp_path, monkeypatch):
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


def test_medians_and_ratios_come_from_all_rounds():
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


def test_what_was_not_measured_is_null():
    case = report(record_of(Run("float32", "long", "trimtab", 1.0, 1.0, None)))["dtypes"]["float32"]["long"]
    assert case["sides"]["trimtab"]["memory"] is None
    assert case["ratios"] == {}
    stopped = report(Record(rounds=1, threads=1))
    assert stopped["dtypes"] == {}
    assert stopped["complete"] is False


def test_the_largest_difference_is_of_the_worst_vector_of_the_compared_layers(tmp_path):
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


def test_sides_take_turns_and_repengs_last_layer_is_not_compared(fakes, plan):
    steps = []
    *_, record = benchmark(replace(plan, peer=sys.executable), on_step=steps.append)
    assert [run.side for run in record.runs] == ["trimtab", "trimtab-plain", "repeng"] * 2
    assert {found.side: found.value for found in record.differences} == pytest.approx(
        {"trimtab-plain": 0.2, "repeng": 0.2}
    )
    assert record.complete
    assert record.model == "toy"
    last = steps[-1]
    assert last.what == "float32 ten-prompts, round 2 of 2, repeng"
    assert last.done == last.total * 5 // 6
    assert all(map(gone, fakes))


def test_a_worker_that_fails_is_quoted_and_takes_the_others_along(fakes, plan, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER_FAILS", "1")
    with pytest.raises(BenchmarkError, match=r"worker of trimtab failed: MemoryError: there is no more$"):
        list(benchmark(plan))
    assert len(fakes) == 2
    assert all(map(gone, fakes))


def test_an_interrupt_leaves_no_worker(fakes, plan):
    with closing(benchmark(plan)) as records:
        assert len(next(records).runs) == 1
        assert not any(map(gone, fakes))
    assert all(map(gone, fakes))


def test_a_missing_interpreter_is_found_before_the_work(fakes, plan, tmp_path):
    with pytest.raises(BenchmarkError, match=r"there is no interpreter .*make bench"):
        next(benchmark(replace(plan, peer=str(tmp_path / "python"))))
    assert fakes == []


def test_an_interpreter_without_repeng_says_what_it_lacks(fakes, plan, monkeypatch):
    monkeypatch.setattr(workers, "PEER_SCRIPT", Path(extraction.__file__).with_name("peer_repeng.py"))
    with pytest.raises(BenchmarkError, match=r"worker of repeng failed: .*No module named 'repeng'"):
        next(benchmark(replace(plan, peer=sys.executable)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cases": ("nonsense",)}, "no case 'nonsense'"),
        ({"dtypes": ()}, "no dtype is asked for"),
        ({"rounds": 0}, "at least 1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes, says):
    with pytest.raises(BenchmarkError, match=says):
        Plan(**changes)


def test_memory_is_the_peak_above_what_was_held_before():
    size = 64 * 2**20
    held, spent = measured(lambda: np.ones(size, dtype=np.uint8).sum())
    assert held == size
    assert spent["wall"] > 0
    assert spent["memory"] is None or size * 0.9 < spent["memory"] < size * 1.5
    _, spent = measured(lambda: None)
    assert spent["memory"] is None or spent["memory"] < size / 4


def test_a_random_model_is_read_and_set_beside_matrix_products(llama):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 100}  # fmt: skip
    tokens = [[1, 2, 3], [1, 2, 140], [5]]
    read = read_random_model(llama, tokens, rounds=2, device="cpu", shape=shape, matmul=64)
    assert (read["tokens"], read["distinct_tokens"]) == (7, 5)
    assert len(read["rounds"]) == 2
    assert read["share_of_matmul_given"] == pytest.approx(read["share_of_matmul"] * 7 / 5)


def test_the_picture_needs_matplotlib_and_says_so(monkeypatch, tmp_path):
    measured_so_far = report(record_of(Run("float32", "long", "trimtab", 1.0, 1.0, None)))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trimtab\[bench\]'"):
        draw_extraction(measured_so_far, tmp_path / "picture.png")


def test_a_picture_is_drawn_of_whatever_was_measured(tmp_path):
    runs = [Run("float32", "long", side, 1.0, 2.0, memory) for side, memory in (("trimtab", 5), ("repeng", None))]
    for name, record in (("all", record_of(*runs)), ("own", record_of(runs[0]))):
        draw_extraction(report(record), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")

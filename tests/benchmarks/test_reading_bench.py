"""Benchmark of readings: disjoint halves, and AUROC on the held-out half."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.reading import EMOTIONS, auroc_by_layer, difference, read_emotions, read_facts, split, table
from trimtab.errors import BenchmarkError


def test_split_takes_half_of_each_kind():
    kinds = np.repeat([0, 1, 2], [10, 7, 4])
    fitted = split(kinds)
    assert [int(fitted[kinds == kind].sum()) for kind in range(3)] == [5, 3, 2]
    np.testing.assert_array_equal(split(kinds), fitted)


def test_auroc_by_layer_chooses_without_held_out_texts():
    noise = np.random.default_rng(0)
    labels = np.arange(120) < 60
    states = noise.standard_normal((120, 3, 8)).astype(np.float32)
    states[:, 1, 0] += 3.0 * labels
    fitted = split(labels)
    result = auroc_by_layer(states, labels, fitted, difference)
    assert result["chosen_layer"] == 1
    assert result["auroc"] == result["auroc_by_layer"][1] > 0.95
    assert result["interval"][0] <= result["auroc"] <= result["interval"][1]
    assert (result["positive"], result["negative"]) == (30, 30)
    assert max(result["auroc_by_layer"][0], result["auroc_by_layer"][2]) < 0.8
    states[~fitted, 1, 0] = 0.0  # held-out texts play no part in the choice
    assert auroc_by_layer(states, labels, fitted, difference)["chosen_layer"] == 1


def test_table_has_a_line_for_each_reading():
    result = {"auroc_by_layer": [0.5] * 4 + [0.9], "chosen_layer": 4, "auroc": 0.9, "interval": [0.8, 1.0]}
    measured = {"layers": 5, "emotions": {"fear": {"probe": result}}, "facts": {"honesty, last": result}}
    lines = table(measured).splitlines()
    assert lines[0] == "| reading | 0 | 3 | chosen layer |"
    assert lines[2] == "| fear, probe | 0.50 | 0.50 | 4: 0.90 (0.80–1.00) |"
    assert lines[3].startswith("| true, honesty, last |")


def test_folder_without_the_data_sets_is_refused(tmp_path):
    with pytest.raises(BenchmarkError):
        read_emotions(tmp_path, 5)
    with pytest.raises(BenchmarkError):
        read_facts(tmp_path, 5)
    assert len(EMOTIONS) == 6

"""The benchmark of readings: halves that do not overlap, and AUROC on the half that nothing was fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.benches.reading import EMOTIONS, by_layer, difference, read_emotions, read_facts, split, table
from trimtab.errors import BenchmarkError


def test_half_of_each_kind_is_fitted_on():
    kinds = np.repeat([0, 1, 2], [10, 7, 4])
    fitted = split(kinds)
    assert [int(fitted[kinds == kind].sum()) for kind in range(3)] == [5, 3, 2]
    np.testing.assert_array_equal(split(kinds), fitted)


def test_the_layer_that_tells_is_chosen_without_the_texts_that_count():
    noise = np.random.default_rng(0)
    labels = np.arange(120) < 60
    states = noise.standard_normal((120, 3, 8)).astype(np.float32)
    states[:, 1, 0] += 3.0 * labels
    fitted = split(labels)
    found = by_layer(states, labels, fitted, difference)
    assert found["chosen_layer"] == 1
    assert found["auroc"] == found["auroc_by_layer"][1] > 0.95
    assert found["interval"][0] <= found["auroc"] <= found["interval"][1]
    assert (found["positive"], found["negative"]) == (30, 30)
    assert max(found["auroc_by_layer"][0], found["auroc_by_layer"][2]) < 0.8
    states[~fitted, 1, 0] = 0.0  # what is not fitted on plays no part in the choice
    assert by_layer(states, labels, fitted, difference)["chosen_layer"] == 1


def test_the_table_has_a_line_for_each_reading():
    own = {"auroc_by_layer": [0.5] * 4 + [0.9], "chosen_layer": 4, "auroc": 0.9, "interval": [0.8, 1.0]}
    lines = table({"layers": 5, "emotions": {"fear": {"probe": own}}, "facts": {"honesty, last": own}}).splitlines()
    assert lines[0] == "| what | 0 | 3 | chosen layer |"
    assert lines[2] == "| fear, probe | 0.50 | 0.50 | 4: 0.90 (0.80–1.00) |"
    assert lines[3].startswith("| true, honesty, last |")


def test_a_folder_without_the_sets_is_an_error(tmp_path):
    with pytest.raises(BenchmarkError):
        read_emotions(tmp_path, 5)
    with pytest.raises(BenchmarkError):
        read_facts(tmp_path, 5)
    assert len(EMOTIONS) == 6

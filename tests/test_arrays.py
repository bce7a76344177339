"""Values that hold arrays: compared by content, copied, and sent to other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from dataclasses import replace

import numpy as np
import pytest

from sample_vectors import MODEL, make_vector
from trimtab.engines.protocol import Collected, CollectionReport, ForcedScores, GreedyScores
from trimtab.evaluation.metrics.refusals import Refused
from trimtab.steering import Steering

STATES = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
REPORT = CollectionReport("tree", "", 1, 1, 1)
VALUES = {
    "collected": (Collected(STATES, REPORT), {"states": STATES + 1}),
    "forced": (
        ForcedScores((np.ones(2),), (np.ones(2, np.int64),), (np.ones(3),), np.array([True])),
        {"logprob": (np.zeros(2),)},
    ),
    "greedy": (GreedyScores((np.ones(2),), (np.array([True, False]),)), {"logprob": (np.zeros(2),)}),
    "refused": (Refused(np.array([True, False])), {"refused": np.array([True, True])}),
    "vector": (make_vector("happy"), {"method": "other"}),
    "compiled": (Steering.of([(make_vector("happy"), 0.5)]).compile(MODEL), {"terms": ()}),
}


@pytest.mark.parametrize(("value", "change"), VALUES.values(), ids=VALUES)
def test_value_equals_its_copies_alone(value, change):
    for again in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value), replace(value)):
        assert again == value
        assert hash(again) == hash(value)
    assert replace(value, **change) != value
    assert value != "a text"


def test_dtype_and_shape_tell_values_apart():
    for other in (STATES.astype(np.float64), STATES.reshape(1, 3, 2)):
        assert Collected(other, REPORT) != Collected(STATES, REPORT)


@pytest.mark.parametrize(
    "method", [name for name in ("spawn", "fork") if name in multiprocessing.get_all_start_methods()]
)
def test_value_reaches_another_process(method):
    values = [value for value, _ in VALUES.values()]
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(copy.deepcopy, values) == values

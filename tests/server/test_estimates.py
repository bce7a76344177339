"""Estimates of the time that jobs take."""

from __future__ import annotations

import pytest

from trimtab.engines.fake import FakeEngine
from trimtab.server.estimates import DEFAULT_SIZE, TYPICAL, merged, scaled, seconds_left

EXPECTED = {"read": 10.0, "refine": 20.0, "check": 30.0}


def test_seconds_left_at_expected_speed_is_the_rest():
    spent = {"read": 10.0, "refine": 10.0}
    assert seconds_left(EXPECTED, spent, phase="refine", share=0.5) == pytest.approx(40.0)


def test_seconds_left_grows_with_the_time_that_was_needed():
    slow = seconds_left(EXPECTED, {"read": 20.0}, phase="read", share=1.0)
    usual = seconds_left(EXPECTED, {"read": 10.0}, phase="read", share=1.0)
    assert usual == pytest.approx(50.0)
    assert usual < slow < 2 * usual  # one phase does not settle the speed of the others


def test_seconds_left_of_an_unknown_phase_is_finite():
    assert 0 <= seconds_left(EXPECTED, {"other": 5.0}, phase="other", share=0.0) <= 60.0


def test_merged_takes_the_longest_of_repeated_phases():
    assert merged([("read", 2.0), ("refine", 3.0), ("read", 0.01)]) == {"read": 2.0, "refine": 3.0}


def test_scaled_follows_the_size_of_the_model():
    info = FakeEngine().info
    factor = max(info.layers * info.hidden_size**2 / DEFAULT_SIZE, 0.1)
    assert scaled(TYPICAL["train quick"], info) == {
        phase: pytest.approx(seconds * factor) for phase, seconds in TYPICAL["train quick"].items()
    }

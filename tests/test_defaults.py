"""Defaults of PyTorch's threads: set before it is loaded, and never against the user."""

from __future__ import annotations

import os
import sys

import pytest

from trimtab import defaults


@pytest.fixture
def without_torch(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(defaults, "CGROUP", tmp_path)
    for name in (*defaults.THREAD_WAITING, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    return tmp_path


def test_threads_wait_briefly_by_default(without_torch):
    defaults.set_thread_defaults()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    assert "OMP_WAIT_POLICY" not in os.environ
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("name", defaults.THREAD_WAITING)
def test_threads_of_user_are_kept(without_torch, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    (without_torch / "cpu.max").write_text("200000 100000\n")
    defaults.set_thread_defaults()
    assert [os.environ.get(each) for each in defaults.THREAD_WAITING] == [
        "7" if each == name else None for each in defaults.THREAD_WAITING
    ]
    assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize(
    ("limit", "threads"),
    [("200000 100000", "2"), ("50000 100000", "1"), ("max 100000", None), ("6400000 100000", None)],
)
def test_threads_follow_container_limit(without_torch, limit, threads):
    (without_torch / "cpu.max").write_text(f"{limit}\n")
    defaults.set_thread_defaults()
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_threads_follow_older_container_limit(without_torch):
    (without_torch / "cpu").mkdir()
    (without_torch / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (without_torch / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    defaults.set_thread_defaults()
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_threads_after_torch_are_left(without_torch, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", os)
    defaults.set_thread_defaults()
    assert "GOMP_SPINCOUNT" not in os.environ

"""Default settings that the library and the command line share; importing them costs nothing."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

BUDGET = 0.4  # nats per token that strength 1 spends
MAX_PAIRS = 420  # contrastive pairs of a behaviour
METHOD = "mean_difference"
STATES_MEMORY = 512 * 1024**2  # bytes of hidden states

DISTILL_STEPS = 85
DISTILL_BATCH = 6  # answers of a step
DISTILL_ANSWER_TOKENS = 32

EVALUATION_QUESTIONS = 16
EVALUATION_ANSWER_TOKENS = 40  # of the answers whose text is judged

ANSWER_TOKENS = 128  # upper bound on an answer's length
CHECKED_TOKENS = 48  # of the answers whose text the safe range is measured on, and of those that are shown side by side
CHAT_ANSWER_TOKENS = 256  # the same in a chat

VERSION = "0.1.0"

CGROUP = Path("/sys/fs/cgroup")
SPIN_ROUNDS = 1000  # of GNU's OpenMP, which PyTorch's wheels for Linux bring
THREAD_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_thread_defaults() -> None:
    """Set how PyTorch's threads wait and how many there are, unless the user did or PyTorch is loaded already.

    By default its threads wait for each other in a loop that keeps a core busy for milliseconds. Where another process
    needs that core, the thread that has the work waits for the one that only waits. Asleep at once they cost a fifth
    more on an idle machine; after a thousand rounds of the loop neither costs much (docs/notes/threads.md). A container
    may have fewer cores than the machine shows.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in THREAD_WAITING):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_ROUNDS)
    cores = _container_cores()
    if cores is not None and cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def _container_cores() -> int | None:
    """Return the number of cores that this container may use; None without a limit."""
    with suppress(OSError, ValueError):  # other systems, and "max" for no limit
        limit, period = (CGROUP / "cpu.max").read_text().split()
        return max(1, round(int(limit) / int(period)))
    with suppress(OSError, ValueError):  # the first version of control groups
        quota = int((CGROUP / "cpu" / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            return max(1, round(quota / int((CGROUP / "cpu" / "cpu.cfs_period_us").read_text())))
    return None

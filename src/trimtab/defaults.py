"""Default settings that the library and the command line share; importing them costs nothing."""

from __future__ import annotations

BUDGET = 0.4  # nats per token that strength 1 spends
MAX_PAIRS = 420  # contrastive pairs of a behaviour
METHOD = "mean_difference"
REFINE_STEPS = 40  # they take about a minute on two cores
STATES_MEMORY = 512 * 1024**2  # bytes of hidden states

DISTILL_STEPS = 85
DISTILL_BATCH = 6  # answers of a step
DISTILL_ANSWER_TOKENS = 32

EVALUATION_QUESTIONS = 16
EVALUATION_ANSWER_TOKENS = 40  # of the answers whose text is judged

ANSWER_TOKENS = 128  # upper bound on an answer's length
CHAT_ANSWER_TOKENS = 256  # the same in a chat

VERSION = "0.1.0"

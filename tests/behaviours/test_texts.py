"""The texts that come with trimtab."""

from __future__ import annotations

import re
from collections import Counter

from trimtab.behaviours import Behaviour, builtin_suffixes, lookalikes, neutral_prompts, zoo_names
from trimtab.evaluation.metrics.refusals import refusal_requests

HALVES = neutral_prompts()


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def test_builtin_suffixes_has_at_least_200_distinct():
    assert len({suffix.casefold() for suffix in builtin_suffixes()}) == len(builtin_suffixes()) >= 200


def test_builtin_suffixes_are_single_trimmed_lines():
    for suffix in builtin_suffixes():
        assert suffix == suffix.strip()
        assert suffix.isprintable()


def test_builtin_suffixes_begin_and_end_in_many_ways():
    for place in (0, -1):
        most = Counter(suffix.split()[place] for suffix in builtin_suffixes()).most_common(1)[0]
        assert most[1] <= len(builtin_suffixes()) / 4, most


def test_builtin_suffixes_have_at_least_two_words():
    assert min(len(suffix.split()) for suffix in builtin_suffixes()) >= 2


def test_neutral_prompts_has_equal_halves_of_at_least_32():
    assert len(HALVES.calibration) == len(HALVES.held_out) >= 32


def test_neutral_prompts_are_distinct():
    everything = [prompt.casefold() for prompt in HALVES.calibration + HALVES.held_out + HALVES.more]
    assert len(set(everything)) == len(everything)


def test_neutral_prompts_are_whole_sentences():
    for prompt in HALVES.calibration + HALVES.held_out:
        assert prompt == prompt.strip()
        assert prompt[0].isupper()
        assert prompt[-1] in ".?"


def test_neutral_prompts_halves_have_same_kinds():
    for first, second in zip(HALVES.calibration, HALVES.held_out, strict=True):
        assert (first[-1] == "?") == (second[-1] == "?"), (first, second)


def test_neutral_prompts_contain_no_pole_label():
    labels = {label for name in zoo_names() for pole in poles(name) for label in words(pole)}
    for prompt in HALVES.calibration + HALVES.held_out + HALVES.more:
        assert not words(prompt) & labels, prompt


def test_example_is_loaded_by_name_and_is_not_of_the_zoo():
    harmful = Behaviour.load("harmful")
    assert harmful.name == "harmful"
    assert len(harmful.pairs) == 64
    assert len(zoo_names()) == 19
    assert "harmful" not in zoo_names()


def test_example_pairs_are_alike_in_length_and_punctuation():
    pairs = [(pair.positive[0].content, pair.negative[0].content) for pair in Behaviour.load("harmful").pairs]
    for harmful, harmless in pairs:
        assert harmful[-1] == harmless[-1], harmful
    mean_words = [sum(len(text.split()) for text in side) / len(side) for side in zip(*pairs, strict=True)]
    assert abs(mean_words[0] / mean_words[1] - 1) < 0.15


def test_lookalikes_are_50_of_each_kind_and_in_no_other_set():
    found = lookalikes()
    assert len(found.harmful) == len(found.harmless) == 50
    pairs, requests = Behaviour.load("harmful").pairs, refusal_requests()
    texts = [side[0].content for pair in pairs for side in (pair.positive, pair.negative)]
    texts += [*found.harmful, *found.harmless, *requests.harmful, *requests.harmless]
    assert len({text.casefold() for text in texts}) == len(texts) == 2 * (64 + 50 + len(requests.harmful))


def poles(name: str) -> tuple[str, str]:
    behaviour = Behaviour.load(name)
    return behaviour.positive.label, behaviour.negative.label

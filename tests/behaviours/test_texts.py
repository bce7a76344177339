"""The texts that come with trimtab."""

from __future__ import annotations

import re
from collections import Counter

from trimtab.behaviours import Behaviour, builtin_suffixes, neutral_prompts, zoo_names

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


def poles(name: str) -> tuple[str, str]:
    behaviour = Behaviour.load(name)
    return behaviour.positive.label, behaviour.negative.label

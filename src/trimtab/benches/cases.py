"""What the extraction benchmark reads: a contrastive recipe, texts that share nothing, and long ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from trimtab.behaviours import builtin_suffixes
from trimtab.errors import BenchmarkError

TEMPLATE = "Write the way a person does who feels {persona} about everything that happens today."
PERSONAS = ("happy", "sad")
OPENINGS_FILES = (Path("repeng") / "true_facts.json", Path("repeng") / "all_truncated_outputs.json")
DATA_FOLDERS = (Path("..") / "shared" / "data", Path("shared") / "data")
WORD = re.compile(r" [a-z]{3,}")
RECIPE = "repeng-4000"
CANDIDATES = 8192
SEED = 0


class Words(Protocol):
    """What building cases needs of a model: its tokens."""

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of token ids."""

    def render(self, messages: Sequence[str]) -> list[str]:
        """Each user message as the model sees it, up to where its answer begins."""


@dataclass(frozen=True)
class Sizes:
    """How large the cases are; lengths in tokens.

    Attributes:
        prompts: Upper bound on the prompts of the recipe.
        few: Prompts of the case that takes a handful of the recipe.
        unshared: Texts that all begin differently.
        shortest: Length of the shortest of them.
        longest: Length of the longest of them.
        long_unshared: Long texts that share nothing.
        long_shared: Texts with one long beginning in common.
        beginning: Its length, and the mean length of the long texts that share nothing.
        ending: What follows the common beginning in each text.
    """

    prompts: int = 4000
    few: int = 10
    unshared: int = 200
    shortest: int = 16
    longest: int = 128
    long_unshared: int = 6
    long_shared: int = 16
    beginning: int = 800
    ending: int = 60


@dataclass(frozen=True)
class Openings:
    """Openings of answers, and where they are from, in words."""

    texts: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Case:
    """One set of texts to read."""

    name: str
    texts: tuple[str, ...]


def find_openings(folder: Path | None = None) -> Openings:
    """The openings of repeng if they are at hand, else the built-in ones.

    Args:
        folder: Where to look for ``repeng/*.json``; None for the usual places.

    Raises:
        BenchmarkError: The folder that was named holds none, or a file is not a list of texts.
    """
    for place in DATA_FOLDERS if folder is None else (folder,):
        names = [name for name in OPENINGS_FILES if (place / name).is_file()]
        if names:
            texts = [text for name in names for text in _texts_in(place / name)]
            return Openings(tuple(texts), " and ".join(name.as_posix() for name in names))
    if folder is not None:
        wanted = " or ".join(name.as_posix() for name in OPENINGS_FILES)
        raise BenchmarkError(f"{str(folder)!r} holds no {wanted}", fix="leave --data out")
    return Openings(builtin_suffixes(), "built-in openings")


def _texts_in(path: Path) -> list[str]:
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BenchmarkError(f"{str(path)!r} is not a JSON list of texts", fix="copy it again")
    return [text for text in texts if text]


def build_cases(words: Words, openings: Sequence[str], sizes: Sizes, names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names, in this order; the same texts every time."""
    return tuple(Case(name, CASES[name](words, openings, sizes)) for name in names)


def recipe(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """The recipe of repeng: every opening cut after each of its tokens, under each persona in turn; no cut twice."""
    cuts = [tokens[:end] for tokens in words.encode(openings) for end in range(1, len(tokens) + 1)]
    wanted = -(-sizes.prompts // len(PERSONAS))
    distinct = list(dict.fromkeys(words.decode(cuts)))[:wanted]
    asked = words.render([TEMPLATE.format(persona=persona) for persona in PERSONAS])
    prompts = [beginning + opening for opening in distinct for beginning in asked]
    return tuple(prompts[: sizes.prompts])


def few_prompts(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """A handful of the recipe, in pairs that are evenly spread over it."""
    prompts = recipe(words, openings, sizes)
    pairs = [prompts[at : at + len(PERSONAS)] for at in range(0, len(prompts), len(PERSONAS))]
    wanted = min(-(-sizes.few // len(PERSONAS)), len(pairs))
    spread = [pairs[number * len(pairs) // wanted] for number in range(wanted)]
    return tuple(prompt for pair in spread for prompt in pair)[: sizes.few]


def no_shared_prefix(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """Random words of many lengths; no two texts begin with the same token."""
    rng, known = _random_words(words, sizes.unshared)
    firsts = rng.permutation(known)[: sizes.unshared]
    lengths = rng.integers(sizes.shortest, sizes.longest + 1, size=len(firsts))
    return tuple(
        str(first) + "".join(rng.choice(known, length - 1)) for first, length in zip(firsts, lengths, strict=True)
    )


def long_unshared(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """A few long texts of random words that have nothing in common, half as long to half as long again."""
    half = sizes.beginning // 2
    longs = replace(sizes, unshared=sizes.long_unshared, shortest=half, longest=sizes.beginning + half)
    return no_shared_prefix(words, openings, longs)


def long_shared(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """One long beginning of random words, and an ending of its own for each text."""
    rng, known = _random_words(words, 1)
    beginning = "".join(rng.choice(known, sizes.beginning))
    return tuple(beginning + "".join(rng.choice(known, sizes.ending)) for _ in range(sizes.long_shared))


def _random_words(words: Words, count: int) -> tuple[np.random.Generator, list[str]]:
    """Words that are one token each, a space before them; ``count`` of them at least."""
    rng = np.random.default_rng(SEED)
    ids = rng.permutation(words.vocabulary)[: max(CANDIDATES, 16 * count)]
    texts = words.decode([[int(token)] for token in ids])
    known = sorted({text for text in texts if WORD.fullmatch(text)})
    if len(known) < max(count, 2):
        raise BenchmarkError(f"the tokenizer has only {len(known)} whole words among {len(ids)} tokens")
    return rng, known


CASES: Mapping[str, Callable[[Words, Sequence[str], Sizes], tuple[str, ...]]] = {
    RECIPE: recipe,
    "ten-prompts": few_prompts,
    "no-shared-prefix": no_shared_prefix,
    "long-unshared": long_unshared,
    "long-shared": long_shared,
}

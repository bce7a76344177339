"""Texts of the extraction benchmark: a contrastive recipe, texts without a shared prefix, and long texts."""

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
    """Tokenizer of a model, as far as building cases needs it."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of token ids."""

    def render(self, messages: Sequence[str]) -> list[str]:
        """Render each user message as the model sees it, up to where the answer begins."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the cases; lengths in tokens.

    Attributes:
        prompts: Upper bound on the prompts of the recipe.
        few: Prompts of the case that takes a few of the recipe.
        unshared: Texts without a shared prefix.
        shortest: Length of the shortest of them.
        longest: Length of the longest of them.
        long_unshared: Long texts without a shared prefix.
        long_shared: Texts with one long prefix in common.
        beginning: Length of that prefix, and mean length of the long texts without one.
        ending: Length of the rest of each text after the common prefix.
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
    """Openings of answers, and a description of their source."""

    texts: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Case:
    """Set of texts to read."""

    name: str
    texts: tuple[str, ...]


def find_openings(folder: Path | None = None) -> Openings:
    """Return repeng's openings if they are found, else the built-in ones.

    Args:
        folder: Folder with ``repeng/*.json``; None for the default places.

    Raises:
        BenchmarkError: The given folder has none, or a file is not a list of texts.
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
    """Build the named cases in this order; the texts are the same every time."""
    return tuple(Case(name, CASES[name](words, openings, sizes)) for name in names)


def recipe(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """Build repeng's recipe: each opening cut after each of its tokens, under each persona in turn; no cut twice."""
    cuts = [tokens[:end] for tokens in words.encode(openings) for end in range(1, len(tokens) + 1)]
    wanted = -(-sizes.prompts // len(PERSONAS))
    distinct = list(dict.fromkeys(words.decode(cuts)))[:wanted]
    rendered = words.render([TEMPLATE.format(persona=persona) for persona in PERSONAS])
    prompts = [beginning + opening for opening in distinct for beginning in rendered]
    return tuple(prompts[: sizes.prompts])


def few_prompts(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """Take a few prompts of the recipe, in pairs that are evenly spread over it."""
    prompts = recipe(words, openings, sizes)
    pairs = [prompts[at : at + len(PERSONAS)] for at in range(0, len(prompts), len(PERSONAS))]
    wanted = min(-(-sizes.few // len(PERSONAS)), len(pairs))
    spread = [pairs[number * len(pairs) // wanted] for number in range(wanted)]
    return tuple(prompt for pair in spread for prompt in pair)[: sizes.few]


def no_shared_prefix(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """Build texts of random words with many lengths; no two begin with the same token."""
    rng, known = _random_words(words, sizes.unshared)
    firsts = rng.permutation(known)[: sizes.unshared]
    lengths = rng.integers(sizes.shortest, sizes.longest + 1, size=len(firsts))
    return tuple(
        str(first) + "".join(rng.choice(known, length - 1)) for first, length in zip(firsts, lengths, strict=True)
    )


def long_unshared(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """Build a few long texts of random words without a shared prefix, 0.5 to 1.5 times the mean length."""
    half = sizes.beginning // 2
    longs = replace(sizes, unshared=sizes.long_unshared, shortest=half, longest=sizes.beginning + half)
    return no_shared_prefix(words, openings, longs)


def long_shared(words: Words, openings: Sequence[str], sizes: Sizes) -> tuple[str, ...]:
    """Build texts that share one long prefix of random words, each with a different ending."""
    rng, known = _random_words(words, 1)
    beginning = "".join(rng.choice(known, sizes.beginning))
    return tuple(beginning + "".join(rng.choice(known, sizes.ending)) for _ in range(sizes.long_shared))


def _random_words(words: Words, count: int) -> tuple[np.random.Generator, list[str]]:
    """Return at least ``count`` words that are one token each with a leading space."""
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

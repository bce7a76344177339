"""Checking a behaviour with the model: whether its pairs agree on one direction, and which persona does not.

The differences of hidden states are read as training reads them, in the middle band of layers. Their mean pairwise
cosine predicts whether a vector works (Braun et al. 2025, arXiv:2505.22637), but it counts pairs of one persona too,
which agree by their wording alone. So each persona's mean difference is also compared with that of all other personas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, Message, Template
from trimtab.behaviours.lint import Finding, by_level, content_words
from trimtab.engines import Engine
from trimtab.engines.base import Array
from trimtab.learning.progress import OnProgress, Progress, ignore
from trimtab.learning.sums import no_sums
from trimtab.learning.sweep import band_layers
from trimtab.pairs import ContrastivePair, build_pairs

Doubles: TypeAlias = NDArray[np.float64]
Prediction: TypeAlias = Literal["high", "medium", "low"]

PHASE = "Reading pairs"
MAX_PAIRS = 96
CUTS = 4  # of a suffix: few, so that each persona meets several suffixes
PARTS = 4  # of pairs given outright, which have no personas to compare


@dataclass(frozen=True)
class Least:
    """What a prediction asks for at least."""

    pairwise_cosine: float
    agreement: float


LEAST: Mapping[Prediction, Least] = MappingProxyType({"high": Least(0.18, 0.5), "medium": Least(0.1, 0.25)})
DISAGREES, OPPOSES = 0.1, -0.4  # agreement of one persona or template
SEPARATED = 0.95
TOKENS_APART = 2.5
TOKENS_APART_SHARE = 0.75  # of pairs that are longer on the same side


@dataclass(frozen=True)
class GroupAgreement:
    """How the pairs of one persona, or of one template, agree with each other and with the rest.

    Attributes:
        index: Of the persona or template; of a part of the pairs where they are given outright.
        positive: What the positive side says: the persona, or the template's words.
        negative: What the negative side says.
        pairs: How many pairs.
        pairwise_cosine: Mean cosine between the differences of two of them.
        agreement: Cosine between their mean difference and that of all other pairs; None where there are none.
    """

    index: int
    positive: str
    negative: str
    pairs: int
    pairwise_cosine: float
    agreement: float | None


@dataclass(frozen=True)
class StateLint:
    """What the hidden states say about a behaviour; figures are means over ``layers``.

    Attributes:
        findings: What should be looked at, the gravest first.
        prediction: How likely the vector is to be reliable: by ``LEAST``, a rule of thumb.
        pairs: Pairs that were read.
        layers: The layers at which they were read.
        pairwise_cosine: Mean cosine between the differences of any two pairs.
        agreement: Mean over the personas of their agreement with the rest; None where there is only one.
        separation: Share of pairs whose positive side projects further along the mean difference.
        tokens_apart: Mean tokens of a positive side minus those of its negative side.
        by_persona: Agreement of each persona.
        by_template: Agreement of each template; empty where pairs are given outright.
    """

    findings: tuple[Finding, ...]
    prediction: Prediction
    pairs: int
    layers: tuple[int, ...]
    pairwise_cosine: float
    agreement: float | None
    separation: float
    tokens_apart: float
    by_persona: tuple[GroupAgreement, ...]
    by_template: tuple[GroupAgreement, ...]


def lint_states(
    engine: Engine, behaviour: Behaviour, *, max_pairs: int = MAX_PAIRS, progress: OnProgress = ignore
) -> StateLint:
    """Read a behaviour's pairs, and say whether they agree.

    Agreement says that the pairs have one direction in common. It cannot say that it is the one that you mean.

    Args:
        engine: The model that is to be steered.
        behaviour: What to check.
        max_pairs: Upper bound on the pairs.
        progress: Called with the number of prompts read.

    Raises:
        BehaviourError: The behaviour cannot make pairs.

    Example:
        >>> lint_states(engine, Behaviour.load("happy")).prediction  # doctest: +SKIP
        'high'
    """
    format = _Remembering(engine)
    pairs = build_pairs(behaviour, format, max_pairs=max_pairs, max_cuts=CUTS)
    layers = band_layers(engine.info.layers)
    differences = _differences(engine, pairs, layers, progress)
    groups = _groups(behaviour, pairs, format)
    personas = _agreements(differences, groups.personas, groups.persona_texts)
    templates = _agreements(differences, groups.templates, groups.template_texts)
    agreements = [group.agreement for group in personas if group.agreement is not None]
    cosine = _pairwise_cosine(differences)
    agreement = float(np.mean(agreements)) if agreements else None
    apart = np.array([len(engine.encode(pair.positive)) - len(engine.encode(pair.negative)) for pair in pairs])
    lint = StateLint(
        findings=(),
        prediction=predict(cosine, agreement),
        pairs=len(pairs),
        layers=layers,
        pairwise_cosine=cosine,
        agreement=agreement,
        separation=float((np.einsum("plh,lh->pl", differences, differences.mean(axis=0)) > 0).mean()),
        tokens_apart=float(apart.mean()),
        by_persona=personas,
        by_template=templates,
    )
    return _with_findings(lint, behaviour, apart)


def predict(pairwise_cosine: float, agreement: float | None) -> Prediction:
    """The word for both figures: the best one of which both reach the least.

    The thresholds of ``LEAST`` are rules of thumb from the default model, and no measured effect stands behind them.
    On it, personas of unrelated words had a pairwise cosine of 0.04 to 0.08 and an agreement of -0.23 to 0.14; most
    behaviours of the zoo had 0.2 to 0.37 and 0.5 to 0.8. Without an agreement to go by, medium is the best there is.

    Example:
        >>> predict(0.3, 0.7), predict(0.3, None), predict(0.05, 0.7)
        ('high', 'medium', 'low')
    """
    for word, least in LEAST.items():
        if agreement is None and word == "high":
            continue
        if pairwise_cosine >= least.pairwise_cosine and (agreement is None or agreement >= least.agreement):
            return word
    return "low"


# Reading -----------------------------------------------------------------------------------------------------------


@final
class _Remembering:
    """An engine's way to see chats, which remembers which chat became which text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.chats: dict[str, tuple[Message, ...]] = {}

    def render(self, messages: Sequence[Message], *, continuation: str = "") -> str:
        text = self._engine.render(messages, continuation=continuation)
        self.chats[text] = tuple(messages)
        return text

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        return self._engine.cuts(text, limit=limit)


def _differences(
    engine: Engine, pairs: Sequence[ContrastivePair], layers: Sequence[int], progress: OnProgress
) -> Doubles:
    """Positive minus negative state of every pair, ``[pair, layer, hidden]``."""
    texts = [pair.positive for pair in pairs] + [pair.negative for pair in pairs]
    states: Array = engine.collect(
        texts, layers=layers, progress=lambda done, total: progress(Progress(PHASE, done, total))
    ).states
    progress(Progress(PHASE, len(texts), len(texts)))
    return states[: len(pairs)].astype(np.float64) - states[len(pairs) :]


@dataclass(frozen=True)
class _Groups:
    """The persona and template of every pair, and what these say on both sides."""

    personas: NDArray[np.int64]
    persona_texts: tuple[tuple[str, str], ...]
    templates: NDArray[np.int64]
    template_texts: tuple[tuple[str, str], ...]


def _groups(behaviour: Behaviour, pairs: Sequence[ContrastivePair], format: _Remembering) -> _Groups:
    if behaviour.pairs:
        parts = min(PARTS, len(pairs))
        texts = tuple((f"part {n + 1} of {parts}", "") for n in range(parts))
        return _Groups(np.arange(len(pairs)) % parts, texts, np.zeros(0, dtype=np.int64), ())
    positive, negative = behaviour.positive.personas, behaviour.negative.personas
    count = max(len(positive), len(negative))
    personas = tuple((positive[n % len(positive)], negative[n % len(negative)]) for n in range(count))
    voices: dict[tuple[tuple[Message, ...], ...], tuple[int, int]] = {}
    for n, sides in enumerate(personas):
        for t, template in enumerate(behaviour.templates):
            voices.setdefault(tuple(template.messages(side) for side in sides), (n, t))
    found = np.array([voices[format.chats[pair.positive], format.chats[pair.negative]] for pair in pairs])
    words = tuple((_template_text(template), "") for template in behaviour.templates)
    return _Groups(found[:, 0], personas, found[:, 1], words)


def _template_text(template: Template) -> str:
    return " / ".join(text for text in (template.system, template.user) if text)


def _pairwise_cosine(differences: Doubles) -> float:
    none = no_sums(*differences.shape[1:], second=False)
    sums = none.plus(differences.astype(np.float32), np.zeros_like(differences, dtype=np.float32))
    return float(np.mean([sums.at(layer).pairwise_cosine for layer in range(differences.shape[1])]))


def _agreements(
    differences: Doubles, group_of: NDArray[np.int64], texts: Sequence[tuple[str, str]]
) -> tuple[GroupAgreement, ...]:
    """Each group beside the rest; every group's mean counts the same, however many pairs it has."""
    present = [int(n) for n in np.unique(group_of)]
    means = {n: differences[group_of == n].mean(axis=0) for n in present}
    found = []
    for n in present:
        others = [means[m] for m in present if m != n]
        mine = differences[group_of == n]
        found.append(
            GroupAgreement(
                index=n,
                positive=texts[n][0],
                negative=texts[n][1],
                pairs=len(mine),
                pairwise_cosine=_pairwise_cosine(mine),
                agreement=_cosine(means[n], np.mean(others, axis=0)) if others else None,
            )
        )
    return tuple(found)


def _cosine(one: Doubles, other: Doubles) -> float:
    """Mean over layers of the cosine between two ``[layer, hidden]``."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean((one * other).sum(axis=1) / np.maximum(lengths, 1e-30)))


# Findings ----------------------------------------------------------------------------------------------------------


def _with_findings(lint: StateLint, behaviour: Behaviour, apart: NDArray[np.int64]) -> StateLint:
    field = "pairs" if behaviour.pairs else "personas"
    found = chain(
        _about_prediction(lint, field),
        _about_wording(lint, behaviour),
        _about_personas(lint, behaviour),
        _about_templates(lint),
        _about_separation(lint, field),
        _about_tokens(lint, apart, field),
    )
    return replace(lint, findings=by_level(found))


def _about_prediction(lint: StateLint, field: str) -> Iterator[Finding]:
    if lint.prediction == "high":
        return
    level: Literal["warning", "note"] = "warning" if lint.prediction == "low" else "note"
    figures = f"pairwise cosine {lint.pairwise_cosine:.2f}"
    if lint.agreement is None:
        yield Finding(level, field, f"there is only one to go by ({figures})", "give several, unlike each other")
        return
    what = "hardly agree" if lint.prediction == "low" else "agree only in part"
    fix = "drop or rewrite what agrees least, and let the poles differ in the point alone"
    yield Finding(level, field, f"they {what} on a direction ({figures}, agreement {lint.agreement:.2f})", fix)


def _about_wording(lint: StateLint, behaviour: Behaviour) -> Iterator[Finding]:
    """Phrasings around the same word agree whatever it is, so their agreement says less than it seems to."""
    if behaviour.pairs or lint.agreement is None or lint.prediction == "low":
        return
    sides = [[content_words(persona) for persona in pole.personas] for pole in (behaviour.positive, behaviour.negative)]
    common = [sorted(frozenset.intersection(*words)) for words in sides if len(words) > 1]
    if len(common) == len(sides) and all(common):
        words = " and ".join(repr(shared[0]) for shared in common)
        problem = f"all phrasings are made around {words}, so they agree by their wording alone"
        yield Finding("note", "personas", problem, "put in phrasings of other words; the prediction is worth more then")


def _about_personas(lint: StateLint, behaviour: Behaviour) -> Iterator[Finding]:
    if behaviour.pairs:
        return
    for group in lint.by_persona:
        if group.agreement is None or group.agreement >= DISAGREES:
            continue
        sides = [(group.index % len(pole.personas)) for pole in (behaviour.positive, behaviour.negative)]
        where = f"personas[{sides[0]}]"
        if sides[0] != sides[1]:
            where = f"positive.personas[{sides[0]}], negative.personas[{sides[1]}]"
        what = f"{group.positive!r} against {group.negative!r}"
        if group.agreement <= OPPOSES:
            problem, fix = "points the opposite way of the others", "look whether the two are in each other's pole"
        else:
            problem, fix = "does not point where the others do", "rewrite it in the others' manner, or drop it"
        yield Finding("warning", where, f"{what} {problem} (agreement {group.agreement:.2f})", fix)


def _about_templates(lint: StateLint) -> Iterator[Finding]:
    for group in lint.by_template:
        if group.agreement is not None and group.agreement < DISAGREES:
            problem = f"{group.positive!r} does not point where the others do (agreement {group.agreement:.2f})"
            yield Finding("warning", f"templates[{group.index}]", problem, "rewrite or drop it")


def _about_separation(lint: StateLint, field: str) -> Iterator[Finding]:
    if lint.separation < SEPARATED:
        problem = f"{1 - lint.separation:.0%} of the pairs lie the wrong way along their own mean difference"
        yield Finding("warning", field, problem, "make both poles stronger, and every persona unmistakable")


def _about_tokens(lint: StateLint, apart: NDArray[np.int64], field: str) -> Iterator[Finding]:
    share = float((np.sign(apart) == np.sign(lint.tokens_apart)).mean())
    if abs(lint.tokens_apart) >= TOKENS_APART and share >= TOKENS_APART_SHARE:
        longer = "positive" if lint.tokens_apart > 0 else "negative"
        problem = (
            f"the {longer} side is {abs(lint.tokens_apart):.1f} tokens longer on average, and longer in {share:.0%}"
        )
        yield Finding("note", field, problem, "make the poles alike in length as the model counts it")

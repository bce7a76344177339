"""Check a behaviour with the model: whether its pairs agree on one direction, and which persona does not.

The differences of hidden states are read as training reads them, in the middle band of layers. Their mean pairwise
cosine predicts whether a vector works (Braun et al. 2025, arXiv:2505.22637), but it counts pairs of one persona too,
which agree by their wording alone. So each persona's mean difference is also compared with that of all other personas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32, F64
from trimtab.behaviours import Behaviour, Message, Pole
from trimtab.behaviours.lint import Finding, any_order, by_level, content_words, has_negation, mentions, words_of
from trimtab.behaviours.pairs import ContrastivePair, build_pairs, paired_personas
from trimtab.engines.protocol import Collects, Trains
from trimtab.errors import BehaviourError
from trimtab.stats import cosine
from trimtab.training.directions import Sums
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.training.search import band_layers

Prediction: TypeAlias = Literal["high", "medium", "low"]

READ_PAIRS_PHASE = "Reading pairs"
MAX_PAIRS = 96
CUTS = 4  # of a suffix: few, so that each persona meets several suffixes
PARTS = 4  # of pairs given directly, which have no personas to compare


# Lowest pairwise cosine and lowest agreement that a prediction requires.
LEAST: Mapping[Prediction, tuple[float, float]] = MappingProxyType({"high": (0.18, 0.5), "medium": (0.1, 0.25)})
DISAGREES, OPPOSES = 0.1, -0.4  # agreement of one persona or template
SEPARATED = 0.95
TOKENS_APART = 2.5
TOKENS_APART_SHARE = 0.75  # of pairs that are longer on the same side


@dataclass(frozen=True)
class GroupAgreement:
    """Agreement of the pairs of one persona or template, with each other and with all other pairs.

    Attributes:
        index: Index of the persona or template, or of a part of the pairs where these are given directly.
        positive: Text of the positive side: the persona, or the template's words.
        negative: Text of the negative side.
        pairs: Number of pairs.
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
    """Agreement of a behaviour's pairs in hidden states; figures are means over ``layers``.

    Attributes:
        findings: Problems, the gravest first.
        prediction: Expected reliability of the vector, by the rule of thumb ``LEAST``.
        pairs: Pairs that were read.
        layers: The layers at which they were read.
        pairwise_cosine: Mean cosine between the differences of any two pairs.
        agreement: Mean over the personas of their agreement with the rest; None where there is only one.
        separation: Share of pairs whose positive side projects further along the mean difference.
        tokens_apart: Mean tokens of a positive side minus those of its negative side.
        by_persona: Agreement of each persona.
        by_template: Agreement of each template; empty where pairs are given directly.
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
    engine: Collects, behaviour: Behaviour, *, max_pairs: int = MAX_PAIRS, progress: OnProgress = ignore
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
    engine.check_unsteered("linting")
    pairs = build_pairs(behaviour, engine, max_pairs=max_pairs, max_cuts=CUTS)
    layers = band_layers(engine.info.layers)
    hidden = _collect(engine, [p.positive for p in pairs] + [p.negative for p in pairs], READ_PAIRS_PHASE, progress)
    differences = hidden[: len(pairs)].astype(np.float64) - hidden[len(pairs) :]
    personas, templates = _group_agreements(behaviour, pairs, differences)
    agreements = [group.agreement for group in personas if group.agreement is not None]
    cosine = _pairwise_cosine(differences)
    agreement = float(np.mean(agreements)) if agreements else None
    longer_by = np.array([len(engine.encode(pair.positive)) - len(engine.encode(pair.negative)) for pair in pairs])
    lint = StateLint(
        findings=(),
        prediction=predict(cosine, agreement),
        pairs=len(pairs),
        layers=layers,
        pairwise_cosine=cosine,
        agreement=agreement,
        separation=float((np.einsum("plh,lh->pl", differences, differences.mean(axis=0)) > 0).mean()),
        tokens_apart=float(longer_by.mean()),
        by_persona=personas,
        by_template=templates,
    )
    return replace(lint, findings=by_level(_findings(lint, behaviour, longer_by)))


def predict(pairwise_cosine: float, agreement: float | None) -> Prediction:
    """Return the best prediction whose lowest figures are both reached.

    The thresholds of ``LEAST`` are rules of thumb from the default model, and are not derived from measured effects.
    On it, personas of unrelated words had a pairwise cosine of 0.04 to 0.08 and an agreement of -0.23 to 0.14; most
    behaviours of the zoo had 0.2 to 0.37 and 0.5 to 0.8. Without an agreement, medium is the best.

    Example:
        >>> predict(0.3, 0.7), predict(0.3, None), predict(0.05, 0.7)
        ('high', 'medium', 'low')
    """
    for word, (least_cosine, least_agreement) in LEAST.items():
        if agreement is None and word == "high":
            continue
        if pairwise_cosine >= least_cosine and (agreement is None or agreement >= least_agreement):
            return word
    return "low"


def _collect(engine: Collects, texts: Sequence[str], phase: str, progress: OnProgress) -> F32:
    """Return the hidden states of texts in the middle band, ``[text, layer, hidden]``."""

    def report(done: int, total: int) -> None:
        progress(Progress(phase, done, total))

    states = engine.collect(texts, layers=band_layers(engine.info.layers), progress=report).states
    report(len(texts), len(texts))
    return states


def _group_agreements(
    behaviour: Behaviour, pairs: Sequence[ContrastivePair], differences: F64
) -> tuple[tuple[GroupAgreement, ...], tuple[GroupAgreement, ...]]:
    """Return the agreements by persona and by template; of pairs given directly, those of parts and none."""
    if behaviour.pairs:
        parts = min(PARTS, len(pairs))
        texts = [(f"part {n + 1} of {parts}", "") for n in range(parts)]
        return _agreements(differences, np.arange(len(pairs)) % parts, texts), ()
    personas, templates = np.divmod([pair.voice for pair in pairs], len(behaviour.templates))
    words = [(" / ".join(text for text in (t.system, t.user) if text), "") for t in behaviour.templates]
    return _agreements(differences, personas, paired_personas(behaviour)), _agreements(differences, templates, words)


def _pairwise_cosine(differences: F64) -> float:
    none = Sums.empty(*differences.shape[1:], second=False)
    sums = none.plus(differences.astype(np.float32), np.zeros_like(differences, dtype=np.float32))
    return float(np.mean([sums.pairwise_cosine(layer) for layer in range(differences.shape[1])]))


def _agreements(
    differences: F64, group_of: NDArray[np.int64], texts: Sequence[tuple[str, str]]
) -> tuple[GroupAgreement, ...]:
    """Compare each group's mean with the mean of the other groups' means, whatever their numbers of pairs."""
    present = [int(n) for n in np.unique(group_of)]
    means = {n: differences[group_of == n].mean(axis=0) for n in present}
    groups = []
    for n in present:
        others = [means[m] for m in present if m != n]
        members = differences[group_of == n]
        groups.append(
            GroupAgreement(
                index=n,
                positive=texts[n][0],
                negative=texts[n][1],
                pairs=len(members),
                pairwise_cosine=_pairwise_cosine(members),
                agreement=float(cosine(means[n], np.mean(others, axis=0)).mean()) if others else None,
            )
        )
    return tuple(groups)


def _findings(lint: StateLint, behaviour: Behaviour, longer_by: NDArray[np.int64]) -> Iterator[Finding]:
    field = "pairs" if behaviour.pairs else "personas"
    if lint.prediction != "high":
        yield _prediction_finding(lint, field)
    if not behaviour.pairs:
        yield from _wording_findings(lint, behaviour)
        yield from _persona_findings(lint, behaviour)
    for group in lint.by_template:
        if group.agreement is not None and group.agreement < DISAGREES:
            problem = f"{group.positive!r} does not point where the others do (agreement {group.agreement:.2f})"
            yield Finding("warning", f"templates[{group.index}]", problem, "rewrite or drop it")
    if lint.separation < SEPARATED:
        problem = f"{1 - lint.separation:.0%} of the pairs lie the wrong way along their own mean difference"
        yield Finding("warning", field, problem, "make both poles stronger, and every persona unmistakable")
    longer, by = "positive" if lint.tokens_apart > 0 else "negative", abs(lint.tokens_apart)
    share = float((np.sign(longer_by) == np.sign(lint.tokens_apart)).mean())
    if by >= TOKENS_APART and share >= TOKENS_APART_SHARE:
        problem = f"the {longer} side is {by:.1f} tokens longer on average, and longer in {share:.0%}"
        yield Finding("note", field, problem, "make the poles alike in length as the model counts it")


def _prediction_finding(lint: StateLint, field: str) -> Finding:
    low = lint.prediction == "low"
    level: Literal["warning", "note"] = "warning" if low else "note"
    figures = f"pairwise cosine {lint.pairwise_cosine:.2f}"
    if lint.agreement is None:
        return Finding(level, field, f"there is only one persona ({figures})", "give several, unlike each other")
    problem = f"they {'hardly agree' if low else 'agree only in part'} on a direction"
    fix = "drop or rewrite what agrees least, and let the poles differ in the point alone"
    return Finding(level, field, f"{problem} ({figures}, agreement {lint.agreement:.2f})", fix)


def _wording_findings(lint: StateLint, behaviour: Behaviour) -> Iterator[Finding]:
    """Report wordings: phrasings around the same word agree whatever it is, which says less than it seems to."""
    if lint.agreement is None or lint.prediction == "low":
        return
    sides = [[content_words(persona) for persona in pole.personas] for pole in (behaviour.positive, behaviour.negative)]
    common = [sorted(frozenset.intersection(*words)) for words in sides if len(words) > 1]
    if len(common) == len(sides) and all(common):
        words = " and ".join(repr(shared[0]) for shared in common)
        problem = f"all phrasings are made around {words}, so they agree by their wording alone"
        yield Finding("note", "personas", problem, "put in phrasings of other words; the prediction is worth more then")


def _persona_findings(lint: StateLint, behaviour: Behaviour) -> Iterator[Finding]:
    for group in lint.by_persona:
        if group.agreement is None or group.agreement >= DISAGREES:
            continue
        plus, minus = (group.index % len(pole.personas) for pole in (behaviour.positive, behaviour.negative))
        where = f"personas[{plus}]" if plus == minus else f"positive.personas[{plus}], negative.personas[{minus}]"
        if group.agreement <= OPPOSES:
            problem, fix = "points the opposite way of the others", "look whether the two are in each other's pole"
        else:
            problem, fix = "does not point where the others do", "rewrite it in the others' manner, or drop it"
        sides = f"{group.positive!r} against {group.negative!r}"
        yield Finding("warning", where, f"{sides} {problem} (agreement {group.agreement:.2f})", fix)


ASK_PHASE = "Asking for phrasings"
READ_PHASE = "Reading phrasings"
ASKED_FOR_EACH = 6  # answers sampled for each suggestion that is wanted
TEMPERATURE = 0.9
ANSWER_TOKENS = 16
LONGEST = 9  # words
LEAST_AGREEMENT = 0.3
SUFFIXES = 3  # with which each phrasing is read

ASK = "Say in other words, in one short phrase: {persona}"
EXAMPLES = (
    ("a brave soldier", "a fearless fighter who never runs from danger"),
    ("extremely tired", "worn out and longing for sleep"),
    ("someone who loves cooking", "a passionate cook who is happiest at the stove"),
    ("in a hurry", "pressed for time and always on the run"),
)
_OPENERS = "i i'm he he's she she's it it's we you they this that these those here sure yes the there what how"
SENTENCES = frozenset(_OPENERS.split())  # words by which whole sentences begin


@dataclass(frozen=True)
class Suggestion:
    """Suggested phrasing, with the agreement of its hidden state with its pole.

    Attributes:
        text: The model's answer, tidied up.
        agreement: Cosine of its hidden state, relative to the midpoint between the poles, with its pole's direction.
    """

    text: str
    agreement: float


@dataclass(frozen=True)
class PoleSuggestions:
    """Suggestions for one pole, the best first.

    Attributes:
        kept: Best suggestions, at most as many as were requested.
        asked: Number of the model's answers.
        worded: Number of answers that were short, new, and free of the other pole's words.
        agreed: Number of those that agreed with the pole.
    """

    kept: tuple[Suggestion, ...]
    asked: int
    worded: int
    agreed: int


@dataclass(frozen=True)
class Suggestions:
    """Suggestions for both poles."""

    positive: PoleSuggestions
    negative: PoleSuggestions


def suggest_phrasings(
    engine: Trains, behaviour: Behaviour, *, count: int, seed: int = 0, progress: OnProgress = ignore
) -> Suggestions:
    """Ask the model for further phrasings of each pole, and keep those that could serve.

    Args:
        engine: A chat model.
        behaviour: Whose personas are to be said in other words.
        count: How many suggestions are wanted for each pole; there may be fewer, or none.
        seed: Of the sampled answers.
        progress: Called with each step of the work.

    Raises:
        BehaviourError: The behaviour has no personas, or ``count`` is not positive.

    Example:
        >>> suggest_phrasings(engine, Behaviour.load("happy"), count=3).positive.kept[0].text  # doctest: +SKIP
        'full of joy and laughter'
    """
    if count < 1:
        raise BehaviourError(f"{count} phrasings cannot be suggested", fix="ask for at least 1")
    poles = (behaviour.positive, behaviour.negative)
    if not all(pole.personas for pole in poles):
        raise BehaviourError(
            f"{behaviour.source}: no personas to say in other words", fix="give each pole at least one"
        )
    progress(Progress(ASK_PHASE, 0, 1))
    asked = count * ASKED_FOR_EACH
    chats = [_question(pole.personas[n % len(pole.personas)]) for pole in poles for n in range(asked)]
    answers = engine.generate(chats, max_new_tokens=ANSWER_TOKENS, temperature=TEMPERATURE, seed=seed)
    progress(Progress(ASK_PHASE, 1, 1))
    phrases = [
        tidy(answer.text) if answer.finish_reason == "stop" or "\n" in answer.text.strip() else "" for answer in answers
    ]
    worded = [_fitting(phrases[:asked], *poles), _fitting(phrases[asked:], *reversed(poles))]
    sides = []
    for texts, cosines in zip(worded, _pole_agreements(engine, behaviour, worded, progress), strict=True):
        agreed = [Suggestion(*each) for each in zip(texts, cosines, strict=True) if each[1] >= LEAST_AGREEMENT]
        best = sorted(agreed, key=lambda suggestion: -suggestion.agreement)[:count]
        sides.append(PoleSuggestions(tuple(best), asked=asked, worded=len(texts), agreed=len(agreed)))
    return Suggestions(*sides)


def tidy(answer: str) -> str:
    """Return the phrase in an answer: its first line, without quotes, a final full stop, or "You are".

    Example:
        >>> tidy('"You are a jolly sailor."')
        'a jolly sailor'
    """
    line = (answer.strip().splitlines() or [""])[0].strip(" \"'“”‘’*.!;,")
    line = re.sub(r"^(?:you are|you're|someone is|as)\s+", "", " ".join(line.split()), flags=re.IGNORECASE)
    return line[:1].lower() + line[1:] if line[1:2].islower() or line[1:2] == " " else line


def _question(persona: str) -> list[Message]:
    turns = []
    for given, answer in EXAMPLES:
        turns += [Message("user", ASK.replace("{persona}", given)), Message("assistant", answer)]
    return [*turns, Message("user", ASK.replace("{persona}", persona))]


def _fitting(phrases: Sequence[str], pole: Pole, other: Pole) -> list[str]:
    """Return the short new phrases without words of the other pole, each once."""
    taken = {any_order(text) for text in (*pole.personas, *other.personas, *(text for _, text in EXAMPLES))}
    theirs = content_words(other.label, *other.personas) - content_words(pole.label, *pole.personas)
    labelled = tuple(content_words(other.label) - content_words(pole.label))
    fitting = []
    for text in phrases:
        if any_order(text) in taken or not _is_phrase(text) or has_negation(text) or mentions(text, theirs):
            continue
        if any(word.startswith(labelled) for word in words_of(text)):  # "sadness"
            continue
        taken.add(any_order(text))
        fitting.append(text)
    return fitting


def _is_phrase(text: str) -> bool:
    words = words_of(text)
    if not 1 <= len(words) <= LONGEST or not content_words(text) or words[0] in SENTENCES:
        return False
    return text.isprintable() and re.search(r"[.:;?!{}<>\[\]()\"/\d]", text) is None


def _pole_agreements(
    engine: Collects, behaviour: Behaviour, worded: Sequence[Sequence[str]], progress: OnProgress
) -> list[list[float]]:
    """Return each phrasing's cosine with the direction of its pole, relative to the midpoint between the poles.

    Relative to the other pole, any phrasing at all would agree: what they share is that they are not the other pole.
    """
    known = [behaviour.positive.personas, behaviour.negative.personas]
    phrasings = list(dict.fromkeys(text for texts in (*known, *worded) for text in texts))
    step = max(len(behaviour.suffixes) // SUFFIXES, 1)
    openings = [engine.cuts(suffix, limit=CUTS)[-1] for suffix in behaviour.suffixes[::step][:SUFFIXES]]
    prompts = [
        engine.render(template.messages(phrasing), continuation=opening)
        for phrasing in phrasings
        for template in behaviour.templates
        for opening in openings
    ]
    hidden = _collect(engine, prompts, READ_PHASE, progress)  # [prompt, layer, hidden]
    means = hidden.astype(np.float64).reshape(len(phrasings), -1, *hidden.shape[1:]).mean(axis=1)
    states = dict(zip(phrasings, means, strict=True))
    plus, minus = (np.mean([states[text] for text in texts], axis=0) for texts in known)
    midway, towards = (plus + minus) / 2, plus - minus
    return [
        [float(cosine(states[text] - midway, sign * towards).mean()) for text in texts]
        for sign, texts in zip((1.0, -1.0), worded, strict=True)
    ]

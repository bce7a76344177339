"""Fit vectors for reading from two kinds of texts, read texts, and fit thresholds for a rate of mistakes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32, F64
from trimtab.behaviours import ContrastiveText, neutral_prompts
from trimtab.defaults import VERSION
from trimtab.engines import Prompt
from trimtab.engines.protocol import Collects, Text
from trimtab.errors import PromptError, VectorError
from trimtab.reading import auroc, projections, z_scores
from trimtab.steering.conditions import At
from trimtab.training.neutral import PHASE as NEUTRAL_PHASE
from trimtab.training.neutral import Pooled, check_reads, measure_neutral, pooled_states, states_at, words_of
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.vectors import BehaviourRef, ControlVector, Reader, ThresholdFit
from trimtab.vectors.records import MOST_READINGS

SHRINKAGE = 0.5  # share of the identity
SMALL = 1e-6  # of the typical spread: a coordinate that hardly varies is not blown up


def fisher(positive: F32, negative: F32) -> F32:
    """Return the direction that separates two kinds of hidden states best relative to their spread.

    Coordinates are brought to one spread; the covariance within the kinds is shrunk half-way towards a multiple of the
    identity (Friedman 1989, *Regularized discriminant analysis*). The shrinkage that Ledoit and Wolf (2004) estimate
    from the given texts is less, and generalises worse to texts from elsewhere. With fewer texts than coordinates
    all is computed between texts, so that wide models cost no more than narrow ones. Unlike the estimators of
    contrastive pairs, it takes different numbers of the two kinds.

    Args:
        positive: ``[text, hidden]``.
        negative: ``[text, hidden]``, of any number of texts.

    Returns:
        A unit direction ``[hidden]``, float32; the positive kind lies on its + side.

    Raises:
        VectorError: The two kinds have the same mean.

    Example:
        >>> fisher(np.array([[2.0, 1.0], [2.0, -1.0]], np.float32), np.array([[0.0, 1.0], [0.0, -1.0]], np.float32))
        array([1., 0.], dtype=float32)
    """
    kinds = [kind.astype(np.float64) for kind in (positive, negative)]
    spread = np.concatenate(kinds).std(axis=0)
    spread = np.maximum(spread, SMALL * float(np.sqrt(np.mean(spread**2))) + float(np.finfo(np.float32).tiny))
    shift = (kinds[0].mean(axis=0) - kinds[1].mean(axis=0)) / spread
    within = np.concatenate([(kind - kind.mean(axis=0)) / spread for kind in kinds])
    normal = _solved(within, shift) / spread
    length = float(np.linalg.norm(normal))
    if not np.isfinite(length) or length == 0.0:
        raise VectorError("the two kinds of texts have the same hidden states", fix="give texts that differ more")
    unit: F32 = (normal / length).astype(np.float32)
    return unit


def _solved(centred: F64, shift: F64) -> F64:
    """Return the shrunk covariance's inverse times ``shift``, up to its length."""
    count, width = centred.shape
    mean_variance = float(np.sum(centred * centred)) / count / width
    if mean_variance == 0.0:
        return shift
    ridge = SHRINKAGE * mean_variance
    scaled = centred * np.sqrt((1.0 - SHRINKAGE) / count)
    if count <= width:  # Woodbury's identity
        inner = np.linalg.solve(scaled @ scaled.T + ridge * np.eye(count), scaled @ shift)
        solved: F64 = shift - scaled.T @ inner
        return solved
    direct: F64 = np.linalg.solve(scaled.T @ scaled + ridge * np.eye(width), shift)
    return direct


FOLDS = 5
LEAST = 10  # texts of each kind
LAYERS = 8  # that are averaged
CLEARLY = 0.01  # better, in AUROC: then texts are read at their last token
METHOD = "probe"
TEXTS_PHASE = "Reading the texts"
CHOICE_PHASE = "Choosing the layers to read"
SCORES_PHASE = "Reading along the vector"

TextPool: TypeAlias = Literal["mean", "last"]


def fit_reader(
    model: Collects,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    *,
    name: str,
    seed: int = 0,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Fit a vector for reading, as conditions do, from texts that are of a kind and texts that are not.

    At each layer, Fisher's linear discriminant with a strongly shrunken covariance gives a direction. Five-fold
    cross-validation ranks the layers, and the z-scores of the best are averaged. A text is read over its words. It
    is read at its last token only where that separates clearly better, because the last token generalises worse to
    other texts. The AUROC is of texts that a direction was not fitted on; it is a little too high, since the same texts
    chose the layers.

    Args:
        model: The engine.
        positive: Texts that are to read high; strings are user messages, and chats are taken too.
        negative: Texts that are to read low.
        name: Name of the vector.
        seed: Seed of the folds.
        progress: Called with each step of the work.

    Returns:
        An uncalibrated vector with a direction for every layer, a ``reader``, ``neutral`` statistics, and weight 1 at
        the layers that it is read at.

    Raises:
        VectorError: There are too few texts, or one is of both kinds; or the model has an encoder.
        PromptError: A text has no words, or is longer than the model reads.

    Example:
        >>> harmful = fit_reader(model, requests, chats, name="harmful")  # doctest: +SKIP
        >>> harmful.reader.auroc  # doctest: +SKIP
        0.99
    """
    model.check_unsteered("fitting a reader")
    check_reads(model)
    fitted = _fit(model, positive, negative, seed=seed, progress=progress)
    texts_by_kind = ([*map(str, fitted.positive)], [*map(str, fitted.negative)])
    return ControlVector(
        model=model.info,
        directions=fitted.directions,
        norms=dict(enumerate(fitted.norms.tolist())),
        weights={layer: float(layer in fitted.reader.layers) for layer in fitted.directions},
        method=METHOD,
        behaviour=BehaviourRef(name, hashlib.sha256(repr(texts_by_kind).encode()).hexdigest()),
        neutral=measure_neutral(model, fitted.directions, progress=progress),
        reader=fitted.reader,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        trimtab_version=VERSION,
    )


def add_reader(
    model: Collects, vector: ControlVector, pairs: Sequence[ContrastiveText], *, seed: int, progress: OnProgress
) -> ControlVector:
    """Add the reader that ``fit_reader`` fits to a vector that was trained on pairs of requests.

    A pair of requests is one user message on either side. Other pairs, such as chats under two system prompts, have
    their contrast outside the words that are read; with one of those, or with too few texts for a reader, the vector
    is returned as it is, to be read along the directions that steer.
    """
    sides = [[pair.positive for pair in pairs], [pair.negative for pair in pairs]]
    if not pairs or any(len(chat) != 1 or chat[0].role != "user" for side in sides for chat in side):
        return vector
    if not model.capabilities.reads_every_token:
        return vector
    try:
        positive, negative = ([chat[0].content for chat in side] for side in sides)
        fitted = _fit(model, positive, negative, seed=seed, progress=progress)
    except (PromptError, VectorError) as error:
        progress(Progress(CHOICE_PHASE, 1, 1, note=f"read along the directions that steer: {error.problem}"))
        return vector
    neutral = measure_neutral(model, fitted.directions, progress=progress)
    return replace(vector, probes=fitted.directions, reader=replace(fitted.reader, neutral=neutral))


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Reader with its directions, the distinct texts that it was fitted on, and mean norms of neutral words."""

    reader: Reader
    directions: dict[int, F32]
    norms: F64
    positive: Sequence[Prompt]
    negative: Sequence[Prompt]


def _fit(
    model: Collects, positive: Sequence[Prompt], negative: Sequence[Prompt], *, seed: int, progress: OnProgress
) -> _Fitted:
    """Choose the layers and the pool, and fit a direction for every layer."""
    positive, negative = _checked_texts(model, positive, negative)
    texts = pooled_states(model, [*positive, *negative], phase=TEXTS_PHASE, progress=progress)
    halves = neutral_prompts()
    neutral = pooled_states(model, (*halves.calibration, *halves.held_out), phase=NEUTRAL_PHASE, progress=progress)
    labels = np.repeat([True, False], [len(positive), len(negative)])
    reader = _choose(texts, neutral, labels, seed=seed, progress=progress)
    states = texts.mean if reader.pool == "mean" else texts.last
    directions = {n: fisher(states[labels, n], states[~labels, n]) for n in range(model.info.layers)}
    return _Fitted(reader, directions, neutral.norms, positive, negative)


def fit_threshold(
    model: Collects,
    vector: ControlVector,
    negative: Sequence[Prompt],
    *,
    at: At = "prompt",
    progress: OnProgress = ignore,
) -> ControlVector:
    """Read texts on which a condition should not fire, so that thresholds for a rate of false positives follow.

    Args:
        model: The engine of the vector's model.
        vector: With neutral statistics.
        negative: Texts such as the condition will meet, none of which should make it fire; for a rate of 2 % at least
            50. Not those that the vector was fitted on, on which it reads lower than it should.
        at: What the condition reads: ``"prompt"``, ``"last-user-turn"``, or ``"token"``, each word separately.
        progress: Called with the number of texts read.

    Returns:
        The vector with these readings among its ``fits``, in the place of earlier ones of the same ``at``.

    Raises:
        VectorError: There are no texts; the vector has no neutral statistics, or is for another model.
        PromptError: A text has no words, or no user message.

    Example:
        >>> harmful = fit_threshold(model, harmful, chats)  # doctest: +SKIP
        >>> harmful.fitted_threshold(0.02, at="prompt")  # doctest: +SKIP
        1.7
    """
    model.check_unsteered("fitting a threshold")
    if at not in ("prompt", "last-user-turn", "token"):
        raise PromptError(f"a condition cannot read at {at!r}", fix="use 'prompt', 'last-user-turn' or 'token'")
    if not negative:
        raise VectorError("a threshold needs texts to be fitted on", fix="give some on which it should not fire")
    scores = np.sort(np.concatenate(readings(model, vector, negative, at=at, progress=progress)))
    sample = scores if len(scores) <= MOST_READINGS else np.quantile(scores, np.linspace(0.0, 1.0, MOST_READINGS))
    fit = ThresholdFit(at, tuple(sample.tolist()), len(negative))
    return replace(vector, fits=(*(other for other in vector.fits if other.at != at), fit))


def readings(
    model: Collects, vector: ControlVector, prompts: Sequence[Prompt], *, at: At, progress: OnProgress = ignore
) -> list[F64]:
    """Return the z-scores of each prompt: one, or at ``"token"`` one for each of its words.

    Raises:
        VectorError: The vector cannot be read on this model.
        PromptError: A prompt has no words, or no user message.
    """
    if at != "token":
        return [np.array([score]) for score in model.scores(prompts, vector, at=at)]
    check_reads(model)
    vector.check_model(model.info)
    layers = vector.reading_layers
    texts = [words_of(model, prompt) for prompt in prompts]
    return [
        z_scores(projections(states, vector, layers), vector, layers, pool="token").mean(axis=1)
        for states in states_at(model, texts, layers=layers, phase=SCORES_PHASE, progress=progress)
    ]


def _choose(texts: Pooled, neutral: Pooled, labels: NDArray[np.bool_], *, seed: int, progress: OnProgress) -> Reader:
    """Choose the pool, and the layers whose z-scores are averaged, by AUROC on texts that were left out."""
    folds = _folds(labels, seed=seed)
    choices = []
    states: tuple[tuple[TextPool, F32, F32], ...] = (
        ("mean", texts.mean, neutral.mean),
        ("last", texts.last, neutral.last),
    )
    for number, (pool, hidden, ordinary) in enumerate(states):
        layers = hidden.shape[1]
        z = np.zeros(hidden.shape[:2])
        for layer in range(layers):
            z[:, layer] = _left_out_scores(hidden[:, layer], ordinary[:, layer], labels, folds)
            progress(Progress(CHOICE_PHASE, number * layers + layer + 1, len(states) * layers))
        choices.append(_best_layers(pool, z, labels))
    mean, last = choices
    assert mean.auroc is not None  # both were measured just now
    assert last.auroc is not None
    return last if last.auroc > mean.auroc + CLEARLY else mean


def _left_out_scores(states: F32, neutral: F32, labels: NDArray[np.bool_], folds: NDArray[np.int64]) -> F64:
    """Return the z-score of each text along a direction that was fitted without its fold."""
    scores = np.zeros(len(states))
    for fold in range(FOLDS):
        left_out = folds == fold
        direction = fisher(states[labels & ~left_out], states[~labels & ~left_out]).astype(np.float64)
        ordinary = neutral @ direction
        scores[left_out] = (states[left_out] @ direction - ordinary.mean()) / max(ordinary.std(ddof=1), 1e-12)
    return scores


def _best_layers(pool: TextPool, z: F64, labels: NDArray[np.bool_]) -> Reader:
    """Choose the layers with the highest single AUROC; near-equal ones are ranked by separation."""
    by_layer = [auroc(z[labels, layer], z[~labels, layer]) for layer in range(z.shape[1])]
    separations = [separation(z[labels, layer], z[~labels, layer]) for layer in range(z.shape[1])]
    order = sorted(range(z.shape[1]), key=lambda layer: (round(by_layer[layer], 3), separations[layer]), reverse=True)
    layers = sorted(order[: min(LAYERS, max(z.shape[1] // 2, 1))])
    score = z[:, layers].mean(axis=1)
    return Reader(
        layers=tuple(layers),
        pool=pool,
        auroc=auroc(score[labels], score[~labels]),
        auroc_by_layer=dict(enumerate(by_layer)),
        positives=int(labels.sum()),
        negatives=int((~labels).sum()),
    )


def separation(positive: F64, negative: F64) -> float:
    """Return the distance of the two kinds' means, in standard deviations within a kind."""
    within = np.sqrt((positive.var(ddof=1) + negative.var(ddof=1)) / 2.0)
    return float((positive.mean() - negative.mean()) / max(within, 1e-12))


def _folds(labels: NDArray[np.bool_], *, seed: int) -> NDArray[np.int64]:
    """Return the fold of each text, stratified by kind."""
    generator = np.random.default_rng(seed)
    folds = np.zeros(len(labels), dtype=np.int64)
    for kind in (labels, ~labels):
        folds[kind] = generator.permutation(int(kind.sum())) % FOLDS
    return folds


def _checked_texts(
    model: Text, positive: Sequence[Prompt], negative: Sequence[Prompt]
) -> tuple[list[Prompt], list[Prompt]]:
    """Return the distinct texts of either kind: a duplicate would be left out and fitted on at the same time."""
    kinds = [{model.render(prompt): prompt for prompt in prompts} for prompts in (positive, negative)]
    for name, texts in zip(("positive", "negative"), kinds, strict=True):
        if len(texts) < LEAST:
            raise VectorError(f"there are {len(texts)} different {name} texts", fix=f"give {LEAST} or more")
    shared = [prompt for text, prompt in kinds[0].items() if text in kinds[1]]
    if shared:
        raise VectorError(
            f"{len(shared)} of the texts are positive and negative, such as {str(shared[0])[:60]!r}",
            fix="take them out of one side",
        )
    return list(kinds[0].values()), list(kinds[1].values())

"""What is read off a text: how far it lies along vectors, layer by layer and token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from trimtab.arrays import F64
from trimtab.errors import PromptError, VectorError
from trimtab.vectors import ControlVector, Neutral, Pool


def projections(states: NDArray[np.float32], vector: ControlVector, layers: Sequence[int]) -> F64:
    """How far states lie along a vector's directions.

    Args:
        states: ``[..., layer, hidden]``, of the blocks ``layers``.
        vector: The control vector.
        layers: Which blocks.

    Returns:
        ``[..., layer]``.
    """
    directions = np.stack([vector.directions[layer] for layer in layers])
    found: F64 = np.einsum("...lh,lh->...l", states, directions, dtype=np.float64)
    return found


def z_scores(projected: F64, vector: ControlVector, layers: Sequence[int], *, pool: Pool) -> F64:
    """Projections ``[..., layer]`` in standard deviations from those of neutral text.

    Args:
        projected: Of single tokens, of means over words, or of last tokens, as ``pool`` says.
        vector: Whose neutral statistics are taken.
        layers: The blocks of the last axis.
        pool: ``"token"``, ``"mean"`` or ``"last"``.

    Raises:
        VectorError: The vector has no neutral statistics.
    """
    spread = neutral_of(vector).spread(pool)
    mean = np.array([spread.mean[layer] for layer in layers])
    deviation = np.array([spread.deviation[layer] for layer in layers])
    scored: F64 = (projected - mean) / deviation
    return scored


def neutral_of(vector: ControlVector) -> Neutral:
    """The neutral statistics of a vector that is to be read.

    Raises:
        VectorError: It has none.
    """
    if vector.neutral is None:
        raise VectorError(
            f"{vector.behaviour.name!r} has no neutral statistics, so nothing can be read against them",
            fix="train it again, or measure them with trimtab.calibrate(model, vector)",
        )
    return vector.neutral


def auroc(positive: Sequence[float] | F64, negative: Sequence[float] | F64) -> float:
    """The chance that a positive text scores above a negative one, ties counting half (Mann and Whitney 1947).

    Raises:
        VectorError: There are no texts of one kind.

    Example:
        >>> auroc([2.0, 3.0], [1.0, 2.0])
        0.875
    """
    n, m = len(positive), len(negative)
    if not (n and m):
        raise VectorError("AUROC needs scores of both kinds", fix="give positive and negative texts")
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


@final
@dataclass(frozen=True, eq=False)
class VectorReading:
    """How far a text lies along one vector.

    Attributes:
        name: The behaviour's; a second vector of one name is ``"name (2)"``.
        layers: The layers for which the vector has a direction, in order.
        projections: ``[layer, token]``, in the units of hidden states.
        z: ``[layer, token]``, in standard deviations of neutral tokens; None if the vector has no neutral statistics.
        token_scores: ``[token]``: mean of ``z`` over the reading layers; None as above.
        score: Of the text as a whole, in standard deviations of neutral texts; None as above. It is the mean of
            ``layer_scores`` over the reading layers.
        reading_layers: The layers that make the scores.
        pool: Whether the text's score is of the ``"mean"`` over its words or of its ``"last"`` token.
        layer_scores: ``[layer]``: of the text as a whole; None as above.
    """

    name: str
    layers: tuple[int, ...]
    projections: F64
    z: F64 | None
    token_scores: F64 | None
    score: float | None
    reading_layers: tuple[int, ...] = ()
    pool: str = "mean"
    layer_scores: F64 | None = None

    @property
    def reading_rows(self) -> list[int]:
        """The rows of ``projections`` and ``z`` that are reading layers."""
        return [self.layers.index(layer) for layer in self.reading_layers]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "name": self.name,
            "score": self.score,
            "pool": self.pool,
            "reading_layers": list(self.reading_layers),
            "layers": list(self.layers),
            "layer_scores": None if self.layer_scores is None else self.layer_scores.tolist(),
            "token_scores": None if self.token_scores is None else self.token_scores.tolist(),
            "projections": self.projections.tolist(),
            "z": None if self.z is None else self.z.tolist(),
        }


@final
@dataclass(frozen=True, eq=False)
class Reading:
    """A text, and what was read off it along each of some vectors.

    Read along one vector, its ``projections``, ``z``, ``token_scores`` and ``score`` are at hand without naming it.

    Attributes:
        text: As the model read it.
        tokens: Token ids.
        pieces: The text of each token.
        words: Whether each token counts for scores.
        vectors: One reading for each vector, in the order given.

    Example:
        >>> reading = model.read("What a lovely day!", [happy])  # doctest: +SKIP
        >>> reading["happy"].score == reading.score  # doctest: +SKIP
        True
    """

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    words: tuple[bool, ...]
    vectors: tuple[VectorReading, ...]

    def __getitem__(self, which: str | int) -> VectorReading:
        if isinstance(which, int):
            return self.vectors[which]
        for vector in self.vectors:
            if vector.name == which:
                return vector
        raise VectorError(f"nothing was read along a vector named {which!r}", fix=f"read are: {self._names}")

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[VectorReading]:
        return iter(self.vectors)

    @property
    def projections(self) -> F64:
        """``[layer, token]`` along the only vector."""
        return self._only("projections").projections

    @property
    def z(self) -> F64 | None:
        """``[layer, token]`` along the only vector, in standard deviations of neutral tokens."""
        return self._only("z").z

    @property
    def token_scores(self) -> F64 | None:
        """``[token]`` along the only vector."""
        return self._only("token_scores").token_scores

    @property
    def score(self) -> float | None:
        """Of the text, along the only vector."""
        return self._only("score").score

    @property
    def _names(self) -> str:
        return ", ".join(repr(vector.name) for vector in self.vectors) or "none"

    def _only(self, what: str) -> VectorReading:
        if len(self.vectors) != 1:
            raise VectorError(
                f"{what} of which vector? The text was read along {len(self.vectors)}",
                fix=f"name one, as in reading[NAME].{what}: {self._names}",
            )
        return self.vectors[0]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for ``json.dumps``."""
        return {
            "text": self.text,
            "tokens": list(self.tokens),
            "pieces": list(self.pieces),
            "words": list(self.words),
            "vectors": [vector.to_json() for vector in self.vectors],
        }


def make_reading(
    vectors: Sequence[ControlVector],
    states: NDArray[np.float32],
    *,
    text: str,
    tokens: Sequence[int],
    pieces: Sequence[str],
    words: Sequence[bool],
) -> Reading:
    """Read a text's hidden states along vectors.

    A text's score takes the mean of the projections over its words, or the projections of its last token, as the
    vector's reader says; at each reading layer these are put in standard deviations of what neutral texts give, and
    averaged over the layers.

    Args:
        vectors: What to read along.
        states: ``[token, layer, hidden]``, of all layers of the model to which the vectors belong.
        text: As the model read it.
        tokens: Token ids.
        pieces: The text of each token.
        words: Whether each token counts for scores.

    Raises:
        PromptError: No token counts for scores.
        VectorError: A vector has no directions.

    Example:
        >>> from trimtab.vectors import ModelInfo
        >>> info = ModelInfo("m", "Llama", 2, 1, "")
        >>> v = ControlVector(model=info, directions={0: np.array([1.0, 0.0], np.float32)}, norms={0: 1.0},
        ...                   weights={0: 1.0})
        >>> states = np.array([[[3.0, 0.0]], [[0.5, 1.0]]], np.float32)
        >>> make_reading([v], states, text="ab", tokens=[5, 6], pieces=["a", "b"], words=[True, True]).projections
        array([[3. , 0.5]])
    """
    if not any(words):
        raise PromptError(
            f"{text[:40]!r} has no words to read: special tokens, a template's marks and the first token do not count",
            fix="give a longer text",
        )
    counted = np.array(words, dtype=bool)
    names = distinct_names([vector.behaviour.name for vector in vectors])
    read = tuple(_along(vector, name, states, counted) for vector, name in zip(vectors, names, strict=True))
    return Reading(text, tuple(tokens), tuple(pieces), tuple(map(bool, words)), read)


def _along(vector: ControlVector, name: str, states: NDArray[np.float32], words: NDArray[np.bool_]) -> VectorReading:
    layers = tuple(sorted(vector.directions))
    if not layers:
        raise VectorError(f"{name!r} has no directions to read along", fix="train it again")
    chosen = vector.reading_layers or layers
    pool = vector.reader.pool if vector.reader is not None else "mean"
    projected = projections(states[:, list(layers)], vector, layers)
    z = token_scores = layer_scores = score = None
    if vector.neutral is not None:
        at = [layers.index(layer) for layer in chosen]
        pooled = projected[-1] if pool == "last" else projected[words].mean(axis=0)
        z = z_scores(projected, vector, layers, pool="token").T
        token_scores = z[at].mean(axis=0)
        layer_scores = z_scores(pooled, vector, layers, pool=pool)
        score = float(layer_scores[at].mean())
    return VectorReading(name, layers, projected.T, z, token_scores, score, chosen, pool, layer_scores)


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, a number behind each that was there before.

    Example:
        >>> distinct_names(["happy", "happy"])
        ['happy', 'happy (2)']
    """
    distinct: list[str] = []
    for name in names:
        chosen, number = name, 1
        while chosen in distinct:
            number += 1
            chosen = f"{name} ({number})"
        distinct.append(chosen)
    return distinct

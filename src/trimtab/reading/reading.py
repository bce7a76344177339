"""Reading of a text: its projections and scores along vectors, by layer and by token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from trimtab.arrays import F32, F64, ArrayValue
from trimtab.errors import PromptError, VectorError
from trimtab.palette import colours, rgb
from trimtab.vectors import ControlVector, Neutral, Pool


def projections(states: F32, vector: ControlVector, layers: Sequence[int]) -> F64:
    """Return projections ``[..., layer]`` of states ``[..., layer, hidden]``, of the blocks ``layers``, on a vector."""
    directions = np.stack([vector.reading_directions[layer] for layer in layers])
    # Summed in float64: projections on wide states are small differences of large products.
    projected: F64 = np.einsum("...lh,lh->...l", states, directions, dtype=np.float64)
    return projected


def z_scores(projected: F64, vector: ControlVector, layers: Sequence[int], *, pool: Pool) -> F64:
    """Return projections as standard deviations from those of neutral text, ``[..., layer]``.

    A mean over many words varies less than a single token does, and a last token is unlike others; so each is compared
    with neutral statistics of the same kind, which is ``pool``. ``projected`` is ``[..., layer]``, of the blocks
    ``layers``.

    Raises:
        VectorError: The vector has no neutral statistics.
    """
    spread = neutral_of(vector).spread(pool)
    mean = np.array([spread.mean[layer] for layer in layers])
    deviation = np.array([spread.deviation[layer] for layer in layers])
    scored: F64 = (projected - mean) / deviation
    return scored


def neutral_of(vector: ControlVector) -> Neutral:
    """Return the neutral statistics that a vector's readings are measured against.

    Raises:
        VectorError: It has none.
    """
    neutral = vector.reading_neutral
    if neutral is None:
        raise VectorError(
            f"{vector.behaviour.name!r} has no neutral statistics, so nothing can be read against them",
            fix="train it again, or measure them with trimtab.calibrate(model, vector)",
        )
    return neutral


def auroc(positive: Sequence[float] | F64, negative: Sequence[float] | F64) -> float:
    """Return the chance that a positive text scores above a negative one (Mann and Whitney 1947).

    It follows from the ranks of the ``n`` positive scores among all ``n + m``: ``U = Σ ranks − n(n + 1)/2`` counts the
    pairs in which the positive one is higher, ties as half, and the result is ``U / (n m)``.

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


FULL = 0.75  # opacity of the strongest colour: text on it has to stay legible
LEAST_LIMIT = 3.0  # standard deviations of the strongest colour, at least
SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍"}
NO_NEUTRAL = "standard deviations from the mean over this text's words"


@final
@dataclass(frozen=True, eq=False)
class VectorReading(ArrayValue):
    """Projections of a text on one vector.

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

    def _content(self) -> Iterable[bytes]:
        yield json.dumps(self.to_json()).encode()

    @property
    def reading_rows(self) -> list[int]:
        """Return the rows of ``projections`` and ``z`` that are reading layers."""
        return [self.layers.index(layer) for layer in self.reading_layers]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
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
class Reading(ArrayValue):
    """Text, and its readings along one or more vectors.

    With a single vector, ``projections``, ``z``, ``token_scores`` and ``score`` need no name.

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

    def _content(self) -> Iterable[bytes]:
        yield json.dumps(self.to_json()).encode()

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
        """Return ``[layer, token]`` along the only vector."""
        return self._only("projections").projections

    @property
    def z(self) -> F64 | None:
        """Return ``[layer, token]`` along the only vector, in standard deviations of neutral tokens."""
        return self._only("z").z

    @property
    def token_scores(self) -> F64 | None:
        """Return ``[token]`` along the only vector."""
        return self._only("token_scores").token_scores

    @property
    def score(self) -> float | None:
        """Return the text's score on the only vector."""
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
        """Return plain lists and numbers, ready for ``json.dumps``."""
        return {
            "text": self.text,
            "tokens": list(self.tokens),
            "pieces": list(self.pieces),
            "words": list(self.words),
            "vectors": [vector.to_json() for vector in self.vectors],
        }

    def _repr_html_(self) -> str:
        """Show the text once for each vector in a notebook, its tokens coloured by their scores."""
        return "".join(
            f'<p><b>{escape(caption(vector))}</b></p><p style="white-space:pre-wrap;line-height:1.9">'
            f"{coloured_text(self, shades(self, vector))}</p>"
            for vector in self
        )


def make_reading(
    vectors: Sequence[ControlVector],
    states: F32,
    *,
    text: str,
    tokens: Sequence[int],
    pieces: Sequence[str],
    words: Sequence[bool],
) -> Reading:
    """Read a text's hidden states along vectors.

    A text's score takes the mean of the projections over its words, or the projections of its last token, as the
    vector's reader says; at each reading layer these are put in standard deviations of what neutral texts give, and
    averaged over the layers. ``states`` is ``[token, layer, hidden]``, of all layers of the vectors' model; the other
    arguments are attributes of ``Reading``.

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


def _along(vector: ControlVector, name: str, states: F32, words: NDArray[np.bool_]) -> VectorReading:
    layers = tuple(sorted(vector.reading_directions))
    if not layers:
        raise VectorError(f"{name!r} has no directions to read along", fix="train it again")
    chosen = vector.reading_layers or layers
    pool = vector.reader.pool if vector.reader is not None else "mean"
    projected = projections(states[:, list(layers)], vector, layers)
    z = token_scores = layer_scores = score = None
    if vector.reading_neutral is not None:
        at = [layers.index(layer) for layer in chosen]
        pooled = projected[-1] if pool == "last" else projected[words].mean(axis=0)
        z = z_scores(projected, vector, layers, pool="token").T
        token_scores = z[at].mean(axis=0)
        layer_scores = z_scores(pooled, vector, layers, pool=pool)
        score = float(layer_scores[at].mean())
    return VectorReading(name, layers, projected.T, z, token_scores, score, chosen, pool, layer_scores)


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return the names, with a number after each that occurred before.

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


@dataclass(frozen=True)
class Shades:
    """Numbers to colour a reading by, on a scale that is symmetric around 0.

    Attributes:
        cells: ``[layer, token]``.
        tokens: ``[token]``: mean of ``cells`` over the reading layers.
        counts: ``[token]``: whether the token counts for the text's score; others are grey.
        limit: The number with the strongest colour; 98 % of the words are below it.
        unit: The unit of the numbers.
    """

    cells: F64
    tokens: F64
    counts: NDArray[np.bool_]
    limit: float
    unit: str


def shades(reading: Reading, vector: VectorReading) -> Shades:
    """Return the numbers to colour a reading by: z-scores.

    Without neutral statistics the sign of a projection means nothing. Then the text is compared with itself: each layer
    is shifted and scaled so that the text's words have mean 0 and deviation 1.
    """
    words = np.array(reading.words, dtype=bool)
    counts = words.copy()
    if vector.pool == "last":
        counts[-1] = True
    if vector.z is not None:
        cells, unit = vector.z, "z: standard deviations from neutral text"
    else:
        among = vector.projections[:, words]
        deviation = among.std(axis=1, keepdims=True)
        cells = (vector.projections - among.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1.0)
        unit = NO_NEUTRAL
    tokens = cells[vector.reading_rows].mean(axis=0)
    limit = float(np.ceil(max(LEAST_LIMIT, np.percentile(np.abs(cells[:, words]), 98))))
    return Shades(cells, tokens, counts, limit, unit)


def caption(vector: VectorReading) -> str:
    """Return a vector's name and the text's score along it."""
    score = "no score: the vector has no neutral statistics" if vector.score is None else f"score {vector.score:+.2f}"
    return f"{vector.name}: {score}"


def coloured_text(reading: Reading, shown: Shades) -> str:
    """Return the text as HTML, each token coloured by its score."""
    spans = []
    for piece, counts, value in zip(reading.pieces, shown.counts, shown.tokens, strict=True):
        if counts:
            colour = css_colour(value, shown.limit)
            spans.append(f'<span style="background:{colour}" title="{value:+.2f}">{escape(piece)}</span>')
        else:
            spans.append(f'<span class="out" title="does not count; {value:+.2f}">{escape(piece)}</span>')
    return "".join(spans)


def css_colour(value: float, limit: float, *, strength: float = 1.0) -> str:
    """Return the colour of a value: a deep one, translucent, on which the text of both themes is legible."""
    red, green, blue = rgb(colours("light")["plus" if value > 0 else "minus"])
    return f"rgb({red} {green} {blue} / {strength * FULL * min(abs(value) / limit, 1.0):.2f})"


def label(piece: str) -> str:
    """Return a token's text on one line, with signs for spaces and breaks."""
    shown = "".join(SIGNS.get(character, character) for character in piece)
    return shown.strip() or "␣" * len(shown)

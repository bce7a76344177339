"""Readings: what is averaged over what, what is left out, and how they are asked."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from sample_vectors import MODEL, make_vector
from trimtab.errors import PromptError, VectorError
from trimtab.reading import Reading, make_reading
from trimtab.vectors import ControlVector, Neutral, Reader, Spread

PIECES = ("<s>", "good", " ", "day", "</s>")
WORDS = (False, True, True, True, False)
LAYERS = (0, 2)  # for which the sample vectors have a direction
NEUTRAL = Neutral(
    token=Spread({0: 0.5, 2: -0.5}, {0: 2.0, 2: 3.0}),
    mean=Spread({0: 0.1, 2: -0.2}, {0: 0.5, 2: 0.7}),
    last=Spread({0: 1.0, 2: 2.0}, {0: 4.0, 2: 5.0}),
    percentiles={},
    prompts=3,
    tokens=30,
)


def states(seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((len(PIECES), MODEL.layers, MODEL.hidden_size))
    return drawn.astype(np.float32)


def read(
    *vectors: ControlVector, words: tuple[bool, ...] = WORDS, given: np.ndarray | None = None, text: str = "good day"
) -> Reading:
    given = states() if given is None else given
    return make_reading(vectors, given, text=text, tokens=range(5), pieces=PIECES, words=words)


def along(vector: ControlVector, token: int, layer: int) -> float:
    return float(states()[token, layer].astype(np.float64) @ vector.directions[layer].astype(np.float64))


def test_projections_and_z_are_indexed_by_layer_and_token():
    vector = make_vector(neutral=NEUTRAL)
    reading = read(vector)
    assert reading.projections.shape == reading.z.shape == (2, 5)
    assert reading[0].layers == LAYERS
    for row, layer in enumerate(LAYERS):
        for token in range(5):
            projected = along(vector, token, layer)
            z = (projected - NEUTRAL.token.mean[layer]) / NEUTRAL.token.deviation[layer]
            assert reading.projections[row, token] == pytest.approx(projected)
            assert reading.z[row, token] == pytest.approx(z)


def test_score_averages_words_at_steered_layers():
    vector = make_vector(neutral=NEUTRAL)
    by_layer = [
        (np.mean([along(vector, token, layer) for token in (1, 2, 3)]) - NEUTRAL.mean.mean[layer])
        / NEUTRAL.mean.deviation[layer]
        for layer in LAYERS
    ]
    assert read(vector).score == pytest.approx(np.mean(by_layer))
    np.testing.assert_allclose(read(vector)[0].layer_scores, by_layer)
    np.testing.assert_allclose(read(vector).token_scores, read(vector).z.mean(axis=0))


def test_reader_sets_layers_and_pool():
    vector = make_vector(neutral=NEUTRAL, reader=Reader(layers=(2,), pool="last"))
    reading = read(vector)
    assert reading.score == pytest.approx((along(vector, 4, 2) - 2.0) / 5.0)
    np.testing.assert_array_equal(reading.token_scores, reading.z[1])
    assert (reading[0].pool, reading[0].reading_layers, reading[0].reading_rows) == ("last", (2,), [1])


def test_uncounted_tokens_do_not_change_score():
    vector = make_vector(neutral=NEUTRAL)
    huge = states()
    huge[0] *= 1e4
    huge[4] = -1e6
    plain, sunk = read(vector), read(vector, given=huge)
    assert sunk.score == plain.score
    np.testing.assert_array_equal(sunk.token_scores[1:4], plain.token_scores[1:4])
    assert abs(sunk.token_scores[0]) > 10 * abs(plain.token_scores[0])


def test_reading_without_neutral_has_projections_only():
    reading = read(make_vector())
    assert reading.projections.shape == (2, 5)
    assert reading.z is reading.token_scores is reading.score is None


def test_vector_without_steered_layers_is_read_everywhere():
    vector = make_vector(weights={0: 0.0, 2: 0.0}, neutral=NEUTRAL)
    assert read(vector)[0].reading_layers == LAYERS


def test_vector_without_directions_is_refused():
    with pytest.raises(VectorError, match="no directions"):
        read(make_vector(directions={}, norms={}, weights={}))


def test_text_without_words_is_refused():
    with pytest.raises(PromptError, match="'<s>' has no words to read"):
        read(make_vector(), words=(False,) * 5, text="<s>")


def test_reading_indexes_by_name_and_number():
    reading = read(make_vector("happy"), make_vector("formal", seed=1), make_vector("happy", seed=2))
    assert [vector.name for vector in reading] == ["happy", "formal", "happy (2)"]
    assert len(reading) == 3
    assert reading["formal"] is reading[1]
    assert reading[-1] is reading["happy (2)"]
    with pytest.raises(VectorError, match=r"named 'sad'; read are: 'happy', 'formal', 'happy \(2\)'"):
        reading["sad"]


@pytest.mark.parametrize("what", ["projections", "z", "token_scores", "score"])
def test_reading_of_several_vectors_needs_name(what: str):
    with pytest.raises(VectorError, match=rf"{what} of which vector\? .*reading\[NAME\].{what}: 'happy', 'formal'"):
        getattr(read(make_vector("happy"), make_vector("formal")), what)


def test_reading_to_json():
    reading = read(make_vector("happy", neutral=NEUTRAL), make_vector("formal"))
    written = json.loads(json.dumps(reading.to_json(), allow_nan=False))
    assert written["text"] == "good day"
    assert written["pieces"] == list(PIECES)
    assert written["words"] == list(WORDS)
    happy, formal = written["vectors"]
    assert happy["score"] == reading["happy"].score
    np.testing.assert_array_equal(happy["z"], reading["happy"].z)
    assert formal["name"] == "formal"
    assert formal["z"] is formal["score"] is formal["token_scores"] is None


def test_reading_imports_neither_torch_nor_matplotlib():
    code = "import sys, trimtab.reading; print({'torch', 'matplotlib', 'transformers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

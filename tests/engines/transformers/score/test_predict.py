"""Whole distributions along given answers, beside the model's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trimtab
from by_hand import logits_of, steering_by_hand
from tiny_models import BY_NAME, byte_tokenizer, small_t5, vector_for
from trimtab import Term
from trimtab.errors import PromptError, SteeringError

SEQUENCES = [((256, 10, 20, 30), (40, 50, 60)), ((256, 70), (80,)), ((256, 5, 6, 7, 8), (9, 10))]


def by_hand(engine, prompt, answer):
    """``[token, vocabulary]`` straight from a pass over the whole of it."""
    logits = logits_of(engine.model, [*prompt, *answer])
    return logits.float().log_softmax(-1)[len(prompt) - 1 : -1].numpy()


def test_predict_rows_equal_a_whole_pass(engine):
    for (prompt, answer), actual in zip(SEQUENCES, engine.predict(SEQUENCES), strict=True):
        assert actual.dtype == np.float32
        assert actual.shape == (len(answer), engine.model.config.vocab_size)
        np.testing.assert_allclose(actual, by_hand(engine, prompt, answer), atol=2e-5)
        np.testing.assert_allclose(np.exp(actual).sum(-1), 1.0, atol=1e-5)


def test_predict_inside_steered_is_steered(llama):
    vector = vector_for(llama, layers=[1, 2])
    with llama.steered([(vector, 1.0)]):
        steered = llama.predict(SEQUENCES)
    plain = llama.predict(SEQUENCES)
    for (prompt, answer), changed, unchanged in zip(SEQUENCES, steered, plain, strict=True):
        with steering_by_hand(BY_NAME["llama"].blocks(llama.model), (vector, 1.0)):
            np.testing.assert_allclose(changed, by_hand(llama, prompt, answer), atol=2e-5)
        assert np.abs(changed - unchanged).max() > 0.01


def test_predict_encoder_decoder_begins_at_start_token():
    model = small_t5()
    engine = trimtab.load(model, tokenizer=byte_tokenizer())
    ((prompt, answer), *_) = SEQUENCES
    (actual,) = engine.predict([(prompt, answer)])
    start = model.config.decoder_start_token_id
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *answer[:-1]]])).logits
    np.testing.assert_allclose(actual, logits[0].log_softmax(-1).numpy(), atol=2e-5)
    reader = trimtab.load(model, tokenizer=byte_tokenizer(), encoder=True)
    with pytest.raises(SteeringError, match="an encoder predicts no tokens"):
        reader.predict(SEQUENCES)


def test_predict_empty_answer_has_no_rows(llama):
    (actual,) = llama.predict([((256, 1), ())])
    assert actual.shape == (0, llama.model.config.vocab_size)


def test_predict_unreadable_tokens_are_refused(llama):
    with pytest.raises(PromptError, match="empty"):
        llama.predict([((), (1, 2))])
    with pytest.raises(PromptError, match="no token 9999"):
        llama.predict([((256, 1), (9999,))])
    with pytest.raises(PromptError, match="256"):
        llama.predict([((256,) * 200, (1,) * 100)])


def test_predict_inside_token_scope_is_refused(llama):
    term = Term(vector_for(llama), 1.0, tokens="generated")
    with llama.steered(trimtab.Steering((term,))), pytest.raises(SteeringError, match="call generate"):
        llama.predict(SEQUENCES)

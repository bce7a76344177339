"""Thoughts and answers of a model that reasons: each can be steered alone, and the marks are neither."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from steered_terms import states_between
from tiny_models import BY_NAME, CHAT_TEMPLATE, byte_tokenizer, vector_for
from trimtab.engines.transformers import TransformersEngine
from trimtab.steering import Term

OPEN, CLOSE = "<think>", "</think>"
SAYS = (OPEN, "H", "m", "?", CLOSE, "Y", "e", "s", ".")  # each token leads to the next


def reasoning(template: str) -> TransformersEngine:
    """Return a model with a fixed answer: blocks add nothing, and a token's embedding determines the next."""
    tokenizer = byte_tokenizer(chat_template=template)
    tokenizer.add_tokens([OPEN, CLOSE])
    model = BY_NAME["llama"].build(vocab_size=len(tokenizer), hidden_size=256)
    ids = [tokenizer.convert_tokens_to_ids(piece) for piece in ("]", *SAYS, "<eos>")]
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        embedded = torch.nn.functional.normalize(model.model.embed_tokens.weight, dim=-1)
        model.model.embed_tokens.weight.copy_(embedded)
        model.lm_head.weight.zero_()
        for token, following in pairwise(ids):
            model.lm_head.weight[following] = embedded[token]
    return TransformersEngine(model, tokenizer, name="tiny reasoner")


@pytest.mark.parametrize(
    ("scope", "opened", "steered"),
    [
        ("thinking", False, "Hm?"),
        ("answer", False, "Yes."),
        ("thinking", True, "Hm?"),
        ("answer", True, "Yes."),
        ("thinking, first 3", False, "Hm"),
        ('answer, after:"Y"', True, "es."),
        ('answer, before:"."', False, "Yes"),
    ],
)
@pytest.mark.parametrize("use_cache", [True, False])
def test_thoughts_and_answers_are_steered_separately(scope: str, opened: bool, steered: str, use_cache: bool) -> None:
    """Check thoughts that the template or the model opens."""
    template = CHAT_TEMPLATE.replace("[assistant]", f"[assistant]{OPEN}") if opened else CHAT_TEMPLATE
    engine = reasoning(f"{template}{{# {OPEN} #}}")
    term = Term(vector_for(engine, layers=[1]), coefficient=0.1, tokens=scope)
    seen = []
    for steering in ([term], None):
        with states_between(engine.model.model.layers, cached=use_cache) as states:
            completion = engine.generate("Hi", steering=steering, max_new_tokens=20, use_cache=use_cache)
        seen.append(states[1][0].numpy())
        expected = SAYS[1:] if opened else SAYS
        assert engine.tokenizer.decode(completion.tokens) == "".join(expected) + "<eos>"
    moved = np.flatnonzero((seen[0] != seen[1]).any(-1))
    tokens = [*engine.encode(engine.render("Hi")), *completion.tokens]
    assert "".join(engine.tokenizer.decode([tokens[n]]) for n in moved) == steered
    assert engine.generate("Hi", steering=[term], max_new_tokens=20).receipt.tokens == len(steered)


def test_thinking_model_without_marks_only_answers() -> None:
    tokenizer = byte_tokenizer()
    engine = TransformersEngine(BY_NAME["llama"].build(), tokenizer, name="tiny llama")
    vector = vector_for(engine, layers=[1])
    answer, generated = (
        engine.generate("Hi", steering=[Term(vector, coefficient=0.5, tokens=scope)], max_new_tokens=6)
        for scope in ("answer", "generated")
    )
    assert answer.tokens == generated.tokens
    assert answer.receipt.tokens == generated.receipt.tokens == 5

"""Chats whose steering changes between turns, and what becomes of the turns before."""

from __future__ import annotations

import pytest
import torch

from by_hand import traces_in
from tiny_models import vector_for
from trimtab import Chat
from trimtab.errors import PromptError, SteeringError, VectorMismatchError

TURNS = ("Hello there, how are you?", "What did I say?", "And now?")
GROWING = ("llama", "gemma3", "gpt2", "qwen3_moe", "falcon_alibi")  # one has a sliding window shorter than the chat


def talk(engine, cache, steerings, **options):
    chat = Chat(engine, cache=cache, **options)
    answers = []
    for turn, steering in zip(TURNS, steerings, strict=True):
        chat.steering = steering
        answers.append(chat.send(turn, max_new_tokens=8))
    return chat, answers


@pytest.mark.parametrize("family", GROWING)
def test_chat_caches_agree_while_steering_stays(tiny, family):
    engine = tiny(family)
    happy = [(vector_for(engine), 1.0)]
    _, recomputed = talk(engine, "recompute", [happy] * 3)
    _, cached = talk(engine, "keep", [happy] * 3)
    assert [answer.tokens for answer in cached] == [answer.tokens for answer in recomputed]
    for one, other in zip(recomputed, cached, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    assert traces_in(engine.model) == []


def test_default_model_keeps_turns_too(smollm2):
    happy = [(vector_for(smollm2, layers=range(12, 20), size=0.04), 1.0)]
    _, recomputed = talk(smollm2, "recompute", [happy] * 3)
    _, cached = talk(smollm2, "keep", [happy] * 3)
    assert [answer.text for answer in cached] == [answer.text for answer in recomputed]
    assert cached[2].receipt.tokens < recomputed[2].receipt.tokens  # only what is new was read, and steered


def test_chat_recompute_reads_turns_with_current_steering(llama):
    steerings = [[(vector_for(llama), 1.0)], None, [(vector_for(llama, seed=2), -1.0)]]
    chat, answers = talk(llama, "recompute", steerings)
    for number, steering in enumerate(steerings):
        asked = [chat.messages[: 2 * number + 1]]
        assert llama.generate(asked, steering=steering, max_new_tokens=8)[0].tokens == answers[number].tokens


def test_chat_keep_equals_manual_reading(llama):
    """Compare with the chat read by hand: the first turn steered, later ones not.

    Text of this random model may have other tokens when it is read again; from there on all is new.
    """
    happy = vector_for(llama, size=0.5)
    chat, answers = talk(llama, "keep", [[(happy, 1.0)], None, None])
    first = llama.marked(chat.messages[:1]).tokens
    read = (*first, *answers[0].tokens[:-1])
    then = llama.marked(chat.messages[:3]).tokens
    cached = next((n for n, pair in enumerate(zip(read, then, strict=False)) if pair[0] != pair[1]), len(read))
    assert cached >= len(first)
    with torch.no_grad():
        with llama.steered([(happy, 1.0)]):
            cache = llama.model(input_ids=torch.tensor([read[:cached]]), use_cache=True).past_key_values
        rest = torch.tensor([then[cached:]])
        logits = llama.model(input_ids=rest, past_key_values=cache, use_cache=True).logits[0, -1]
    assert int(logits.argmax()) == answers[1].tokens[0]
    assert logits.log_softmax(-1).max() != pytest.approx(
        float(llama.generate([chat.messages[:3]], max_new_tokens=1)[0].logprob), abs=1e-4
    )


def test_chat_reads_again_from_a_moved_token_border(llama):
    chat, _ = talk(llama, "keep", [None] * 3)
    chat._read = (*chat._read[:10], 7, *chat._read[11:])  # as if the template had changed what was said before
    answer = chat.send("Once more", max_new_tokens=8)
    assert answer.tokens == llama.generate([chat.messages[:-1]], max_new_tokens=8)[0].tokens


def test_chat_failed_turn_leaves_no_trace(llama):
    chat, _ = talk(llama, "keep", [None] * 3)
    before = chat.messages
    with pytest.raises(PromptError, match="reads"):
        chat.send("long " * 100, max_new_tokens=8)
    with pytest.raises(PromptError, match="empty"):
        chat.send("  ")
    assert chat.messages == before
    answer = chat.send("Well?", max_new_tokens=4)
    assert answer.tokens == llama.generate([chat.messages[:-1]], max_new_tokens=4)[0].tokens


def test_chat_reset_keeps_the_system_prompt(llama):
    chat, answers = talk(llama, "keep", [None] * 3, system="be brief")
    chat.reset()
    assert [message.role for message in chat.messages] == ["system"]
    assert chat.send(TURNS[0], max_new_tokens=8).tokens == answers[0].tokens


def test_chat_on_text_pieces_join_to_answer(llama):
    pieces: list[str] = []
    chat = Chat(llama)
    answer = chat.send("Hello", max_new_tokens=6, on_text=pieces.append)
    assert "".join(pieces) == answer.text
    assert chat.messages[-1].content == answer.text


def test_chat_refuses_bad_arguments_at_once(tiny, llama):
    with pytest.raises(VectorMismatchError):
        Chat(llama, steering=[(vector_for(tiny("llama", seed=9)), 1)])
    with pytest.raises(SteeringError, match="'recompute' or 'keep'"):
        Chat(llama, cache="forget")
    with pytest.raises(SteeringError, match="cannot be kept"):
        Chat(tiny("mamba"), cache="keep")
    chat = Chat(llama)
    with pytest.raises(VectorMismatchError):
        chat.steering = [(vector_for(tiny("llama", seed=9)), 1)]
    assert chat.steering.terms == ()

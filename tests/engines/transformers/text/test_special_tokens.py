"""Special tokens: written once by the template or the tokenizer, and every token that ends an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from tiny_models import BOS, BY_NAME, CHAT_TEMPLATE, EOS, PAD, byte_tokenizer
from trimtab import Behaviour
from trimtab.behaviours.pairs import build_pairs
from trimtab.cli.doctor import _chat, _tokenizer
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.doctor.diagnosis import diagnose
from trimtab.engines.transformers.text.chat_template import end_of_turn
from trimtab.errors import PromptError

TURNS = (  # of ChatML's form: no BOS, and a token that ends every turn
    "{% for m in messages %}<eos>{{ m.role }}\n{{ m.content }}<pad>\n{% endfor %}"
    "{% if add_generation_prompt %}<eos>assistant\n{% endif %}"
)
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "(A)"}]


def engine_of(*, single: str = "<bos> $A", template: str | None = CHAT_TEMPLATE) -> TransformersEngine:
    """A tiny model whose tokenizer puts special tokens around texts as ``single`` says."""
    tokenizer = byte_tokenizer(chat_template=template)
    special = [("<bos>", BOS), ("<eos>", EOS), ("<pad>", PAD)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return TransformersEngine(BY_NAME["llama"].build(seed=0), tokenizer, name="tiny")


def as_template_says(engine: TransformersEngine, chat: Any) -> tuple[int, ...]:
    """The tokens of a chat as transformers encodes it."""
    encoded = engine.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    return tuple(encoded["input_ids"])


@pytest.mark.parametrize(
    ("single", "template"),
    [
        ("<bos> $A", CHAT_TEMPLATE),
        ("$A <eos>", TURNS),  # the tokenizer ends texts, and the template writes no BOS
        ("<bos> $A <eos>", CHAT_TEMPLATE),
        ("<bos> <eos> $A", "<bos><eos>" + TURNS),  # two tokens that both write
        ("<bos> $A", "\n" + CHAT_TEMPLATE),  # a line break before the BOS
        ("<bos> $A", TURNS),
        ("$A", CHAT_TEMPLATE),
    ],
)
def test_chat_is_encoded_as_its_template_says(single: str, template: str) -> None:
    engine = engine_of(single=single, template=template)
    expected = as_template_says(engine, CHAT[:1])
    assert engine.encode(engine.render(CHAT[:1])) == expected
    assert engine.marked(CHAT[:1]).tokens == expected
    assert engine.generate("Hi", max_new_tokens=1).prompt.tokens == expected
    states = engine.hidden_states([engine.render(CHAT[:1]), expected])
    assert np.array_equal(states[0], states[1])
    turn = engine.marked(CHAT[:1]).turns[-1]
    assert engine.decode(expected[turn.start : turn.stop]) == "Hi"


@pytest.mark.parametrize(
    ("single", "text", "expected"),
    [
        ("<bos> $A", "a", (BOS, "a")),
        ("<bos> $A", "<bos>a", (BOS, "a")),
        ("<bos> <eos> $A", "<bos><eos>a", (BOS, EOS, "a")),
        ("$A <eos>", "a", ("a",)),  # a decoder continues the text
        ("<bos> $A <eos>", "a", (BOS, "a")),
    ],
)
def test_text_has_special_tokens_once(single: str, text: str, expected: tuple[Any, ...]) -> None:
    engine = engine_of(single=single)
    (letter,) = engine.tokenizer("a", add_special_tokens=False)["input_ids"]
    assert engine.encode(text) == tuple(letter if token == "a" else token for token in expected)


def test_encoder_reads_the_end_of_its_texts() -> None:
    from tiny_models import small_t5

    tokenizer = byte_tokenizer(chat_template=None)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", EOS)]
    )
    engine = TransformersEngine(small_t5(), tokenizer, name="t5")
    assert engine.encode("ab")[-1] == EOS
    assert engine.encode("ab<eos>").count(EOS) == 1


def test_text_with_lone_surrogate_is_refused() -> None:
    engine = engine_of()
    for use in (engine.encode, engine.generate, engine.render):
        with pytest.raises(PromptError, match="lone surrogates"):
            engine.encode(use("a\ud800b"))  # type: ignore[arg-type]


# Stop tokens


@pytest.mark.parametrize(
    "configured", [EOS, [EOS], (EOS,), torch.tensor(EOS), torch.tensor([EOS]), np.array([EOS]), np.int64(EOS)]
)
def test_stop_tokens_are_the_union(configured: Any) -> None:
    engine = engine_of(template=TURNS)
    engine.tokenizer.eos_token = "<bos>"
    engine.model.generation_config.eos_token_id = configured
    assert engine.stop_tokens == (EOS, BOS, PAD)


def test_answer_stops_at_the_turn_of_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(template=TURNS)
    engine.model.generation_config.eos_token_id = EOS
    embedding = engine.model.get_output_embeddings()
    bias = torch.zeros(embedding.out_features)
    bias[PAD] = 1e6
    monkeypatch.setattr(embedding, "bias", torch.nn.Parameter(bias))
    answer = engine.generate("Hi", max_new_tokens=5)
    assert (answer.tokens, answer.finish_reason) == ((PAD,), "stop")


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (TURNS, "<pad>"),
        (CHAT_TEMPLATE, None),
        (None, None),
        ("{{ raise_exception('no') }}", None),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }} and <eos>{% endfor %}", None),  # not directly behind
    ],
)
def test_end_of_turn_is_read_from_the_template(template: str | None, end: str | None) -> None:
    assert end_of_turn(byte_tokenizer(chat_template=template)) == end


def test_end_of_turn_follows_a_new_template() -> None:
    tokenizer = byte_tokenizer(chat_template=TURNS)
    assert end_of_turn(tokenizer) == "<pad>"
    tokenizer.chat_template = CHAT_TEMPLATE
    assert end_of_turn(tokenizer) is None


def test_mark_behind_thoughts_ends_no_answer() -> None:
    tokenizer: PreTrainedTokenizerFast = byte_tokenizer(chat_template=TURNS.replace("<pad>", "<|end|>"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>", "<|channel|>analysis<|message|>"]})
    assert end_of_turn(tokenizer) is None


# Chats that end with an assistant message


def test_pair_with_given_answer_ends_at_its_last_token(tmp_path: Any, tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny(chat_template=TURNS)
    assert engine.render(CHAT) == "<eos>user\nHi<pad>\n<eos>assistant\n(A)"
    assert engine.marked(CHAT).tokens == engine.encode(engine.render(CHAT))
    chat = '[{{role = "user", content = "{}"}}, {{role = "assistant", content = "({})"}}]'
    pairs = ", ".join(
        f"{{positive = {chat.format(question, 'A')}, negative = {chat.format(question, 'B')}}}"
        for question in ("Hi", "Ho")
    )
    file = tmp_path / "b.toml"
    file.write_text(f'name = "letters"\npairs = [{pairs}]\n[positive]\nlabel = "a"\n[negative]\nlabel = "b"\n')
    built = build_pairs(Behaviour.load(file), engine)
    assert [(pair.positive[-4:], pair.negative[-4:]) for pair in built] == [("\n(A)", "\n(B)")] * 2


# The doctor


def test_doctor_reports_doubled_and_appended_tokens() -> None:
    found = diagnose(engine_of(single="<bos> $A <eos>"))
    assert found.tokenizer is not None
    assert found.chat is not None
    assert found.tokenizer.ends_with == ("<eos>",)
    assert found.chat.doubled == ("<bos>",)
    assert any("<eos> behind every text" in problem.what for problem in found.problems)
    assert "<eos> behind it" in _tokenizer(found.tokenizer)
    assert "writes <bos> as the tokenizer does" in dict(_chat(found.chat))["chat"]
    sound = diagnose(engine_of(single="<bos> $A", template=TURNS))
    assert sound.chat is not None
    assert sound.chat.doubled == ()
    assert not any("behind every text" in problem.what for problem in sound.problems)

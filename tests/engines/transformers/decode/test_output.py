"""Text of answers: pieces that never change, stop strings across tokens, and the end of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.engines.sampling import Sampling
from trimtab.engines.transformers.decode.choose import Choice, TokenChooser
from trimtab.engines.transformers.decode.output import OutputText, RowAnswer

SPECIAL = 256  # a token without text
STOP = 257


def decode(tokens: Sequence[int]) -> str:
    """One token for each byte."""
    return bytes(token for token in tokens if token < SPECIAL).decode(errors="replace")


def tokens_of(text: str) -> list[int]:
    return list(text.encode())


def written(text: str, stop: Sequence[str] = ()) -> tuple[list[str], OutputText]:
    """Feed a text byte by byte up to its end or the stop string."""
    output = OutputText(decode, stop=stop)
    pieces = []
    for token in tokens_of(text):
        pieces.append(output.take(token))
        if output.stopped_by is not None:
            break
    pieces.append(output.finish())
    return pieces, output


def cut_by_hand(text: str, stop: Sequence[str]) -> str:
    """Read letter by letter, and cut as soon as the text ends with a stop string: the longest one."""
    for end in range(1, len(text) + 1):
        found = [each for each in stop if text[:end].endswith(each)]
        if found:
            return text[: end - max(map(len, found))]
    return text


letters = st.text(alphabet="ab€日🚢", max_size=12)


@given(text=letters, stop=st.lists(st.text(alphabet="ab€日🚢", min_size=1, max_size=4), max_size=3))
def test_text_is_cut_at_first_complete_stop_string(text: str, stop: list[str]) -> None:
    pieces, output = written(text, stop)
    assert output.text == cut_by_hand(text, stop)
    assert "".join(pieces) == output.text
    assert (output.stopped_by is not None) == (output.text != text or any(each in text for each in stop))


@given(
    text=letters,
    stop=st.lists(st.text(alphabet="ab€", min_size=1, max_size=3), max_size=3),
    cuts=st.lists(st.integers(1, 5), min_size=12, max_size=12),
)
def test_token_borders_do_not_matter(text: str, stop: list[str], cuts: list[int]) -> None:
    """Tokens of several letters, which also hold the beginning of a character, give the text of single bytes."""
    content, pieces, at = text.encode(), [], 0
    parts = []
    for cut in cuts * 5:
        parts.append(content[at : at + cut])
        at += cut
    output = OutputText(lambda tokens: b"".join(parts[n] for n in tokens).decode(errors="replace"), stop=stop)
    for n in range(len(parts)):
        pieces.append(output.take(n))
        if output.stopped_by is not None:
            break
    pieces.append(output.finish())
    assert "".join(pieces) == output.text == cut_by_hand(text, stop)


@given(content=st.binary(max_size=24))
def test_broken_bytes_are_streamed_as_they_are_decoded(content: bytes) -> None:
    output = OutputText(decode)
    pieces = [output.take(token) for token in content]
    assert "".join([*pieces, output.finish()]) == content.decode(errors="replace")


def test_letters_of_several_bytes_are_streamed_whole() -> None:
    text = "naïve — 9 €, 日本 🚢!"
    pieces, _ = written(text)
    assert [piece for piece in pieces if piece] == list(text)


def test_beginning_of_stop_string_is_held_back_until_it_is_none() -> None:
    output = OutputText(decode, stop=["END!"])
    assert [output.take(token) for token in tokens_of("x EN")] == ["x", " ", "", ""]
    assert output.take(ord("E")) == "EN"  # only the last E may begin one now
    assert [output.take(token) for token in tokens_of("ND")] == ["", ""]
    assert output.take(ord("!")) == ""
    assert output.finish() == ""
    assert (output.text, output.stopped_by) == ("x EN", "END!")


def test_held_back_text_is_shown_at_the_end() -> None:
    pieces, output = written("The EN", ["END"])
    assert pieces[-1] == "EN"
    assert output.stopped_by is None


def test_longest_of_stop_strings_complete_together_wins() -> None:
    _, output = written("one\n\ntwo", ["\n", "e\n"])
    assert (output.text, output.stopped_by) == ("on", "e\n")


def test_stop_string_inside_a_token_cuts_it() -> None:
    output = OutputText(lambda tokens: "".join({0: "Yes", 1: ".\nQuestion"}[token] for token in tokens), stop=["\nQ"])
    assert output.take(0) == "Yes"
    output.take(1)
    assert output.finish() == ""
    assert output.text == "Yes."


def test_space_before_later_words_is_streamed() -> None:
    """Some tokenizers drop the space of a text's first token."""
    words = ["▁the", "▁sea", "▁", "▁is", "▁calm"]
    output = OutputText(lambda tokens: "".join(words[n] for n in tokens).replace("▁", " ").removeprefix(" "))
    assert "".join([*(output.take(n) for n in range(5)), output.finish()]) == "the sea  is calm"


def test_long_answer_decodes_few_tokens_at_a_time() -> None:
    decoded = []

    def counting(tokens: Sequence[int]) -> str:
        decoded.append(len(tokens))
        return decode(tokens)

    output = OutputText(counting)
    for token in tokens_of("€ and 日本 " * 200):
        output.take(token)
    assert max(decoded) < 10


# The end of an answer ------------------------------------------------------------------------------------------------


def answer_of(text: str, *, streamed: bool = True, **sampling: Any) -> tuple[list[str], RowAnswer]:
    chooser = TokenChooser(Sampling(**sampling), (1, 2), stop=[STOP])
    answer = RowAnswer(chooser, decode=decode, decode_all=decode, streamed=streamed)
    pieces = []
    for token in [*tokens_of(text), STOP, *tokens_of(" more")]:
        pieces.append(answer.take(Choice(token, -0.5, ((65, -0.25), (token, -0.5)))))
        if answer.finished:
            break
    return pieces, answer


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("sampling", "text", "reason", "stopped_by"),
    [
        ({}, "one two", "stop", STOP),
        ({"max_new_tokens": 3}, "one", "length", None),
        ({"max_new_tokens": 8}, "one two", "stop", STOP),
        ({"max_new_tokens": 7}, "one two", "length", None),
        ({"stop": [" t"]}, "one", "stop", " t"),
        ({"stop": ["nothing"]}, "one two", "stop", STOP),
        ({"stop_token_ids": [ord(" ")]}, "one ", "stop", ord(" ")),
        ({"ignore_eos": True, "max_new_tokens": 13}, "one two more", "length", None),
        ({"ignore_eos": True, "max_new_tokens": 13, "stop_token_ids": [STOP]}, "one two", "stop", STOP),
        ({"min_tokens": 7, "stop": ["o", "w"]}, "one tw", "stop", "o"),
        ({"min_tokens": 6, "stop": ["o", "w"]}, "one t", "stop", "w"),
        ({"min_tokens": 8, "stop": ["o", "w"]}, "one two", "stop", STOP),
        ({"stop": ["ne"], "stop_token_ids": [ord("e")]}, "o", "stop", "ne"),
    ],
    ids=repr,
)
def test_answer_ends_where_its_options_say(
    sampling: dict[str, Any], text: str, reason: str, stopped_by: Any, streamed: bool
) -> None:
    pieces, answer = answer_of("one two", streamed=streamed, **sampling)
    completion = answer.completion(None, None, readings={})  # type: ignore[arg-type]
    if streamed:
        assert "".join(pieces) == text
    assert (completion.text, completion.finish_reason, completion.stopped_by) == (text, reason, stopped_by)
    assert completion.tokens == tuple(answer.tokens)
    assert completion.logprob == -0.5 * len(answer.tokens)


def test_answer_reports_logprobs_only_if_asked() -> None:
    assert answer_of("Hi")[1].completion(None, None, readings={}).logprobs is None  # type: ignore[arg-type]
    _, answer = answer_of("Hi", logprobs=2)
    last = answer.token_logprob()
    assert last is not None
    logprobs = answer.completion(None, None, readings={}).logprobs  # type: ignore[arg-type]
    assert logprobs is not None
    assert [each.text for each in logprobs] == ["H", "i", ""]
    assert [each.token for each in logprobs] == answer.tokens
    assert [(a.text, a.logprob) for a in logprobs[1].alternatives] == [("A", -0.25), ("i", -0.5)]
    assert logprobs[-1] == last


def test_sampled_answer_has_no_total_logprob() -> None:
    assert answer_of("Hi", temperature=1.0, logprobs=0)[1].logprob is None

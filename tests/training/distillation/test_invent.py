"""Users' messages that the model writes itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trimtab.errors import DistillError
from trimtab.training.distillation.examples import EXAMPLES, Teacher, invent_messages, sift


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("How deep is the sea?", "How deep is the sea?"),
        ('  "How deep is the sea?"\nI wonder.', "How deep is the sea?"),
        ("User: How deep is the sea?", "How deep is the sea?"),
        ("Tell me more. And then the", "Tell me more."),
        ("Well?", None),
        ("the sea is deep and wide and", None),
        ("", None),
        ("word " * 40 + ".", None),
    ],
)
def test_sift_keeps_only_whole_short_messages(answer, message):
    assert sift([answer]) == (() if message is None else (message,))


def test_sift_drops_repeated_and_known_messages():
    assert sift(["How deep is it?", "how deep, is it!", EXAMPLES[0][1]], known=[EXAMPLES[0][1]]) == ("How deep is it?",)


class Talker:
    """A model that says what it was made to say."""

    def __init__(self, *said):
        self.said = said
        self.asked = []

    def generate(self, chats, *, max_new_tokens, temperature, seed):
        self.asked += chats
        return [SimpleNamespace(text=self.said[n % len(self.said)]) for n in range(len(chats))]


def test_invent_shows_examples_then_the_prompt():
    talker = Talker("What of a red boat?", "Hm", "What of a blue boat?", "What of a third boat?")
    found = invent_messages(talker, Teacher.of("You sell boats."), count=2)
    assert found == ("What of a red boat?", "What of a blue boat?")
    chat = talker.asked[0]
    assert [message.role for message in chat] == ["user", "assistant"] * len(EXAMPLES) + ["user"]
    assert "You sell boats." in chat[-1].content
    assert chat[1].content == EXAMPLES[0][1]


def test_invent_without_messages_is_an_error():
    with pytest.raises(DistillError, match="writes no messages"):
        invent_messages(Talker("Hm", ""), Teacher.of("You sell boats."), count=2)

"""What an engine refuses before it runs the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab.engines.base import Tokens
from trimtab.errors import PromptError, SteeringError


def check_tokens(tokens: Tokens, *, name: str, vocabulary: int) -> None:
    """Refuse token ids that a model does not have.

    Raises:
        PromptError: There is one.
    """
    for token in tokens:
        if not 0 <= token < vocabulary:
            raise PromptError(f"there is no token {token}", fix=f"{name} has tokens 0 to {vocabulary - 1}")


def check_length(tokens: Tokens, text: str, *, name: str, window: int | None, room: int = 0) -> None:
    """Refuse a text that is empty or does not fit into the context window with ``room`` tokens for the answer.

    Raises:
        PromptError: It is, or does not.
    """
    if not (tokens and text):
        raise PromptError("the text is empty", fix="give at least one token")
    if window is not None and len(tokens) + room > window:
        answer = f" and {room} for the answer" if room else ""
        raise PromptError(
            f"the prompt has {len(tokens)} tokens{answer}, but {name} reads {window} ({text[:40]!r}...)",
            fix="shorten it" + (" or lower max_new_tokens" if room else ""),
        )


def checked_sequences(
    texts: Sequence[str | Tokens],
    *,
    encode: Callable[[str], Tokens],
    name: str,
    vocabulary: int,
    window: int | None,
) -> list[Tokens]:
    """Texts as token ids, or token ids as they are, each fit to be read.

    Raises:
        PromptError: It is one text and no list, or one of them is empty, too long, or has tokens that there are not.
    """
    if isinstance(texts, str):
        raise PromptError("hidden_states was given one text", fix="give a list of texts")
    sequences: list[Tokens] = []
    for text in texts:
        tokens = encode(text) if isinstance(text, str) else tuple(text)
        if not isinstance(text, str):
            check_tokens(tokens, name=name, vocabulary=vocabulary)
        check_length(tokens, text if isinstance(text, str) else str(tokens), name=name, window=window)
        sequences.append(tokens)
    return sequences


def chosen_layers(layers: Sequence[int] | None, *, name: str, count: int) -> list[int]:
    """The blocks that were asked for, numbered from 0; None is all of them.

    Raises:
        SteeringError: The model does not have one.
    """
    if layers is None:
        return list(range(count))
    for layer in layers:
        if not -count <= layer < count:
            raise SteeringError(f"there is no layer {layer}", fix=f"{name} has layers 0 to {count - 1}")
    return [layer % count for layer in layers]

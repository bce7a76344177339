"""Text and end of an answer, token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, final

from trimtab.engines.protocol import Completion, MarkedPrompt, Receipt, TokenLogprob
from trimtab.engines.transformers.decode.choose import Choice, TokenChooser

Decode: TypeAlias = Callable[[Sequence[int]], str]
BROKEN = "\ufffd"  # shown in place of bytes that are no character, or not yet


@final
class OutputText:
    """Text of one answer, in pieces that later tokens do not change.

    A piece never ends inside a character, nor where a stop string may have begun. The text ends before the stop string
    that is complete first (the longest of those that are complete at the same letter), however it is cut into tokens.

    Args:
        decode: Returns the text of tokens.
        stop: Strings that end the text.
    """

    def __init__(self, decode: Decode, *, stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = stop
        self._longest = max(map(len, stop), default=0)
        self._tokens: list[int] = []
        # Only the latest tokens are decoded each time. The window begins one piece early, as some tokenizers write the
        # first token of a text otherwise than the same token inside it.
        self._window, self._border = 0, 0  # tokens at which the window and its last piece begin
        self._seen = 0  # letters of the window's text that are in ``text``
        self.text = ""  # with what is held back
        self._shown = 0
        self.stopped_by: str | None = None

    def take(self, token: int, *, may_stop: bool = True) -> str:
        """Append a token, and return the piece of text that it completes.

        Args:
            token: Its id.
            may_stop: False looks for no stop string that is complete with this token.
        """
        self._tokens.append(token)
        text = self._decode(self._tokens[self._window :])
        complete = text.rstrip(BROKEN)
        piece = complete[self._seen :]
        self._seen = max(self._seen, len(complete))
        self._append(piece, may_stop=may_stop)
        if piece and complete == text:
            self._window, self._border = self._border, len(self._tokens)
            self._seen = len(self._decode(self._tokens[self._window :]))
        return self._show(len(self.text) - (0 if self.stopped_by else self._held()))

    def finish(self) -> str:
        """End the text, and return the piece that was held back."""
        if self.stopped_by is None:
            self._append(self._decode(self._tokens[self._window :])[self._seen :], may_stop=False)
        return self._show(len(self.text))

    def _append(self, piece: str, *, may_stop: bool) -> None:
        begin = len(self.text)
        self.text += piece
        if not (piece and self._stop and may_stop):
            return
        found = []
        for stop in self._stop:
            at = self.text.find(stop, max(begin - len(stop) + 1, 0))
            if at >= 0:
                found.append((at + len(stop), at, stop))
        if found:
            _, at, self.stopped_by = min(found)
            self.text = self.text[:at]

    def _held(self) -> int:
        """Return how many of the last letters may be the beginning of a stop string."""
        for count in range(min(self._longest - 1, len(self.text) - self._shown), 0, -1):
            if any(stop.startswith(self.text[-count:]) for stop in self._stop):
                return count
        return 0

    def _show(self, end: int) -> str:
        piece = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece


@final
class RowAnswer:
    """Answer to one prompt while it is generated: its tokens, its text and its end.

    Args:
        chooser: Chooses its tokens.
        decode: Returns the text of tokens, without special tokens.
        decode_all: Returns the text of tokens, with special tokens.
        streamed: Whether the text is wanted piece by piece.
    """

    def __init__(self, chooser: TokenChooser, *, decode: Decode, decode_all: Decode, streamed: bool = False) -> None:
        self.chooser = chooser
        self.finish_reason: str | None = None  # None until it has ended
        self._decode, self._decode_all = decode, decode_all
        self._streamed = streamed
        self._output = OutputText(decode, stop=chooser.sampling.stop)
        self._choices: list[Choice] = []

    @property
    def tokens(self) -> list[int]:
        """Return the tokens so far."""
        return self.chooser.tokens

    @property
    def finished(self) -> bool:
        """Return True if the answer is complete."""
        return self.finish_reason is not None

    def take(self, choice: Choice) -> str:
        """Append a token, and return the piece of text that it completes, if text is streamed or has stop strings."""
        chooser, sampling = self.chooser, self.chooser.sampling
        chooser.take(choice.token)
        self._choices.append(choice)
        count = len(chooser.tokens)
        piece = ""
        if self._streamed or sampling.stop:
            piece = self._output.take(choice.token, may_stop=count >= sampling.min_tokens)
        constraint = chooser.constraint
        complete = constraint is not None and constraint.complete
        if self._output.stopped_by is not None or choice.token in chooser.stop_tokens or complete:
            self.finish_reason = "stop"
        elif count >= sampling.max_new_tokens:
            self.finish_reason = "length"
        if self.finished and (self._streamed or sampling.stop):
            piece += self._output.finish()
        return piece

    @property
    def stopped_by(self) -> str | int | None:
        """Return the stop string or the stop token that ended the answer; None if neither did."""
        if self._output.stopped_by is not None:
            return self._output.stopped_by
        last = self.tokens[-1] if self.tokens else None
        return last if last in self.chooser.stop_tokens else None

    @property
    def logprob(self) -> float | None:
        """Return the log-probability of a greedy answer, in nats."""
        return None if self.chooser.sampling.temperature > 0 else sum(choice.logprob for choice in self._choices)

    def token_logprob(self, number: int = -1) -> TokenLogprob | None:
        """Return a token's log-probability and alternatives, if asked for; by default the last one's."""
        if self.chooser.sampling.logprobs is None:
            return None
        choice = self._choices[number]
        return TokenLogprob(
            choice.token,
            self._text_of(choice.token),
            choice.logprob,
            tuple(TokenLogprob(token, self._text_of(token), logprob) for token, logprob in choice.alternatives),
        )

    def _text_of(self, token: int) -> str:
        """Return the text of a token behind another: some tokenizers drop the space of a text's first token."""
        return self._decode_all([token, token])[len(self._decode_all([token])) :]

    def completion(
        self, prompt: MarkedPrompt, receipt: Receipt, *, readings: Mapping[str, tuple[float, ...]]
    ) -> Completion:
        """Return the answer as it is, with what it was given."""
        logprobs = None
        if self.chooser.sampling.logprobs is not None:
            found = [self.token_logprob(number) for number in range(len(self._choices))]
            logprobs = tuple(each for each in found if each is not None)
        return Completion(
            text=self._decode(self.tokens) if self._output.stopped_by is None else self._output.text,
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason or "length",
            prompt=prompt,
            receipt=receipt,
            logprob=self.logprob,
            readings=readings,
            stopped_by=self.stopped_by,
            logprobs=logprobs,
        )

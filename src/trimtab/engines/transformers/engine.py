"""The engine over a transformers model: the one place where prompts, tokens, hooks and the model meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, final, overload

import numpy as np
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from trimtab.behaviours import Message
from trimtab.engines.base import Array, Collected, Completion, ForcedItem, Position, Prompt, Receipt, Span, Tokens
from trimtab.engines.finding import find_and_prove, is_encoder_decoder
from trimtab.engines.passes import Cost
from trimtab.engines.prefix_tree import build_chains, build_tree
from trimtab.engines.transformers.chat import as_messages, opening_cuts, render_chat
from trimtab.engines.transformers.fingerprint import fingerprint
from trimtab.engines.transformers.forcing import TreeTeacherForcing
from trimtab.engines.transformers.generation import (
    Generated,
    Sampling,
    count_repeats,
    generate_tokens,
    prepares_plainly,
)
from trimtab.engines.transformers.hooks import SteeringHooks
from trimtab.engines.transformers.mixes import Mix, additions_of, mixes_of, mixes_within
from trimtab.engines.transformers.prefill import join_rows, shared_prefill
from trimtab.engines.transformers.proof import WalkProof
from trimtab.engines.transformers.states import cost_of, read_states, spans_of, wanted_at
from trimtab.engines.transformers.streaming import TextStream
from trimtab.engines.transformers.walking import Sources
from trimtab.errors import PromptError, SteeringError
from trimtab.steering import RowsLike, Steering, SteeringLike
from trimtab.vectors import ModelInfo

ROWS = 128
PROOF_PUSH = 100.0


@final
class TransformersEngine:
    """Runs one model: renders, reads, steers, generates and scores.

    Attributes:
        model: The transformers model; its weights are never changed.
        tokenizer: Its tokenizer.
        info: What vectors depend on.
        blocks: The decoder blocks, or the encoder's, found and proven.
        proof: What was seen when they were steered on trial.
        has_encoder: Whether an encoder reads the prompts and a decoder answers.
        thinking: Whether a reasoning model is told to think before it answers; None leaves that to its template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        encoder: bool = False,
        thinking: bool | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        found = find_and_prove(model, encoder=encoder)
        self.blocks, self.proof = found.blocks, found.proof
        self.has_encoder = is_encoder_decoder(model)
        self.thinking = thinking
        self.info = ModelInfo(
            name=name,
            architecture=type(model).__name__,
            hidden_size=self.blocks.hidden_size,
            layers=len(self.blocks),
            fingerprint=fingerprint(model),
        )
        self._scopes: list[tuple[Steering, SteeringHooks]] = []
        self._answers_proven: bool | None = None
        self._proof = WalkProof(model, self.blocks, limit=self.context_window, never=self._why_never_walked())

    def __repr__(self) -> str:
        return f"<TransformersEngine {self.info.name}: {self.info.architecture}, {self.info.layers} layers>"

    def _why_never_walked(self) -> str:
        if self.has_encoder:
            return "an encoder reads every text as a whole"
        return "" if self.blocks.causal else "a state knows of the tokens after it too"

    # Text and tokens ---------------------------------------------------------------------------------------------

    @property
    def has_chat_template(self) -> bool:
        """Whether a string prompt is put to the model as a user message."""
        return bool(self.tokenizer.chat_template)

    @property
    def context_window(self) -> int | None:
        """How many tokens the model can read, if its config says so."""
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(window) if window and window > 0 else None

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """The tokens with which an answer ends."""
        configured = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        if configured is None:
            configured = self.tokenizer.eos_token_id
        if configured is None:
            return ()
        return tuple(configured) if isinstance(configured, (list, tuple)) else (int(configured),)

    def encode(self, text: str) -> Tokens:
        """Token ids of a text, with the tokenizer's own special tokens, never doubled."""
        start = self.tokenizer.bos_token
        special = not (start and text.startswith(start))
        return tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def render(self, messages: Prompt, *, continuation: str = "") -> str:
        """The chat as the model sees it, with ``continuation`` opening the assistant's turn.

        Raises:
            PromptError: It is not a chat, or the model's template does not take it.
        """
        return render_chat(self.tokenizer, as_messages(messages), continuation=continuation, thinking=self.thinking)

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        """``text`` cut after its first token, its second, and so on, ``limit`` at most."""
        return opening_cuts(self.tokenizer, text, limit=limit)

    # Reading -----------------------------------------------------------------------------------------------------

    @overload
    def hidden_states(
        self,
        texts: Sequence[str | Tokens],
        *,
        layers: Sequence[int] | None = ...,
        position: int | Literal["last", "mean"] = ...,
        span: Span | Sequence[Span] | None = ...,
        max_tokens: int | None = ...,
        share_prefixes: bool = ...,
        progress: Callable[[int, int], None] | None = ...,
    ) -> Array: ...

    @overload
    def hidden_states(
        self,
        texts: Sequence[str | Tokens],
        *,
        layers: Sequence[int] | None = ...,
        position: Literal["all"],
        span: Span | Sequence[Span] | None = ...,
        max_tokens: int | None = ...,
        share_prefixes: bool = ...,
        progress: Callable[[int, int], None] | None = ...,
    ) -> list[Array]: ...

    def hidden_states(
        self,
        texts: Sequence[str | Tokens],
        *,
        layers: Sequence[int] | None = None,
        position: Position = "last",
        span: Span | Sequence[Span] | None = None,
        max_tokens: int | None = None,
        share_prefixes: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array | list[Array]:
        """Outputs of decoder blocks, before any final norm. Prefixes that texts share are computed once.

        Args:
            texts: Read as they are: no chat template, the tokenizer's own special tokens only. Or token ids.
            layers: 0-based blocks, in the order wanted; None for all. Negative numbers count from the end.
            position: Which state of each text: ``"last"`` token, the token of an index (negative from the end),
                ``"mean"`` over a span of tokens, or ``"all"`` of them.
            span: For ``"mean"`` and ``"all"``: first token and the one after the last, as in a slice, for all texts
                alike or one for each. None is the whole text, of which the first token is an attention sink in many
                models.
            max_tokens: Upper bound on the new tokens of one pass; a lower one takes less memory.
            share_prefixes: Off, whole texts are read in batches by length.
            progress: Called with (texts done, all).

        Returns:
            ``[text, layer, hidden]``, float32; for ``"all"`` a list of ``[token, layer, hidden]``, one for each text.

        The states of an encoder-decoder model are those of the token with which its decoder begins, once its encoder
        has read the text; or the encoder's own, if it was loaded with ``encoder=True``.

        Raises:
            PromptError: A text is empty or longer than the context window, or lacks the token or span asked for.
            SteeringError: A layer that the model does not have.

        Example:
            >>> model.hidden_states(["Hello"], layers=[15]).shape  # doctest: +SKIP
            (1, 1, 576)
        """
        sequences = self._sequences(texts)
        states = self._collect(
            sequences,
            layers=layers,
            position=position,
            span=span,
            max_tokens=max_tokens,
            share_prefixes=share_prefixes,
            progress=progress,
        ).states
        if position != "all":
            return states
        read = [len(self._start() if self._reads_sources else tokens) for tokens in sequences]
        lengths = [stop - start for start, stop in spans_of(span, read)]
        return np.split(states, np.cumsum(lengths)[:-1]) if lengths else []

    def collect(
        self,
        texts: Sequence[str | Tokens],
        *,
        layers: Sequence[int] | None = None,
        position: Position = "last",
        span: Span | Sequence[Span] | None = None,
        max_tokens: int | None = None,
        share_prefixes: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Collected:
        """``hidden_states`` with a report: whether prefixes were shared, if not why, and what was computed.

        For ``position="all"`` the states of all texts stand one after the other, ``[token, layer, hidden]``.

        Example:
            >>> model.collect(["Hello", "Hello you"]).report.path  # doctest: +SKIP
            'plain'
        """
        return self._collect(
            self._sequences(texts),
            layers=layers,
            position=position,
            span=span,
            max_tokens=max_tokens,
            share_prefixes=share_prefixes,
            progress=progress,
        )

    def _collect(
        self,
        sequences: Sequence[Tokens],
        *,
        layers: Sequence[int] | None,
        position: Position,
        span: Span | Sequence[Span] | None,
        max_tokens: int | None,
        share_prefixes: bool,
        progress: Callable[[int, int], None] | None,
    ) -> Collected:
        if max_tokens is not None and max_tokens < 1:
            raise PromptError(f"max_tokens is {max_tokens}", fix="allow at least 1")
        sources = None
        if self._reads_sources:
            read, sequences = sequences, [self._start()] * len(sequences)
            tree = build_chains(sequences)
            sources = Sources(dict(zip(tree.ends.tolist(), read, strict=True)), self._pad_token())
        else:
            tree = build_tree(sequences) if self.blocks.causal else build_chains(sequences)
        return read_states(
            self.model,
            self.blocks,
            tree,
            wanted_at(tree, position, span, lengths=[len(tokens) for tokens in sequences]),
            sources=sources,
            layers=self._layers(layers),
            cost=self._cost(max_tokens),
            proof=self._proof if share_prefixes else None,
            stop_early=not self._scopes,
            progress=progress,
        )

    def _sequences(self, texts: Sequence[str | Tokens]) -> list[Tokens]:
        if isinstance(texts, str):
            raise PromptError("hidden_states was given one text", fix="give a list of texts")
        return [
            self._checked(self.encode(text), text) if isinstance(text, str) else self._checked(self._ids(text), None)
            for text in texts
        ]

    def teacher_forcing(self, items: Sequence[ForcedItem], *, once: bool = False) -> TreeTeacherForcing:
        """Prepare prompts and answers for scoring under many steerings; ``once`` if only the base is wanted.

        Raises:
            SteeringError: The engine steers an encoder, which predicts nothing.
        """
        if self.blocks.encoder:
            raise SteeringError("an encoder predicts no tokens to score", fix="load the model without encoder=True")
        sources = None
        if self._reads_sources:
            sources = [item.prompt for item in items]
            items = [replace(item, prompt=self._start()) for item in items]
        return TreeTeacherForcing(
            self.model,
            self.blocks,
            items,
            cost=self._cost(),
            proof=self._proof,
            once=once,
            pad=self._pad_token(),
            sources=sources,
        )

    # Steering ----------------------------------------------------------------------------------------------------

    @contextmanager
    def steered(self, steering: SteeringLike) -> Iterator[None]:
        """Steer everything that runs inside the ``with`` block, this engine's calls and the model's own.

        What ``generate`` is asked for inside is added on top. The hooks are gone afterwards, also after an exception.

        Raises:
            SteeringError: What was steered inside is not what was asked for.
        """
        chosen = Steering.of(steering)
        with SteeringHooks(self.blocks, chosen.additions(self.info)) as hooks:
            self._scopes.append((chosen, hooks))
            try:
                yield
            finally:
                self._scopes.pop()
        hooks.check()

    @overload
    def generate(  # type: ignore[overload-overlap]  # a string is a sequence of strings, but the first case takes it
        self,
        prompts: str,
        *,
        steering: RowsLike = ...,
        max_new_tokens: int = ...,
        temperature: float = ...,
        top_p: float = ...,
        seed: int | None = ...,
        raw: bool = ...,
        use_cache: bool = ...,
        measure_kl: bool = ...,
        on_text: Callable[[str], None] | None = ...,
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        steering: RowsLike = ...,
        max_new_tokens: int = ...,
        temperature: float = ...,
        top_p: float = ...,
        seed: int | None = ...,
        raw: bool = ...,
        use_cache: bool = ...,
        measure_kl: bool = ...,
        on_text: Callable[[str], None] | None = ...,
    ) -> list[Completion]: ...

    def generate(
        self,
        prompts: str | Sequence[Prompt],
        *,
        steering: RowsLike = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        raw: bool = False,
        use_cache: bool = True,
        measure_kl: bool = False,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion | list[Completion]:
        """Answer one prompt, or each of a list, greedily and without penalties unless asked otherwise.

        Args:
            prompts: A string, one chat (a list of messages), or a list of these.
            steering: A list of ``(vector, strength)``, a ``Steering``, or text such as ``"happy:0.8 + formal:-0.3"``.
                It acts on every token, of the prompt and of the answer, and on every row alike; a list of such
                steerings gives each prompt its own.
            max_new_tokens: Upper bound on the answer's length.
            temperature: 0 is greedy.
            top_p: Sample from the smallest set of tokens with this much probability.
            seed: Makes sampling reproducible; a row's answer does not depend on its neighbours.
            raw: Take strings as bare text instead of user messages.
            use_cache: Off, every step reads everything again: slower, the same answer.
            measure_kl: Also measure what the steering spent on each answer, in nats per token.
            on_text: Called with each new piece of text of the first row, while it is generated.

        Returns:
            A completion for a string or one chat, a list of them for a list.

        Raises:
            PromptError: A prompt is empty, not a chat, or does not fit into the context window.
            SteeringError: The steering cannot be done, or was not done as asked.
        """
        if measure_kl and self._scopes:
            raise SteeringError("KL cannot be measured inside steered()", fix="pass steering= to generate instead")
        sampling = Sampling(max_new_tokens, temperature, top_p, seed, use_cache)
        single = isinstance(prompts, str) or _is_chat(prompts)
        listed: Sequence[Any] = [prompts] if single else prompts
        tokens = [self._prompt_tokens(prompt, raw=raw, room=max_new_tokens) for prompt in listed]
        mixes = mixes_of(Steering.of_rows(steering, rows=len(tokens)), self.info)
        repeats = count_repeats(tokens)
        completions: list[Completion] = []
        for at in range(0, len(tokens), ROWS):
            rows = slice(at, at + ROWS)
            stream = TextStream(self.decode, on_text) if on_text and at == 0 else None
            completions += self._generate_batch(
                tokens[rows], repeats[rows], mixes_within(mixes, rows), sampling, stream
            )
        if measure_kl:
            completions = self._with_kl(tokens, completions, mixes)
        return completions[0] if single else completions

    def _generate_batch(
        self,
        prompts: Sequence[Tokens],
        repeats: Sequence[int],
        mixes: Sequence[Mix],
        sampling: Sampling,
        stream: TextStream | None,
    ) -> list[Completion]:
        if self._scopes or any(mix.additions for mix in mixes):
            self._prove_answers(prompts[0])
        prefilled = self._prefilled(prompts, mixes) if sampling.use_cache and not self.has_encoder else None
        with SteeringHooks(self.blocks, additions_of(mixes)) as hooks:
            active = [hooks, *(scope for _, scope in self._scopes)]
            generated = generate_tokens(
                self.model,
                prompts,
                sampling,
                prefilled=prefilled,
                hooks=active,
                stop=self.stop_tokens,
                pad=self._pad_token(),
                start=self._start() if self.has_encoder else None,
                repeats=repeats,
                on_token=stream.token if stream else None,
            )
        if stream:
            stream.end()
        for hook in active:
            hook.check()
        receipts = self._receipts(mixes)
        return [
            self._completion(prompt, answer, receipt)
            for prompt, answer, receipt in zip(prompts, generated, receipts, strict=True)
        ]

    def _prove_answers(self, prompt: Tokens) -> None:
        """Make sure, once, that answers hang on the last block too, where a model prepares its passes in its own way.

        Raises:
            SteeringError: They do not.
        """
        if self._answers_proven is None and not prepares_plainly(self.model):
            push = np.where(np.arange(self.info.hidden_size) % 3, -PROOF_PUSH, PROOF_PUSH).astype(np.float32)
            first, pushed = (self._first_token(prompt, additions) for additions in ({}, {self.info.layers - 1: push}))
            self._answers_proven = first != pushed
        if self._answers_proven is False:
            raise SteeringError(
                f"answers of {self.info.name} do not hang on its last block: {self.info.architecture} generates in "
                "another way than it reads",
                fix="its states can be read, and its plain passes steered",
            )

    def _first_token(self, prompt: Tokens, additions: Mapping[int, Array]) -> Generated:
        with SteeringHooks(self.blocks, additions) as hooks:
            return generate_tokens(
                self.model,
                [prompt],
                Sampling(max_new_tokens=1, use_cache=False),
                hooks=[hooks],
                stop=self.stop_tokens,
                pad=self._pad_token(),
                start=self._start() if self.has_encoder else None,
                repeats=[0],
            )[0]

    def _prefilled(self, prompts: Sequence[Tokens], mixes: Sequence[Mix]) -> DynamicCache | None:
        """The prompts of each mix read as one tree; None where that saves nothing, or not for each of them."""
        caches = []
        smallest_first = sorted(mixes, key=lambda mix: len(mix.rows))  # they are the likeliest to save nothing
        for mix in smallest_first:
            with SteeringHooks(self.blocks, mix.additions) as hooks:
                own = [prompts[row] for row in mix.rows]
                cache = shared_prefill(self.model, self.blocks, own, cost=self._cost(), proof=self._proof)
            hooks.check()
            if cache is None:
                return None
            caches.append(cache)
        return join_rows(caches, [mix.rows for mix in smallest_first])

    def _receipts(self, mixes: Sequence[Mix]) -> list[Receipt]:
        """What every row was given, but for its tokens."""
        outer = sum((scope for scope, _ in self._scopes), Steering())
        layers = {layer for _, hooks in self._scopes for layer in hooks.layers}
        own = {row: mix for mix in mixes for row in mix.rows}
        steered = sum(len(mix.rows) for mix in mixes if layers or mix.additions)
        receipts = []
        for row in range(len(own)):
            where = tuple(sorted(layers | set(own[row].additions)))
            receipts.append(Receipt(str(outer + own[row].steering), where, steered if where else 0, 0))
        return receipts

    def _completion(self, prompt: Tokens, generated: Generated, receipt: Receipt) -> Completion:
        answer = generated.tokens
        read = self._start() if self._reads_sources else prompt
        fed = len(read) + (0 if self.blocks.encoder else len(answer) - 1)  # the last token is never read again
        return Completion(
            text=self.decode(answer),
            tokens=answer,
            finish_reason="stop" if answer and answer[-1] in self.stop_tokens else "length",
            prompt_tokens=len(prompt),
            receipt=replace(receipt, tokens=fed if receipt.layers else 0),
            logprob=generated.logprob,
        )

    def _with_kl(
        self,
        prompts: Sequence[Tokens],
        completions: Sequence[Completion],
        mixes: Sequence[Mix],
    ) -> list[Completion]:
        means = np.zeros(len(prompts))
        for mix in mixes:
            items = [ForcedItem(prompts[row], (completions[row].tokens,), reference=0) for row in mix.rows]
            scores = self.teacher_forcing(items).measure(mix.additions)
            means[list(mix.rows)] = scores.kl / np.maximum(scores.kl_tokens, 1)
        return [replace(c, receipt=replace(c.receipt, kl=float(kl))) for c, kl in zip(completions, means, strict=True)]

    # Checks ------------------------------------------------------------------------------------------------------

    def _ids(self, tokens: Tokens) -> Tokens:
        rows = int(self.model.get_input_embeddings().weight.shape[0])
        for token in tokens:
            if not 0 <= token < rows:
                raise PromptError(f"there is no token {token}", fix=f"{self.info.name} has tokens 0 to {rows - 1}")
        return tuple(tokens)

    def _cost(self, max_tokens: int | None = None) -> Cost:
        return cost_of(self.model, self.blocks, max_tokens=max_tokens)

    def _layers(self, layers: Sequence[int] | None) -> list[int]:
        count = self.info.layers
        if layers is None:
            return list(range(count))
        for layer in layers:
            if not -count <= layer < count:
                raise SteeringError(f"there is no layer {layer}", fix=f"{self.info.name} has layers 0 to {count - 1}")
        return [layer % count for layer in layers]

    def _prompt_tokens(self, prompt: Prompt, *, raw: bool, room: int) -> Tokens:
        if isinstance(prompt, str) and not prompt.strip():
            raise PromptError("the prompt is empty", fix="write something to answer")
        text = prompt if raw and isinstance(prompt, str) else self.render(prompt)
        return self._checked(self.encode(text), text, room=room)

    def _checked(self, tokens: Tokens, text: str | None, *, room: int = 0) -> Tokens:
        if text == "" or not tokens:
            raise PromptError("the text is empty", fix="give at least one token")
        window = self.context_window
        if window is not None and len(tokens) + room > window:
            text = self.decode(tokens) if text is None else text
            answer = f" and {room} for the answer" if room else ""
            raise PromptError(
                f"the prompt has {len(tokens)} tokens{answer}, but {self.info.name} reads {window} ({text[:40]!r}...)",
                fix="shorten it" + (" or lower max_new_tokens" if room else ""),
            )
        return tokens

    @property
    def _reads_sources(self) -> bool:
        """Whether an encoder reads the texts, and a decoder is what is looked at."""
        return self.has_encoder and not self.blocks.encoder

    def _start(self) -> Tokens:
        """The tokens with which a decoder begins, beside an encoder."""
        for config in (getattr(self.model, "generation_config", None), self.model.config):
            given = getattr(config, "decoder_start_token_id", None)
            if isinstance(given, int):
                return (given,)
        start = self.tokenizer.bos_token_id
        return (int(self._pad_token() if start is None else start),)

    def _pad_token(self) -> int:
        pad = self.tokenizer.pad_token_id
        if pad is not None:
            return int(pad)
        stop = self.stop_tokens
        return stop[0] if stop else 0


def _is_chat(prompts: Any) -> bool:
    return bool(prompts) and isinstance(prompts[0], (Message, Mapping))

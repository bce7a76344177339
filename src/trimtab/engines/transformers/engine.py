"""Engine over a transformers model, where prompts, tokens, hooks and the model meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from time import monotonic
from typing import Literal, NoReturn, TypedDict, Unpack, final, overload
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from trimtab.arrays import F32
from trimtab.defaults import ANSWER_TOKENS
from trimtab.engines.constraints import Constraint, ConstraintLike, ConstraintRows
from trimtab.engines.generation import Generation, Workload
from trimtab.engines.layer_search import find_layers, is_encoder_decoder
from trimtab.engines.protocol import (
    Capabilities,
    Choices,
    Collected,
    Completion,
    ForcedItem,
    GreedyScores,
    MarkedPrompt,
    Position,
    Prompt,
    Span,
    ThinkingMarkers,
    Tokens,
    as_messages,
    list_prompts,
)
from trimtab.engines.sampling import Sampling, SamplingOptions, make_sampling
from trimtab.engines.transformers.decode.answer import (
    Request,
    answers_batches,
    make_request,
    single_requests,
)
from trimtab.engines.transformers.decode.constraints import State, start_constraint
from trimtab.engines.transformers.decode.generation import Asked, StaticAnswers
from trimtab.engines.transformers.decode.loop import DecodingLoop
from trimtab.engines.transformers.forward.ambient import ambient_steering, steered, unsteered
from trimtab.engines.transformers.forward.collect import collect_states, score_prompts, spans_of
from trimtab.engines.transformers.forward.flat import why_not_flat
from trimtab.engines.transformers.forward.run import keeps_keys_and_values, place, prepared_proof
from trimtab.engines.transformers.grad.additive import has_gradients
from trimtab.engines.transformers.grad.objectives import ModelGradients
from trimtab.engines.transformers.model.context import ModelContext, check_config, model_lock, running
from trimtab.engines.transformers.model.fingerprint import fingerprint
from trimtab.engines.transformers.model.reorder import is_reordered
from trimtab.engines.transformers.score.forcing import PrefixTreeForcing, greedy_scores, predict
from trimtab.engines.transformers.text.chat_template import (
    check_length,
    check_tokens,
    encode_text,
    opening_cuts,
    pad_token,
    render_chat,
    start_tokens,
    stop_tokens,
    thinking_markers,
)
from trimtab.engines.transformers.text.turns import marked_prompt, token_texts
from trimtab.errors import ConstraintError, ModelError, PromptError, SteeringError
from trimtab.reading import Reading, make_reading
from trimtab.steering import RowsLike, Steering, SteeringLike
from trimtab.steering.conditions import At
from trimtab.vectors import ControlVector, ModelInfo


class _CollectOptions(TypedDict, total=False):
    """Options that both results of ``hidden_states`` have."""

    layers: Sequence[int] | None
    span: Span | Sequence[Span] | None
    max_tokens: int | None
    share_prefixes: bool
    progress: Callable[[int, int], None] | None


class _AnswerOptions(SamplingOptions, total=False):
    """Options that both results of ``generate`` have."""

    steering: RowsLike
    sampling: Sampling | None
    constraint: ConstraintRows
    raw: bool
    measure_kl: bool
    read: Sequence[ControlVector]
    normalize: float | None
    on_text: Callable[[str], None] | None


@final
class TransformersEngine:
    """Engine over one transformers model: renders, reads, steers, generates and scores.

    Attributes:
        model: The transformers model; its weights are never changed.
        tokenizer: Its tokenizer.
        info: What vectors depend on.
        blocks: The decoder blocks, or the encoder's, found and proven.
        proof: Result of steering them once.
        has_encoder: Whether an encoder reads the prompts and a decoder answers.
        thinking: Whether a reasoning model is asked to think before it answers; None leaves that to its template.
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
        check_config(model)
        self.model = model.eval()
        self.tokenizer = tokenizer
        with model_lock(model):  # another engine may be using the model
            layers = find_layers(model, encoder=encoder)
        self.blocks, self.proof = layers.blocks, layers.proof
        self.has_encoder = is_encoder_decoder(model)
        self.thinking = thinking
        self.info = ModelInfo(
            name=name,
            architecture=type(model).__name__,
            hidden_size=self.blocks.hidden_size,
            layers=len(self.blocks),
            fingerprint=fingerprint(model),
        )
        self._thinking_markers = thinking_markers(tokenizer)
        self._why_static: str | None = None  # why answers come in static batches; empty if they do not, None: not tried
        self._loop: DecodingLoop | None = None
        self._static = StaticAnswers(model)
        self._proof = prepared_proof(model, self.blocks, limit=self.context_window, encoder=self.has_encoder)

    def __repr__(self) -> str:
        return f"<TransformersEngine {self.info.name}: {self.info.architecture}, {self.info.layers} layers>"

    def __reduce__(self) -> NoReturn:
        raise ModelError("an engine is not copied or sent to another process", fix="call trimtab.load there")

    @property
    def _context(self) -> ModelContext:
        return ModelContext(
            model=self.model,
            blocks=self.blocks,
            info=self.info,
            prefix_sharing=self._proof,
            stop=self.stop_tokens,
            pad=pad_token(self.model, self.tokenizer),
            start=start_tokens(self.model, self.tokenizer) if self.has_encoder else None,
            sink=self.blocks.causal and not self.has_encoder,
            markers=self._thinking_markers,
            decode=self.decode,
            decode_all=self._decode_all,
        )

    def _decode_all(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))

    @property
    def has_chat_template(self) -> bool:
        """Return True if the model reads a string prompt as a user message."""
        return bool(self.tokenizer.chat_template)

    @property
    def thinking_markers(self) -> ThinkingMarkers | None:
        """Return the marks around the model's thoughts; None if it has none."""
        return self._thinking_markers

    @property
    def capabilities(self) -> Capabilities:
        """Return what can be done with this model."""
        return Capabilities(
            predicts=not self.blocks.encoder,
            reads_every_token=not self.has_encoder,
            gradients=has_gradients(self._context),
            context_window=self.context_window,
        )

    @property
    def context_window(self) -> int | None:
        """Return the number of tokens the model can read, if its config says so."""
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(window) if window and window > 0 else None

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Return the tokens with which an answer ends."""
        return stop_tokens(self.model, self.tokenizer)

    def encode(self, text: str) -> Tokens:
        """Return the token ids of a text, with the tokenizer's special tokens, never doubled."""
        return encode_text(self.tokenizer, text, continued=self.blocks.causal and not self.has_encoder)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def render(self, messages: Prompt, *, continuation: str = "") -> str:
        """Return the chat as the model sees it, with ``continuation`` opening the assistant's turn.

        Raises:
            PromptError: It is not a chat, or the model's template does not take it.
        """
        return render_chat(self.tokenizer, as_messages(messages), continuation=continuation, thinking=self.thinking)

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        """Return ``text`` cut after its first token, its second, and so on, at most ``limit`` times."""
        return opening_cuts(self.tokenizer, text, limit=limit)

    @overload
    def hidden_states(
        self,
        texts: Sequence[str | Tokens],
        *,
        position: int | Literal["last", "mean"] = ...,
        **options: Unpack[_CollectOptions],
    ) -> F32: ...

    @overload
    def hidden_states(
        self, texts: Sequence[str | Tokens], *, position: Literal["all"], **options: Unpack[_CollectOptions]
    ) -> list[F32]: ...

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
    ) -> F32 | list[F32]:
        """Return outputs of decoder blocks, before any final norm. Prefixes that texts share are computed once.

        Args:
            texts: Bare texts, to which the tokenizer adds its special tokens, or token ids.
            layers: 0-based blocks, in the order wanted; None for all. Negative numbers count from the end.
            position: Which state of each text: ``"last"`` token, the token of an index (negative from the end),
                ``"mean"`` over a span of tokens, or ``"all"`` of them.
            span: For ``"mean"`` and ``"all"``: a slice of tokens, for all texts or one for each. None is the whole
                text, whose first token is an attention sink in many models.
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
        states = self.collect(
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
        context = self._context
        read = [len(context.start if context.reads_sources and context.start else tokens) for tokens in sequences]
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
        finite: bool = True,
    ) -> Collected:
        """Return ``hidden_states`` with a report: whether prefixes were shared, if not why, and the cost.

        For ``position="all"`` the states of all texts follow each other, ``[token, layer, hidden]``. ``finite`` refuses
        infinities and NaN, which broken weights and overflow in float16 give.

        Raises:
            ModelError: A hidden state is not finite.

        Example:
            >>> model.collect(["Hello", "Hello you"]).report.path  # doctest: +SKIP
            'plain'
        """
        if max_tokens is not None and max_tokens < 1:
            raise PromptError(f"max_tokens is {max_tokens}", fix="allow at least 1")
        numbers = self._layer_numbers(layers)
        with running(self.model) as give_way:
            collected = collect_states(
                self._context,
                self._sequences(texts),
                layers=numbers,
                position=position,
                span=span,
                max_tokens=max_tokens,
                share_prefixes=share_prefixes,
                progress=progress,
                between=give_way,
            )
        if finite and not np.isfinite(collected.states.sum(dtype=np.float64)):
            broken = np.flatnonzero(~np.isfinite(collected.states).all(axis=(0, 2)))
            raise ModelError(
                f"hidden states of {self.info.name} are not finite from layer {numbers[broken[0]]} on",
                fix="check its weights; in float16 numbers overflow: load it with dtype='float32'",
            )
        return collected

    def marked(self, prompt: Prompt, *, raw: bool = False, room: int = 0, thinking: bool | None = None) -> MarkedPrompt:
        """Return a prompt as the model reads it, with the role of each token; ``thinking`` overrides the engine's.

        Raises:
            PromptError: It is empty, not a chat, or does not fit into the context window with ``room`` more tokens; or
                the model's chat template has no switch for thinking.
        """
        if isinstance(prompt, str) and not prompt.strip():
            raise PromptError("the prompt is empty", fix="write something to answer")
        marked = marked_prompt(
            self.tokenizer,
            prompt,
            raw=raw,
            thinking=self.thinking if thinking is None else thinking,
            sink=self._context.sink,
            encode=self.encode,
        )
        check_length(marked.tokens, marked.text, name=self.info.name, window=self.context_window, room=room)
        return marked

    def read(self, prompt: Prompt, vectors: Sequence[ControlVector], *, raw: bool = False) -> Reading:
        """Return projections of a text or a chat on vectors, by layer and token.

        Args:
            prompt: A string is a user message; a chat that ends with an assistant's message is read up to its end.
            vectors: What to read.
            raw: Take a string as bare text.

        Returns:
            For each vector its projections ``[layer, token]`` and, if it has neutral statistics, z-scores and a score.

        Raises:
            PromptError: It is empty, not a chat, has no words, or does not fit into the context window.
            VectorMismatchError: A vector belongs to another model.

        Example:
            >>> model.read("I never said that.", [happy]).score  # doctest: +SKIP
            -0.41
        """
        for vector in vectors:
            vector.check_model(self.info)
        marked = self.marked(prompt, raw=raw)
        if self._context.reads_sources:
            raise PromptError(f"an encoder reads the texts of {self.info.name}", fix="load it with encoder=True")
        states = self.hidden_states([marked.tokens], position="all")[0]
        pieces = token_texts(self.tokenizer, marked)
        return make_reading(vectors, states, text=marked.text, tokens=marked.tokens, pieces=pieces, words=marked.words)

    def scores(self, prompts: Sequence[Prompt], vector: ControlVector, *, at: At = "prompt") -> NDArray[np.float64]:
        """Return a z-score of each prompt on a vector, as conditions on prompts read it, ``[prompt]``.

        Args:
            prompts: Strings are user messages.
            vector: What to read.
            at: ``"prompt"``: as the vector's reader says, else the mean over the prompt's words; or
                ``"last-user-turn"``: the mean over the words of the last user message.

        Raises:
            PromptError: A prompt has no words, is not a chat, or does not fit into the context window.
            VectorError: The vector has no neutral statistics.
        """
        vector.check_model(self.info)
        marked = [self.marked(prompt) for prompt in prompts]
        with running(self.model) as give_way:
            return score_prompts(self._context, marked, vector, at=at, between=give_way)

    def _sequences(self, texts: Sequence[str | Tokens]) -> list[Tokens]:
        """Return texts as token ids, and token ids unchanged, after checking each."""
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise PromptError(f"{str(texts)[:60]!r} is not a list of texts", fix="give a list, also of one text")
        name, window, size = self.info.name, self.context_window, int(self.model.get_input_embeddings().weight.shape[0])
        sequences: list[Tokens] = []
        for text in texts:
            tokens = self.encode(text) if isinstance(text, str) else tuple(text)
            if not isinstance(text, str):
                check_tokens(tokens, name=name, vocabulary=size)
            check_length(tokens, text if isinstance(text, str) else str(tokens), name=name, window=window)
            sequences.append(tokens)
        return sequences

    @property
    def _vocabulary(self) -> int:
        """Return the number of tokens that the model can predict."""
        head = self.model.get_output_embeddings()
        table = head if hasattr(head, "weight") else self.model.get_input_embeddings()
        return int(table.weight.shape[0])

    def _layer_numbers(self, layers: Sequence[int] | None) -> list[int]:
        count = self.info.layers
        chosen = list(range(count)) if layers is None else list(layers)
        for layer in chosen:
            if not -count <= layer < count:
                raise SteeringError(f"there is no layer {layer}", fix=f"{self.info.name} has layers 0 to {count - 1}")
        return [layer % count for layer in chosen]

    @property
    def device(self) -> str:
        """Return the device on which the model begins, such as ``"cpu"``."""
        return str(place(self.model)[0])

    @property
    def gradients(self) -> ModelGradients | None:
        """Return gradients with respect to additions; None for a model whose hidden states padding would change."""
        return ModelGradients.of(self._context)

    def teacher_forcing(self, items: Sequence[ForcedItem], *, once: bool = False) -> PrefixTreeForcing:
        """Prepare prompts and answers for scoring under many steerings; ``once`` if only the base is wanted.

        Raises:
            SteeringError: The engine steers an encoder, which predicts nothing.
        """
        if self.blocks.encoder:
            raise SteeringError("an encoder predicts no tokens to score", fix="load the model without encoder=True")
        context, sources = self._context, None
        if context.reads_sources and context.start is not None:
            sources = [item.prompt for item in items]
            items = [replace(item, prompt=context.start) for item in items]
        return PrefixTreeForcing(
            self.model,
            self.blocks,
            items,
            cost=context.cost(),
            proof=self._proof,
            once=once,
            pad=context.pad,
            sources=sources,
            sink=context.sink,
        )

    def predict(self, sequences: Sequence[tuple[Tokens, Tokens]]) -> list[F32]:
        """Return the log-probabilities of the next token at every position of every answer.

        An open ``steered()`` and active adapters act. All tables stay in memory: ``token · vocabulary · 4`` bytes each.

        Args:
            sequences: Prompts and answers, as token ids.

        Returns:
            For each sequence ``[token, vocabulary]`` in nats: row ``n`` predicts token ``n`` of the answer.

        Raises:
            PromptError: A prompt is empty, a sequence does not fit into the context window, or there is no such token.
            SteeringError: The engine steers an encoder, or an open ``steered()`` has token scopes or conditions.

        Example:
            >>> (logprobs,) = model.predict([(question.prompt, question.answer)])  # doctest: +SKIP
            >>> logprobs.shape  # doctest: +SKIP
            (24, 49152)
        """
        return predict(self._context, sequences, window=self.context_window)

    def greedy_scores(self, items: Sequence[ForcedItem], *, max_tokens: int | None = None) -> GreedyScores:
        """Score answers under an open ``steered()``, and check whether greedy decoding would give them.

        Args:
            items: Prompts and answers; ``reference`` is ignored.
            max_tokens: Upper bound on the new tokens of one pass; a lower one takes less memory.

        Raises:
            SteeringError: An encoder reads the prompts, or an open ``steered()`` has token scopes or conditions.

        Example:
            >>> item = ForcedItem(model.encode("The sky is"), (model.encode(" blue"),))  # doctest: +SKIP
            >>> with model.steered([(happy, 1.0)]):  # doctest: +SKIP
            ...     model.greedy_scores([item]).greedy[0]
            array([ True])
        """
        return greedy_scores(self._context, items, max_tokens=max_tokens)

    def check_unsteered(self, work: str) -> None:
        """Refuse work that would learn from steered hidden states.

        Args:
            work: Names it in the message.

        Raises:
            SteeringError: A ``steered()`` block is open here, of this engine or of another one over the same model.
        """
        if (open_terms := ambient_steering(self.model)).terms:
            raise SteeringError(
                f"{work} inside steered({str(open_terms)!r}) would measure the steered model",
                fix="leave that block first",
            )

    @overload
    def choose(  # type: ignore[overload-overlap]  # as for ``generate``
        self, prompts: str, choices: Sequence[str], *, steering: SteeringLike = ..., raw: bool = ...
    ) -> Choices: ...

    @overload
    def choose(
        self, prompts: Sequence[Prompt], choices: Sequence[str], *, steering: SteeringLike = ..., raw: bool = ...
    ) -> list[Choices]: ...

    def choose(
        self,
        prompts: str | Sequence[Prompt],
        choices: Sequence[str],
        *,
        steering: SteeringLike = None,
        raw: bool = False,
    ) -> Choices | list[Choices]:
        """Return the probabilities of given answers, without generating any.

        Each answer is scored as a whole, with its end, so that "yes" and "yes please" differ. All are read in as few
        passes as memory allows, with their common beginnings once.

        Args:
            prompts: A string, one chat (a list of messages), or a list of these.
            choices: The answers, without a space in front, unless ``raw`` text needs one.
            steering: Steering of prompt and answers; unsteered by default.
            raw: Take strings as bare text instead of user messages.

        Raises:
            ConstraintError: There are no choices, too many, equal ones, or ones with special tokens.
            PromptError: A prompt is empty, not a chat, or does not fit into the context window.
            SteeringError: A ``steered()`` block is open, an encoder reads the prompts, or the steering has token scopes
                or conditions.

        Example:
            >>> model.choose("Is the sky green?", ["yes", "no"]).best  # doctest: +SKIP
            'no'
        """
        listed, single = list_prompts(prompts)
        self.check_unsteered("choosing")
        answers = [self._answer(choice) for choice in Constraint.choice(choices).choices]
        room = max(map(len, answers))
        ends: list[Tokens] = [(token,) for token in self.stop_tokens] or [()]  # an answer may end with any of them
        items = [
            ForcedItem(self.marked(prompt, raw=raw, room=room).tokens, tuple(a + end for a in answers for end in ends))
            for prompt in listed
        ]
        chosen = Steering.of(steering)
        with self.steered(chosen) if chosen.terms else nullcontext():
            scores = self.greedy_scores(items).logprob
        sums = [np.logaddexp.reduce(logprobs.reshape(len(answers), len(ends)), axis=1) for logprobs in scores]
        results = [Choices(tuple(choices), tuple(row.tolist()), str(chosen)) for row in sums]
        return results[0] if single else results

    def _answer(self, text: str) -> Tokens:
        """Return the tokens of an answer's text, without special tokens."""
        tokens = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if not tokens or not set(tokens).isdisjoint((*self.tokenizer.all_special_ids, *self.stop_tokens)):
            raise ConstraintError(
                f"the choice {text[:40]!r} has the text of a special token", fix="choose among plain texts"
            )
        return tokens

    def steered(self, steering: SteeringLike) -> AbstractContextManager[None]:
        """Steer everything that runs inside the ``with`` block, this engine's calls and the model's own.

        The block acts in its own context, a thread or an asyncio task; others are neither steered nor kept waiting.
        Requests take its steering with them when they are made, and what they ask for themselves comes on top. Token
        scopes and conditions act on requests alone, which know what is prompt and what is answer; any other pass inside
        is then an error.

        Raises:
            SteeringError: What was steered inside is not what was asked for.
        """
        return steered(self._context, Steering.of(steering).compile(self.info))

    @overload
    def generate(  # type: ignore[overload-overlap]  # a string is a sequence of strings, but the first case takes it
        self, prompts: str, *, n: None = None, **options: Unpack[_AnswerOptions]
    ) -> Completion: ...

    @overload
    def generate(
        self, prompts: Sequence[Prompt], *, n: int | None = None, **options: Unpack[_AnswerOptions]
    ) -> list[Completion]: ...

    def generate(
        self,
        prompts: str | Sequence[Prompt],
        *,
        n: int | None = None,
        steering: RowsLike = None,
        sampling: Sampling | None = None,
        constraint: ConstraintRows = None,
        raw: bool = False,
        measure_kl: bool = False,
        read: Sequence[ControlVector] = (),
        normalize: float | None = None,
        on_text: Callable[[str], None] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Completion | list[Completion]:
        """Answer one prompt, or each of a list, greedily and without penalties unless asked otherwise.

        Args:
            prompts: A string, one chat (a list of messages), or a list of these.
            steering: A list of ``(vector, strength)``, a ``Steering``, or text such as ``"happy:0.5 + formal:-0.3"``,
                for all prompts; or a list with one for each. A term acts on every token of prompt and answer, unless
                its scope or condition excludes it.
            n: Number of answers to each prompt. The result is then a list, prompt after prompt.
            sampling: How tokens are chosen and where answers end. A row's answer does not depend on its neighbours.
            constraint: What the answer must be, such as ``Constraint.choice(["yes", "no"])``, for all prompts; or a
                list with one, or None, for each. A constrained answer is unsteered, unless its constraint has
                ``steer=True``. One that runs out of tokens is incomplete: its ``finish_reason`` is ``"length"``.
            raw: Take strings as bare text instead of user messages.
            measure_kl: Measure the mean KL(base ‖ steered) of each answer, in nats per token.
            read: Vectors to read at every generated token; see ``stream``.
            normalize: Rescale each mix so that it is predicted to spend this many nats per token.
            on_text: Called with each new piece of text of the first row, while it is generated.
            options: Options of ``Sampling``, such as ``max_new_tokens``, ``temperature``, ``seed`` or ``stop``; they
                replace those in ``sampling``.

        Returns:
            A completion for a string or one chat, a list of them for a list or with ``n``.

        Raises:
            PromptError: A prompt is empty, not a chat, or does not fit into the context window; or an option is out of
                range.
            ConstraintError: The constraint is malformed or impossible, or became too complex to follow.
            SteeringError: The steering cannot be done, or was not done as asked.
        """
        listed, single = list_prompts(prompts)
        if n is not None and n < 1:
            raise PromptError(f"n is {n}", fix="ask for at least 1 answer to each prompt")
        count = 1 if n is None else n
        request = self._requested(
            [prompt for prompt in listed for _ in range(count)],
            [each for each in Steering.of_rows(steering, rows=len(listed)) for _ in range(count)],
            make_sampling(sampling, options, max_new_tokens=ANSWER_TOKENS),
            constraints=[each for each in Constraint.of_rows(constraint, rows=len(listed)) for _ in range(count)],
            raw=raw,
            read=read,
            normalize=normalize,
            measure_kl=measure_kl,
        )
        completions = self._fulfilled(request, on_text)
        return completions[0] if single and n is None else completions

    def _fulfilled(self, request: Request, on_text: Callable[[str], None] | None) -> list[Completion]:
        # With plain weights the last digits depend on the shape of passes, and so on the prefixes that earlier calls
        # have left. A call with its own salt gives the same numbers again.
        salt = b"" if is_reordered(self.model) else uuid4().bytes
        context, streams = self._context, on_text is not None
        generations = self._submitted(
            [
                Asked(each, context, streamed=streams and n == 0, salt=salt)
                for n, each in enumerate(single_requests(request))
            ]
        )
        try:
            for token in generations[0] if streams and generations else ():
                if on_text is not None and token.text:
                    on_text(token.text)
            return [generation.result() for generation in generations]
        finally:
            for generation in generations:  # those that an error or Ctrl-C has left over
                generation.cancel()
            for generation in generations:  # have all left the model before the caller goes on
                generation.close()

    def _submitted(self, asked: Sequence[Asked]) -> list[Generation]:
        """Hand requests to the decoding loop, or to a static batch.

        Static batches are for models that flat passes are not right for, and for what reads everything again at every
        step.
        """
        batched = any(each.request.cache is not None or not each.request.sampling.use_cache for each in asked)
        loop = None if batched else self._decoding()
        return self._static.submit(asked) if loop is None else loop.submit(asked)

    def _decoding(self) -> DecodingLoop | None:
        # Once it is known, nobody takes the lock: a request would wait for the pass that is running.
        if self._why_static is None:
            with running(self.model), unsteered():
                if self._why_static is None:  # no other thread came first
                    why = why_not_flat(self.model, self.blocks) or ""
                    self._loop = None if why else DecodingLoop(self.model, self.blocks)
                    self._why_static = why
        return self._loop

    @property
    def workload(self) -> Workload:
        """Return what the model has done for requests that join and leave at any token."""
        return Workload() if self._loop is None else self._loop.workload

    @property
    def stalled(self) -> float:
        """Return the seconds for which requests have waited for a pass; 0 while there are none."""
        return 0.0 if self._loop is None else self._loop.stalled

    def why_static(self) -> str | None:
        """Return why requests wait for static batches; None if they join and leave at any token, which is tried."""
        self._decoding()
        return self._why_static or None

    def answers_batches(self, prompt: Tokens) -> bool:
        """Return True if the model answers a row of a batch as it does alone; else rows are answered one by one."""
        with running(self.model), unsteered():
            return answers_batches(self._context, prompt)

    @property
    def keeps_turns(self) -> bool:
        """Return True if a chat can continue from the keys and values of its earlier turns."""
        return self.blocks.causal and not self.has_encoder and keeps_keys_and_values(self.model)

    def reply(
        self,
        messages: Prompt,
        *,
        cache: DynamicCache | None,
        steering: SteeringLike = None,
        sampling: Sampling | None = None,
        constraint: ConstraintLike | None = None,
        read: Sequence[ControlVector] = (),
        on_text: Callable[[str], None] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Completion:
        """Answer one chat whose beginning is in ``cache``; the other options are those of ``generate``.

        Only tokens that are not in the cache are read and steered; it then has all but the answer's last token.
        """
        request = self._single(
            messages, options, steering=steering, sampling=sampling, constraint=constraint, read=read, cache=cache
        )
        return self._fulfilled(request, on_text)[0]

    def stream(
        self,
        prompt: Prompt,
        *,
        steering: SteeringLike = None,
        sampling: Sampling | None = None,
        constraint: ConstraintLike | None = None,
        read: Sequence[ControlVector] = (),
        raw: bool = False,
        normalize: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generation:
        """Answer one prompt token by token, with a reading of every token on the vectors ``read``: a monitor.

        A reading is the z-score, against neutral text and averaged over the vector's reading layers, of the state from
        which the token was chosen; it costs a dot product per layer. The answer is generated beside those of other
        requests, whether its tokens are taken or not, until ``close()`` or until nobody refers to the stream.

        The options are those of ``generate``; vectors to read need neutral statistics.

        Returns:
            An iterator of ``StreamedToken``, which has a ``completion`` at its end.

        Example:
            >>> for token in model.stream("How was your day?", read=[happy]):  # doctest: +SKIP
            ...     print(token.text, token.readings["happy"])
        """
        return self.submit(
            prompt,
            steering=steering,
            sampling=sampling,
            constraint=constraint,
            read=read,
            raw=raw,
            normalize=normalize,
            **options,
        )

    def submit(
        self,
        prompt: Prompt | MarkedPrompt,
        *,
        steering: SteeringLike = None,
        sampling: Sampling | None = None,
        constraint: ConstraintLike | None = None,
        read: Sequence[ControlVector] = (),
        raw: bool = False,
        normalize: float | None = None,
        measure_kl: bool = False,
        deadline: float | None = None,
        salt: str = "",
        **options: Unpack[SamplingOptions],
    ) -> Generation:
        """Begin to answer one prompt, and return at once; the answers of many requests are generated together.

        A request joins those that are being answered as soon as there is room, and leaves when its answer is complete,
        cancelled or late. Its answer does not depend on the others. A prompt that is answered several times can be
        given as what ``marked`` returns.

        ``deadline`` is the number of seconds from now after which the request is given up. Beginnings of prompts are
        kept, and shared between requests with the same ``salt`` alone. The other options are those of ``generate``.

        Returns:
            A handle: its tokens by iteration (also ``async for``), its completion by ``result()`` or ``await``, and
            ``cancel()``. The request is cancelled when nobody refers to it any more.

        Raises:
            PromptError: The prompt is empty, not a chat, or does not fit into the context window; an option is out of
                range; or too many requests are waiting.
            ConstraintError: The constraint is malformed or impossible.
            SteeringError: The steering cannot be done.

        Example:
            >>> requests = [model.submit(prompt, steering=[(happy, 0.5)]) for prompt in prompts]  # doctest: +SKIP
            >>> [request.result().text for request in requests]  # doctest: +SKIP
        """
        request = self._single(
            prompt,
            options,
            steering=steering,
            sampling=sampling,
            constraint=constraint,
            raw=raw,
            read=read,
            normalize=normalize,
            measure_kl=measure_kl,
        )
        end = None if deadline is None else monotonic() + deadline
        asked = Asked(request, self._context, streamed=True, salt=salt.encode(), deadline=end)
        return self._submitted([asked])[0]

    def _single(
        self,
        prompt: Prompt | MarkedPrompt,
        options: SamplingOptions,
        *,
        steering: SteeringLike,
        sampling: Sampling | None,
        constraint: ConstraintLike | None,
        read: Sequence[ControlVector] = (),
        raw: bool = False,
        normalize: float | None = None,
        measure_kl: bool = False,
        cache: DynamicCache | None = None,
    ) -> Request:
        """Return the request of one prompt."""
        return self._requested(
            [prompt],
            [Steering.of(steering)],
            make_sampling(sampling, options, max_new_tokens=ANSWER_TOKENS),
            constraints=Constraint.of_rows(constraint, rows=1),
            raw=raw,
            read=read,
            normalize=normalize,
            measure_kl=measure_kl,
            cache=cache,
        )

    def _requested(
        self,
        prompts: Sequence[Prompt | MarkedPrompt],
        steerings: Sequence[Steering],
        sampling: Sampling,
        *,
        constraints: Sequence[Constraint | None],
        raw: bool = False,
        read: Sequence[ControlVector] = (),
        normalize: float | None = None,
        measure_kl: bool = False,
        cache: DynamicCache | None = None,
    ) -> Request:
        sampling.check_tokens(self._vocabulary, name=self.info.name)
        return make_request(
            [self._fitting(prompt, raw=raw, room=sampling.max_new_tokens) for prompt in prompts],
            steerings,
            sampling,
            info=self.info,
            constraints=[None if each is None else self._start(each) for each in constraints],
            ambient=ambient_steering(self.model),
            read=read,
            normalize=normalize,
            measure_kl=measure_kl,
            cache=cache,
        )

    def _fitting(self, prompt: Prompt | MarkedPrompt, *, raw: bool, room: int) -> MarkedPrompt:
        """Return a prompt as the model reads it, if it fits into the context window with its answer."""
        if not isinstance(prompt, MarkedPrompt):
            return self.marked(prompt, raw=raw, room=room)
        check_length(prompt.tokens, prompt.text, name=self.info.name, window=self.context_window, room=room)
        return prompt

    def _start(self, constraint: Constraint) -> State:
        """Compile a constraint before the model is waited for."""
        return start_constraint(constraint, self.tokenizer, vocabulary=self._vocabulary, stop=self.stop_tokens)

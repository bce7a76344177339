"""Deterministic engine in numpy: a toy language model for tests and examples, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Thread, local
from time import monotonic
from typing import Unpack, final

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F64, I64
from trimtab.defaults import ANSWER_TOKENS
from trimtab.engines.constraints import Constraint, ConstraintLike
from trimtab.engines.generation import Generation, Mailbox, Workload
from trimtab.engines.protocol import (
    Capabilities,
    Changes,
    Choices,
    Collected,
    CollectionReport,
    Completion,
    ForcedItem,
    ForcedScores,
    MarkedPrompt,
    Position,
    Prompt,
    Receipt,
    Span,
    StreamedToken,
    TermReceipt,
    TokenLogprob,
    Tokens,
    Turn,
    as_messages,
    list_prompts,
)
from trimtab.engines.sampling import Sampling, SamplingOptions, make_sampling
from trimtab.errors import CancelledGenerationError, ConstraintError, PromptError, SteeringError
from trimtab.reading import Reading, distinct_names, make_reading, neutral_of, projections, z_scores
from trimtab.steering import RowsLike, Steering, SteeringLike
from trimtab.steering.compiled import Change, LayerAdd, LayerClamp, LayerRotate
from trimtab.steering.conditions import At
from trimtab.vectors import ControlVector, ModelInfo

START, END = 0, 1
CHARACTERS = "".join(map(chr, range(32, 127))) + "\n"
VOCABULARY = 2 + len(CHARACTERS)
_TOKEN = {character: number for number, character in enumerate(CHARACTERS, start=2)}
_UNKNOWN = _TOKEN["?"]


@final
class FakeEngine:
    """Toy language model over characters, with the methods of a real engine.

    The hidden state of a token begins as its embedding plus the mean embedding of everything before it, and each layer
    adds ``tanh(h @ W) / 2``. So a prompt's wording reaches every later token, a hidden state depends on nothing after
    it, and an addition at a layer changes what follows at the same token only. All weights come from ``seed``.

    Args:
        layers: Number of layers.
        hidden: Width of the hidden states.
        seed: Of the weights.
        context_window: Tokens that the model reads at most; None for any number.

    Example:
        >>> engine = FakeEngine()
        >>> [completion] = engine.generate(["Hello"], max_new_tokens=3)
        >>> len(completion.tokens)
        3
    """

    def __init__(self, *, layers: int = 4, hidden: int = 16, seed: int = 0, context_window: int | None = None) -> None:
        draw = np.random.default_rng(seed)
        self._embedding = draw.standard_normal((VOCABULARY, hidden))
        self._weights = draw.standard_normal((layers, hidden, hidden)) / np.sqrt(hidden)
        self._head = draw.standard_normal((hidden, VOCABULARY)) * (2.0 / np.sqrt(hidden))
        self._head[:, START] = 0.0  # START has logit 0, which is hardly ever the largest
        self._thread = local()  # scopes belong to the thread that opened them
        self.info = ModelInfo(
            name="fake", architecture="FakeModel", hidden_size=hidden, layers=layers, fingerprint=f"fake-{seed}"
        )
        self.capabilities = Capabilities(context_window=context_window)

    def encode(self, text: str) -> Tokens:
        """Return one token for the start of the text and one for each character; unknown characters read as ``?``."""
        return (START, *(_TOKEN.get(character, _UNKNOWN) for character in text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the characters of tokens, without the start and the end."""
        return "".join(CHARACTERS[token - 2] for token in tokens if token > END)

    def render(self, messages: Prompt, *, continuation: str = "") -> str:
        """Return one line ``role: content`` for each message, then the opening of the assistant's turn."""
        lines = [f"{message.role}: {message.content}\n" for message in as_messages(messages)]
        return "".join(lines) + "assistant: " + continuation

    @property
    def thinking_markers(self) -> None:
        """None: a fake engine does not think."""
        return

    def marked(self, prompt: Prompt, *, raw: bool = False, thinking: bool | None = None) -> MarkedPrompt:
        """Return a prompt as the model reads it; every character is one token, so offsets are exact."""
        if thinking is not None:
            raise PromptError("a fake engine has no switch for thinking", fix="leave thinking out")
        if isinstance(prompt, str) and not prompt.strip():
            raise PromptError("the prompt is empty", fix="write something to answer")
        if raw and isinstance(prompt, str):
            text, turns = prompt, tuple[Turn, ...]()
            counted = np.ones(len(text), dtype=bool)
            opening = len(text)
        else:
            text, turns, counted, opening = self._chat(prompt)
        offsets = ((0, 0), *((n, n + 1) for n in range(len(text))))
        tokens = self.encode(text)
        window = self.capabilities.context_window
        if window is not None and len(tokens) > window:
            raise PromptError(
                f"the prompt has {len(tokens)} tokens, but {self.info.name} reads {window} ({text[:40]!r}...)",
                fix="shorten it",
            )
        return MarkedPrompt(text, tokens, offsets, turns, (False, *counted.tolist()), opening)

    def _chat(self, prompt: Prompt) -> tuple[str, tuple[Turn, ...], NDArray[np.bool_], int]:
        messages = as_messages(prompt)
        text = self.render(messages)
        counted = np.zeros(len(text), dtype=bool)
        turns, at = [], 0
        for message in messages:
            start = at + len(message.role) + 2
            stop = start + len(message.content)
            turns.append(Turn(message.role, start + 1, stop + 1))  # tokens are one behind characters
            counted[start:stop] = message.role != "system"
            at = stop + 1
        return text, tuple(turns), counted, at

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        """Return ``text`` cut after its first character, its second, and so on."""
        return tuple(text[:end] for end in range(1, min(len(text), limit) + 1))

    def _forward(self, tokens: Tokens, changes: Mapping[int, Sequence[Change]]) -> tuple[F64, F64]:
        """Return hidden states ``[token, layer, hidden]`` and logits ``[token, vocabulary]``."""
        embedded = self._embedding[list(tokens)]
        before = np.cumsum(embedded, axis=0) - embedded
        counts = np.maximum(np.arange(len(tokens)), 1)[:, None]
        hidden = embedded + before / counts
        states = np.empty((len(tokens), self.info.layers, self.info.hidden_size))
        for layer in range(self.info.layers):
            hidden = hidden + np.tanh(hidden @ self._weights[layer]) / 2
            for change in changes.get(layer, ()):
                hidden = np.concatenate([hidden[:1], changed(hidden[1:], change)])  # never the attention sink
            states[:, layer] = hidden
        return states, hidden @ self._head

    def collect(
        self,
        texts: Sequence[str | Tokens],
        *,
        layers: Sequence[int] | None = None,
        position: Position = "last",
        span: Span | Sequence[Span] | None = None,
        max_tokens: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Collected:
        """Return hidden states of each text, read one after the other."""
        sequences = [self.encode(text) if isinstance(text, str) else tuple(text) for text in texts]
        chosen = list(range(self.info.layers)) if layers is None else list(layers)
        spans = [span] * len(sequences) if span is None or _is_span(span) else list(span)
        rows: list[F64] = []
        for number, (tokens, limits) in enumerate(zip(sequences, spans, strict=True)):
            states = self._forward(tokens, self._outer())[0][:, chosen]
            inside = states[slice(*limits)] if isinstance(limits, tuple) else states
            if position == "all":
                rows.extend(inside)
            elif position == "mean":
                rows.append(inside.mean(axis=0))
            else:
                rows.append(states[-1 if position == "last" else position])
            if progress is not None:
                progress(number + 1, len(sequences))
        count = sum(map(len, sequences))
        report = CollectionReport("plain", "a fake engine shares nothing", len(sequences), count, count, count)
        return Collected(np.array(rows, dtype=np.float32), report)

    def read(self, prompt: Prompt, vectors: Sequence[ControlVector], *, raw: bool = False) -> Reading:
        """Return projections of a text or a chat on vectors, by layer and token."""
        for vector in vectors:
            vector.check_model(self.info)
        marked = self.marked(prompt, raw=raw)
        states = self._forward(marked.tokens, {})[0].astype(np.float32)
        pieces = [marked.text[start:stop] for start, stop in marked.offsets]
        return make_reading(vectors, states, text=marked.text, tokens=marked.tokens, pieces=pieces, words=marked.words)

    def scores(self, prompts: Sequence[Prompt], vector: ControlVector, *, at: At = "prompt") -> F64:
        """Return a z-score of each prompt, as conditions on prompts read it."""
        vector.check_model(self.info)
        neutral_of(vector)
        last = at == "prompt" and vector.reader is not None and vector.reader.pool == "last"
        layers = vector.reading_layers
        scored = []
        for prompt in prompts:
            marked = self.marked(prompt)
            states = self._forward(marked.tokens, {})[0][marked.read_mask(at, last=last)]
            mean = projections(states[:, list(layers)].mean(axis=0).astype(np.float32), vector, layers)
            scored.append(z_scores(mean, vector, layers, pool="last" if last else "mean").mean())
        return np.array(scored)

    @property
    def _scope(self) -> Steering:
        scope: Steering = getattr(self._thread, "scope", Steering())
        return scope

    def check_unsteered(self, work: str) -> None:
        """Refuse work inside a ``steered()`` block of this thread."""
        if self._scope.terms:
            raise SteeringError(f"{work} inside steered({str(self._scope)!r})", fix="leave that block first")

    @contextmanager
    def steered(self, steering: SteeringLike) -> Iterator[None]:
        """Steer everything that runs inside the ``with`` block."""
        chosen = Steering.of(steering)
        self._changes(chosen)
        outer = self._scope
        self._thread.scope = outer + chosen
        try:
            yield
        finally:
            self._thread.scope = outer

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        steering: RowsLike = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> list[Completion]:
        """Answer each prompt; a row's answer depends on its prompt, its steering, the seed and its repeats only."""
        listed, _ = list_prompts(prompts)
        rows = Steering.of_rows(steering, rows=len(listed))
        marked = [self.marked(prompt) for prompt in listed]
        repeats = [sum(other.tokens == prompt.tokens for other in marked[:n]) for n, prompt in enumerate(marked)]
        return [
            self._answer(prompt, row, max_new_tokens, temperature, [seed or 0, again])
            for prompt, row, again in zip(marked, rows, repeats, strict=True)
        ]

    @property
    def workload(self) -> Workload:
        """Return nothing: passes are not counted."""
        return Workload()

    @property
    def stalled(self) -> float:
        """Return 0: no request ever waits."""
        return 0.0

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
        """Answer one prompt in a thread of its own; of constraints only choices are known, and ``salt`` is ignored."""
        marked = prompt if isinstance(prompt, MarkedPrompt) else self.marked(prompt, raw=raw)
        chosen = make_sampling(sampling, options, max_new_tokens=ANSWER_TOKENS)
        form = None if constraint is None else Constraint.of(constraint)
        if form is not None and form.kind == "tags":
            form = None  # what a fake engine writes never begins a tag
        if form is not None and form.kind != "choice":
            raise ConstraintError(f"a fake engine cannot follow a {form.noun}", fix="give choices")
        steered = Steering.of(steering, normalize=normalize)
        self._changes(steered)
        for vector in read:
            vector.check_model(self.info)
            neutral_of(vector)
        window = self.capabilities.context_window
        if window is not None and len(marked.tokens) + chosen.max_new_tokens > window:
            raise PromptError(
                f"the prompt has {len(marked.tokens)} tokens and {chosen.max_new_tokens} for the answer, but "
                f"{self.info.name} reads {window}",
                fix="shorten it or lower max_new_tokens",
            )
        end = None if deadline is None else monotonic() + deadline
        mailbox = Mailbox()

        def work() -> None:
            try:
                mailbox.close(self._write(marked, steered, chosen, form, tuple(read), measure_kl, mailbox, end))
            except BaseException as error:
                mailbox.close(error)

        Thread(target=work, daemon=True).start()
        return Generation(mailbox)

    def _write(
        self,
        prompt: MarkedPrompt,
        steering: Steering,
        sampling: Sampling,
        constraint: Constraint | None,
        read: tuple[ControlVector, ...],
        measure_kl: bool,
        mailbox: Mailbox,
        end: float | None,
    ) -> Completion:
        """Write an answer token by token into a mailbox, and return it whole."""
        left_alone = constraint is not None and constraint.unsteers
        if left_alone:
            steering = Steering()
        changes = self._changes(steering)
        noise = np.random.default_rng([sampling.seed or 0, 0])
        names = distinct_names([vector.behaviour.name for vector in read])
        forced: Tokens | None = None
        if constraint is not None:
            forced = (*self.encode(self._likeliest(prompt, constraint.choices, changes))[1:], END)
        tokens: list[int] = []
        logprobs: list[TokenLogprob] = []
        scores: list[list[float]] = []
        text, shown, stopped_by = "", 0, None
        held = max(map(len, sampling.stop), default=1) - 1  # characters that may be the beginning of a stop string
        finish_reason: str | None = None
        while finish_reason is None:
            if mailbox.cancelled:
                raise CancelledGenerationError("the answer was cancelled")
            if end is not None and monotonic() > end:
                raise CancelledGenerationError("the answer's deadline has passed")
            states, table = self._forward((*prompt.tokens, *tokens), changes)
            logits = table[-1].copy()
            if sampling.ignore_eos or len(tokens) < sampling.min_tokens:
                logits[END] = -np.inf
            for token, change in sampling.logit_bias.items():
                logits[token] += change
            tempered = sampling.temperature > 0
            drawn = logits / sampling.temperature + noise.gumbel(size=len(logits)) if tempered else logits
            token = int(np.argmax(drawn)) if forced is None else forced[len(tokens)]
            tokens.append(token)
            if sampling.logprobs is not None:
                logprobs.append(_token_logprob(token, _log_softmax(table[-1]), sampling.logprobs))
            scores.append([self._reading(states[-1], vector) for vector in read])
            text = self.decode(tokens)
            stops = [(text.index(stop), stop) for stop in sampling.stop if stop in text]
            if stops:
                at, stopped_by = min(stops)
                text, finish_reason = text[:at], "stop"
            elif token == END or token in sampling.stop_token_ids:
                finish_reason = "stop"
            elif len(tokens) == sampling.max_new_tokens:
                finish_reason = "length"
            visible = len(text) if finish_reason else max(len(text) - held, shown)
            piece, shown = text[shown:visible], visible
            named = dict(zip(names, scores[-1], strict=True))
            mailbox.put(StreamedToken(token, piece, named, logprobs[-1] if logprobs else None))
        receipt = self._receipt(prompt, tokens, steering)
        if measure_kl:
            base, steered = (self._logprobs(prompt.tokens, tuple(tokens), each) for each in ({}, changes))
            receipt = replace(receipt, kl=float((np.exp(base) * (base - steered)).sum(axis=1).mean()))
        return Completion(
            text=text,
            tokens=tuple(tokens),
            finish_reason=finish_reason,
            prompt=prompt,
            receipt=replace(receipt, reason="constrained") if left_alone else receipt,
            readings=dict(zip(names, zip(*scores, strict=True), strict=True)) if names else {},
            stopped_by=stopped_by,
            logprobs=tuple(logprobs) if sampling.logprobs is not None else None,
        )

    def _likeliest(
        self, prompt: MarkedPrompt, texts: str | tuple[str, ...], changes: Mapping[int, Sequence[Change]]
    ) -> str:
        logprobs = self._choice_logprobs(prompt, texts, changes)
        return texts[int(np.argmax(logprobs))]

    def _choice_logprobs(
        self, prompt: MarkedPrompt, texts: Sequence[str], changes: Mapping[int, Sequence[Change]]
    ) -> list[float]:
        """Return the log-probability of each text as a whole answer, with its end."""
        answers = [(*self.encode(text)[1:], END) for text in texts]
        tables = [self._logprobs(prompt.tokens, answer, changes) for answer in answers]
        return [float(table[range(len(a)), list(a)].sum()) for table, a in zip(tables, answers, strict=True)]

    def _reading(self, states: F64, vector: ControlVector) -> float:
        """Return the z-score of one token's states ``[layer, hidden]``, averaged over the reading layers."""
        layers = vector.reading_layers
        projected = projections(states[list(layers)].astype(np.float32), vector, layers)
        return float(z_scores(projected, vector, layers, pool="token").mean())

    def choose(
        self, prompts: Sequence[Prompt], choices: Sequence[str], *, steering: SteeringLike = None, raw: bool = False
    ) -> list[Choices]:
        """Return the probabilities of given answers to each prompt."""
        texts, steered = Constraint.choice(choices).choices, Steering.of(steering)
        changes = self._changes(steered)
        return [
            Choices(
                tuple(texts),
                tuple(self._choice_logprobs(self.marked(prompt, raw=raw), texts, changes)),
                str(steered),
            )
            for prompt in list_prompts(prompts)[0]
        ]

    def _answer(
        self, prompt: MarkedPrompt, steering: Steering, most: int, temperature: float, seed: Sequence[int]
    ) -> Completion:
        outer = self._scope
        changes = _joined([self._changes(outer), self._changes(steering)])
        noise = np.random.default_rng(seed)
        tokens: list[int] = []
        logprob = 0.0
        while len(tokens) < most and END not in tokens:
            logits = self._forward((*prompt.tokens, *tokens), changes)[1][-1]
            chosen = logits / temperature + noise.gumbel(size=len(logits)) if temperature > 0 else logits
            tokens.append(int(np.argmax(chosen)))
            logprob += float(_log_softmax(logits)[tokens[-1]])
        return Completion(
            text=self.decode(tokens),
            tokens=tuple(tokens),
            finish_reason="stop" if END in tokens else "length",
            prompt=prompt,
            receipt=self._receipt(prompt, tokens, outer + steering),
            logprob=logprob if temperature == 0 else None,
        )

    def _receipt(self, prompt: MarkedPrompt, tokens: Sequence[int], steering: Steering) -> Receipt:
        read = len(prompt.tokens) - 1 + max(len(tokens) - 1, 0)  # nothing reads the last token of the answer
        sequence = (*prompt.tokens, *tokens[:-1])
        terms = []
        for term in steering.terms:
            changes = self._changes(Steering((term,)))
            states = self._forward(sequence, {})[0][1:]
            moved = [
                np.linalg.norm(changed(states[:, layer], change) - states[:, layer], axis=-1)
                / np.linalg.norm(states[:, layer], axis=-1)
                for layer, several in changes.items()
                for change in several
            ]
            shift = float(np.mean(moved)) if moved and read else None
            terms.append(
                TermReceipt(
                    str(term),
                    tuple(changes),
                    read if changes else 0,
                    shift,
                    beyond_safe=term.beyond_safe if changes else None,
                )
            )
        layers = tuple(sorted({layer for term in terms for layer in term.layers}))
        touched = read if layers else 0
        return Receipt(str(steering), layers, touched, terms=tuple(terms))

    def _changes(self, steering: Steering) -> dict[int, list[Change]]:
        for term in steering.terms:
            if not term.tokens.is_all or term.condition is not None:
                raise SteeringError(f"{term}: a fake engine steers all tokens", fix="drop the scope and the condition")
        return {layer: list(changes) for layer, changes in steering.compile(self.info).changes.items()}

    def _outer(self) -> dict[int, list[Change]]:
        return self._changes(self._scope)

    def teacher_forcing(self, items: Sequence[ForcedItem], *, once: bool = False) -> FakeForcing:
        """Prepare prompts and answers for scoring."""
        outer = self._outer()
        return FakeForcing(self, tuple(items), outer, *self._scored(items, outer, None))

    def _scored(
        self, items: Sequence[ForcedItem], changes: Mapping[int, Sequence[Change]], base: Sequence[F64] | None
    ) -> tuple[ForcedScores, tuple[F64, ...]]:
        """Score every answer, with KL against ``base``; return also the log-probabilities along each reference."""
        logprobs, references, kl = [], [], np.zeros(len(items))
        for number, item in enumerate(items):
            tables = [self._logprobs(item.prompt, answer, changes) for answer in item.answers]
            logprobs.append(
                np.array([table[range(len(a)), list(a)].sum() for table, a in zip(tables, item.answers, strict=True)])
            )
            reference = tables[item.reference] if item.reference is not None else np.zeros((0, VOCABULARY))
            references.append(reference)
            if base is not None:
                kl[number] = (np.exp(base[number]) * (base[number] - reference)).sum()
        tokens: tuple[I64, ...] = tuple(np.array([len(a) for a in item.answers], dtype=np.int64) for item in items)
        kl_tokens = np.array([len(table) for table in references], dtype=np.int64)
        return ForcedScores(tuple(logprobs), tokens, kl, kl_tokens), tuple(references)

    def _logprobs(self, prompt: Tokens, answer: Tokens, changes: Mapping[int, Sequence[Change]]) -> F64:
        logits = self._forward((*prompt, *answer), changes)[1][len(prompt) - 1 : -1]
        return _log_softmax(logits)

    @property
    def gradients(self) -> None:
        """None: a fake engine has no gradients."""
        return


@final
@dataclass(frozen=True, eq=False)
class FakeForcing:
    """Prompts and answers prepared for scoring by a fake engine."""

    engine: FakeEngine
    items: tuple[ForcedItem, ...]
    outer: Mapping[int, Sequence[Change]]
    base: ForcedScores  # without any addition
    references: tuple[F64, ...]  # unsteered log-probabilities along each reference answer, [token, vocabulary]

    @property
    def norms(self) -> F64:
        """Return the mean hidden-state norm per layer, ``[layer]``, without attention sinks."""
        texts = [(*item.prompt, *answer) for item in self.items for answer in item.answers]
        states = np.concatenate([self.engine._forward(text, {})[0][1:] for text in texts])
        return np.asarray(np.linalg.norm(states, axis=-1).mean(axis=0))

    def measure(self, additions: Changes) -> ForcedScores:
        """Return the scores with ``additions[layer]`` added, or other changes made, at each layer's output."""
        changes = {n: [LayerAdd(one)] if isinstance(one, np.ndarray) else list(one) for n, one in additions.items()}
        return self.engine._scored(self.items, _joined([self.outer, changes]), self.references)[0]


def _token_logprob(token: int, logprobs: F64, alternatives: int) -> TokenLogprob:
    def one(number: int) -> TokenLogprob:
        text = {START: "<s>", END: "</s>"}.get(number) or CHARACTERS[number - 2]
        return TokenLogprob(number, text, float(logprobs[number]))

    likeliest = np.argsort(-logprobs, kind="stable")[:alternatives]
    return replace(one(token), alternatives=tuple(one(int(number)) for number in likeliest))


def changed(hidden: F64, change: Change) -> F64:
    """Return hidden states ``[token, hidden]`` after one change, by the formulas of ``trimtab.steering.compiled``."""
    if isinstance(change, LayerAdd):
        moved = hidden + change.added
        lengths = np.linalg.norm(hidden, axis=-1, keepdims=True) / np.linalg.norm(moved, axis=-1, keepdims=True)
        return moved * lengths if change.preserve_norm else moved
    direction = change.direction.astype(np.float64)
    along = hidden @ direction
    if isinstance(change, LayerClamp):
        return hidden + (np.clip(along, change.low, change.high) - along)[:, None] * direction
    assert isinstance(change, LayerRotate)
    across = hidden - along[:, None] * direction
    length = np.linalg.norm(across, axis=-1, keepdims=True)
    angle = np.arctan2(along, length[:, 0])  # 0 across the direction, π/2 along it
    turned = np.clip(angle + change.radians, -np.pi / 2, np.pi / 2)[:, None]
    unit = across / np.maximum(length, np.finfo(np.float64).tiny)
    moved = np.linalg.norm(hidden, axis=-1, keepdims=True) * (np.cos(turned) * unit + np.sin(turned) * direction)
    return np.asarray(moved)


def _log_softmax(logits: F64) -> F64:
    shifted = logits - logits.max(axis=-1, keepdims=True)  # against overflow
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _joined(several: Sequence[Mapping[int, Sequence[Change]]]) -> dict[int, list[Change]]:
    layers = sorted({layer for changes in several for layer in changes})
    return {layer: [change for changes in several for change in changes.get(layer, ())] for layer in layers}


def _is_span(span: Span | Sequence[Span]) -> bool:
    return len(span) == 2 and not isinstance(span[0], tuple)

"""Teacher forcing, prepared for scoring the same answers under many steerings.

Two savings, neither of which changes a result. Prompts and answers form a prefix tree, so what they share is computed
once (see ``forward.run``). And the layers below the lowest steered one give the same outputs as without steering, so
their stored outputs are returned instead of computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.arrays import F32, F64
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import Cost, Ints, PrefixTreePlan
from trimtab.engines.protocol import Changes, ForcedItem, ForcedScores, GreedyScores, Tokens
from trimtab.engines.transformers.forward.run import (
    Pass,
    PrefixSharingCheck,
    Sources,
    encoder_inputs,
    is_out_of_memory,
    place,
    release,
    run_plan,
)
from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.engines.transformers.model.context import ModelContext, running
from trimtab.engines.transformers.score.kl import Base
from trimtab.engines.transformers.score.logits import PassTargets, answer_tree, logits_at, token_logprobs
from trimtab.engines.transformers.text.chat_template import check_length, check_tokens
from trimtab.errors import SteeringError

T = TypeVar("T")
READINGS = 20  # typical number of measurements of one set
STORED_BYTES = 2 * 1024**3
SINK_FACTOR = 8.0  # a token with this multiple of the median norm is an attention sink


@final
class PrefixTreeForcing:
    """Prompts and answers prepared for one model; see ``TeacherForcing``.

    Attributes:
        halved_to: Tokens of a pass after memory ran out; None if it did not.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: DecoderLayers,
        items: Sequence[ForcedItem],
        *,
        cost: Cost,
        proof: PrefixSharingCheck,
        once: bool = False,
        pad: int = 0,
        sources: Sequence[Tokens] | None = None,
        sink: bool = True,
    ) -> None:
        self._sink = sink
        self._model = model
        self._blocks = blocks
        self._items = tuple(items)
        self._tree, self._targets = answer_tree(items, share=sources is None and blocks.causal)
        self._sources: Sources | None = None
        if sources is not None:
            read = [source for source, item in zip(sources, items, strict=True) for answer in item.answers if answer]
            self._sources = Sources(dict(zip(self._tree.ends.tolist(), read, strict=True)), pad)
        self._proof = proof
        self._times = 1 if once else READINGS
        self._store = not once and proof.skips is not False and self._bytes_to_store() <= STORED_BYTES
        self.halved_to: int | None = None
        with running(self._model) as give_way:
            self._set_out(cost)
            give_way()
            self.base = self._fitting(lambda: self.base, between=give_way)

    def _set_out(self, cost: Cost) -> None:
        """Plan the passes and clear everything recorded."""
        self._cost = cost
        self._plan = self._proof.plan(self._tree, cost, times=self._times)
        self._asked: list[PassTargets] = []
        self._stored: list[list[Any]] = []
        self._reference: list[Base] = []
        self._norm_sums = np.zeros(len(self._blocks))
        self._norm_tokens = np.zeros(len(self._blocks))

    def _fitting(self, work: Callable[[], ForcedScores], *, between: Callable[[], None]) -> ForcedScores:
        """Return the result of ``work``, with passes halved (and the base recorded again) until memory suffices."""
        while True:
            try:
                if not self._asked:
                    self.base = self._run(self._record, between=between)
                    if self._store and not self._may_skip():
                        self._store = False
                        self._stored.clear()
                return work()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                largest = self._plan.largest(self._tree)
                self._set_out(replace(self._cost, max_tokens=max(largest // 2, 1)))
                if self._plan.largest(self._tree) >= largest:  # a pass is already one sequence, or one token
                    raise
                release(error)
                self.halved_to = self._plan.largest(self._tree)

    @property
    def shares_prefixes(self) -> bool:
        """Return True if common prefixes are computed once: the model permits it and it saves work."""
        return isinstance(self._plan, PrefixTreePlan)

    @property
    def norms(self) -> NDArray[np.float64]:
        """Return the mean hidden-state norm per layer, ``[layer]``, without attention sinks."""
        return self._norm_sums / self._norm_tokens

    def measure(self, additions: Changes) -> ForcedScores:
        """Return the scores with ``additions[layer]`` added to each block's output, or other changes made to it.

        Attention sinks stay unchanged, as in generation.

        Raises:
            SteeringError: A layer did not see every token.
        """
        additions = {
            layer: change for layer, change in additions.items() if not isinstance(change, np.ndarray) or change.any()
        }
        if not additions:
            return self.base

        def steered() -> ForcedScores:
            hooks = SteeringHooks(self._blocks, additions, sink=self._sink)

            def score(number: int, row: Pass, scores: _Scores) -> None:
                # The hooks are off between passes, in which other threads may run the model.
                with hooks, self._skipping(number, up_to=min(additions)):
                    self._score(number, row, scores)

            scores = self._run(score, between=give_way)
            hooks.check()
            return scores

        with running(self._model) as give_way:
            return self._fitting(steered, between=give_way)

    def _run(self, score: Callable[[int, Pass, _Scores], None], *, between: Callable[[], None]) -> ForcedScores:
        scores = _Scores(self._items)
        numbers = iter(range(self._plan.passes))
        with torch.inference_mode(), eagerly():
            for _ in self._passes(lambda row: score(next(numbers), row, scores)):
                between()
        return scores.done()

    def _passes(self, forward: Callable[[Pass], T]) -> Iterator[T]:
        return run_plan(self._tree, self._plan, forward, model=self._model, sources=self._sources)

    def _record(self, number: int, row: Pass, scores: _Scores) -> None:
        self._asked.append(PassTargets.of(self._targets, row.nodes))
        with self._recording(row.nodes):
            self._score(number, row, scores, keep_reference=True)

    def _score(self, number: int, row: Pass, scores: _Scores, *, keep_reference: bool = False) -> None:
        asked = self._asked[number]
        logits = logits_at(self._model, row.inputs, asked.rows, asked.columns).float()
        logprobs, normalizers = token_logprobs(logits, asked.at, asked.targets.token)
        scores.add_logprobs(asked.targets.answer, logprobs.double().cpu().numpy())
        measured = np.unique(asked.at[asked.measured])
        here = torch.from_numpy(measured).to(logits.device)
        if keep_reference:
            self._reference.append(Base.of(logits[here], normalizers[here]))
        elif len(measured):
            kl = self._reference[number].kl_to(logits[here], normalizers[here]).double().cpu().numpy()
            of_target = kl[np.searchsorted(measured, asked.at[asked.measured])]
            scores.add_kl(asked.targets.item[asked.measured], of_target)

    def _may_skip(self) -> bool:
        """Return True if stored outputs can replace blocks: in some models later blocks read more than outputs."""
        if self._proof.skips is None and self._asked:
            with torch.inference_mode(), eagerly():
                whole = next(self._passes(self._first_logits))
                ends = {0, max(len(self._blocks) - 2, 0)}
                self._proof.skips = all(self._same_with_skipped(whole, up_to=end) for end in ends)
        return self._proof.skips is not False

    def _first_logits(self, row: Pass) -> Tensor:
        return logits_at(self._model, row.inputs, self._asked[0].rows, self._asked[0].columns)

    def _same_with_skipped(self, whole: Tensor, *, up_to: int) -> bool:
        def skipping(row: Pass) -> Tensor:
            with self._skipping(0, up_to=up_to):
                return self._first_logits(row)

        try:
            return torch.equal(next(self._passes(skipping)), whole)
        except Exception as error:  # a later block may fail in any way
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            return False

    def _bytes_to_store(self) -> int:
        width = place(self._model)[1].itemsize
        return len(self._tree) * self._blocks.hidden_size * len(self._blocks) * width

    @contextmanager
    def _recording(self, nodes: Ints) -> Iterator[None]:
        """Store every block's output in the pass inside, and add up norms."""
        outputs: list[Any] = [None] * len(self._blocks)
        real = torch.from_numpy(nodes >= 0)

        def keep(layer: int, output: Any) -> None:
            state = self._blocks.tokens(self._blocks.state(output), nodes.shape[1])
            norms = state.float().norm(dim=-1)[real.to(state.device)]
            norms = norms[norms <= SINK_FACTOR * norms.median()]
            self._norm_sums[layer] += float(norms.sum())
            self._norm_tokens[layer] += len(norms)
            if self._store:
                outputs[layer] = output

        # Before the hooks of an enclosing steered(), which change the outputs.
        with self._blocks.hooked(range(len(self._blocks)), keep, prepend=True):
            yield
        self._stored.append(outputs)

    @contextmanager
    def _skipping(self, number: int, *, up_to: int) -> Iterator[None]:
        """Make blocks ``0 … up_to`` return the stored output of the last one, the only one that matters."""
        if not self._store:
            yield
            return
        stored = self._stored[number][up_to]
        skipped = self._blocks.modules[: up_to + 1]
        before = [block.__dict__.get("forward") for block in skipped]
        try:
            for block in skipped:
                block.forward = lambda *args, **kwargs: stored
            yield
        finally:
            for block, forward in zip(skipped, before, strict=True):
                if forward is None:
                    block.__dict__.pop("forward", None)
                else:
                    block.forward = forward


@final
class _Scores:
    """Partial sums of log-probabilities and KL."""

    def __init__(self, items: Sequence[ForcedItem]) -> None:
        self._items = items
        self._logprob = np.zeros(sum(len(item.answers) for item in items))
        self._kl = np.zeros(len(items))

    def add_logprobs(self, answers: Ints, logprobs: NDArray[np.float64]) -> None:
        np.add.at(self._logprob, answers, logprobs)

    def add_kl(self, items: Ints, kl: NDArray[np.float64]) -> None:
        np.add.at(self._kl, items, kl)

    def done(self) -> ForcedScores:
        counts = np.array([len(item.answers) for item in self._items], dtype=np.int64)
        kl_tokens = [0 if item.reference is None else len(item.answers[item.reference]) for item in self._items]
        return ForcedScores(
            logprob=tuple(np.split(self._logprob, np.cumsum(counts)[:-1])) if len(counts) else (),
            tokens=tuple(np.array([len(answer) for answer in item.answers], dtype=np.int64) for item in self._items),
            kl=self._kl,
            kl_tokens=np.array(kl_tokens, dtype=np.int64),
        )


def predict(context: ModelContext, sequences: Sequence[tuple[Tokens, Tokens]], *, window: int | None) -> list[F32]:
    """Compute ``TransformersEngine.predict``; the model can read ``window`` tokens."""
    if context.blocks.encoder:
        raise SteeringError("an encoder predicts no tokens", fix="load the model without encoder=True")
    vocabulary = int(context.model.get_input_embeddings().weight.shape[0])
    tables = []
    for prompt, answer in sequences:
        check_tokens(prompt + answer, name=context.info.name, vocabulary=vocabulary)
        read = prompt if context.start is not None else prompt + answer[:-1]
        check_length(read if prompt else (), str(read), name=context.info.name, window=window)
        with running(context.model), torch.inference_mode(), eagerly():
            tables.append(answer_logprobs(context, prompt, answer).cpu().numpy())
    return tables


def answer_logprobs(context: ModelContext, prompt: Tokens, answer: Tokens) -> torch.Tensor:
    """Return log-probabilities ``[token, vocabulary]`` at an answer, from a separate pass over prompt and answer.

    Unlike teacher forcing this also serves a single answer under hooks that follow a schedule, token by token.
    """
    device, _ = place(context.model)
    opening = prompt if context.start is None else context.start
    ids = torch.tensor([opening + answer[:-1]], device=device)
    inputs: dict[str, Any] = {"input_ids": ids}
    if context.start is not None:
        inputs = {"decoder_input_ids": ids, **encoder_inputs([prompt], pad=context.pad, device=device)}
    columns = len(opening) - 1 + np.arange(len(answer))
    logits = logits_at(context.model, {**inputs, "use_cache": False}, np.zeros_like(columns), columns)
    return logits.float().log_softmax(-1)


def greedy_scores(context: ModelContext, items: Sequence[ForcedItem], *, max_tokens: int | None = None) -> GreedyScores:
    """Compute ``TransformersEngine.greedy_scores``; where memory runs out, passes are halved.

    Of two equally likely tokens the one with the lower id counts as the likeliest, as in greedy decoding.
    """
    if context.start is not None or context.blocks.encoder:
        raise SteeringError(
            f"an encoder reads the prompts of {context.info.name}", fix="answers of decoder-only models can be scored"
        )
    tree, targets = answer_tree(items, share=context.blocks.causal)
    counts = [len(item.answers) for item in items]
    logprob: F64 = np.zeros(sum(counts))
    greedy: NDArray[np.bool_] = np.ones(sum(counts), dtype=bool)

    def score(row: Pass) -> None:
        asked = PassTargets.of(targets, row.nodes)
        logits = logits_at(context.model, row.inputs, asked.rows, asked.columns).float()
        if not len(asked.at):
            return  # run for its keys and values, which later passes need
        logprobs, _ = token_logprobs(logits, asked.at, asked.targets.token)
        np.add.at(logprob, asked.targets.answer, logprobs.double().cpu().numpy())
        likeliest = logits.argmax(-1).cpu().numpy()[asked.at] == asked.targets.token
        np.logical_and.at(greedy, asked.targets.answer, likeliest)

    with running(context.model) as give_way, torch.inference_mode(), eagerly():
        plan = context.prefix_sharing.plan(tree, context.cost(max_tokens))
        for _ in run_plan(tree, plan, score, model=context.model, on_halved=lambda _: None):
            give_way()
    if not counts:
        return GreedyScores((), ())
    ends = np.cumsum(counts)[:-1]
    return GreedyScores(tuple(np.split(logprob, ends)), tuple(np.split(greedy, ends)))

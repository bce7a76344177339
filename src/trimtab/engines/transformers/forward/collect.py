"""Collect hidden states: outputs of chosen blocks at chosen tokens of every sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import nn

from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import (
    Cost,
    Ints,
    Plan,
    PrefixTree,
    PrefixTreePlan,
    build_chains,
    build_tree,
    plan_batches,
)
from trimtab.engines.protocol import Collected, CollectionReport, MarkedPrompt, Position, Span, Tokens
from trimtab.engines.transformers.forward.ambient import ambient_steering, unsteered
from trimtab.engines.transformers.forward.capture import capture_outputs
from trimtab.engines.transformers.forward.run import Pass, PrefixSharingCheck, Sources, run_plan
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.errors import PromptError, VectorError
from trimtab.reading import neutral_of, projections, z_scores
from trimtab.steering.conditions import At
from trimtab.vectors import ControlVector, Pool


@dataclass(frozen=True)
class Wanted:
    """Weighted sum to read off a tree: ``result[target[i]] += weight[i] · hidden state of node[i]``."""

    node: Ints  # nodes of the tree, ascending
    target: Ints  # the row of the result that each one belongs to
    weight: NDArray[np.float32] | None  # its share in that row; None where every row is one node's state
    rows: int  # rows of the result


def wanted_at(
    tree: PrefixTree, position: Position, span: Span | Sequence[Span] | None, *, lengths: Sequence[int]
) -> Wanted:
    """Return the sums that a position of ``hidden_states`` needs of a tree.

    Raises:
        PromptError: There is no such position, or a sequence has no such token or span.
    """
    if position in ("mean", "all"):
        bounds = np.array(spans_of(span, lengths), dtype=np.int64).reshape(-1, 2)
        return _over_spans(tree, bounds[:, 0], bounds[:, 1], mean=position == "mean")
    if span is not None:
        raise PromptError(f"a span makes no sense for position {position!r}", fix="use it with 'mean' or 'all'")
    if position == "last":
        return _at_nodes(tree.ends)
    if isinstance(position, bool) or not isinstance(position, (int, np.integer)):
        raise PromptError(
            f"position {position!r} is not known", fix="use 'last', 'mean', 'all' or the index of a token"
        )
    for length in lengths:
        if not -length <= position < length:
            raise PromptError(f"a text of {length} tokens has no token {position}", fix="choose another position")
    return _at_nodes(_token_nodes(tree, np.array([position % length for length in lengths], dtype=np.int64)))


def spans_of(span: Span | Sequence[Span] | None, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first token and the one after the last for each sequence, given its number of tokens.

    Raises:
        PromptError: A span is empty, or there is not one for each sequence.
    """
    if span is None:
        return [(0, length) for length in lengths]
    alike = len(span) == 2 and not isinstance(span[0], Sequence)
    spans: list[Any] = [span] * len(lengths) if alike else list(span)
    if not all(isinstance(given, Sequence) for given in spans):
        raise PromptError(
            f"{span!r} is no span", fix="give (first token, the one after the last), or one for each text"
        )
    if len(spans) != len(lengths):
        raise PromptError(f"{len(spans)} spans for {len(lengths)} texts", fix="give one span, or one for each text")
    bounds = []
    for given, length in zip(spans, lengths, strict=True):
        if len(given) != 2 or not all(bound is None or isinstance(bound, (int, np.integer)) for bound in given):
            raise PromptError(
                f"{given!r} is no span", fix="give (first token, the one after the last), or None for either"
            )
        start, stop, _ = slice(*given).indices(length)
        if start >= stop:
            raise PromptError(f"the span {given} of a text of {length} tokens is empty", fix="choose another span")
        bounds.append((start, stop))
    return bounds


def _at_nodes(node: Ints) -> Wanted:
    order = np.argsort(node, kind="stable")
    return Wanted(node[order], order, None, len(node))


def _token_nodes(tree: PrefixTree, tokens: Ints) -> Ints:
    """Return the node of token ``tokens[i]`` of each sequence ``i``."""
    node = tree.ends.copy()
    while len(late := np.flatnonzero(tree.depth[node] > tokens)):
        node[late] = tree.parent[node[late]]
    return node


def _over_spans(tree: PrefixTree, first: Ints, last: Ints, *, mean: bool) -> Wanted:
    """Return tokens ``first[i]`` up to ``last[i]`` of each sequence: their mean, or a row for each."""
    lengths = last - first
    offsets = np.cumsum(lengths) - lengths
    sequence = np.arange(len(first))
    parts: list[tuple[Ints, Ints, NDArray[np.float64]]] = []
    at = tree.ends.copy()
    while len(sequence):  # one step up all paths at a time
        inside = (tree.depth[at] >= first[sequence]) & (tree.depth[at] < last[sequence])
        which, node = sequence[inside], at[inside]
        parts.append((node, which if mean else offsets[which] + tree.depth[node] - first[which], 1.0 / lengths[which]))
        at = tree.parent[at]
        sequence, at = sequence[at >= 0], at[at >= 0]
    if not parts:
        return _at_nodes(tree.ends)
    node, target, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(node, kind="stable")
    shares = weight[order].astype(np.float32) if mean else None
    return Wanted(node[order], target[order], shares, len(first) if mean else int(lengths.sum()))


def over_tokens(tree: PrefixTree, masks: Sequence[NDArray[np.bool_]]) -> Wanted:
    """Return the mean over the masked tokens of each sequence, at least one; ``masks`` has a ``[token]`` for each."""
    paths = [tree.path(int(end))[mask] for end, mask in zip(tree.ends, masks, strict=True)]
    counts = np.array([len(path) for path in paths])
    node = np.concatenate(paths)
    target = np.repeat(np.arange(len(paths)), counts)
    order = np.argsort(node, kind="stable")
    shares = np.repeat(1.0 / counts, counts).astype(np.float32)
    return Wanted(node[order], target[order], shares[order], len(paths))


def read_states(
    model: nn.Module,
    blocks: DecoderLayers,
    tree: PrefixTree,
    wanted: Wanted,
    *,
    layers: Sequence[int],
    cost: Cost,
    proof: PrefixSharingCheck | None,
    stop_early: bool,
    sources: Sources | None = None,
    progress: Callable[[int, int], None] | None = None,
    between: Callable[[], None] | None = None,
) -> Collected:
    """Collect layer outputs at the wanted nodes of a tree; hooks store nothing else, and no head is run.

    Args:
        model: The causal language model.
        blocks: Its decoder blocks.
        tree: The sequences.
        wanted: What to keep, and where it goes.
        layers: Which blocks, in the order wanted.
        cost: The cost model, by which passes are planned.
        proof: Whether prefix-tree passes are exact on this model; None never uses them.
        stop_early: Skip the blocks behind the last wanted one.
        sources: What an encoder reads beside each sequence.
        progress: Called with (sequences done, all).
        between: Called before and after every pass, when no hook is on the model.
    """
    plan = proof.plan(tree, cost) if proof is not None else plan_batches(tree, cost, may_pad=blocks.causal)
    if between is not None:
        between()  # the prefix-sharing check may have run the model
    result = np.zeros((wanted.rows, len(layers), blocks.hidden_size), dtype=np.float32)
    unwanted = {"use_cache"} if blocks.encoder else set()  # it has none
    is_wanted = np.zeros(len(tree) + 1, dtype=bool)  # the last is no node
    is_wanted[wanted.node] = True
    ending = np.bincount(np.append(tree.ends, len(tree)), minlength=len(tree) + 1)
    ending[-1] = done = 0
    report = CollectionReport(
        path="tree" if isinstance(plan, PrefixTreePlan) else "plain",
        reason=_why(plan, proof),
        sequences=len(tree.ends),
        tokens=int((tree.depth[tree.ends] + 1).sum()),
        distinct=len(tree),
    )

    def forward(row: Pass) -> Ints:
        rows, columns = np.nonzero(is_wanted[row.nodes])
        with (
            capture_outputs(blocks, layers, rows, columns, stop_early=stop_early) as captured,
            torch.inference_mode(),
            eagerly(),
        ):
            blocks.body(**{name: given for name, given in row.inputs.items() if name not in unwanted})
        if len(rows) and layers:
            _put(result, wanted, row.nodes[rows, columns], captured.stacked())
        return row.nodes

    def halved(size: int) -> None:
        nonlocal report
        report = replace(report, halved_to=size)

    for nodes in run_plan(tree, plan, forward, model=model, sources=sources, on_halved=halved):
        report = replace(report, passes=report.passes + 1, computed=report.computed + nodes.size)
        done += int(ending[nodes].sum())
        if progress is not None:
            progress(done, len(tree.ends))
        if between is not None:
            between()
    return Collected(result, report)


def _why(plan: Plan, proof: PrefixSharingCheck | None) -> str:
    if isinstance(plan, PrefixTreePlan):
        return "shared beginnings are computed once"
    if proof is None:
        return "asked for"
    return proof.problem or "sharing would save nothing"


def _put(result: NDArray[np.float32], wanted: Wanted, nodes: Ints, states: NDArray[np.float32]) -> None:
    """Add the hidden states of some nodes to all rows that want them."""
    order = np.argsort(nodes)
    nodes = nodes[order]
    first, last = np.searchsorted(wanted.node, nodes), np.searchsorted(wanted.node, nodes, side="right")
    counts = last - first
    source = np.repeat(order, counts)  # which state
    which = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))  # for which want
    targets = wanted.target[which]
    if wanted.weight is None:
        result[targets] = states[source]
        return
    rows, place_of = np.unique(targets, return_inverse=True)
    shares = csr_matrix((wanted.weight[which], (place_of, source)), shape=(len(rows), len(states)))
    for index in range(states.shape[1]):
        result[rows, index] += shares @ states[:, index]


def collect_states(
    context: ModelContext,
    texts: Sequence[Tokens],
    *,
    layers: Sequence[int],
    position: Position,
    span: Span | Sequence[Span] | None,
    max_tokens: int | None,
    share_prefixes: bool,
    progress: Callable[[int, int], None] | None,
    between: Callable[[], None],
) -> Collected:
    """Collect hidden states at a position or over spans of each text; see ``hidden_states`` of the engine.

    Raises:
        PromptError: A text lacks the token or span asked for.
    """
    sources = None
    sequences = list(texts)
    if context.reads_sources:
        assert context.start is not None
        sequences = [context.start] * len(texts)
        tree = build_chains(sequences)
        sources = Sources(dict(zip(tree.ends.tolist(), texts, strict=True)), context.pad)
    else:
        tree = build_tree(sequences) if context.blocks.causal else build_chains(sequences)
    return read_states(
        context.model,
        context.blocks,
        tree,
        wanted_at(tree, position, span, lengths=[len(tokens) for tokens in sequences]),
        sources=sources,
        layers=layers,
        cost=context.cost(max_tokens),
        proof=context.prefix_sharing if share_prefixes else None,
        stop_early=not ambient_steering(context.model).terms,
        progress=progress,
        between=between,
    )


def score_prompts(
    context: ModelContext,
    prompts: Sequence[MarkedPrompt],
    vector: ControlVector,
    *,
    at: At = "prompt",
    between: Callable[[], None] | None = None,
) -> NDArray[np.float64]:
    """Return a z-score for each prompt: how far it lies along a vector, in deviations of neutral prompts.

    At ``"prompt"`` as the vector's reader says: the mean over the prompt's words, or its last token. At
    ``"last-user-turn"`` the mean over the words of the last user message. Open ``steered()`` blocks play no part.

    Raises:
        PromptError: A prompt has no words to read, or no user message.
        VectorError: The vector has no neutral statistics or layers to be read at, or an encoder reads the prompts.
    """
    if at not in ("prompt", "last-user-turn"):
        raise PromptError(f"a prompt cannot be scored at {at!r}", fix="use 'prompt' or 'last-user-turn'")
    if context.start is not None:
        raise VectorError(
            f"{context.info.name} has an encoder, and no hidden state for each token of a prompt",
            fix="use a model that has only a decoder",
        )
    layers = vector.reading_layers
    if not layers:
        raise VectorError(f"{vector.behaviour.name!r} has no layers to be read at", fix="give one that steers some")
    neutral_of(vector)
    if not prompts:
        return np.zeros(0)
    pool: Pool = "last" if at == "prompt" and vector.reader is not None and vector.reader.pool == "last" else "mean"
    masks = [prompt.read_mask(at, last=pool == "last") for prompt in prompts]
    build = build_tree if context.blocks.causal else build_chains
    tree = build([prompt.tokens for prompt in prompts])
    with unsteered():
        states = read_states(
            context.model,
            context.blocks,
            tree,
            over_tokens(tree, masks),
            layers=layers,
            cost=context.cost(),
            proof=context.prefix_sharing,
            stop_early=True,
            between=between,
        ).states
    return np.asarray(z_scores(projections(states, vector, layers), vector, layers, pool=pool).mean(axis=-1))

"""Collect hidden states: of one tree, of chains where texts are read as wholes, or of a decoder beside an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab.engines.base import Collected, Position, Span, Tokens
from trimtab.engines.prefix_tree import build_chains, build_tree
from trimtab.engines.transformers.host import Host
from trimtab.engines.transformers.states import read_states, wanted_at
from trimtab.engines.transformers.walking import Sources


def collect_states(
    host: Host,
    texts: Sequence[Tokens],
    *,
    layers: Sequence[int],
    position: Position,
    span: Span | Sequence[Span] | None,
    max_tokens: int | None,
    share_prefixes: bool,
    progress: Callable[[int, int], None] | None,
) -> Collected:
    """Hidden states at a position or over spans of each text; see ``hidden_states`` of the engine.

    Raises:
        PromptError: A text lacks the token or span asked for.
    """
    sources = None
    sequences = list(texts)
    if host.reads_sources:
        assert host.start is not None
        sequences = [host.start] * len(texts)
        tree = build_chains(sequences)
        sources = Sources(dict(zip(tree.ends.tolist(), texts, strict=True)), host.pad)
    else:
        tree = build_tree(sequences) if host.blocks.causal else build_chains(sequences)
    return read_states(
        host.model,
        host.blocks,
        tree,
        wanted_at(tree, position, span, lengths=[len(tokens) for tokens in sequences]),
        sources=sources,
        layers=layers,
        cost=host.cost(max_tokens),
        proof=host.walks if share_prefixes else None,
        stop_early=not host.scopes,
        progress=progress,
    )

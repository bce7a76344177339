"""Find the decoder blocks of any model from its structure and one pass, without class names.

The blocks are the repeated module whose output *is* the residual stream: the next block reads it, it has a state for
every input token, and the model's result depends on the last one alone. One traced pass shows the first two; steering
checks the last.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.engines.layers import (
    ALIKE,
    Call,
    DecoderLayers,
    Layout,
    Run,
    Watched,
    differing,
    layout_of,
    probe_tokens,
    read_by,
    result_of,
    rounding,
    run_once,
    watched_pass,
)
from trimtab.errors import ModelError

ADDED_SIZE = 0.5  # of the root mean square of a state
BRANCHING = 0.02  # of the distance between the rows' results: less is rounding, more is another way to the result
HIDDEN = 1e30  # logits of forbidden tokens are about minus infinity


@dataclass(frozen=True)
class Proof:
    """Result of steering a model once to prove its layers.

    Attributes:
        problem: Why the blocks cannot be steered; None if they can.
        passes: Passes that it took, of six tokens each.
        moved: How far the result moved, relative to its own norm.
    """

    problem: str | None
    passes: int
    moved: float = 0.0


@dataclass
class _Seen:
    """Observations of the steered pass, by layer."""

    outputs: list[Tensor] = field(default_factory=list)
    changed: list[Tensor] = field(default_factory=list)
    read: list[bool] = field(default_factory=list)


def prove(
    run: Callable[[], Any], blocks: DecoderLayers, unsteered: Sequence[tuple[str, Tensor]], base: Tensor
) -> Proof:
    """Steer candidate blocks once in ``run``; ``unsteered`` has their names and outputs, ``base`` the result."""
    seen = _Seen()
    with ExitStack() as stack:
        stack.enter_context(blocks.rewritten(range(len(blocks)), _adding(blocks, seen, unsteered)))
        for handle in _watch_readers(blocks, seen):
            stack.callback(handle.remove)
        steered = result_of(run())
    problem = _problem(blocks, seen, unsteered, steered, base)
    if problem is not None:
        return Proof(problem, passes=1)
    if not torch.equal(result_of(run()), base):
        return Proof("the result is not the same again once the hooks are gone", passes=2)
    return Proof(None, passes=2, moved=moved_by(base[0], steered[0]))


def moved_by(before: Tensor, after: Tensor) -> float:
    """Return how far a result moved, relative to its norm; logits of forbidden tokens are left out."""
    before, after = before.float(), after.float()
    finite = (before.abs() < HIDDEN) & (after.abs() < HIDDEN)
    return float((after - before)[finite].norm() / before[finite].norm().clamp_min(1e-30))


def _adding(
    blocks: DecoderLayers, seen: _Seen, unsteered: Sequence[tuple[str, Tensor]]
) -> Callable[[int, Tensor], Tensor]:
    def rewrite(layer: int, hidden: Tensor) -> Tensor:
        seen.outputs.append(hidden.clone())
        signs = torch.ones(hidden.shape[-1], device=hidden.device, dtype=hidden.dtype)
        signs[layer % 3 :: 3] = -1.0
        size = hidden.float().square().mean().sqrt().clamp_min(1e-3).to(hidden.dtype)
        changed = hidden + ADDED_SIZE * size * signs
        if layer == len(blocks) - 1:
            # Both rows get the state of the first. If their results still differ, there is another way to the result.
            changed = changed[:1].expand_as(changed).contiguous()
        seen.changed.append(blocks.layout.put(unsteered[layer][1], changed).clone())
        seen.read.append(False)
        return changed

    return rewrite


def _watch_readers(blocks: DecoderLayers, seen: _Seen) -> list[torch.utils.hooks.RemovableHandle]:
    """Record whether some module next reads the output with the vector added."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not seen.changed or seen.read[-1]:
            return
        wanted = seen.changed[-1]
        seen.read[-1] = any(
            isinstance(given, Tensor) and given.shape == wanted.shape and torch.equal(given, wanted)
            for given in (*args, *kwargs.values())
        )

    inside = {id(part) for block in blocks.modules for part in block.modules()} - set(map(id, blocks.modules))
    return [
        module.register_forward_pre_hook(before, with_kwargs=True)
        for module in blocks.body.modules()
        if id(module) not in inside
    ]


def _problem(
    blocks: DecoderLayers, seen: _Seen, unsteered: Sequence[tuple[str, Tensor]], steered: Tensor, base: Tensor
) -> str | None:
    if len(seen.outputs) != len(blocks):
        return f"{len(seen.outputs)} of {len(blocks)} blocks took notice of a hook"
    last = len(blocks) - 1
    for layer, (name, before) in enumerate(unsteered):
        if layer < last and not seen.read[layer]:
            return f"what is added to the output of {name} does not reach what reads it"
        if layer > 0 and torch.equal(seen.outputs[layer], blocks.layout.view(before)):
            return f"{name} ignores what it is given: another input gave the same output"
    if torch.equal(steered[0], base[0]):
        return "adding to it does not move the result"
    distance = (base[0].float() - base[1].float()).norm()
    left = (steered[0].float() - steered[1].float()).norm()
    if float(distance) == 0.0:
        return "the result does not depend on what is read"
    if float(left / distance) > rounding(base.dtype, at_least=BRANCHING):
        return "the result does not depend on the last of them alone: something else leads to it past them"
    return None


PROVEN: dict[str, tuple[DecoderLayers, str, Proof]] = {}  # by class, config and structure; without modules


@dataclass(frozen=True)
class Found:
    """Blocks of a model with their proof."""

    blocks: DecoderLayers
    proof: Proof


@dataclass(frozen=True)
class _Chain:
    """Calls of which each passes its state to the next."""

    path: str
    calls: tuple[Call, ...]
    layout: Layout

    @property
    def start(self) -> int:
        return self.calls[0].start

    @property
    def end(self) -> int:
        return self.calls[-1].end


def find_layers(model: nn.Module, *, encoder: bool = False) -> Found:
    """Find the blocks of a language model's decoder, and prove that steering them steers the model.

    One pass of six tokens traces every module. Candidates are lists of modules in which each passes its state to the
    next, and modules that do so repeatedly with themselves. The one that ends last is taken if two more passes prove
    it. The result for a class, config and structure is cached.

    Args:
        model: A model that reads token ids.
        encoder: Take the encoder's blocks of an encoder-decoder model.

    Raises:
        ModelError: No list of modules behaves so, the proof fails, or the model does not run on tokens alone.
    """
    key = _identity(model, encoder=encoder)
    if key in PROVEN:
        blocks, body, proof = PROVEN[key]
        modules = tuple(model.get_submodule(name) for name in blocks.names)
        return Found(replace(blocks, modules=modules, body=model.get_submodule(body)), proof)
    run = runner(model, encoder=encoder)
    tokens = probe_tokens(vocabulary_of(model), _device(model))
    seen = watched_pass(model, run, tokens, _may_be_blocks(model))
    assert seen.result is not None
    problems: list[str] = []
    for chain in _candidates(model, seen):
        body = _body_name(model, chain, seen, tokens, encoder=encoder)
        blocks = _blocks(model, chain, seen, body=model.get_submodule(body), encoder=encoder)
        calls = [(call.name, call.state) for call in chain.calls if call.state is not None]  # none is: see _layout
        proof = prove(lambda: run_once(model, run, tokens), blocks, calls, seen.result)
        if proof.problem is None:
            if key is not None:
                PROVEN[key] = replace(blocks, modules=(), body=nn.Identity()), body, proof
            return Found(blocks, proof)
        problems.append(f"{chain.path}: {proof.problem}")
    if problems:
        raise ModelError(
            f"the decoder blocks of {type(model).__name__} cannot be proven: {'; '.join(problems)}",
            fix="steering would not do what it says on this model, so it is refused",
        )
    lists = [f"{name} ({len(members)})" for name, members in _lists(model).items()]
    raise ModelError(
        f"cannot find the decoder blocks of {type(model).__name__}: no list of modules passes a hidden state from "
        f"each to the next (lists seen: {', '.join(lists) or 'none'})",
        fix="only models whose blocks hand on one state for each token are supported",
    )


def runner(model: nn.Module, *, encoder: bool) -> Run:
    """Return the function that runs a model's decoder, or its encoder, on the probe's tokens."""
    if encoder:
        if not is_encoder_decoder(model):
            raise ModelError(f"{type(model).__name__} has no encoder beside its decoder", fix="leave encoder= out")
        return lambda tokens: encoder_of(model)(input_ids=tokens)
    if is_encoder_decoder(model):
        return lambda tokens: model(input_ids=tokens[:1].expand_as(tokens), decoder_input_ids=tokens, use_cache=False)
    return lambda tokens: model(input_ids=tokens, use_cache=False)


def is_encoder_decoder(model: nn.Module) -> bool:
    """Return True if one part of a model reads the text and another writes the answer."""
    config = getattr(model, "config", None)
    return bool(getattr(config, "is_encoder_decoder", False)) and (
        "decoder_input_ids" in inspect.signature(model.forward).parameters
    )


def encoder_of(model: nn.Module) -> nn.Module:
    """Return the part of an encoder-decoder model that reads the text."""
    encoder: nn.Module = model.get_encoder()  # type: ignore[operator]
    return encoder


def vocabulary_of(model: nn.Module) -> int:
    """Return the number of token ids of a model.

    Raises:
        ModelError: It has no single table of token embeddings.
    """
    try:
        table = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        table = None
    size = getattr(table, "num_embeddings", None) or getattr(getattr(table, "weight", None), "shape", [0])[0]
    if not size:
        raise ModelError(f"{type(model).__name__} has no table of token embeddings", fix="use a model that reads text")
    return int(size)


def _device(model: nn.Module) -> torch.device:
    weight = next((weight for weight in model.parameters() if weight.device.type != "meta"), None)
    return torch.device("cpu") if weight is None else weight.device


def _lists(model: nn.Module) -> dict[str, tuple[tuple[str, nn.Module], ...]]:
    return {
        name: tuple((f"{name}.{number}", member) for number, member in module.named_children())
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    }


def _may_be_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return members of lists, and modules with parts, which may run more than once."""
    members = {name: member for listed in _lists(model).values() for name, member in listed}
    return members | {name: module for name, module in model.named_modules() if name and any(module.children())}


def _candidates(model: nn.Module, seen: Watched) -> Iterator[_Chain]:
    """Yield chains of calls, the last to end first: exact ones, and those with other modules in between."""
    by_module: dict[nn.Module, list[Call]] = {}
    for call in seen.calls:
        by_module.setdefault(call.module, []).append(call)
    groups = {
        name: sorted((call for _, member in listed for call in by_module.get(member, ())), key=lambda c: c.start)
        for name, listed in _lists(model).items()
    }
    repeated = {
        calls[0].name: calls for calls in by_module.values() if len(calls) > 1 and any(calls[0].module.children())
    }
    exact = [
        _Chain(name, tuple(calls), layout)
        for name, calls in {**repeated, **groups}.items()
        if (layout := _chain_layout(calls)) is not None
    ]
    loose = [
        _Chain(name, tuple(calls), layout)
        for name, calls in groups.items()
        if len(calls) > 1 and not any(name == chain.path for chain in exact)
        if (layout := _loose_layout(calls, seen)) is not None
    ]
    chains = [*exact, *loose]
    outer = [chain for chain in chains if not any(_inside(chain, other) for other in chains)]
    yield from sorted(outer, key=lambda chain: -chain.end)


def _inside(chain: _Chain, other: _Chain) -> bool:
    """Return True if a chain runs within one call of a longer one, or is a part of it."""
    if len(other.calls) > len(chain.calls) and {call.start for call in chain.calls} <= {c.start for c in other.calls}:
        return True
    return len(other.calls) > 1 and any(call.start < chain.start and chain.end < call.end for call in other.calls)


def _chain_layout(calls: Sequence[Call]) -> Layout | None:
    """Return the layout of the states, if every call reads the state that the call before it returned."""
    layout = _layout(calls)
    return layout if all(_reads(after, before) for before, after in pairwise(calls)) else None


def _loose_layout(calls: Sequence[Call], seen: Watched) -> Layout | None:
    """Return the layout of the states, if each was read by some call before the next call ended."""
    layout = _layout(calls)
    if layout is None or len({id(call.module) for call in calls}) < len(calls):
        return None
    for before, after in pairwise(calls):
        between = [call for call in seen.calls if before.end < call.start < after.end]
        if read_by(before, between) is None:
            return None
    return layout


def _layout(calls: Sequence[Call]) -> Layout | None:
    """Return where rows and tokens are in the states of calls, none inside another; None unless all agree."""
    if not calls or any(after.start < before.end for before, after in pairwise(calls)):
        return None
    first = calls[0]
    if first.state is None or any(call.state is None or call.state.shape != first.state.shape for call in calls):
        return None
    layouts = [layout_of(given) for given in first.given if given.shape == first.state.shape]
    layout = next((layout for layout in layouts if layout is not None), None)
    return layout if layout is not None and all(call.given for call in calls) else None


def _reads(after: Call, before: Call) -> bool:
    return before.state is not None and any(
        given.shape == before.state.shape and torch.equal(given, before.state) for given in after.given
    )


def _blocks(model: nn.Module, chain: _Chain, seen: Watched, *, body: nn.Module, encoder: bool) -> DecoderLayers:
    last = chain.calls[-1]
    assert last.state is not None
    later = [call for call in seen.calls if call.start > last.end]
    reader = read_by(last, later)
    states = chain.layout.view(last.state)
    offset = chain.layout.offset
    known_early = differing(*states[:, offset : offset + ALIKE])
    ran = {call.name for call in chain.calls}
    return DecoderLayers(
        path=chain.path,
        names=tuple(call.name for call in chain.calls),
        modules=tuple(call.module for call in chain.calls),
        hidden_size=int(states.shape[-1]),
        body=body,
        layout=chain.layout,
        causal=not bool(known_early.any()),
        encoder=encoder,
        reader=reader.name if reader is not None else "",
        idle=tuple(name for name, _ in _lists(model).get(chain.path, ()) if name not in ran),
    )


def _body_name(model: nn.Module, chain: _Chain, seen: Watched, tokens: Tensor, *, encoder: bool) -> str:
    """Return the name of the smallest part that runs the blocks on tokens alone; empty for the whole model."""
    around = [call for call in seen.calls if call.start < chain.start and chain.end < call.end]
    base = getattr(model, "base_model", model)
    if is_encoder_decoder(model) and not encoder:  # a decoder alone would lack its encoder
        return next((call.name for call in around if call.module is base), "")
    for call in reversed(around):
        if call.was_given(tokens) and (call.module is base or encoder or _reads_alone(call.module, tokens)):
            return call.name
    return ""


def _reads_alone(part: nn.Module, tokens: Tensor) -> bool:
    try:
        run_once(part, lambda given: part(input_ids=given, use_cache=False), tokens)
    except ModelError:
        return False
    return True


def _identity(model: nn.Module, *, encoder: bool) -> str | None:
    """Return a key that equal models share; None if this model's code was changed at run time."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "to_json_string"):
        return None
    parts: list[Any] = [type(model), encoder, config.to_json_string(use_diff=False)]
    for name, module in model.named_modules():
        if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
            return None
        parts.append((name, type(module)))
    weight: Tensor | None = next(iter(model.parameters()), None)
    return str([*parts, None if weight is None else (weight.dtype, weight.device.type)])

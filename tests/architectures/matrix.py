"""Try the engine on one architecture and compare all that it does with the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from architectures.beside import BESIDE
from architectures.building import Architecture, build, inputs_for, quietly
from architectures.reference import Reference, Tokens, reference_for
from tiny_models import EOS, PAD, byte_tokenizer
from trimtab.engines.prefix_tree import Cost, Plan, PrefixTree, plan_batches, plan_prefix_tree
from trimtab.engines.protocol import Collected
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.forward import run
from trimtab.errors import ModelError
from trimtab.steering import Steering, Term
from trimtab.vectors import ControlVector

Outcome = Literal["works", "plain path only", "refused", "not built"]
CLOSE = 1e-5  # relative error of a state
SAME_LOGITS = 1e-4  # absolute, or of their spread
MOVED = 1e-3  # of their spread: less is no steering
STRENGTH = 0.5  # of a state's norm
NEW_TOKENS = 4
SEEDS = {"Qwen3_5MoeForCausalLM": 1}  # with others rounding alone moves some states by 2e-5
ROW = 8  # tokens of a pass, so that a walk takes several


def _random(count: int, seed: int) -> Tokens:
    return tuple(int(token) for token in np.random.default_rng(seed).integers(3, 250, count))


def _sharing(shared: int, *own: int) -> tuple[Tokens, ...]:
    """Sequences that begin alike."""
    return tuple((*_random(shared, 0), *_random(count, 1 + n)) for n, count in enumerate(own))


SHORT = (*_sharing(5, 6, 4, 2), _random(5, 0), _random(3, 9), *_sharing(5, 6))  # below every window; one comes twice
LONG = _sharing(30, 20, 17, 14)  # beyond the windows
BATCH = torch.tensor([_random(10, 20), _random(10, 21)])


@dataclass(frozen=True)
class Result:
    """Result for one architecture.

    Attributes:
        outcome: In a word or three.
        reason: Why it was refused, or not built.
        path: The list of its blocks.
        blocks: How many.
        width: Of its stream.
        reading: Which way texts are read that share beginnings, and why.
        note: What else is worth knowing.
    """

    architecture: Architecture
    outcome: Outcome
    reason: str = ""
    path: str = ""
    blocks: int = 0
    width: int = 0
    reading: str = ""
    note: str = ""


class Mismatch(AssertionError):  # noqa: N818
    """Difference between the engine and the reference."""


def check(architecture: Architecture) -> Result:
    """Build it, read with it, steer it and have it answer.

    Raises:
        Mismatch: Something is not as the reference has it.
    """
    with quietly():
        return _checked(architecture)


def _checked(architecture: Architecture) -> Result:
    try:
        model = build(architecture, seed=SEEDS.get(architecture.name, 0))
    except Exception as error:  # whatever hinders a class of transformers
        return Result(architecture, "not built", _line(error))
    beside = BESIDE.get(architecture.name)
    try:
        engine = TransformersEngine(model, byte_tokenizer(), name=architecture.name)
    except ModelError as error:
        reason = f"cannot read text alone: {beside.why}" if beside else refusal(str(error))
        return Result(architecture, "refused", reason)
    if beside is not None:
        raise Mismatch(f"{architecture} was taken, though it cannot read text alone: {beside.why}")
    reference = reference_for(model, architecture, engine.blocks)
    if len(reference.blocks) != len(engine.blocks):
        raise Mismatch(f"{len(engine.blocks)} blocks were found, {len(reference.blocks)} are known")
    short = check_states(engine, reference, SHORT)
    long = check_states(engine, reference, LONG)
    vector = steering_for(engine, reference)
    check_logits(engine, reference, vector)
    return Result(
        architecture,
        "works" if short.report.path == "tree" else "plain path only",
        path=engine.blocks.path,
        blocks=len(engine.blocks),
        width=engine.blocks.hidden_size,
        reading=_reading(short, long),
        note="; ".join(_notes(engine, reference, vector)),
    )


def check_states(engine: TransformersEngine, reference: Reference, sequences: Sequence[Tokens]) -> Collected:
    """Compare hidden states as they are read by plan and as they are read by a walk; returns the walk's, if any."""
    wanted = [reference.states(tokens).numpy() for tokens in sequences]
    for tokens, hooked in zip(sequences, wanted, strict=True):
        told = reference.reported(tokens)
        if told is not None:
            _compare("what transformers reports", hooked[:, :-1], told.numpy())
    every, last = np.concatenate(wanted), np.stack([states[-1] for states in wanted])
    _compare("as planned", engine.collect(sequences, position="all").states, every)
    _compare("as planned, last", engine.hidden_states(sequences), last)
    with always_walking():
        walked = engine.collect(sequences, position="all")
        _compare(f"on the {walked.report.path} path", walked.states, every)
        _compare("in small passes", engine.collect(sequences, position="all", max_tokens=ROW).states, every)
        _compare("in small passes, last", engine.hidden_states(sequences, max_tokens=ROW), last)
    return walked


def _compare(what: str, states: Any, wanted: Any) -> None:
    if states.shape != wanted.shape:
        raise Mismatch(f"{what}: the states are {states.shape}, not {wanted.shape}")
    off = np.linalg.norm(states - wanted, axis=-1) / np.maximum(np.linalg.norm(wanted, axis=-1), 1e-30)
    if not (off <= CLOSE).all():
        by_layer = ", ".join(f"{layer:.0e}" for layer in off.max(axis=0))
        raise Mismatch(f"{what}: states are off by {by_layer} (by layer)")


@contextmanager
def always_walking() -> Iterator[None]:
    """Inside, texts are read as a tree wherever the model allows it, also where plain batches would cost less."""

    def plan(tree: PrefixTree, cost: Cost, *, may_walk: bool = True, **_: object) -> Plan:
        return plan_prefix_tree(tree, cost) if may_walk else plan_batches(tree, cost)

    with patch.object(run, "plan_passes", plan):
        yield


def steering_for(engine: TransformersEngine, reference: Reference) -> ControlVector:
    """Random directions on the second block and the last, each as long as the reference's states."""
    states: Any = reference.states(SHORT[0]).numpy()
    layers = sorted({1, len(reference.blocks) - 1})
    noise = np.random.default_rng(5)
    directions = {layer: noise.standard_normal(states.shape[-1]).astype(np.float32) for layer in layers}
    return ControlVector(
        model=engine.info,
        directions={layer: direction / np.linalg.norm(direction) for layer, direction in directions.items()},
        norms={layer: float(np.linalg.norm(states[:, layer], axis=-1).mean()) for layer in layers},
        weights=dict.fromkeys(layers, 1.0),
    )


def additions_of(vector: ControlVector) -> Mapping[int, Tensor]:
    """Return the vector's addition by the definition of a coefficient."""
    return {
        layer: torch.from_numpy(np.array(direction)) * STRENGTH * vector.weights[layer] * vector.norms[layer]
        for layer, direction in vector.directions.items()
    }


def check_logits(engine: TransformersEngine, reference: Reference, vector: ControlVector) -> None:
    """Compare steered logits; see that steering moves them, and that nothing of it stays."""
    model, inputs = engine.model, inputs_for(engine.model, reference.architecture, BATCH)
    before = _logits(model, inputs)
    with engine.steered(Steering((Term(vector, coefficient=STRENGTH),))):
        steered = _logits(model, inputs)
    after = _logits(model, inputs)
    with reference.steering(additions_of(vector)):
        wanted = _logits(model, inputs)
    told = (before.abs() < 1e30) & (wanted.abs() < 1e30)  # forbidden tokens have about minus infinity
    spread = float(before[told].std())
    off = float((steered - wanted)[told].abs().max())
    if not off <= SAME_LOGITS * max(1.0, spread):
        raise Mismatch(f"steered logits are off by {off:.1e}; they spread by {spread:.1e}")
    if not float((steered - before)[told].abs().max()) > MOVED * spread:
        raise Mismatch("steering does not move the logits")
    if not torch.equal(before, after):
        raise Mismatch("the logits are not the same again behind the scope")


def _logits(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    torch.manual_seed(0)
    with torch.inference_mode():
        logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


def _notes(engine: TransformersEngine, reference: Reference, vector: ControlVector) -> Iterator[str]:
    if engine.blocks.idle:
        yield f"{len(engine.blocks.idle)} more in the list do not run on text alone"
    if engine.blocks.layout.offset or engine.blocks.layout.extra:
        yield "more positions than tokens"
    if engine.blocks.layout.rows != 0 or engine.blocks.layout.tokens != 1:
        yield "several streams" if engine.blocks.layout.tokens == 2 else "tokens before rows"
    if problem := answering_fault(engine, reference, vector):
        yield problem


def answering_fault(engine: TransformersEngine, reference: Reference, vector: ControlVector) -> str:
    """Return the remarks about answers; empty if there are none.

    Raises:
        Mismatch: Transformers' own ``generate``, steered by the reference, answers something else.
    """
    wanted = {use_cache: _by_hand(engine, reference, vector, use_cache=use_cache) for use_cache in (True, False)}
    for use_cache, told in wanted.items():
        if isinstance(told, str):
            continue
        answer = _by_engine(engine, vector, use_cache=use_cache)
        if isinstance(answer, str):
            return f"does not generate{'' if use_cache else ' without a cache'}: {answer}"
        # Where transformers' own cache changes its answers, ours is that of the model without a cache.
        if answer not in (told, wanted[False]):
            raise Mismatch(f"the answer is {answer}, not {told}")
        _check_answer_moves(engine, vector, use_cache=use_cache)
    cached, recomputed = wanted[True], wanted[False]
    if isinstance(recomputed, str):
        return f"transformers' own generate fails: {recomputed}"
    if isinstance(cached, str):
        return f"generates only with use_cache=False, as transformers' own cache fails: {cached}"
    return "" if cached == recomputed else "transformers' own cache changes its answers"


def _by_engine(engine: TransformersEngine, vector: ControlVector, *, use_cache: bool) -> Tokens | str:
    """Return the steered answer, or why there is none."""
    steering = Steering((Term(vector, coefficient=STRENGTH),))
    try:
        return engine.generate("Hi", steering=steering, max_new_tokens=NEW_TOKENS, use_cache=use_cache).tokens
    except Exception as error:  # whatever hinders it; it stands on the page
        return _line(error)


def _check_answer_moves(engine: TransformersEngine, vector: ControlVector, *, use_cache: bool) -> None:
    """See that the last block alone moves an answer: some models write by another way than they read."""
    last = max(vector.layers)
    alone = replace(vector, weights={layer: float(layer == last) for layer in vector.layers})
    steering = Steering((Term(alone, coefficient=STRENGTH),))
    steered, unsteered = (
        engine.generate("Hi", steering=chosen, max_new_tokens=1, use_cache=use_cache) for chosen in (steering, None)
    )
    if steered.logprob == unsteered.logprob:
        raise Mismatch("steering the last block does not move the answer")


def _by_hand(
    engine: TransformersEngine, reference: Reference, vector: ControlVector, *, use_cache: bool
) -> Tokens | str:
    """Return the answer of transformers' ``generate``, steered by hand, or why there is none."""
    model, own = engine.model, engine.model.generation_config
    prompt = torch.tensor([engine.encode(engine.render("Hi"))])
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=EOS if own.eos_token_id is None else own.eos_token_id,
        pad_token_id=PAD,
        decoder_start_token_id=reference.start if reference.has_encoder else None,
    )
    inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    model.generation_config = GenerationConfig()  # its own would fill in what is left open
    try:
        with torch.inference_mode(), reference.steering(additions_of(vector)):
            read = model.generate(**inputs, generation_config=config)
    except Exception as error:  # whatever hinders a class of transformers
        return _line(error)
    finally:
        model.generation_config = own
    return tuple(read[0, 1 if reference.has_encoder else prompt.shape[1] :].tolist())


def _reading(short: Collected, long: Collected) -> str:
    if long.report.path == "tree":
        return "tree"
    if short.report.path == "tree":
        return "tree for short texts, plain for long"
    return f"plain: {_plainly(long.report.reason)}"


def _plainly(reason: str) -> str:
    for part, phrase in (
        ("does not honour a mask", "heeds no mask of ours"),
        ("makes it fail", "takes no mask of ours"),
        ("encoder reads", "an encoder reads whole texts"),
        ("tokens after it", "a state knows of later tokens"),
    ):
        if part in reason:
            return phrase
    return reason


def refusal(text: str) -> str:
    """Return the main part of an engine's refusal."""
    for part, phrase in (
        ("depend on the last of them alone", "another path than the layers leads to the result"),
        ("no list of modules passes", "no list of blocks hands on one state"),
        ("no table of token embeddings", "has no table of token embeddings"),
    ):
        if part in text:
            return phrase
    return text.split(";")[0]


def _line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0].split(";")[0]
    return f"{type(error).__name__}: {shorten(text, 90, placeholder='…')}"

"""Check in a few small passes what an engine can do with a model.

Each capability is used once, with a random direction if it needs one, and the result is compared with the expected one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.behaviours import neutral_prompts
from trimtab.engines.layer_search import moved_by, runner, vocabulary_of
from trimtab.engines.layers import probe_tokens, result_of, run_once
from trimtab.engines.prefix_tree import PrefixTreePlan, build_tree
from trimtab.engines.protocol import Completion, ForcedItem
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.forward.run import PrefixSharingCheck, cost_of, place
from trimtab.engines.transformers.model.source import first_line
from trimtab.engines.transformers.score.forcing import SINK_FACTOR, PrefixTreeForcing
from trimtab.errors import PromptError, TrimtabError
from trimtab.steering import Steering, Term
from trimtab.vectors import BehaviourRef, ControlVector

State: TypeAlias = Literal["yes", "slow", "no"]
Texts: TypeAlias = tuple[str, ...]

TEXTS = 3
BARE = ("Rain", "On a quiet evening in the harbour")  # of different length, and with nothing in common
NEW_TOKENS = 4
COEFFICIENT = 0.5  # of a hidden state's norm
PASS_TOKENS = 64  # small passes keep the prefix-sharing check cheap
ENDINGS = 64  # of one text, so that prefix sharing pays off; only the check reads them
OFTEN = 1000  # repetitions for which the prefix-sharing check always pays off
FEWEST_FOR_SINKS = 8  # tokens of a text, for their median to mean something
FAST = "shared beginnings are read once, unsteered blocks skipped"
SPENT = "half a state's length at one layer spends"


@dataclass(frozen=True)
class Capability:
    """Something that an engine does with a model."""

    name: str
    state: State  # "slow": the same result at a higher cost
    why: str  # the observation


@dataclass(frozen=True)
class Sink:
    """Attention sink: a token whose hidden states in the middle layers are far longer than others."""

    position: int
    token: str
    texts: int  # number of texts that have it
    times_median: float  # norm, in units of the median over tokens


@dataclass(frozen=True)
class Checks:
    """Results of all checks."""

    capabilities: tuple[Capability, ...]
    texts: int  # number of neutral texts that were read
    norms: tuple[float | None, ...]  # mean norm per layer, without sinks; None if not finite
    sinks: tuple[Sink, ...]

    def state_of(self, name: str) -> State:
        """Return the state of one capability."""
        return next((each.state for each in self.capabilities if each.name == name), "no")


def try_out(engine: TransformersEngine) -> Checks:
    """Use every capability once."""
    texts = _texts(engine)
    proof = PrefixSharingCheck(engine.model, engine.blocks, limit=engine.context_window)
    checks = Checks((), len(texts), (), ())  # without norms where reading fails

    def reading() -> list[Capability]:
        nonlocal checks
        checks, reason = _read(engine, texts)
        collecting = _collecting(checks.norms)
        if collecting.state == "no":  # nothing can be compared
            return [collecting, replace(collecting, name="share prefixes")]
        return [collecting, _sharing(engine, proof, texts, reason)]

    capabilities = _tried(("collect states", "share prefixes"), reading)
    vector = _random_vector(engine, checks.norms)
    steering = Steering((Term(vector, coefficient=COEFFICIENT),))
    capabilities += _tried(("steer",), lambda: [_steering(engine, steering, layer=vector.layers[0])])
    answering = ("generate", "stream", "join at any token", "batches", "per-row steering")
    capabilities += _tried(answering, lambda: _answering(engine, steering))
    capabilities += _tried(("calibrate", "KL"), lambda: _scoring(engine, proof, vector, texts))
    return replace(checks, capabilities=tuple(capabilities))


def _tried(names: Sequence[str], work: Callable[[], list[Capability]]) -> list[Capability]:
    """Return the capabilities from ``work``, or "no" for each name if it raises."""
    try:
        with np.errstate(all="ignore"):  # values that are not finite are reported
            return work()
    except Exception as error:  # models may fail in any way
        why = error.problem if isinstance(error, TrimtabError) else first_line(error)
        return [Capability(name, "no", why) for name in names]


def _texts(engine: TransformersEngine) -> Texts:
    prompts = neutral_prompts().calibration[:TEXTS]
    try:
        return tuple(map(engine.render, prompts))
    except PromptError:
        return prompts


def _read(engine: TransformersEngine, texts: Texts) -> tuple[Checks, str]:
    """Return the norms and sinks, and the reason why no prefix was shared."""
    norms, reason = [], ""
    for text in texts:  # one at a time: hidden states of a large model take much memory
        collected = engine.collect([text], position="all", finite=False)
        norms.append(np.linalg.norm(collected.states.astype(np.float64), axis=-1))
        reason = collected.report.reason
    means = tuple(map(_mean_without_sinks, np.concatenate(norms).T))
    return Checks((), len(texts), means, _sinks(engine, texts, norms)), reason


def _mean_without_sinks(norms: NDArray[np.float64]) -> float | None:
    if not np.isfinite(norms).all():
        return None
    return float(norms[norms <= SINK_FACTOR * np.median(norms)].mean())


def _sinks(engine: TransformersEngine, texts: Texts, norms: Sequence[NDArray[np.float64]]) -> tuple[Sink, ...]:
    times_by_sink: dict[tuple[int, str], list[float]] = {}
    for text, of_tokens in zip(texts, norms, strict=True):
        tokens = engine.encode(text)
        layers = of_tokens.shape[1]
        middle = of_tokens[:, layers // 4 : max(3 * layers // 4, layers // 4 + 1)]
        if len(tokens) != len(middle) or len(tokens) < FEWEST_FOR_SINKS or not np.isfinite(middle).all():
            continue
        times = np.median(middle / np.maximum(np.median(middle, axis=0), 1e-30), axis=1)
        for position in np.flatnonzero(times >= SINK_FACTOR).tolist():
            token = str(engine.tokenizer.decode([tokens[position]]))
            times_by_sink.setdefault((position, token), []).append(float(times[position]))
    return tuple(Sink(*where, len(times), round(max(times), 1)) for where, times in sorted(times_by_sink.items()))


def _collecting(norms: Sequence[float | None]) -> Capability:
    broken = [layer for layer, norm in enumerate(norms) if norm is None]
    if broken:
        why = f"hidden states are not finite in {len(broken)} of {len(norms)} layers, the first of them {broken[0]}"
        return Capability("collect states", "no", why)
    return Capability("collect states", "yes", f"all {len(norms)} layers, and all their states are finite")


def _sharing(engine: TransformersEngine, proof: PrefixSharingCheck, texts: Texts, reason: str) -> Capability:
    if engine.blocks.causal and not engine.has_encoder:
        longest = max(map(engine.encode, texts), key=len)
        tree = build_tree([(*longest, token) for token in range(min(ENDINGS, vocabulary_of(engine.model)))])
        plan = proof.plan(tree, cost_of(engine.model, engine.blocks, max_tokens=PASS_TOKENS), times=OFTEN)
        if isinstance(plan, PrefixTreePlan):
            return Capability("share prefixes", "yes", "what texts begin with alike is read once, with the same states")
        reason = proof.problem or reason
    return Capability("share prefixes", "slow", f"beginnings are read again: {reason}")


def _random_vector(engine: TransformersEngine, norms: Sequence[float | None]) -> ControlVector:
    """Return a random direction at the middle layer, as long as a hidden state there."""
    layer = engine.info.layers // 2
    direction = np.random.default_rng(0).standard_normal(engine.info.hidden_size).astype(np.float32)
    return ControlVector(
        model=engine.info,
        directions={layer: direction / np.linalg.norm(direction)},
        norms={layer: (norms[layer] if norms else None) or 1.0},
        weights={layer: 1.0},
        behaviour=BehaviourRef("random", ""),
    )


def _steering(engine: TransformersEngine, steering: Steering, *, layer: int) -> Capability:
    device, _ = place(engine.model)
    tokens = probe_tokens(vocabulary_of(engine.model), device)
    run = runner(engine.model, encoder=engine.blocks.encoder)

    def result() -> torch.Tensor:
        return result_of(run_once(engine.model, run, tokens)).float()

    before = result()
    if bool(before.isnan().any()):
        return Capability("steer", "no", "the logits are not numbers, also without steering")
    with engine.steered(steering):
        steered = result()
    if not torch.equal(result(), before):
        return Capability("steer", "no", "the logits are not the same again once the steering is gone")
    moved = moved_by(before, steered)
    if not moved > 0.0:  # also where it is not a number
        return Capability("steer", "no", f"half a state's length at layer {layer} does not move the logits")
    why = f"at layer {layer} it moves the logits by {moved:.0%} of their size, and leaves no trace"
    return Capability("steer", "yes", why)


def _answering(engine: TransformersEngine, steering: Steering) -> list[Capability]:
    if not engine.model.can_generate():
        raise PromptError(f"{engine.info.architecture} writes no text")
    pieces: list[str] = []
    alone = [
        engine.generate(text, raw=True, max_new_tokens=NEW_TOKENS, on_text=pieces.append if number == 0 else None)
        for number, text in enumerate(BARE)
    ]
    together = _answers(engine, None)
    streamed = "".join(pieces) == alone[0].text
    return [
        Capability("generate", "yes", "a few tokens, greedily"),
        Capability("stream", "yes" if streamed else "no", f"its pieces are {'' if streamed else 'not '}the answer"),
        _joining(engine),
        _batches(engine, alone, together),
        *_tried(("per-row steering",), lambda: [_rows(together, _answers(engine, [steering, Steering()]))]),
    ]


def _joining(engine: TransformersEngine) -> Capability:
    why = engine.why_static()
    if why is None:
        return Capability("join at any token", "yes", "many requests are read in one flat pass, and leave at once")
    return Capability("join at any token", "slow", f"requests wait for static batches: {why}")


def _answers(engine: TransformersEngine, steering: list[Steering] | None) -> list[Completion]:
    return engine.generate(list(BARE), steering=steering, raw=True, max_new_tokens=NEW_TOKENS)


def _batches(engine: TransformersEngine, alone: Sequence[Completion], together: Sequence[Completion]) -> Capability:
    if not engine.answers_batches(together[0].prompt.tokens):
        return Capability("batches", "slow", "prompts are answered one by one: padding would change their answers")
    if [each.tokens for each in alone] == [each.tokens for each in together]:
        return Capability("batches", "yes", "prompts of different length answer as each does alone")
    return Capability("batches", "no", "prompts of different length answer otherwise than each does alone")


def _rows(plain: Sequence[Completion], steered: Sequence[Completion]) -> Capability:
    if steered[1].tokens != plain[1].tokens or steered[1].receipt.tokens:
        return Capability("per-row steering", "no", "steering one row changes the other's answer")
    if (steered[0].tokens, steered[0].logprob) == (plain[0].tokens, plain[0].logprob):
        return Capability("per-row steering", "no", "the steered row answers as if it were not")
    return Capability("per-row steering", "yes", "one row was steered, and its neighbour answers as before")


def _scoring(
    engine: TransformersEngine, proof: PrefixSharingCheck, vector: ControlVector, texts: Texts
) -> list[Capability]:
    endings = tuple(engine.encode(text)[-NEW_TOKENS:] for text in BARE)
    items = [ForcedItem(engine.encode(text), endings, reference=0) for text in texts]
    if engine.blocks.encoder or engine.has_encoder:
        forcing = engine.teacher_forcing(items)
    else:
        cost = cost_of(engine.model, engine.blocks, max_tokens=PASS_TOKENS)
        forcing = PrefixTreeForcing(engine.model, engine.blocks, items, cost=cost, proof=proof)
    scores = forcing.measure(vector.addition(coefficient=COEFFICIENT))
    logprobs = np.concatenate(forcing.base.logprob)
    if not np.isfinite(logprobs).all():
        return [Capability(name, "no", "log-probabilities are not finite") for name in ("calibrate", "KL")]
    slow = list(_slow_reasons(engine, forcing, proof))
    measured = math.isfinite(scores.mean_kl) and scores.mean_kl > 0.0
    return [
        Capability("calibrate", "slow" if slow else "yes", "; ".join(slow) or FAST),
        Capability("KL", "yes" if measured else "no", f"{SPENT} {scores.mean_kl:.2g} nat per token"),
    ]


def _slow_reasons(engine: TransformersEngine, forcing: PrefixTreeForcing, proof: PrefixSharingCheck) -> Iterator[str]:
    """Yield the reasons why scoring is slow."""
    if engine.has_encoder:
        yield "its encoder reads every text again each time"
        return
    if not forcing.shares_prefixes:
        yield "shared beginnings are read again"
    if proof.skips is not True:
        yield "no block can be skipped"

"""Diagnosis of a model: its properties, its capabilities, and a remedy for each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from trimtab.engines.layer_search import Proof
from trimtab.engines.transformers.doctor.checks import Capability, Checks, try_out
from trimtab.engines.transformers.doctor.properties import (
    BlockFacts,
    ChatFacts,
    Machine,
    ModelFacts,
    TokenizerFacts,
    block_facts,
    chat_facts,
    model_facts,
    this_machine,
    tokenizer_facts,
)
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.model.source import quiet_transformers
from trimtab.errors import TrimtabError

Severity: TypeAlias = Literal["error", "warning", "note"]

COARSE = ("float16", "bfloat16")
LARGE = 1_000_000_000  # parameters for which a CPU is slow
SCARCE = 1024**3  # bytes; training holds half of that in hidden states alone
FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Problem:
    """Problem of a model or of this machine, with its remedy."""

    what: str
    severity: Severity  # error: cannot be steered; warning: fails or is less exact; note: for information
    fix: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything known about a model on this machine; of a refused model, only the reason and the machine."""

    name: str  # as given
    works: bool
    verdict: str  # one line
    model: ModelFacts | None = None
    blocks: BlockFacts | None = None
    proof: Proof | None = None  # from steering the blocks when the engine was made
    tokenizer: TokenizerFacts | None = None
    chat: ChatFacts | None = None
    checks: Checks | None = None
    problems: tuple[Problem, ...]  # errors first
    machine: Machine


def diagnose(engine: TransformersEngine, *, on_step: Callable[[str], None] | None = None) -> Diagnosis:
    """Check a loaded model in a few small passes, and leave it unchanged.

    Args:
        engine: The engine over it.
        on_step: Called with the name of each step as it begins.

    Example:
        >>> diagnose(trimtab.load()).verdict  # doctest: +SKIP
        'works, nothing to do'
    """
    step = on_step or (lambda _: None)
    with quiet_transformers():
        step("Looking at the model")
        model, blocks = model_facts(engine), block_facts(engine)
        tokenizer, chat = tokenizer_facts(engine), chat_facts(engine)
        step("Trying it out")
        checks = try_out(engine)
    machine = this_machine()
    checks = _with_chat(checks, engine, chat)
    problems = _in_order(
        *_of_checks(checks, model, blocks),
        *_of_model(model, blocks, machine),
        *_of_texts(engine, model, tokenizer, chat, checks),
        *_of_machine(machine),
    )
    errors = [problem.what for problem in problems if problem.severity == "error"]
    return Diagnosis(
        name=engine.info.name,
        works=not errors,
        verdict=f"cannot be steered: {errors[0]}" if errors else _verdict(len(problems)),
        model=model,
        blocks=blocks,
        proof=engine.proof,
        tokenizer=tokenizer,
        chat=chat,
        checks=checks,
        problems=problems,
        machine=machine,
    )


def refused(name: str, error: TrimtabError) -> Diagnosis:
    """Return the diagnosis of a model that could not be loaded, or whose blocks could not be found."""
    machine = this_machine()
    reason = Problem(error.problem, "error", error.fix or "use another model")
    return Diagnosis(
        name=name,
        works=False,
        verdict=f"cannot be steered: {error.problem}",
        problems=_in_order(reason, *_of_machine(machine)),
        machine=machine,
    )


def _verdict(remarks: int) -> str:
    if not remarks:
        return "works, nothing to do"
    return f"works, {remarks} remark{'' if remarks == 1 else 's'}"


def _in_order(*problems: Problem) -> tuple[Problem, ...]:
    order: tuple[Severity, ...] = ("error", "warning", "note")
    return tuple(sorted(problems, key=lambda problem: order.index(problem.severity)))


def _with_chat(checks: Checks, engine: TransformersEngine, chat: ChatFacts | None) -> Checks:
    if chat is not None:
        capability = Capability("chat", "yes", "through the model's own template")
    elif engine.has_chat_template:
        capability = Capability("chat", "no", "its template does not take a question")
    else:
        capability = Capability("chat", "no", "it has no chat template")
    return replace(checks, capabilities=(*checks.capabilities, capability))


def _of_checks(checks: Checks, model: ModelFacts, blocks: BlockFacts) -> Iterator[Problem]:
    coarse = model.dtype in COARSE
    failed = {capability.name: capability.why for capability in checks.capabilities if capability.state == "no"}
    vital = [name for name in ("collect states", "steer") if name in failed]
    if vital:
        fix = "load it with --dtype float32" if coarse else "check its weights; if they are right, report this"
        yield from (Problem(failed[name], "error", fix) for name in vital)
        return
    if "generate" in failed:
        yield Problem(f"no answers: {failed['generate']}", "warning", "read its states, or steer inside steered()")
        return
    if "batches" in failed:
        rounding = f", as {model.dtype} rounds there" if coarse else ""
        fix = "load it with --dtype float32" if coarse else "ask one prompt at a time"
        yield Problem(f"in a batch it answers otherwise than alone{rounding}", "note" if coarse else "warning", fix)
    for name in ("stream", "per-row steering", *(() if blocks.encoder else ("KL", "calibrate"))):
        if name in failed:
            fix = "steer by coefficient" if name == "calibrate" else "do without it"
            yield Problem(f"{name} does not work: {failed[name]}", "warning", fix)


def _of_model(model: ModelFacts, blocks: BlockFacts, machine: Machine) -> Iterator[Problem]:
    if model.quantised:
        yield Problem(
            "the weights are quantised: directions are as exact as they are, and belong to this quantisation",
            "note",
            "train vectors on the weights that will be steered",
        )
    elif model.dtype in COARSE:
        fits = machine.free_memory is not None and machine.free_memory > model.parameters * FLOAT32
        yield Problem(
            f"the weights are {model.dtype}: hidden states are rounded, so directions are less exact",
            "warning" if fits else "note",
            "load it with --dtype float32" if fits else "more pairs make up for it; float32 would not fit here",
        )
    if not blocks.causal and not blocks.encoder:
        yield Problem(
            "it does not read from left to right: hidden states depend on later tokens too, and no work is shared",
            "warning",
            "read hidden states of whole texts, and expect longer runs and poor answers",
        )
    if model.encoder_decoder and not blocks.encoder:
        yield Problem(
            "its encoder reads the texts, and what is steered is its decoder: of a text there is one state, the first",
            "note",
            "to read and steer the texts themselves, load it with encoder=True",
        )
    if blocks.encoder:
        yield Problem(
            "an encoder predicts no tokens, so there is no KL and no calibration",
            "note",
            "steer by coefficient, or load it without encoder=True",
        )
    if blocks.idle:
        yield Problem(
            f"{len(blocks.idle)} blocks do not run on text alone and are not steered: {', '.join(blocks.idle)}",
            "note",
            "nothing, unless it is to read more than text",
        )
    if model.slow_kernels:
        yield Problem(
            f"the kernels of {', '.join(model.slow_kernels)} are missing: it runs, but slowly",
            "note",
            "nothing here: they need a GPU" if model.device == "cpu" else "install them, if this GPU has them",
        )
    if model.device == "cpu" and model.parameters >= LARGE:
        yield Problem(
            f"{model.parameters / 1e9:.1f} billion parameters run on a CPU",
            "note",
            "pass device='cuda'" if machine.gpus else "expect long work, or use a machine with a GPU",
        )


def _of_texts(
    engine: TransformersEngine,
    model: ModelFacts,
    tokenizer: TokenizerFacts,
    chat: ChatFacts | None,
    checks: Checks,
) -> Iterator[Problem]:
    if tokenizer.entries > model.vocabulary:
        yield Problem(
            f"the tokenizer knows {tokenizer.entries} tokens, the model {model.vocabulary}",
            "warning",
            "use the tokenizer that it was trained with, or resize its embeddings",
        )
    if tokenizer.ends_with and engine.blocks.causal and not engine.has_encoder:
        yield Problem(
            f"its tokenizer puts {', '.join(tokenizer.ends_with)} behind every text, where a decoder has ended",
            "note",
            "nothing here: it is left out; other programs may have to drop it",
        )
    if not tokenizer.stop and checks.state_of("generate") != "no":
        yield Problem(
            "no token ends an answer, so each goes on to its upper bound",
            "warning",
            "set generation_config.eos_token_id",
        )
    if chat is None:
        reason = "its chat template does not take a question" if engine.has_chat_template else "it has no chat template"
        yield Problem(
            f"{reason}: it is taken for a base model",
            "note",
            "prompts are read as plain text; for answers use an instruction-tuned model",
        )
        return
    if not chat.takes_system:
        fix = "nothing: they open the first user message instead"
        yield Problem("its chat template takes no system messages", "note", fix)


def _of_machine(machine: Machine) -> Iterator[Problem]:
    for requirement in machine.outdated:
        yield Problem(f"{requirement} is asked for and not installed", "warning", f"run: pip install '{requirement}'")
    if machine.free_memory is not None and machine.free_memory < SCARCE:
        yield Problem(
            f"only {machine.free_memory / 1024**2:.0f} MiB of memory are free",
            "warning",
            "close something, or train with --memory 128",
        )
    for gpu in machine.gpus:
        if gpu.free < SCARCE:
            problem = f"only {gpu.free / 1024**2:.0f} MiB are free on {gpu.name}"
            yield Problem(problem, "warning", "end what else runs there")
    for name, folder in (("cache", machine.cache), ("vectors", machine.vectors)):
        if not folder.writable:
            problem = f"the {name} folder {folder.path!r} cannot be written to"
            yield Problem(problem, "warning", f"set TRIMTAB_{name.upper()} to another")

"""What a loaded model says about itself: its weights, its blocks, its tokenizer and its chats."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils.versions import require_version

from trimtab.behaviours import Message
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.forward.run import place
from trimtab.engines.transformers.model.fingerprint import is_quantised
from trimtab.engines.transformers.model.source import cache_folder
from trimtab.engines.transformers.text.chat_template import (
    SYSTEM,
    USER,
    ThinkingMarkers,
    default_system_prompt,
    render_chat,
    thinking_markers,
    thinking_options,
)
from trimtab.errors import PromptError
from trimtab.vectors import vectors_folder

NEEDED = ("trimtab", "torch", "transformers", "tokenizers", "numpy", "accelerate", "safetensors")
OPTIONAL = ("bitsandbytes", "gptqmodel", "kernels", "matplotlib", "peft", "torchao", "vllm")


@dataclass(frozen=True)
class Gpu:
    """A GPU and its memory, in bytes."""

    name: str
    free: int
    total: int


@dataclass(frozen=True)
class Folder:
    """A folder that trimtab writes to; it need not exist yet."""

    path: str
    writable: bool


@dataclass(frozen=True)
class Machine:
    """What a model runs on here.

    Attributes:
        python: Version of the interpreter.
        packages: Version of each package that matters; None where it is not installed.
        outdated: Requirements of trimtab that are not met.
        cpu: What the processor calls itself; empty if it does not.
        cores: Processor cores that this process may use.
        threads: How many of them torch uses.
        free_memory: Bytes; None where the system does not tell.
        gpus: Every GPU that torch can use.
        cache: Where converted models are kept.
        vectors: Where vectors are found by name.
    """

    python: str
    packages: dict[str, str | None]
    outdated: tuple[str, ...]
    cpu: str
    cores: int
    threads: int
    free_memory: int | None
    gpus: tuple[Gpu, ...]
    cache: Folder
    vectors: Folder


def this_machine() -> Machine:
    """The machine at hand, as it is now. Nothing is imported or written for it."""
    return Machine(
        python=platform.python_version(),
        packages={name: _version(name) for name in (*NEEDED, *OPTIONAL)},
        outdated=_outdated(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        free_memory=free_memory(),
        gpus=tuple(map(_gpu, range(torch.cuda.device_count()))) if torch.cuda.is_available() else (),
        cache=_folder(cache_folder()),
        vectors=_folder(vectors_folder()),
    )


def free_memory() -> int | None:
    """Bytes of memory that can be had without pushing anything else out; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _outdated() -> tuple[str, ...]:
    try:
        requirements = importlib.metadata.requires("trimtab") or []
    except importlib.metadata.PackageNotFoundError:  # run from a folder that was never installed
        return ()
    return tuple(requirement for requirement in requirements if ";" not in requirement and not _is_met(requirement))


def _is_met(requirement: str) -> bool:
    try:
        require_version(requirement)
    except (ImportError, ValueError):
        return False
    return True


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _gpu(number: int) -> Gpu:
    free, total = torch.cuda.mem_get_info(number)
    return Gpu(torch.cuda.get_device_name(number), free, total)


def _folder(path: Path) -> Folder:
    there = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), path)
    return Folder(str(path), writable=there.is_dir() and os.access(there, os.W_OK | os.X_OK))


ANSWER = "qwzxanswerxzwq"  # a text that no template writes by itself


@dataclass(frozen=True)
class ModelFacts:
    """The model as it was loaded.

    Attributes:
        architecture: Its class.
        dtype: Of its computations.
        device: Where it takes its inputs.
        spread_over: Every device that holds a part of it, where that is more than one.
        parameters: How many weights it has.
        weight_bytes: Memory that they take.
        quantised: Whether they are kept in fewer bits than they compute with.
        context_window: Tokens that it can read; None if its config does not say.
        encoder_decoder: Whether one part reads the text and another writes the answer.
        vocabulary: Rows of its table of token embeddings.
        slow_kernels: Packages whose fast kernels it would use, but which are not installed.
    """

    architecture: str
    dtype: str
    device: str
    spread_over: tuple[str, ...]
    parameters: int
    weight_bytes: int
    quantised: bool
    context_window: int | None
    encoder_decoder: bool
    vocabulary: int
    slow_kernels: tuple[str, ...]


@dataclass(frozen=True)
class BlockFacts:
    """The blocks that are steered.

    Attributes:
        path: The list that they are members of.
        count: How many layers there are.
        hidden_size: Width of the stream.
        body: Class of the smallest known part of the model that runs them all.
        streams: Streams side by side that count as one of their width together.
        tokens_first: Whether their outputs have the tokens before the rows.
        offset: Positions before the first token.
        causal: Whether a state depends on the tokens before it alone.
        encoder: Whether they are an encoder's, beside a decoder.
        repeated: Whether a module is used for several layers.
        reader: The module that reads what the last block puts out; empty if none reads just that.
        idle: Members of the list that do not run on text alone.
    """

    path: str
    count: int
    hidden_size: int
    body: str
    streams: int
    tokens_first: bool
    offset: int
    causal: bool
    encoder: bool
    repeated: bool
    reader: str
    idle: tuple[str, ...]


@dataclass(frozen=True)
class TokenizerFacts:
    """The tokenizer.

    Attributes:
        kind: Its algorithm, such as BPE, where that is known, and else its class.
        entries: Tokens that it knows.
        special: The tokens that have a part to play, by that part: ``bos``, ``eos``, ``pad``, ``unk``.
        begins_with: The special tokens that it puts before every text.
        stop: The tokens that end an answer.
    """

    kind: str
    entries: int
    special: dict[str, str]
    begins_with: tuple[str, ...]
    stop: tuple[str, ...]


@dataclass(frozen=True)
class ChatFacts:
    """What the chat template does.

    Attributes:
        takes_system: Whether it takes system messages; where it does not, they open the first user message.
        default_system: What it tells the model where a chat has no system message.
        markers: The special tokens that it writes.
        end_of_turn: The special token that it puts behind an answer; None if it puts none.
        thinking: The marks around the model's thoughts; None if it does not think.
        thinking_switch: Whether thinking can be turned on and off.
    """

    takes_system: bool
    default_system: str | None
    markers: tuple[str, ...]
    end_of_turn: str | None
    thinking: ThinkingMarkers | None
    thinking_switch: bool


def model_facts(engine: TransformersEngine) -> ModelFacts:
    """What the model is."""
    model = engine.model
    device, dtype = place(model)
    held_by: dict[str, Any] = getattr(model, "hf_device_map", None) or {}
    spread = sorted({str(each) for each in held_by.values()})
    return ModelFacts(
        architecture=type(model).__name__,
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        spread_over=tuple(spread) if len(spread) > 1 else (),
        parameters=int(model.num_parameters()),
        weight_bytes=int(model.get_memory_footprint()),
        quantised=is_quantised(model),
        context_window=engine.context_window,
        encoder_decoder=engine.has_encoder,
        vocabulary=int(model.get_input_embeddings().weight.shape[0]),
        slow_kernels=tuple(sorted(set(_missing_kernels(model)))),
    )


def block_facts(engine: TransformersEngine) -> BlockFacts:
    """What the blocks are."""
    blocks = engine.blocks
    width = getattr(engine.model.config.get_text_config(), "hidden_size", None) or blocks.hidden_size
    return BlockFacts(
        path=blocks.path,
        count=len(blocks),
        hidden_size=blocks.hidden_size,
        body=type(blocks.body).__name__,
        streams=blocks.hidden_size // width if blocks.hidden_size % width == 0 else 1,
        tokens_first=blocks.layout.tokens < blocks.layout.rows,
        offset=blocks.layout.offset,
        causal=blocks.causal,
        encoder=blocks.encoder,
        repeated=blocks.repeated,
        reader=blocks.reader,
        idle=blocks.idle,
    )


def tokenizer_facts(engine: TransformersEngine) -> TokenizerFacts:
    """What the tokenizer is."""
    tokenizer = engine.tokenizer
    algorithm = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    roles = {role: getattr(tokenizer, f"{role}_token", None) for role in ("bos", "eos", "pad", "unk")}
    special = set(tokenizer.all_special_ids)
    before: list[int] = []
    for token in engine.encode("a"):
        if token not in special:
            break
        before.append(token)
    return TokenizerFacts(
        kind=type(tokenizer if algorithm is None else algorithm).__name__,
        entries=len(tokenizer),
        special={role: str(token) for role, token in roles.items() if token is not None},
        begins_with=tuple(tokenizer.convert_ids_to_tokens(before)),
        stop=tuple(map(str, tokenizer.convert_ids_to_tokens(list(engine.stop_tokens)))),
    )


def chat_facts(engine: TransformersEngine) -> ChatFacts | None:
    """What the chat template does; None if there is none, or it does not take a plain question."""
    tokenizer = engine.tokenizer
    if not tokenizer.chat_template:
        return None
    question, answer = Message("user", USER), Message("assistant", ANSWER)
    try:
        asked = render_chat(tokenizer, (question,))
        with_system = render_chat(tokenizer, (Message("system", SYSTEM), question))
        joined = render_chat(tokenizer, (Message("user", f"{SYSTEM}\n\n{USER}"),))  # what is done if it takes none
    except PromptError:
        return None
    try:
        talk = render_chat(tokenizer, (question, answer, question))
    except PromptError:
        talk = ""
    return ChatFacts(
        takes_system=with_system != joined,
        default_system=default_system_prompt(tokenizer),
        markers=tuple(dict.fromkeys(_special_in(tokenizer, asked))),
        end_of_turn=next(_special_in(tokenizer, talk.partition(ANSWER)[2].partition(USER)[0]), None),
        thinking=thinking_markers(tokenizer),
        thinking_switch=_switches_thinking(tokenizer),
    )


def _special_in(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[str]:
    """The added tokens in a text, in order."""
    added = {number: token for token, number in tokenizer.get_added_vocab().items()}
    for number in tokenizer(text, add_special_tokens=False)["input_ids"]:
        if number in added:
            yield added[number]


def _switches_thinking(tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        return bool(thinking_options(str(tokenizer.get_chat_template()), False))
    except (PromptError, ValueError):
        return False


def _missing_kernels(model: Any) -> Iterator[str]:
    """Packages for which transformers' code of this model runs a slow reference instead.

    transformers keeps that in the closures of the functions that replace the kernels, and reports it only in its log.
    """
    for name in {type(module).__module__ for module in model.modules()}:
        for function in vars(sys.modules[name]).values() if name in sys.modules else ():
            if inspect.isfunction(function) and function.__closure__:
                kept = inspect.getclosurevars(function).nonlocals
                if kept.get("is_new_implementation") is False and isinstance(kept.get("package"), str):
                    yield kept["package"]

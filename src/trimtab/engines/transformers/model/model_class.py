"""Which class of transformers reads a checkpoint: one that writes text, or a refusal that says what it is instead."""

from __future__ import annotations

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from trimtab.errors import ModelError

# In the order of preference, where a checkpoint does not say of which class it is.
FAMILIES: tuple[tuple[Any, Any], ...] = (
    (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
    (AutoModelForImageTextToText, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
    (AutoModelForSeq2SeqLM, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
)
SUPPORTED = "give a causal, an image-text-to-text or an encoder-decoder language model"
# Endings of class names that stand for a language model, also where transformers has renamed the class since. Whether
# a bare "...Model" has all the weights that its head needs is found out when it is loaded.
WRITERS = ("CausalLM", "ConditionalGeneration", "LMHeadModel", "MTModel", "Model")


def auto_class(config: PreTrainedConfig, *, name: str) -> Any:
    """The auto class that loads a model of this config.

    A config may belong to several families: the class that the checkpoint names decides; encoder-decoders are taken
    whole.

    Raises:
        ModelError: It is in none of the families, or the checkpoint is of a class that writes no text.
    """
    fitting = [(auto, _classes(mapping[type(config)])) for auto, mapping in FAMILIES if type(config) in mapping]
    named = tuple(config.architectures or ())
    for auto, classes in fitting:
        if classes.intersection(named):
            return auto
    if not fitting or (named and not any(architecture.endswith(WRITERS) for architecture in named)):
        what = " or ".join(named) or f"model of type {config.model_type}"
        raise ModelError(f"{name!r} is a {what}, which writes no text", fix=SUPPORTED)
    autos = [auto for auto, _ in fitting]
    if config.is_encoder_decoder and AutoModelForSeq2SeqLM in autos:
        return AutoModelForSeq2SeqLM
    return autos[0]


def check_own_code(name: str) -> None:
    """Refuse a checkpoint that only code of its own can read.

    One that brings code, but whose kind transformers knows too, is read by transformers.

    Raises:
        ModelError: It needs its own code.
        OSError: There is no such checkpoint, or its config cannot be read.
    """
    written, _ = PreTrainedConfig.get_config_dict(name)
    kind = written.get("model_type")
    if written.get("auto_map") and kind not in CONFIG_MAPPING:
        raise ModelError(
            f"{name!r} is of a kind that transformers does not know ({kind}) and wants to run Python code of its own, "
            "which trimtab never does",
            fix="load it with transformers and trust_remote_code=True, if you do trust it, and pass the loaded model",
        )


def check_complete(missing: Any, *, name: str) -> None:
    """Refuse a checkpoint without some of the weights, for which transformers would make up random ones.

    Raises:
        ModelError: Weights are missing.
    """
    if missing:
        raise ModelError(
            f"{name!r} lacks {len(missing)} of the model's weights, such as {min(missing)!r}",
            fix="give a complete checkpoint of a language model",
        )


def _classes(entry: Any) -> set[str]:
    return {each.__name__ for each in (entry if isinstance(entry, (list, tuple)) else (entry,))}

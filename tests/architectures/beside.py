"""Noise inputs for models that must read more than text: pictures, sound, boxes around words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from architectures.sizes import IMAGE


@dataclass(frozen=True)
class Beside:
    """Why text alone is not enough, and what makes up for it for a number of rows; None where nothing does."""

    why: str
    inputs: Callable[[PreTrainedModel, Tensor], dict[str, Tensor]] | None = None


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _picture(_: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    return {"pixel_values": _noise(len(tokens), 3, IMAGE, IMAGE)}


def _picture_and_question(_: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    return {"pixel_values": _noise(len(tokens), 3, IMAGE, IMAGE), "qformer_input_ids": tokens}


def _film_and_question(_: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    return {"pixel_values": _noise(len(tokens), 2, 3, IMAGE, IMAGE), "qformer_input_ids": tokens}


def _unseen_picture(_: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    rows, length = tokens.shape
    return {
        "pixel_values": _noise(rows, 1, 3, IMAGE, IMAGE),
        "image_attention_mask": torch.zeros(rows, length, 1, dtype=torch.long),
    }


def _picture_of_no_tokens(model: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    return {
        "image_embeds": torch.zeros(len(tokens), 0, model.config.text_config.embed_dim),
        "image_embeds_position_mask": torch.zeros_like(tokens, dtype=torch.bool),
    }


def _patches(model: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    config: Any = model.config.vision_config
    places = torch.cartesian_prod(torch.arange(1, 3), torch.arange(1, 3)).float()
    return {
        "flattened_patches": torch.cat(
            [places.expand(len(tokens), 4, 2), _noise(len(tokens), 4, config.patch_embed_hidden_size)], dim=-1
        ),
        "attention_mask": torch.ones(len(tokens), 4),
    }


def _boxes(_: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    return {"bbox": torch.zeros(*tokens.shape, 4)}


def _sound_of_each_token(model: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    config: Any = model.config
    frames = tokens.shape[1] * config.audio_length_per_tok
    return {"input_features": _noise(len(tokens), config.audio_config.num_mel_bins, frames)}


BESIDE: Mapping[str, Beside] = {
    "BlipForConditionalGeneration": Beside("every text is about a picture", _picture),
    "Blip2ForConditionalGeneration": Beside("every text is about a picture", _picture),
    "InstructBlipForConditionalGeneration": Beside("every text is about a picture", _picture_and_question),
    "InstructBlipVideoForConditionalGeneration": Beside("every text is about a film", _film_and_question),
    "IdeficsForVisionText2Text": Beside("wants a picture, though no token need see it", _unseen_picture),
    "Kosmos2ForConditionalGeneration": Beside("wants a picture, though no token need see it", _picture_of_no_tokens),
    "Pix2StructForConditionalGeneration": Beside("the encoder reads patches of a picture", _patches),
    "PPFormulaNetForConditionalGeneration": Beside("the encoder reads a picture", _picture),
    "VisionEncoderDecoderModel": Beside("the encoder reads a picture", _picture),
    "UdopForConditionalGeneration": Beside("wants a box on the page for every token", _boxes),
    "VoxtralRealtimeForConditionalGeneration": Beside("adds sound to every token", _sound_of_each_token),
    "PI0ForConditionalGeneration": Beside("writes a robot's motions, not text"),
    "DiffusionGemmaForBlockDiffusion": Beside(
        "writes a block of tokens at once by diffusion; no logits of what it reads"
    ),
    "MusicgenForCausalLM": Beside("reads and writes codes of sound, several for each step"),
    "MusicgenMelodyForCausalLM": Beside("reads and writes codes of sound, several for each step"),
    "Gemma4AssistantForCausalLM": Beside("reads the hidden states and keys of another model"),
    "Gemma4UnifiedAssistantForCausalLM": Beside("reads the hidden states and keys of another model"),
}

"""Real classes with more than a decoder: pictures, encoders, compiled code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from architectures.building import build, every_architecture, quietly
from architectures.matrix import STRENGTH, always_walking
from architectures.toys import adding
from tiny_models import BOS, EOS, PAD, byte_tokenizer
from trimtab.engines.transformers import TransformersEngine
from trimtab.steering import Steering, Term
from trimtab.vectors import ControlVector

TOKENS = (65, 66, 67, 68, 69, 70)
SHORTER = (65, 66, 67)


def built(name: str, *, encoder: bool = False) -> TransformersEngine:
    architecture = next(architecture for architecture in every_architecture() if architecture.name == name)
    return TransformersEngine(build(architecture), byte_tokenizer(), name=name, encoder=encoder)


def steering_at(engine: TransformersEngine, *layers: int) -> tuple[Steering, dict[int, Tensor]]:
    """A steering of random directions, and what it adds."""
    noise = np.random.default_rng(0)
    directions = {layer: noise.standard_normal(engine.info.hidden_size).astype(np.float32) for layer in layers}
    vector = ControlVector(
        model=engine.info,
        directions={layer: direction / np.linalg.norm(direction) for layer, direction in directions.items()},
        norms=dict.fromkeys(layers, 10.0),
        weights=dict.fromkeys(layers, 1.0),
    )
    added = {layer: torch.from_numpy(np.array(vector.directions[layer])) * STRENGTH * 10.0 for layer in layers}
    return Steering((Term(vector, coefficient=STRENGTH),)), added


def logits(model: nn.Module, **inputs: Any) -> Tensor:
    with torch.inference_mode(), quietly():
        found: Tensor = model(**inputs, use_cache=False).logits
    return found


def by_hand(engine: TransformersEngine, blocks: nn.ModuleList, added: Mapping[int, Tensor]) -> Any:
    return adding({blocks[layer]: {0: vector} for layer, vector in added.items()}, sink=not engine.has_encoder)


def assert_steered(engine: TransformersEngine, blocks: nn.ModuleList, model: nn.Module, **inputs: Any) -> None:
    steering, added = steering_at(engine, 1, len(engine.blocks) - 1)
    with torch.compiler.set_stance("force_eager"):
        unsteered = logits(engine.model, **inputs)
        with by_hand(engine, blocks, added):
            wanted = logits(engine.model, **inputs)
    with engine.steered(steering):
        steered = logits(model, **inputs)
    torch.testing.assert_close(steered, wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(steered, unsteered, atol=1e-2)
    torch.testing.assert_close(logits(model, **inputs), unsteered, atol=1e-5, rtol=1e-5)


# Pictures ----------------------------------------------------------------------------------------------------------


Seen = tuple[dict[str, Tensor], int]  # what the model is given of a picture, and the number of its tokens


def _llava(model: PreTrainedModel) -> Seen:
    vision = model.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2
    return {"pixel_values": _noise(1, 3, vision.image_size, vision.image_size)}, tokens


def _qwen(model: PreTrainedModel) -> Seen:
    vision = model.config.vision_config
    pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    side = 2 * vision.spatial_merge_size
    return {"pixel_values": _noise(side * side, pixels), "image_grid_thw": torch.tensor([[1, side, side]])}, 4


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "picture"), [("LlavaForConditionalGeneration", _llava), ("Qwen2_5_VLForConditionalGeneration", _qwen)]
)
def test_vision_model_is_steered_in_text_decoder(name: str, picture: Any):
    engine = built(name)
    seen, tokens = picture(engine.model)
    ids = torch.tensor([[65, *[engine.model.config.image_token_id] * tokens, 66, 67]])
    inputs = {"input_ids": ids, **seen}
    if "image_grid_thw" in seen:
        inputs["mm_token_type_ids"] = ids.eq(engine.model.config.image_token_id).long()
    other = {**inputs, "pixel_values": seen["pixel_values"] * -1}
    assert not torch.allclose(logits(engine.model, **inputs), logits(engine.model, **other), atol=1e-3)
    assert_steered(engine, engine.model.model.language_model.layers, engine.model, **inputs)


# Compiled code -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrapped", [True, False], ids=["torch.compile", "model.compile"])
def test_compiled_model_is_steered_within_scope(wrapped: bool):
    engine = built("LlamaForCausalLM")
    inputs = {"input_ids": torch.tensor([TOKENS])}
    model: Any = engine.model
    if wrapped:
        model = torch.compile(engine.model, backend="eager")
    else:
        engine.model.compile(backend="eager")
    try:
        logits(model, **inputs)  # compiled before anything is steered
        assert_steered(engine, engine.model.model.layers, model, **inputs)
    finally:
        torch.compiler.reset()


# Encoders ----------------------------------------------------------------------------------------------------------

ENCODERS = (("T5ForConditionalGeneration", "encoder.block"), ("BartForConditionalGeneration", "model.encoder.layers"))


@pytest.mark.parametrize(("name", "path"), ENCODERS)
def test_encoder_states_equal_transformers(name: str, path: str):
    engine = built(name, encoder=True)
    assert engine.blocks.path == path
    with always_walking():
        found = engine.hidden_states([TOKENS, SHORTER, TOKENS], position="all")
    last = engine.hidden_states([TOKENS, SHORTER, TOKENS])
    for states, end, tokens in zip(found, last, (TOKENS, SHORTER, TOKENS), strict=True):
        with torch.inference_mode():
            output = engine.model(
                input_ids=torch.tensor([tokens]), decoder_input_ids=torch.tensor([[0]]), output_hidden_states=True
            )
        told = torch.stack(output.encoder_hidden_states[1:-1], dim=2)[0].numpy()
        np.testing.assert_allclose(states[:, :-1], told, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(states[-1], end)


@pytest.mark.parametrize(("name", "path"), ENCODERS)
def test_encoder_steering_changes_decoder_output(name: str, path: str):
    engine = built(name, encoder=True)
    blocks = engine.model.get_submodule(path)
    assert isinstance(blocks, nn.ModuleList)
    inputs = {"input_ids": torch.tensor([TOKENS]), "decoder_input_ids": torch.tensor([SHORTER])}
    assert_steered(engine, blocks, engine.model, **inputs)
    steering, added = steering_at(engine, 1, 2)
    steered, unsteered = (engine.generate("Hi", steering=chosen, max_new_tokens=5) for chosen in (steering, None))
    assert steered.logprob != unsteered.logprob
    assert unsteered.tokens == _answer(engine)
    with by_hand(engine, blocks, added):
        assert steered.tokens == _answer(engine)


@pytest.mark.parametrize("name", [name for name, _ in ENCODERS])
def test_encoder_decoder_answers_equal_transformers(name: str):
    engine = built(name)
    assert engine.generate("Hi", max_new_tokens=5).tokens == _answer(engine)


def _answer(engine: TransformersEngine) -> tuple[int, ...]:
    """The greedy answer of transformers' own ``generate``."""
    prompt = torch.tensor([engine.encode(engine.render("Hi"))])
    start = engine.model.generation_config.decoder_start_token_id
    start = BOS if start is None else start
    stop = engine.model.generation_config.eos_token_id or EOS
    with torch.inference_mode(), quietly():
        answer = engine.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=5,
            do_sample=False,
            forced_bos_token_id=None,
            forced_eos_token_id=None,
            eos_token_id=stop,
            pad_token_id=PAD,
            decoder_start_token_id=start,
        )
    return tuple(answer[0, 1:].tolist())

"""Low-rank matrices in a model's layers, of which nothing is left when they are switched off.

They stand in the model only while they are switched on or trained. At all other times the model's own layers are where
they were, so that nothing else takes notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trimtab.errors import EvaluationError, MissingDependencyError

if TYPE_CHECKING:
    from torch import nn

    from trimtab.engines.transformers import TransformersEngine

INSTALL = 'pip install "trimtab[lora]"'
ADAPTER = "trimtab"


@dataclass(frozen=True, eq=False)
class AdaptedLayer:
    """A layer of the model and the one that takes its place: the same, with low-rank matrices beside it."""

    name: str
    own: nn.Module
    adapted: Any

    def weights(self) -> dict[str, nn.Parameter]:
        """The low-rank matrices, by name."""
        sides = (("lora_A", self.adapted.lora_A), ("lora_B", self.adapted.lora_B))
        return {f"{self.name}.{side}.weight": matrices[ADAPTER].weight for side, matrices in sides}


@dataclass(frozen=True, eq=False)
class Injected:
    """What peft made.

    Attributes:
        config: Its own.
        layers: With their low-rank matrices.
    """

    config: Any
    layers: tuple[AdaptedLayer, ...]


def linear_layers(engine: TransformersEngine) -> list[str]:
    """The linear layers of the blocks, by name.

    Raises:
        EvaluationError: There are none, or the model cannot be trained as it is.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    from trimtab.engines.transformers.wrapped import is_quantised

    model, name = engine.model, engine.info.name
    adapted = getattr(model, "peft_config", None) or any(hasattr(module, "base_layer") for module in model.modules())
    reasons = {
        "is quantised": is_quantised(model),
        "is kept in memory or on disk by accelerate": any(weight.is_meta for weight in model.parameters()),
        "has an encoder": engine.has_encoder,
        "has adapters already": bool(adapted),
    }
    for reason, holds in reasons.items():
        if holds:
            raise EvaluationError(f"no LoRA adapter is trained for {name}: it {reason}", fix="leave LoRA out")
    found = [
        f"{block}.{path}"
        for block in dict.fromkeys(engine.blocks.names)
        for path, module in model.get_submodule(block).named_modules()
        if path and isinstance(module, (nn.Linear, Conv1D))
    ]
    if not found:
        raise EvaluationError(f"the blocks of {name} have no linear layers for LoRA", fix="leave LoRA out")
    return found


def inject(engine: TransformersEngine, names: Sequence[str], *, rank: int, seed: int) -> Injected:
    """Let peft make the layers; the model has its own again afterwards, and nothing of peft."""
    import torch
    from transformers.pytorch_utils import Conv1D

    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingDependencyError("fine-tuning needs peft", fix=f"run: {INSTALL}") from None
    model = engine.model
    own = {name: model.get_submodule(name) for name in names}
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(names),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in own.values()),
        task_type="CAUSAL_LM",
        base_model_name_or_path=engine.info.name,
        inference_mode=False,
    )
    modules = dict(model.named_modules())
    trainable = [(weight, weight.requires_grad) for weight in model.parameters()]
    attributes = set(model.__dict__)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model, ADAPTER)
            layers = tuple(AdaptedLayer(name, module, model.get_submodule(name)) for name, module in own.items())
        except (ValueError, TypeError, NotImplementedError) as error:
            problem = f"peft refuses {engine.info.name}: {str(error).splitlines()[0]}"
            raise EvaluationError(problem, fix="leave LoRA out") from error
        finally:
            _restore(model, modules, trainable, attributes)
    if missed := [layer.name for layer in layers if layer.adapted is layer.own]:
        raise EvaluationError(f"peft made no adapter for {missed[0]} of {engine.info.name}", fix="leave LoRA out")
    for layer in layers:
        for weight in layer.weights().values():
            weight.data = weight.data.float()  # small steps are lost in coarser dtypes
    return Injected(config, layers)


def _restore(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    trainable: Sequence[tuple[nn.Parameter, bool]],
    attributes: set[str],
) -> None:
    """Take back all that peft did to a model."""
    for name, module in modules.items():  # what a module is in comes before it
        if name and model.get_submodule(name) is not module:
            _put(model, name, module)
    for weight, was in trainable:
        weight.requires_grad_(was)
    for attribute in set(model.__dict__) - attributes:  # a config by which others would take it for an adapted model
        del model.__dict__[attribute]


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


@contextmanager
def switched_on(engine: TransformersEngine, layers: Sequence[AdaptedLayer], scale: float) -> Iterator[None]:
    """Inside, the adapted layers stand in the model's place; at scale 0 its own."""
    model = engine.model
    for layer in layers:
        if model.get_submodule(layer.name) is not layer.own:
            raise EvaluationError(
                f"{layer.name} of {engine.info.name} is not the layer that the LoRA adapter was trained on",
                fix="switch off the adapter that is on, or train one for the model as it is",
            )
    if scale == 0.0:
        yield
        return
    _ = engine.blocks.parameters  # counted once, and without the adapter's
    try:
        for layer in layers:
            layer.adapted.set_scale(ADAPTER, scale)
            _put(model, layer.name, layer.adapted)
        yield
    finally:
        for layer in layers:
            _put(model, layer.name, layer.own)

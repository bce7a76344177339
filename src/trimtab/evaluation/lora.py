"""Fine-tuning for comparison: a LoRA adapter for one pole, trained on the model's own answers in that character.

Source: LoRA (Hu et al. 2022, arXiv:2106.09685, section 4.1), in the implementation of peft. The adapter learns the
answers that a persona's system prompt gives, without that prompt: context distillation (Askell et al. 2021,
arXiv:2112.00861, section 3), on sampled text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, final, runtime_checkable

import numpy as np

from trimtab.behaviours import Behaviour, Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines import Engine
from trimtab.engines.protocol import Tokens, Trains
from trimtab.errors import EvaluationError, MissingDependencyError, OutputError
from trimtab.evaluation.interventions import Intervention
from trimtab.training.progress import OnProgress, Progress, ignore

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trimtab.engines.layers import DecoderLayers

INSTALL = 'pip install "trimtab[lora]"'
ADAPTER = "trimtab"
LEAVE_OUT = "leave LoRA out"
WRITING = "Letting the model answer in character"
TRAINING = "Training LoRA"
RANK = 8
EPOCHS = 3
LEARNING_RATE = 1e-3
BATCH = 8
VALIDATION = 6  # one question of this many is for validation
WARMUP = 0.1  # of all steps
CLIP = 1.0  # longest gradient
PATIENCE = 2  # epochs without a better validation loss

Side: TypeAlias = Literal["+", "-"]


@runtime_checkable
class TrainableEngine(Trains, Protocol):
    """Engine whose torch module can be fine-tuned."""

    model: Any
    blocks: DecoderLayers
    has_encoder: bool


@dataclass(frozen=True, eq=False)
class AdaptedLayer:
    """Layer of the model, with its replacement that adds low-rank matrices to it."""

    name: str
    original: nn.Module
    adapted: Any


def _weights(layers: Iterable[AdaptedLayer]) -> dict[str, nn.Parameter]:
    return {
        f"{layer.name}.{side}.weight": getattr(layer.adapted, side)[ADAPTER].weight
        for layer in layers
        for side in ("lora_A", "lora_B")
    }


def linear_layers(engine: TrainableEngine) -> list[str]:
    """Return the names of the linear layers of the blocks.

    Raises:
        EvaluationError: There are none, or the model cannot be trained.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    from trimtab.engines.transformers.model.fingerprint import is_quantised

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
            raise EvaluationError(f"no LoRA adapter is trained for {name}: it {reason}", fix=LEAVE_OUT)
    names = [
        f"{block}.{path}"
        for block in dict.fromkeys(engine.blocks.names)
        for path, module in model.get_submodule(block).named_modules()
        if path and isinstance(module, (nn.Linear, Conv1D))
    ]
    if not names:
        raise EvaluationError(f"the blocks of {name} have no linear layers for LoRA", fix=LEAVE_OUT)
    return names


def inject(engine: TrainableEngine, *, rank: int, seed: int) -> tuple[Any, tuple[AdaptedLayer, ...]]:
    """Let peft adapt the linear layers, and restore the model; return peft's config and the layers."""
    import torch
    from transformers.pytorch_utils import Conv1D

    model = engine.model
    originals = {name: model.get_submodule(name) for name in linear_layers(engine)}
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingDependencyError("fine-tuning needs peft", fix=f"run: {INSTALL}") from None
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(originals),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in originals.values()),
        task_type="CAUSAL_LM",
        base_model_name_or_path=engine.info.name,
        inference_mode=False,
    )
    try:
        with torch.random.fork_rng(devices=[]), _restored(model):
            torch.default_generator.manual_seed(seed)
            inject_adapter_in_model(config, model, ADAPTER)
            layers = tuple(AdaptedLayer(name, module, model.get_submodule(name)) for name, module in originals.items())
    except (ValueError, TypeError, NotImplementedError) as error:
        problem = f"peft refuses {engine.info.name}: {str(error).splitlines()[0]}"
        raise EvaluationError(problem, fix=LEAVE_OUT) from error
    if missed := [layer.name for layer in layers if layer.adapted is layer.original]:
        raise EvaluationError(f"peft made no adapter for {missed[0]} of {engine.info.name}", fix=LEAVE_OUT)
    for weight in _weights(layers).values():
        weight.data = weight.data.float()  # small steps are lost in coarser dtypes
    return config, layers


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Undo all changes of peft to a model after the ``with`` block."""
    modules, attributes = dict(model.named_modules()), set(model.__dict__)
    trainable = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        yield
    finally:
        for name, module in modules.items():  # parents come before their children
            if name and model.get_submodule(name) is not module:
                model.set_submodule(name, module)
        for weight, was in trainable:
            weight.requires_grad_(was)
        for attribute in set(model.__dict__) - attributes:  # a config that would mark the model as adapted
            del model.__dict__[attribute]


@contextmanager
def switched_on(engine: TrainableEngine, layers: Sequence[AdaptedLayer], scale: float) -> Iterator[None]:
    """Replace the model's layers by the adapted ones inside the ``with`` block, except at scale 0."""
    model = engine.model
    for layer in layers:
        if model.get_submodule(layer.name) is not layer.original:
            raise EvaluationError(
                f"{layer.name} of {engine.info.name} is not the layer that the LoRA adapter was trained on",
                fix="switch off the adapter that is on, or train one for the model as it is",
            )
    if scale == 0.0:
        yield
        return
    _ = engine.blocks.parameters  # cached now, so that the adapter's parameters are not counted
    try:
        for layer in layers:
            layer.adapted.set_scale(ADAPTER, scale)
            model.set_submodule(layer.name, layer.adapted)
        yield
    finally:
        for layer in layers:
            model.set_submodule(layer.name, layer.original)


@dataclass(frozen=True)
class EpochLoss:
    """Mean loss in nats per answer token.

    Attributes:
        epoch: Number from 1; 0 is the base model.
        training: Mean over the epoch's steps; None for epoch 0.
        validation: Loss after the epoch, on questions that are not trained on.
    """

    epoch: int
    training: float | None
    validation: float


@dataclass(frozen=True)
class Example:
    """Question with an answer to learn.

    Attributes:
        text: The question; all of its examples are for training, or all for validation.
        prompt: Token ids of the chat without system prompt.
        answer: Token ids of the answer.
    """

    text: str
    prompt: Tokens
    answer: Tokens


@final
@dataclass(frozen=True, eq=False)
class LoraAdapter:
    """Trained adapter; see ``train_lora``.

    Attributes:
        name: The behaviour's name.
        seconds: Seconds for writing the answers and training.
        losses: Losses by epoch, from the base model on.
    """

    name: str
    side: Side
    seconds: float
    losses: tuple[EpochLoss, ...]
    rank: int
    _engine: TrainableEngine
    _layers: tuple[AdaptedLayer, ...]
    _config: Any

    def __repr__(self) -> str:
        return f"<LoraAdapter {self.name}{self.side} of {self._engine.info.name}: {self.parameters} parameters>"

    @property
    def epoch(self) -> int:
        """Epoch whose weights these are: the one with the lowest validation loss."""
        return _best(self.losses)

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(weight.numel() for weight in _weights(self._layers).values())

    @property
    def stored_bytes(self) -> int:
        """Size of the weights."""
        return sum(weight.numel() * weight.element_size() for weight in _weights(self._layers).values())

    def intervention(self, scale: float = 1.0) -> Intervention:
        """Return plain questions with the adapter at a scale; 1 is as trained, 0 the base model exactly.

        A ``teacher_forcing`` prepared outside of its ``with`` block holds outputs of the base model: prepare it inside.

        Raises:
            EvaluationError: The scale is not finite. When switched on: another adapter is, or the model's layers are
                not those that this one was trained on.

        Example:
            >>> write_all(model, [adapter.intervention(0.5)], ["How are you?"], max_new_tokens=24)  # doctest: +SKIP
        """
        if not math.isfinite(scale):
            raise EvaluationError(f"an adapter cannot be switched on at scale {scale}", fix="give a finite number")
        return Intervention(activate=lambda: switched_on(self._engine, self._layers, scale))

    def save(self, folder: str | Path) -> None:
        """Write the adapter into a folder from which peft loads it.

        Raises:
            OutputError: The folder cannot be written to.

        Example:
            >>> adapter.save("happy-lora")  # doctest: +SKIP
            >>> peft.PeftModel.from_pretrained(base, "happy-lora")  # doctest: +SKIP
        """
        from safetensors.torch import save_file

        weights = {
            f"base_model.model.{name}": weight.detach().cpu().contiguous()
            for name, weight in _weights(self._layers).items()
        }
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
            save_file(weights, path / "adapter_model.safetensors")
            self._config.save_pretrained(str(path))
        except OSError as error:
            raise OutputError(f"{str(path)!r} cannot be written to: {error}", fix="choose another folder") from error


def train_lora(
    engine: Engine,
    behaviour: Behaviour,
    *,
    side: Side,
    questions: int = 48,
    answer_tokens: int = 32,
    rank: int = RANK,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    progress: OnProgress = ignore,
) -> LoraAdapter:
    """Fine-tune a model towards one pole of a behaviour on its own answers in that pole's character.

    The model answers neutral questions (the calibration half) greedily, under the system prompts that ask for the pole.
    All linear layers of the blocks get low-rank matrices, which learn these answers to the same questions without a
    system prompt; only the answers' tokens count in the loss. One question in six is for validation: training ends when
    two epochs in a row are no better there, and the best epoch's weights are kept.

    The model is restored bit for bit. The same seed gives the same adapter on the same machine with the same number of
    threads.

    Args:
        engine: The model.
        behaviour: A behaviour with personas.
        side: ``"+"`` for the positive pole, ``"-"`` for the negative one.
        questions: Number of answers to learn from, validation included. Beyond the number of neutral questions these
            are repeated, under the next phrasing of the persona.
        answer_tokens: Upper bound on the tokens of an answer.
        rank: Rank of the low-rank matrices; their product is multiplied by 2, whatever the rank.
        epochs: Upper bound on the epochs.
        learning_rate: Highest rate of AdamW: it rises over the first tenth of the steps and falls linearly to 0.
        seed: Seed of the matrices, of the order, and of the choice of questions for validation.
        progress: Called for every step; its note has the losses after each epoch.

    Raises:
        MissingDependencyError: peft is not installed.
        BehaviourError: The behaviour has no personas.
        EvaluationError: The model cannot be fine-tuned (it is quantised, kept on disk, adapted already, has an encoder,
            or no linear layers), an option is out of range, or nothing was learned.

    Example:
        >>> adapter = train_lora(model, Behaviour.load("happy"), side="+")  # doctest: +SKIP
        >>> score(model, adapter.intervention(0.5), texts, answers)  # doctest: +SKIP
    """
    _check_options(side, questions=questions, rank=rank, epochs=epochs, learning_rate=learning_rate)
    write = partial(_examples, engine, behaviour, side, count=questions, answer_tokens=answer_tokens, progress=progress)
    return _fit(engine, write, behaviour.name, side, rank, epochs, learning_rate, seed, progress)


def fit_lora(
    engine: Engine, examples: Sequence[Example], *, name: str, seed: int = 0, progress: OnProgress = ignore
) -> LoraAdapter:
    """Fine-tune a model on given answers, validation included; see ``train_lora`` for the options and errors.

    Example:
        >>> adapter = fit_lora(model, examples, name="pirate")  # doctest: +SKIP
    """
    distinct = len({example.text for example in examples})
    _check_options("+", questions=distinct, rank=RANK, epochs=EPOCHS, learning_rate=LEARNING_RATE)
    return _fit(engine, lambda: examples, name, "+", RANK, EPOCHS, LEARNING_RATE, seed, progress)


def _check_options(side: str, *, questions: int, rank: int, epochs: int, learning_rate: float) -> None:
    if side not in ("+", "-"):
        raise EvaluationError(f"no side {side!r}", fix="use '+' or '-'")
    for what, count, least in (("questions", questions, 2), ("rank", rank, 1), ("epochs", epochs, 1)):
        if count < least:
            raise EvaluationError(f"{what} is {count}", fix=f"use {least} or more")
    if not 0.0 < learning_rate < math.inf:
        raise EvaluationError(f"learning_rate is {learning_rate}", fix="give a number above 0")


def _examples(
    engine: Engine, behaviour: Behaviour, side: Side, *, count: int, answer_tokens: int, progress: OnProgress
) -> list[Example]:
    """Return questions with the model's own answers in a pole's character."""
    texts = neutral_prompts().calibration
    asked = [texts[number % len(texts)] for number in range(count)]
    instructions = [persona_instructions(behaviour, number) for number in range(count)]
    chats = [
        (Message("system", instruction.positive if side == "+" else instruction.negative), Message("user", text))
        for instruction, text in zip(instructions, asked, strict=True)
    ]
    progress(Progress(WRITING, 0, 1))
    answers = engine.generate(chats, max_new_tokens=answer_tokens)
    progress(Progress(WRITING, 1, 1))
    return [
        Example(text, engine.encode(engine.render((Message("user", text),))), answer.tokens)
        for text, answer in zip(asked, answers, strict=True)
    ]


def _fit(
    engine: Engine,
    write: Callable[[], Sequence[Example]],
    name: str,
    side: Side,
    rank: int,
    epochs: int,
    learning_rate: float,
    seed: int,
    progress: OnProgress,
) -> LoraAdapter:
    """Adapt a model and train on the examples, which are written only once the model is known to be trainable."""
    engine.check_unsteered("fine-tuning")
    began = time.perf_counter()
    if not isinstance(engine, TrainableEngine):
        raise EvaluationError(f"{engine.info.name} cannot be fine-tuned: its engine has no torch module", fix=LEAVE_OUT)
    config, layers = inject(engine, rank=rank, seed=seed)
    examples = write()
    with switched_on(engine, layers, 1.0), _frozen(engine, layers):
        losses = _train(engine, layers, examples, epochs, learning_rate, seed, progress)
    if _best(losses) == 0:
        raise EvaluationError(
            f"LoRA for {name}{side} learned nothing: the base model has the lowest validation loss",
            fix="use a lower learning rate, or more questions",
        )
    return LoraAdapter(name, side, time.perf_counter() - began, losses, rank, engine, layers, config)


def _best(losses: Sequence[EpochLoss]) -> int:
    return min(losses, key=lambda loss: loss.validation).epoch


@contextmanager
def _frozen(engine: TrainableEngine, layers: Sequence[AdaptedLayer]) -> Iterator[None]:
    """Train only the adapter's weights inside the ``with`` block."""
    learned = list(_weights(layers).values())
    before = [(weight, weight.requires_grad) for weight in engine.model.parameters()]
    try:
        engine.model.requires_grad_(False)
        for weight in learned:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, was in before:
            weight.requires_grad_(was)
        for weight in learned:
            weight.requires_grad_(False)
            weight.grad = None


def _train(
    engine: TrainableEngine,
    layers: Sequence[AdaptedLayer],
    examples: Sequence[Example],
    epochs: int,
    learning_rate: float,
    seed: int,
    progress: OnProgress,
) -> tuple[EpochLoss, ...]:
    """Train the layers in place; they have the best epoch's weights afterwards."""
    import torch

    training, validation = _split(examples, seed)
    steps = math.ceil(len(training) / BATCH)  # of one epoch
    total = epochs * steps
    warm = max(round(WARMUP * total), 1)
    weights = list(_weights(layers).values())
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (total - step) / max(total - warm, 1))
    )
    order = np.random.default_rng(seed)
    losses = [EpochLoss(0, None, _validated(engine, validation))]
    best = [weight.detach().clone() for weight in weights]
    for epoch in range(1, epochs + 1):
        shuffled = [training[at] for at in order.permutation(len(training))]
        summed, tokens = 0.0, 0
        for step in range(steps):
            batch = shuffled[step * BATCH : (step + 1) * BATCH]
            count = sum(len(example.answer) for example in batch)
            loss = _loss(engine, batch)
            optimizer.zero_grad()
            torch.autograd.backward(loss / count)
            torch.nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()
            schedule.step()
            summed, tokens = summed + float(loss.detach()), tokens + count
            progress(Progress(TRAINING, (epoch - 1) * steps + step + 1, total))
        losses.append(EpochLoss(epoch, summed / tokens, _validated(engine, validation)))
        note = (
            f"epoch {epoch}: loss {losses[-1].training:.3f}, on other questions {losses[-1].validation:.3f} "
            f"(base model {losses[0].validation:.3f}) nat per token"
        )
        progress(Progress(TRAINING, epoch * steps, total, note))
        least = _best(losses)
        if least == epoch:
            best = [weight.detach().clone() for weight in weights]
        elif epoch - least >= PATIENCE:
            progress(Progress(TRAINING, total, total))
            break
    with torch.no_grad():
        for weight, values in zip(weights, best, strict=True):
            weight.copy_(values)
    return tuple(losses)


def _split(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Split into training and validation by question, so that no question is in both."""
    distinct = list(dict.fromkeys(example.text for example in examples))
    order = np.random.default_rng(seed).permutation(len(distinct))
    held_out = {distinct[at] for at in order[: max(len(distinct) // VALIDATION, 1)]}
    return [e for e in examples if e.text not in held_out], [e for e in examples if e.text in held_out]


def _validated(engine: TrainableEngine, examples: Sequence[Example]) -> float:
    """Return the mean loss in nats per answer token, without gradients."""
    import torch

    with torch.no_grad():
        batches = [examples[at : at + BATCH] for at in range(0, len(examples), BATCH)]
        total = sum(float(_loss(engine, batch)) for batch in batches)
    return total / sum(len(example.answer) for example in examples)


def _loss(engine: TrainableEngine, batch: Sequence[Example]) -> Tensor:
    """Return the summed negative log-probability of the answers' tokens, in nats.

    The head runs only at positions that predict one of them, where the model supports that.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from trimtab.engines.layers import eagerly
    from trimtab.engines.transformers.forward.run import place
    from trimtab.engines.transformers.score.logits import logits_at

    device, _ = place(engine.model)
    read = [example.prompt + example.answer[:-1] for example in batch]
    width = max(map(len, read))
    ids = torch.tensor([tokens + (0,) * (width - len(tokens)) for tokens in read], device=device)  # no answer sees it
    rows = np.concatenate([np.full(len(example.answer), row) for row, example in enumerate(batch)])
    columns = np.concatenate([len(e.prompt) - 1 + np.arange(len(e.answer)) for e in batch])
    targets = torch.tensor([token for example in batch for token in example.answer], device=device)
    inputs = {"input_ids": ids, "use_cache": False}
    with eagerly():
        logits = logits_at(engine.model, inputs, rows, columns)
    return cross_entropy(logits.float(), targets.to(logits.device), reduction="sum")

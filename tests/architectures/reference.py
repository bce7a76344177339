"""Reference for the engine: states, steering and answers by transformers and plain hooks, one text at a time.

Nothing here asks the engine where the blocks are. Transformers says itself whose outputs it reports as hidden states
(``_can_record_outputs``); where a class does not say, a person has read its code and written the list down. The
engine's ``Layout`` is used for one thing: to bring states of several streams, or with their tokens first, into
``[row, token, hidden]``.

Where a decoder without an encoder reads a text, its first token is an attention sink, which no steering touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from architectures.building import Architecture
from tiny_models import BOS
from trimtab.engines.layers import DecoderLayers

Tokens = tuple[int, ...]

LISTS: Mapping[str, str] = {  # of classes that do not say what they report, or where what they say is not enough
    "BloomForCausalLM": "transformer.h",
    "BltForCausalLM": "model.local_decoder.layers",  # what it says goes for encoder, global part and decoder alike
    "CodeGenForCausalLM": "transformer.h",
    "CpmAntForCausalLM": "cpmant.encoder.layers",
    "FSMTForConditionalGeneration": "model.decoder.layers",
    "Florence2ForConditionalGeneration": "model.language_model.decoder.layers",  # its get_decoder() is the whole model
    "FalconForCausalLM": "transformer.h",
    "FalconMambaForCausalLM": "backbone.layers",
    "GPTJForCausalLM": "transformer.h",
    "GPTNeoForCausalLM": "transformer.h",
    "GPTNeoXJapaneseForCausalLM": "gpt_neox_japanese.layers",
    "LEDForConditionalGeneration": "led.decoder.layers",
    "LongT5ForConditionalGeneration": "decoder.block",
    "Mamba2ForCausalLM": "backbone.layers",
    "MambaForCausalLM": "backbone.layers",
    "MegatronBertForCausalLM": "bert.encoder.layer",
    "MoshiForCausalLM": "model.layers",
    "MptForCausalLM": "transformer.blocks",
    "MvpForCausalLM": "model.decoder.layers",
    "MvpForConditionalGeneration": "model.decoder.layers",
    "OpenAIGPTLMHeadModel": "transformer.h",
    "ProphetNetForCausalLM": "prophetnet.decoder.layers",
    "ProphetNetForConditionalGeneration": "prophetnet.decoder.layers",
    "RemBertForCausalLM": "rembert.encoder.layer",
    "RoFormerForCausalLM": "roformer.encoder.layer",
    "RwkvForCausalLM": "rwkv.blocks",
    "TrOCRForCausalLM": "model.decoder.layers",
    "XLMWithLMHeadModel": "transformer.layer_norm2",  # no module is a whole block; this norm ends each
    "XLNetLMHeadModel": "transformer.layer",
    "Zamba2ForCausalLM": "model.layers",  # a shared block of attention is part of some
    "ZambaForCausalLM": "model.layers",
}
REPORTED_AT: Mapping[str, int] = {  # where the first block's output stands in what is reported, if not at 1
    "FalconMambaForCausalLM": 0,
    "Mamba2ForCausalLM": 0,
    "MambaForCausalLM": 0,
    "RwkvForCausalLM": 0,
}
NOT_REPORTED: Mapping[str, str] = {  # left to the hooks alone
    "BltForCausalLM": "reports its encoder's states before its decoder's",
}
BEHIND: Mapping[str, str] = {  # where a vector is added behind a block, not on the way into what comes next
    "BltForCausalLM": "its decoder looks at the patches between its blocks",
    "DeepseekV4ForCausalLM": "its streams are made one before the norm",
    "Gemma3nForCausalLM": "its streams are made one before the norm",
    "Gemma3nForConditionalGeneration": "its streams are made one before the norm",
    "Glm5NextForConditionalGeneration": "its streams are made one before the norm",
    "HYV4ForCausalLM": "its streams are made one before the norm",
    "NanoChatForCausalLM": "its norm reads the embeddings too",
    "XLNetLMHeadModel": "keeps what its blocks are given as their memory",
    "XLMWithLMHeadModel": "there is no module that reads just that",
}
FINAL_NORMS = ("norm", "norm_f", "ln_f", "ln_out", "final_layernorm", "final_layer_norm", "final_norm", "layer_norm")


@dataclass(frozen=True)
class Reference:
    """Blocks of a model, found without the engine.

    Attributes:
        architecture: Which architecture it is.
        model: The model.
        blocks: Its blocks, in the order in which they run.
        final_norm: What reads the last one; None where nothing of a usual name stands beside the list.
        shaped: ``[row, token, hidden]`` of a hidden state with this number of tokens.
        added: A state with vectors added to its tokens, ``[token, hidden]``, and to nothing before them.
        sink: Whether the first token of a text is left alone.
    """

    architecture: Architecture
    model: PreTrainedModel
    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module | None
    shaped: Callable[[Tensor, int], Tensor]
    added: Callable[[Tensor, Tensor], Tensor]
    sink: bool

    @property
    def has_encoder(self) -> bool:
        return bool(self.model.config.is_encoder_decoder)

    @property
    def start(self) -> int:
        """Return the token with which a decoder beside an encoder begins."""
        told = self.model.generation_config.decoder_start_token_id
        return BOS if told is None else int(told)

    def inputs(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return the inputs from which hidden states are read."""
        if not self.has_encoder:
            return {"input_ids": tokens}
        return {"input_ids": tokens, "decoder_input_ids": torch.full((len(tokens), 1), self.start)}

    def states(self, tokens: Tokens) -> Tensor:
        """``[token, layer, hidden]`` by plain hooks on the blocks."""
        seen: list[Tensor] = []
        handles = [block.register_forward_hook(lambda _, __, out: seen.append(_state(out))) for block in self.blocks]
        try:
            self._run(tokens)
        finally:
            for handle in handles:
                handle.remove()
        assert len(seen) == len(self.blocks), f"{len(seen)} of {len(self.blocks)} blocks ran"
        count = 1 if self.has_encoder else len(tokens)
        return torch.stack([self.shaped(state, count)[0] for state in seen], dim=1)

    def reported(self, tokens: Tokens) -> Tensor | None:
        """Return the states of ``output_hidden_states`` but for the last block; None where the class reports others."""
        if self.architecture.name in NOT_REPORTED:
            return None
        output = self._run(tokens, output_hidden_states=True)
        told = output.decoder_hidden_states if self.has_encoder else output.hidden_states
        first = REPORTED_AT.get(self.architecture.name, 1)
        assert len(told) == len(self.blocks) + 1, f"{len(told)} hidden states are reported of {len(self.blocks)} blocks"
        count = 1 if self.has_encoder else len(tokens)
        shown = [self._reported_shape(state, count) for state in told[first : first + len(self.blocks) - 1]]
        return torch.stack([state[0] for state in shown], dim=1)

    def _reported_shape(self, state: Tensor, count: int) -> Tensor:
        """``[row, token, hidden]``: some turn their states round before they report them."""
        return state if state.ndim == 3 and state.shape[:2] == (1, count) else self.shaped(state, count)

    def _run(self, tokens: Tokens, **options: bool) -> Any:
        with torch.inference_mode():
            return self.model(**self.inputs(torch.tensor([tokens])), use_cache=False, **options)

    @contextmanager
    def steering(self, additions: Mapping[int, Tensor]) -> Iterator[None]:
        """Inside, vectors are added on the way into what reads a block's output: the next block, or the final norm.

        A pass of one token goes on with a text, one of several begins it.
        """
        reading = _Reading()
        with ExitStack() as stack:
            stack.callback(self.model.register_forward_pre_hook(reading.begin, with_kwargs=True).remove)
            for layer, vector in additions.items():
                after = self.blocks[layer + 1] if layer + 1 < len(self.blocks) else self.final_norm

                def move(state: Tensor, vector: Tensor = vector) -> Tensor:
                    table = vector.expand(reading.tokens, -1).clone()
                    if self.sink and reading.tokens > 1:
                        table[0] = 0
                    return self.added(state, table)

                if after is None or self.architecture.name in BEHIND:
                    handle = self.blocks[layer].register_forward_hook(_behind(move))
                else:
                    handle = after.register_forward_pre_hook(_before(move), with_kwargs=True)
                stack.callback(handle.remove)
            yield


class _Reading:
    """Return the number of tokens that the current pass reads of a row."""

    tokens = 0

    def begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [kwargs.get(name) for name in ("decoder_input_ids", "input_ids", "inputs_embeds")]
        self.tokens = next(tensor.shape[1] for tensor in (*given, *args) if tensor is not None)


def _before(move: Callable[[Tensor], Tensor]) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (move(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": move(kwargs["hidden_states"])}

    return hook


def _behind(move: Callable[[Tensor], Tensor]) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (move(output[0]), *output[1:])
        if isinstance(output, list):
            return [move(output[0]), *output[1:]]
        return move(output)

    return hook


def reference_for(model: PreTrainedModel, architecture: Architecture, layout_of: DecoderLayers) -> Reference:
    """Return the reference for a model; only the layout of states comes from the engine's blocks, ``layout_of``."""
    path, blocks = _blocks(model, architecture)
    parent = model.get_submodule(path.rpartition(".")[0])
    norms = [getattr(parent, name) for name in FINAL_NORMS if isinstance(getattr(parent, name, None), nn.Module)]
    return Reference(
        architecture,
        model,
        blocks,
        norms[0] if norms else None,
        shaped=lambda state, count: layout_of.tokens(layout_of.layout.view(state), count),
        added=lambda state, table: _added(state, table, layout_of),
        sink=not model.config.is_encoder_decoder and layout_of.causal,
    )


def _added(state: Tensor, table: Tensor, layout_of: DecoderLayers) -> Tensor:
    layout = layout_of.layout
    positions = layout.view(state).shape[1]
    wide = table.new_zeros(positions, table.shape[1])
    if layout.offset == 0 and positions % len(table) == 0:
        wide += table.repeat(positions // len(table), 1)  # several streams of the same tokens, one behind the other
    else:
        layout_of.tokens(wide[None], len(table))[0] += table
    return layout.put(state, layout.view(state) + wide)


def _blocks(model: PreTrainedModel, architecture: Architecture) -> tuple[str, tuple[nn.Module, ...]]:
    """Return the list of the blocks, and those that run on text, in order."""
    by_hand = LISTS.get(architecture.name)
    if by_hand is not None:
        return by_hand, tuple(model.get_submodule(by_hand))
    part = model.get_decoder() if model.config.is_encoder_decoder else model
    kinds = tuple(_recorded(part))
    assert kinds, f"{architecture.name} does not say what it reports as hidden states: write its list down"
    names = {module: name for name, module in model.named_modules() if isinstance(module, kinds)}
    inside = set(part.modules())
    ran = _that_run(model, [module for module in names if module in inside])
    return names[ran[0]].rpartition(".")[0], tuple(ran)


def _recorded(model: nn.Module) -> Iterator[type[nn.Module]]:
    """Return the classes of modules whose outputs transformers reports as hidden states."""
    for part in model.modules():
        told = getattr(part, "_can_record_outputs", None) if isinstance(part, PreTrainedModel) else None
        given = (told or {}).get("hidden_states")
        for recorder in given if isinstance(given, (list, tuple)) else (given,):
            kind = getattr(recorder, "target_class", recorder)
            if isinstance(kind, type):
                yield kind


def _that_run(model: PreTrainedModel, modules: Sequence[nn.Module]) -> list[nn.Module]:
    ran: list[nn.Module] = []
    handles = [module.register_forward_hook(lambda module, *_: ran.append(module)) for module in modules]
    tokens = torch.tensor([[5, 6, 7, 8]])
    more = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    try:
        with torch.inference_mode():
            model(input_ids=tokens, **more, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _state(output: Any) -> Tensor:
    state: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return state

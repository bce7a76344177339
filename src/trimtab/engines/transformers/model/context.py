"""Model context: a model with everything that reading and answering with it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

from transformers import PreTrainedModel

from trimtab.engines.batching import Cost
from trimtab.engines.layers import DecoderLayers
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.run import PrefixSharingCheck, cost_of
from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.engines.transformers.text.chat_template import ThinkingMarkers
from trimtab.vectors import ModelInfo


@final
@dataclass(frozen=True, eq=False)
class ModelContext:
    """What the parts of an engine share.

    Attributes:
        model: The transformers model.
        blocks: Its blocks.
        info: What vectors depend on.
        prefix_sharing: Check whether passes may share prefixes.
        stop: The tokens with which an answer ends.
        pad: The token that fills rows up.
        start: With what a decoder begins that answers beside an encoder; None where there is none.
        sink: Whether the first token of a text is an attention sink: where a decoder reads it.
        markers: The marks around a reasoning model's thoughts.
        decode_all: Text of token ids, special ones included.
        scopes: The hooks of each open ``steered()``, outermost first.
    """

    model: PreTrainedModel
    blocks: DecoderLayers
    info: ModelInfo
    prefix_sharing: PrefixSharingCheck
    stop: tuple[int, ...]
    pad: int
    start: Tokens | None
    sink: bool
    markers: ThinkingMarkers | None
    decode_all: Callable[[Sequence[int]], str]
    scopes: list[SteeringHooks] = field(default_factory=list)

    @property
    def reads_sources(self) -> bool:
        """Whether an encoder reads the texts, and a decoder is what is looked at."""
        return self.start is not None and not self.blocks.encoder

    def cost(self, max_tokens: int | None = None) -> Cost:
        """The cost model of the model where it is, given an upper bound on the tokens of a pass."""
        return cost_of(self.model, self.blocks, max_tokens=max_tokens)

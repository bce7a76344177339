"""Gradients in less memory: what happens inside blocks is forgotten, and computed again when gradients pass through.

Source: Chen et al. 2016, arXiv:1604.06174; here with one segment per block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from trimtab.engines.blocks import Blocks


@contextmanager
def recomputed(blocks: Blocks) -> Iterator[None]:
    """Inside, a pass keeps of each block what it reads alone; gradients may be taken later, of the model as it is now.

    Hooks on the blocks run once: they lie outside of what is computed again. Transformers' own way would have blocks
    believe that they are being trained, and some then drop numbers at random. Blocks are computed again to their end:
    so those of an offloaded model let go of their weights.
    """
    modules = dict.fromkeys(blocks.modules)
    own = {module: module.__dict__.get("forward") for module in modules}
    try:
        for module in modules:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
        with set_checkpoint_early_stop(False):
            yield
    finally:
        for module, forward in own.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = forward

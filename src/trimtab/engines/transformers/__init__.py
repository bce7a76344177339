"""Reference engine: any model that writes text and that transformers can load."""

from trimtab.engines.transformers.conversation import Chat
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.model.load import load

__all__ = ["Chat", "TransformersEngine", "load"]

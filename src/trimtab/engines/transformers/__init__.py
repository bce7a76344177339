"""The reference engine: any decoder-only model that transformers can load."""

from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.loading import load

__all__ = ["TransformersEngine", "load"]

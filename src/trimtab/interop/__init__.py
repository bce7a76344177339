"""Steered models for evaluation harnesses, each of which needs an optional package.

Names are imported when first used, so that neither harness is needed for the other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.interop.inspect_ai import steered_model
    from trimtab.interop.lm_eval import steered_lm

_HOMES = {"steered_lm": "trimtab.interop.lm_eval", "steered_model": "trimtab.interop.inspect_ai"}

__all__ = ["steered_lm", "steered_model"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trimtab.interop' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

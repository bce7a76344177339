"""trimtab: make, place, calibrate and apply control vectors.

    >>> import trimtab
    >>> model = trimtab.load()  # doctest: +SKIP
    >>> happy = trimtab.train(model, trimtab.Behaviour.load("happy"))  # doctest: +SKIP
    >>> model.generate("How was your day?", steering=[(happy, 0.5)]).text  # doctest: +SKIP

Names are imported when first used, so that ``import trimtab`` is quick and does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trimtab.defaults import VERSION, set_thread_defaults

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.engines import Completion, Engine, Receipt
    from trimtab.engines.constraints import Constraint, Tag
    from trimtab.engines.sampling import Sampling
    from trimtab.engines.transformers import Chat, load
    from trimtab.errors import TrimtabError
    from trimtab.evaluation.evaluate import evaluate
    from trimtab.evaluation.records import Report
    from trimtab.reading import Reading
    from trimtab.steering import Steering, Term
    from trimtab.training.calibrate import calibrate, measure_spending
    from trimtab.training.distillation.distill import distill
    from trimtab.training.progress import Progress
    from trimtab.training.readers import fit_reader, fit_threshold
    from trimtab.training.train import train, zoo_vector
    from trimtab.vectors import ControlVector

__version__ = VERSION

_EXPORTS = {
    "trimtab.behaviours": ("Behaviour",),
    "trimtab.engines": ("Completion", "Engine", "Receipt"),
    "trimtab.engines.constraints": ("Constraint", "Tag"),
    "trimtab.engines.sampling": ("Sampling",),
    "trimtab.engines.transformers": ("Chat", "load"),
    "trimtab.errors": ("TrimtabError",),
    "trimtab.evaluation.evaluate": ("evaluate",),
    "trimtab.evaluation.records": ("Report",),
    "trimtab.reading": ("Reading",),
    "trimtab.steering": ("Steering", "Term"),
    "trimtab.training.calibrate": ("calibrate", "measure_spending"),
    "trimtab.training.distillation.distill": ("distill",),
    "trimtab.training.progress": ("Progress",),
    "trimtab.training.readers": ("fit_reader", "fit_threshold"),
    "trimtab.training.train": ("train", "zoo_vector"),
    "trimtab.vectors": ("ControlVector",),
}

__all__ = [
    "Behaviour",
    "Chat",
    "Completion",
    "Constraint",
    "ControlVector",
    "Engine",
    "Progress",
    "Reading",
    "Receipt",
    "Report",
    "Sampling",
    "Steering",
    "Tag",
    "Term",
    "TrimtabError",
    "__version__",
    "calibrate",
    "distill",
    "evaluate",
    "fit_reader",
    "fit_threshold",
    "load",
    "measure_spending",
    "train",
    "zoo_vector",
]


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _EXPORTS.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module 'trimtab' has no attribute {name!r}")
    set_thread_defaults()
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""trimtab: make, place, calibrate and apply control vectors.

    >>> import trimtab
    >>> model = trimtab.load()  # doctest: +SKIP
    >>> happy = trimtab.train(model, trimtab.Behaviour.load("happy"))  # doctest: +SKIP
    >>> model.generate("How was your day?", steering=[(happy, 0.8)]).text  # doctest: +SKIP

Names are imported when first used, so that ``import trimtab`` is quick and does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trimtab.version import VERSION

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.engines import Completion, Engine, Receipt
    from trimtab.engines.transformers import Chat, load
    from trimtab.errors import TrimtabError
    from trimtab.evaluation import Report, evaluate
    from trimtab.learning import Progress, calibrate, distill, fit_reader, fit_threshold, measure_spending, train
    from trimtab.learning.zoo import zoo_vector
    from trimtab.reading import Reading
    from trimtab.steering import Steering, Term
    from trimtab.vectors import ControlVector

__version__ = VERSION

_HOMES = {
    "Behaviour": "trimtab.behaviours",
    "Chat": "trimtab.engines.transformers",
    "Completion": "trimtab.engines",
    "ControlVector": "trimtab.vectors",
    "Engine": "trimtab.engines",
    "Progress": "trimtab.learning",
    "Reading": "trimtab.reading",
    "Report": "trimtab.evaluation",
    "Receipt": "trimtab.engines",
    "Steering": "trimtab.steering",
    "Term": "trimtab.steering",
    "TrimtabError": "trimtab.errors",
    "calibrate": "trimtab.learning",
    "distill": "trimtab.learning",
    "evaluate": "trimtab.evaluation",
    "fit_reader": "trimtab.learning",
    "fit_threshold": "trimtab.learning",
    "load": "trimtab.engines.transformers",
    "measure_spending": "trimtab.learning",
    "train": "trimtab.learning",
    "zoo_vector": "trimtab.learning.zoo",
}

__all__ = [
    "Behaviour",
    "Chat",
    "Completion",
    "ControlVector",
    "Engine",
    "Progress",
    "Reading",
    "Receipt",
    "Report",
    "Steering",
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
    if name not in _HOMES:
        raise AttributeError(f"module 'trimtab' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

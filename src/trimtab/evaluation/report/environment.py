"""Templates of pages, and how figures are written in them."""

from __future__ import annotations

from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trimtab.evaluation.report import words

LONG = 230  # characters of an answer that are shown at once


def rendered(template: str, view: dict[str, Any]) -> str:
    """A page: the same view gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("trimtab.evaluation.report", package_path=""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=_safe,
    )
    environment.filters |= {
        "number": words.figure,
        "percent": words.percent,
        "strength": words.strength,
        "layers": words.layer_range,
        "size": words.size,
        "duration": words.duration,
        "clipped": partial(words.clipped, most=LONG),
    }
    return environment.get_template(template).render({**view, "long": LONG})


def _safe(value: Any) -> Any:
    """What the model wrote may hold characters that no page can."""
    return words.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

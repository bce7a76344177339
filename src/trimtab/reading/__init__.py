"""Reading: how far a text lies along a vector, layer by layer and token by token."""

from trimtab.reading.heatmap import Shades, label, shades, write_html, write_png
from trimtab.reading.reading import (
    Reading,
    VectorReading,
    auroc,
    distinct_names,
    make_reading,
    neutral_of,
    projections,
    z_scores,
)

__all__ = [
    "Reading",
    "Shades",
    "VectorReading",
    "auroc",
    "distinct_names",
    "label",
    "make_reading",
    "neutral_of",
    "projections",
    "shades",
    "write_html",
    "write_png",
    "z_scores",
]

"""Reading: how far a text lies along a vector, layer by layer and token by token."""

from trimtab.reading.heatmap import write_html
from trimtab.reading.reading import (
    Reading,
    Shades,
    VectorReading,
    auroc,
    distinct_names,
    label,
    make_reading,
    neutral_of,
    projections,
    shades,
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
    "z_scores",
]

"""Reading: how far a text lies along a vector, layer by layer and token by token."""

from trimtab.reading.heatmap import Shades, label, shades, write_html, write_png
from trimtab.reading.reading import Reading, VectorReading, make_reading
from trimtab.reading.scores import auroc, projections, z_scores

__all__ = [
    "Reading",
    "Shades",
    "VectorReading",
    "auroc",
    "label",
    "make_reading",
    "projections",
    "shades",
    "write_html",
    "write_png",
    "z_scores",
]

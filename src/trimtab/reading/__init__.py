"""Reading: how far a text lies along a vector, layer by layer and token by token."""

from trimtab.reading.scores import auroc, projections, z_scores

__all__ = ["auroc", "projections", "z_scores"]

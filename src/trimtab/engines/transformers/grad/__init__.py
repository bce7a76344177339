"""Gradients with respect to additions."""

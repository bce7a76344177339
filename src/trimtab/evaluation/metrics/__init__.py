"""Metrics of answers and of predictions."""

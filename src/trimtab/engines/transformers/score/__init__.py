"""Scores of given answers."""

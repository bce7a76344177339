"""Prompts as the model reads them."""

"""Command line, with one module per verb."""

from trimtab.cli.app import app, main

__all__ = ["app", "main"]

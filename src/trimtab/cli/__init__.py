"""The command line: one file per verb."""

from trimtab.cli.app import app, main

__all__ = ["app", "main"]

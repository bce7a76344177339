"""Checks of a model, for `trimtab doctor`."""

"""Benchmarks of trimtab against other libraries and against itself, outside the package. Run ``make bench``."""

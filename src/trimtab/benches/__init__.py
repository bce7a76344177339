"""Benchmarks: trimtab beside others on the same work, measured by the same lines."""

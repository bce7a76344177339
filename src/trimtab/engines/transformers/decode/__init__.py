"""Decoding: sampling, prefill, answers, streams."""

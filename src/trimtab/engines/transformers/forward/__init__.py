"""Forward passes: running them, capturing hidden states, steering."""

"""OpenAI-compatible server over one engine: every request brings its own steering."""

"""Model loading and identity."""

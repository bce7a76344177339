"""System prompts compiled into vectors."""

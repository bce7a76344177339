"""Evaluation: whether a control vector works, what it costs, and how it compares with prompting and fine-tuning."""

"""Worker process of repeng: hidden states and control vectors, requested as JSON lines.

An interpreter that has repeng but not trimtab runs it, so it imports nothing of trimtab.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.measurement import claim_stdout, measure, package_versions, serve

BATCH = 32  # repeng's default


def main() -> None:
    """Answer for repeng; the one argument is a JSON object with model, dtype, threads and device."""
    answers = claim_stdout()
    import numpy as np
    import torch
    from repeng import ControlVector, DatasetEntry, extract
    from repeng.extract import batched_get_hiddens
    from transformers import AutoModelForCausalLM, AutoTokenizer

    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"]))
    model = model.to(job["device"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    layers = list(range(model.config.num_hidden_layers))

    def run(request: Any) -> Mapping[str, Any]:
        with torch.inference_mode():  # as repeng's own training does
            states, figures = measure(lambda: batched_get_hiddens(model, tokenizer, request["texts"], layers, BATCH))
        if request["save"]:
            np.save(request["save"], np.stack([states[layer] for layer in layers], axis=1))
        return figures

    def train(request: Any) -> Mapping[str, Any]:
        entries = [DatasetEntry(*pair) for pair in zip(request["positive"], request["negative"], strict=True)]
        texts = [text for entry in entries for text in (entry.positive, entry.negative)]
        with torch.inference_mode():
            states = batched_get_hiddens(model, tokenizer, texts, layers[1:], BATCH)
        # The texts are read once for all estimators. Each gets its own copy, since one of them changes the states.
        extract.batched_get_hiddens = lambda *_: {layer: hidden.copy() for layer, hidden in states.items()}
        for method, path in request["save"].items():
            vector = ControlVector.train(model, tokenizer, entries, method=method, batch_size=BATCH)
            np.savez(path, **{str(layer): direction for layer, direction in vector.directions.items()})
        return {}

    ready = {"versions": package_versions(("repeng", "torch", "transformers", "numpy"))}
    serve(answers, ready, {"run": run, "train": train})


if __name__ == "__main__":
    main()

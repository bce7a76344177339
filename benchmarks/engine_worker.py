"""Worker process of trimtab: hidden states and the tokens that cases are built from, requested as JSON lines."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measurement import claim_stdout, measure, package_versions, serve
from trimtab.engines.prefix_tree import build_tree
from trimtab.engines.transformers import TransformersEngine, load
from trimtab.engines.transformers.model.source import INSTALL, converted_gguf, default_gguf
from trimtab.errors import ModelError

MATMUL_RUNS = 10
SHAPE = {
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}


def main() -> None:
    """Answer for trimtab; the one argument is a job in JSON, whose model is null for the default model."""
    answers = claim_stdout()
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    folder = job["model"] or str(default_folder())
    engine = load(folder, dtype=job["dtype"], device=job["device"])

    def run(request: Any) -> Mapping[str, Any]:
        # A fresh engine for every run, so that its check of prefix sharing counts every time.
        fresh = TransformersEngine(engine.model, engine.tokenizer, name=engine.info.name)
        states, figures = measure(
            lambda: fresh.hidden_states(request["texts"], share_prefixes=request["share_prefixes"])
        )
        if request["save"]:
            np.save(request["save"], states)
        return figures

    def encode(request: Any) -> Mapping[str, Any]:
        return {"tokens": [engine.encode(text) for text in request["texts"]]}

    def decode(request: Any) -> Mapping[str, Any]:
        return {"texts": [engine.decode(tokens) for tokens in request["tokens"]]}

    def render(request: Any) -> Mapping[str, Any]:
        return {"texts": [engine.render(message) for message in request["messages"]]}

    def gpu(request: Any) -> Mapping[str, Any]:
        return read_random_model(engine, request["tokens"], rounds=request["rounds"])

    ready = {
        "versions": package_versions(),
        "model": folder,
        "layers": engine.info.layers,
        "vocabulary": len(engine.tokenizer),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    serve(answers, ready, {"run": run, "encode": encode, "decode": decode, "render": render, "gpu": gpu})


def default_folder() -> Path:
    """Return the default model as a folder that transformers loads.

    Raises:
        ModelError: It is not installed.
    """
    gguf = default_gguf()
    if gguf is None:
        raise ModelError("the default model is not installed", fix=f"run: {INSTALL}")
    return converted_gguf(gguf)


def read_random_model(
    engine: TransformersEngine,
    tokens: Sequence[Sequence[int]],
    *,
    rounds: int,
    device: str = "cuda",
    shape: Mapping[str, int] = SHAPE,
    matmul: int = 8192,
) -> dict[str, Any]:
    """Measure how fast a random bfloat16 Llama reads texts, as a share of the machine's matrix-product peak.

    The share counts only products with the weights of the layers: 2 operations per weight and token. Relative to all
    given tokens it can exceed 1, because shared prefixes are computed once.

    Args:
        engine: Engine whose tokenizer the random model borrows without using it.
        tokens: Token ids of each text; taken modulo the vocabulary.
        rounds: Number of timed passes, after one that warms up and checks prefix sharing.
        device: Device of the model.
        shape: Settings of the model's config.
        matmul: Rows and columns of the matrices whose product gives the peak.
    """
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**shape)).to(torch.bfloat16)
    reader = TransformersEngine(model, engine.tokenizer, name="random Llama")
    sequences = [tuple(token % shape["vocab_size"] for token in sequence) for sequence in tokens]
    weights = reader.blocks.parameters
    given, distinct = sum(map(len, sequences)), len(build_tree(sequences))
    reader.hidden_states(sequences)
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        reader.hidden_states(sequences)
        seconds.append(time.perf_counter() - started)
    median, peak = statistics.median(seconds), matmul_peak(matmul, device=device)
    return {
        "block_parameters": weights,
        "prompts": len(sequences),
        "tokens": given,
        "distinct_tokens": distinct,
        "rounds": seconds,
        "wall": median,
        "tokens_per_second": given / median,
        "distinct_tokens_per_second": distinct / median,
        "matmul_flops": peak,
        "share_of_matmul": 2 * weights * distinct / median / peak,
        "share_of_matmul_given": 2 * weights * given / median / peak,
    }


def matmul_peak(size: int, *, device: str) -> float:
    """Return the median floating-point operations per second of a product of two square bfloat16 matrices."""
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(1 + MATMUL_RUNS):
        _synchronize(device)
        started = time.perf_counter()
        torch.matmul(left, right)
        _synchronize(device)
        seconds.append(time.perf_counter() - started)
    return float(2 * size**3 / statistics.median(seconds[1:]))


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()

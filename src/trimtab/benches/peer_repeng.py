"""The peer's worker: hidden states and control vectors by repeng, asked over JSON lines.

It is run by path, by an interpreter that has repeng and knows nothing of trimtab, and so imports nothing of it. How a
run is measured and how questions are answered stands here too, and trimtab's worker borrows both: the two sides are
measured by the same lines.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, TypeAlias

BATCH = 32  # repeng's default
KIB = 1024
PROCESS = Path("/proc/self")

Handler: TypeAlias = Callable[[Any], Mapping[str, Any]]


def claim_output() -> TextIO:
    """A stream to the parent; whatever else is printed from now on goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(answers: TextIO, ready: Mapping[str, Any], handlers: Mapping[str, Handler]) -> None:
    """Say what is ready, then answer one JSON line with another until standard input ends."""
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(handlers[request["do"]](request)), file=answers, flush=True)


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """Do some work; what it gave, and its wall seconds, CPU seconds of all threads, and peak memory in bytes.

    The peak counts from what the process held before, after it gave back what it had freed; null where the system
    does not tell.
    """
    gc.collect()
    before = _resident()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    peak = _memory("VmHWM")
    return result, {**spent, "memory": None if before is None or peak is None else max(peak - before, 0)}


def _resident() -> int | None:
    """Memory in use, with freed memory given back and the system's high-water mark set to it."""
    with suppress(OSError, AttributeError, TypeError):  # not glibc: what was freed may count as used
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(key: str) -> int | None:
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * KIB
    return None


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of installed packages."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def main() -> None:
    """Answer for repeng; the one argument is a JSON object with model, dtype, threads and device."""
    answers = claim_output()
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
            states, spent = measured(lambda: batched_get_hiddens(model, tokenizer, request["texts"], layers, BATCH))
        if request["save"]:
            np.save(request["save"], np.stack([states[layer] for layer in layers], axis=1))
        return spent

    def train(request: Any) -> Mapping[str, Any]:
        entries = [DatasetEntry(*pair) for pair in zip(request["positive"], request["negative"], strict=True)]
        texts = [text for entry in entries for text in (entry.positive, entry.negative)]
        with torch.inference_mode():
            states = batched_get_hiddens(model, tokenizer, texts, layers[1:], BATCH)
        # The texts are read once for all methods; each gets states of its own, since one of them changes them.
        extract.batched_get_hiddens = lambda *_: {layer: given.copy() for layer, given in states.items()}
        for method, path in request["save"].items():
            vector = ControlVector.train(model, tokenizer, entries, method=method, batch_size=BATCH)
            np.savez(path, **{str(layer): direction for layer, direction in vector.directions.items()})
        return {}

    ready = {"versions": versions(("repeng", "torch", "transformers", "numpy"))}
    serve(answers, ready, {"run": run, "train": train})


if __name__ == "__main__":
    main()

"""Builds every architecture, runs it once on text, and tells what came of it: ``python -m architectures.survey``."""

from __future__ import annotations

import argparse
import time
import traceback
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from architectures.beside import BESIDE
from architectures.building import Architecture, NotTextAlone, build, every_architecture, inputs_for

TOKENS = 8
PROMPTS = torch.arange(2 * TOKENS).reshape(2, TOKENS) * 7 % 250 + 3


def logits_of(model: PreTrainedModel, architecture: Architecture, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        inputs = inputs_for(model, architecture, tokens, beside_text=True)
        logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


def fault_of(model: PreTrainedModel, architecture: Architecture) -> str | None:
    """Return the problem of the model's logits, or None."""
    torch.manual_seed(0)
    logits = logits_of(model, architecture, PROMPTS)
    vocabulary = model.get_output_embeddings()
    if tuple(logits.shape[:2]) != (2, TOKENS):
        return f"logits are {list(logits.shape)}"
    if vocabulary is not None and vocabulary.weight.shape[0] != logits.shape[-1]:
        return f"logits are {list(logits.shape)}, the vocabulary {vocabulary.weight.shape[0]}"
    if not logits.isfinite().all():
        return "logits are not finite"
    if torch.allclose(logits[0], logits[1], atol=1e-3):
        return "logits do not depend on the prompt"
    if logits.std(-1).min() < 1e-2:
        return f"logits are nearly all the same: {logits.std(-1).min():.1e}"
    if not torch.equal(logits, logits_of(model, architecture, PROMPTS)):
        return "logits differ from run to run"
    return None


def survey_one(architecture: Architecture, *, trace: bool = False) -> tuple[str, str]:
    """Return the result in one word, and a line about it."""
    start = time.perf_counter()
    try:
        model = build(architecture)
        built = time.perf_counter() - start
        fault = fault_of(model, architecture)
    except NotTextAlone as reason:
        return "not text alone", str(reason)
    except Exception as error:
        if trace:
            traceback.print_exc()
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{at.filename.rsplit('/', 1)[-1]}:{at.lineno}"
        return "fails", f"{type(error).__name__}: {str(error).strip()[:200]!r} at {place}"
    size = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]) / 2**20
    measured = f"build {built:.2f} s, all {time.perf_counter() - start:.2f} s, {size:.2f} MiB"
    if fault:
        return "fails", f"{fault}; {measured}"
    beside = BESIDE.get(architecture.name)
    return ("ok beside", f"{beside.why}; {measured}") if beside else ("ok", measured)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of a class or config name")
    parser.add_argument("--trace", action="store_true", help="print tracebacks")
    options = parser.parse_args(arguments)
    totals: Counter[tuple[str, str]] = Counter()
    for architecture in every_architecture():
        if options.only.lower() not in str(architecture).lower():
            continue
        outcome, line = survey_one(architecture, trace=options.trace)
        totals[architecture.kind, outcome] += 1
        print(f"{outcome:14} {architecture.kind:8} {architecture} [{architecture.model_type}]: {line}", flush=True)
    for (kind, outcome), count in sorted(totals.items()):
        print(f"{kind}: {count} {outcome}")
    return int(any(outcome == "fails" for _, outcome in totals))


if __name__ == "__main__":
    raise SystemExit(main())

"""Worker without a model: its tokens are characters, its hidden states and times are constants."""

from __future__ import annotations

import json
import os
import sys

import numpy as np

LAYERS = 3


def main() -> None:
    print(json.dumps({"model": "/somewhere/toy-0123456789abcdef-v1", "layers": LAYERS, "vocabulary": 128, "gpu": None,
                      "versions": {"python": "3"}}), flush=True)  # fmt: skip
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "encode":
            answer = {"tokens": [[ord(letter) for letter in text] for text in request["texts"]]}
        elif request["do"] == "decode":
            answer = {"texts": ["".join(map(chr, tokens)) for tokens in request["tokens"]]}
        elif request["do"] == "render":
            answer = {"texts": [f"<{message}>" for message in request["messages"]]}
        elif request["do"] == "train":
            answer = train(request)
        else:
            answer = run(request)
        print(json.dumps(answer), flush=True)


def train(request):
    """Write random directions in the shape of the test's model, without the first layer."""
    layers, hidden = map(int, os.environ["FAKE_WORKER_SHAPE"].split("x"))
    noise = np.random.default_rng(len(request["positive"]))
    for path in request["save"].values():
        drawn = noise.standard_normal((layers, hidden)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        np.savez(path, **{str(layer): drawn[layer] for layer in range(1, layers)})
    return {}


def run(request):
    if os.environ.get("FAKE_WORKER_FAILS") and len(request["texts"]) > 3:
        sys.exit("Traceback to skip\nMemoryError: there is no more")
    if request["save"]:
        states = np.full((len(request["texts"]), LAYERS, 4), 1.0 if request["share_prefixes"] else 1.25, np.float32)
        states[:, -1] *= 2 if "repeng" in request["save"] else 1
        np.save(request["save"], states)
    return {"wall": 2.0, "cpu": 1.0 if request["share_prefixes"] else 4.0, "memory": 2**20}


if __name__ == "__main__":
    main()
